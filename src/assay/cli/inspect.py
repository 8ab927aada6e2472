"""assay inspect: what is this dictionary?"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from assay.cli.parsing import parse
from assay.core.errors import BadOption

ABOUT = """Say what a dictionary is, whoever wrote it: format, architecture, widths, site, and its conventions (scale, threshold, what
subtracts b_dec). Its files are checked, nothing is converted or written.

  assay inspect runs/train-1 downloads/layers.3
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    dictionaries: tuple[str, ...]
    """Folders of dictionaries of any format, single files of weights, hf://org/repo/path, or names of known releases."""
    rule: str | None = None
    """Where the files do not say it (overcomplete): relu, topk or batchtopk."""
    k: int | None = None
    """Where the files do not say it (overcomplete, Qwen Scope): the k of the top-k."""
    threshold: float | None = None
    """Where the files do not say it (overcomplete): the threshold of the batch top-k."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("inspect", ABOUT, argv, Flags, positional=("dictionaries",))
    if not flags.dictionaries:
        raise BadOption("No dictionary was given; name one or more folders, such as assay inspect runs/train-1.")
    from assay import interop
    from assay.interop.told import Told

    told = Told(flags.rule, flags.k, flags.threshold)
    found = [interop.inspect(path, told) for path in flags.dictionaries]
    print(json.dumps(found) if flags.json else "\n\n".join("\n".join(lines(each)) for each in found))
    return 0


def lines(found: dict[str, Any]) -> list[str]:
    """What `interop.inspect` found, one line a fact."""
    site = found["site"] or "not said"
    rows = [
        ("format", found["format"]),
        ("architecture", f"{found['architecture']}, read as {found['arch']}"),
        ("widths", f"d_in {found['d_in']}, d_sae {found['d_sae']}, d_out {found['d_out']}"),
        ("model", found["model"] or "not said"),
        ("site", site if found["target"] is None else f"{site} -> {found['target']}"),
        ("scale", found["scale"]),
        ("threshold", found["threshold"]),
        ("b_dec", found["b_dec"]),
        *(("note", note) for note in found["notes"]),
        *((name.replace("_", " "), _numbers(value)) for name, value in found.get("numbers", {}).items()),
    ]
    if found.get("verified"):
        rows.append(("golden", f"{found['verified']['rows']} rows recomputed, as they were"))
    elif found.get("golden"):
        rows.append(("golden", f"{found['golden']['rows']} rows of its conversion recomputed, as they were"))
    width = max(len(name) for name, _ in rows)
    return [found["path"], *(f"  {name:<{width}}  {value}" for name, value in rows)]


def _numbers(value: Any) -> str:
    if isinstance(value, list):
        least, middle, most = (f"{v:.4g}" for v in value)
        return f"{least} to {most}, median {middle}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
