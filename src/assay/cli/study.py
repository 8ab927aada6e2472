"""assay study: a published experiment on your model, with its verdict."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from assay.cli.parsing import Common, parse, result_folder, subset
from assay.core.errors import BadOption, nearest

ABOUT = """A published experiment on your model, beside its baselines, with the word on the published claim at the end.

  assay list studies
  assay study pareto                                     on the model and the stories that ship; a few minutes
  assay study shrinkage --model M --site S --text T --seeds 3 --out runs/shrinkage
  assay study pareto --help                              the options of that study

A run that was stopped continues with the same command and the same --out.
"""


@dataclasses.dataclass(kw_only=True)
class Flags(Common):
    pass


def main(argv: list[str]) -> int:
    from assay import studies
    from assay.studies.options import Options

    if not argv or argv[0].startswith("-"):
        parse("study", ABOUT, [word for word in argv if word in ("-h", "--help")], Flags, Options)
        raise BadOption(f"Name a study first, such as assay study pareto.{nearest('', studies.names())}")
    name, rest = argv[0], argv[1:]
    module = studies.study(name)
    about = f"{module.QUESTION}\n\nPublished: {module.CLAIM} ({module.SOURCE})"
    flags = parse(f"study {name}", about, rest, Flags, module.Options)
    from assay.cli.opening import set_threads

    set_threads(flags.threads)
    options = module.Options(**subset(flags, module.Options))
    out = result_folder(flags.out, f"study-{name}")
    finding = studies.run(name, options, out, quiet=flags.quiet)

    from assay import report

    page = report.build([out / folder for folder in finding.folders], out / "report.html", title=f"assay study: {name}")
    print(json.dumps(_as_json(finding, out, page)) if flags.json else _as_text(finding, page))
    return 0


def _as_text(finding: Any, page: Path) -> str:
    from assay import report

    tables = [f"{t.title}\n" + aligned([t.head, *t.rows]) for t in finding.tables]
    return "\n\n".join([report.verdict_table(finding.results), *tables, finding.claim.sentence, f"Report: {page}"])


def aligned(rows: list[list[str]]) -> str:
    """Rows of text in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _as_json(finding: Any, out: Path, page: Path) -> dict[str, Any]:
    return {
        "out": str(out),
        "report": str(page),
        "word": finding.claim.word,
        "claim": finding.claim.sentence,
        "verdicts": json.loads(finding.results.to_pandas("verdicts").to_json(orient="records")),
    }
