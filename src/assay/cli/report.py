"""assay report: build or rebuild the page of saved results, several joined if several are given."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from assay.cli.parsing import parse
from assay.core.errors import BadOption

ABOUT = """Build report.html from saved results; nothing is measured again. Several folders are joined into one page.

  assay report runs/evaluate-1
  assay report runs/evaluate-1 runs/evaluate-2 --out both.html
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    folders: tuple[Path, ...]
    """Folders written by assay evaluate or assay demo."""
    out: Path | None = None
    """The page; FOLDER/report.html of the first folder when not given."""
    title: str | None = None
    """Title of the page."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("report", ABOUT, argv, Flags, positional=("folders",))
    if not flags.folders:
        raise BadOption("No folder was given; name one or more results, such as assay report runs/evaluate-1.")
    from assay import report
    from assay.report import probing

    if len(flags.folders) == 1 and probing.is_one(flags.folders[0]):
        page = probing.build(flags.folders[0] / probing.RESULTS, flags.out or flags.folders[0])
        print(json.dumps({"report": str(page)}) if flags.json else f"Report: {page}")
        return 0
    page = report.build(list(flags.folders), flags.out or flags.folders[0] / "report.html", title=flags.title)
    print(json.dumps({"report": str(page)}) if flags.json else f"Report: {page}")
    return 0
