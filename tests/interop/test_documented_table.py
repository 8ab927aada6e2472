"""The table in docs/interop.md says what these tests do, no more: it is made from their examples and compared.

python tests/interop/test_documented_table.py        prints the table, to be put into the page
"""

from __future__ import annotations

import re
from pathlib import Path

from foreign_examples import EXAMPLES
from library_environment import LIBRARIES, READ_ONLY, STEPS
from test_formats import GOES_TO, OURS

from assay import interop

PAGE = Path(__file__).resolve().parents[2] / "docs" / "interop.md"
PACKAGES = {
    "saelens": "sae-lens",
    "sparsify": "eai-sparsify",
    "dictionary_learning": "dictionary-learning",
    "hypothesaes": "hypothesaes",
    "circuit_tracer": "circuit-tracer",
    "gemma_scope": "circuit-tracer",
    "gemma_scope_2": "circuit-tracer",
    "circuit_tracer_clt": "circuit-tracer",
    "overcomplete": "overcomplete",
    "goodfire": "sae-lens",
    "qwen_scope": "sae-lens",
    "gemma_scope_2_clt": "circuit-tracer",
}


def real(format: str) -> str:
    """The pinned library that `make test-interop` compares with, or that there is none."""
    if format not in LIBRARIES:
        return "no: files are built from the format's description"
    pinned = [p for step in STEPS for p in step if p.startswith(PACKAGES[format] + "==")]
    library = pinned[0].replace("==", " ")
    return f"what we write: read by {library}" if format in READ_ONLY else f"yes, both ways: {library}"


def table() -> list[str]:
    rows = [
        "| format (`--to`) | files | read as | written from | tested against the real library |",
        "|---|---|---|---|---|",
    ]
    for name in interop.names():
        read = sorted({e.arch for e in EXAMPLES if e.format == name})
        written = sorted({case.split()[0] for case in OURS if name in GOES_TO[case]})
        about = interop.format_of(name).ABOUT.partition(": ")[2]
        rows.append(f"| `{name}` | {about} | {', '.join(read)} | {', '.join(written)} | {real(name)} |")
    return rows


def test_the_page_holds_this_table() -> None:
    page = PAGE.read_text()
    missing = [row for row in table() if row not in page]
    assert not missing, "python tests/interop/test_documented_table.py prints it anew:\n" + "\n".join(missing)


def test_every_format_is_in_the_table_once() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert named == interop.names()
    assert set(PACKAGES) == set(LIBRARIES)


if __name__ == "__main__":
    print("\n".join(table()))
