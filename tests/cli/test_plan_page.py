"""The tables of docs/plan.md are what its commands print.

python tests/cli/test_plan_page.py        writes them anew
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from assay.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plan.md"
EXAMPLE = re.compile(r"^    assay (plan .*)\n\n```\n((?:.*\n)*?)```$", re.MULTILINE)


def printed(command: str) -> str:
    """What a command prints; those for the CPU name --budget-memory, since its own differs between machines."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(shlex.split(command)) == 0
    return said.getvalue()


EXAMPLES = EXAMPLE.findall(PAGE.read_text())


def test_the_page_has_its_examples() -> None:
    text = PAGE.read_text()
    assert len(EXAMPLES) == text.count("    assay plan ") >= 6
    for words in ("16384", "65536", "1048576", "llama-3-70b", "--model-shape"):
        assert any(words in command for command, _ in EXAMPLES)


@pytest.mark.parametrize(("command", "table"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_page_shows_what_is_printed(command: str, table: str) -> None:
    assert printed(command) == table, "python tests/cli/test_plan_page.py writes the page anew"
    assert "estimated" in table and "counted" in table
    assert "measured" not in table.replace("never measured", "")


if __name__ == "__main__":
    PAGE.write_text(EXAMPLE.sub(lambda found: f"    assay {found[1]}\n\n```\n{printed(found[1])}```", PAGE.read_text()))
