"""assay verify: is this dictionary what was saved?"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from assay.cli.parsing import parse
from assay.core.errors import BadOption

ABOUT = """Check the hashes of a dictionary's files (or of every dictionary of a sweep), then recompute the stored golden codes and
outputs with the code that is installed now. A dictionary in another tool's format is checked against the golden vectors that a
conversion of assay left beside it.

  assay verify runs/train-1
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    dictionaries: tuple[str, ...]
    """Folders of dictionaries, or of sweeps; hf://org/repo/path."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("verify", ABOUT, argv, Flags, positional=("dictionaries",))
    if not flags.dictionaries:
        raise BadOption("No dictionary was given; name one or more folders, such as assay verify runs/train-1.")
    from assay import interop
    from assay.cli.opening import dictionary_folders

    checked = [interop.verify(folder) for folder in dictionary_folders(flags.dictionaries)]
    if flags.json:
        print(json.dumps(checked))
    else:
        for found in checked:
            print(_line(found))
    return 0


def _line(found: dict[str, Any]) -> str:
    if "format" in found:
        return f"{found['path']}: a {found['format']} dictionary, {found['arch']}; {found['rows']} golden rows of its conversion are as they were."
    return (
        f"{found['path']}: whole. {found['arch']}, {found['rows']} golden rows, {found['pairs']} codes, "
        f"largest difference {max(found['worst_code'], found['worst_output']):.1e} of their scale."
    )
