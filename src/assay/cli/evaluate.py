"""assay evaluate: what dictionaries are worth, beside their baselines, with intervals and costs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from assay.cli.parsing import Common, parse, result_folder
from assay.core.errors import BadOption

ABOUT = """Measure dictionaries on text that they were not trained on, and write report.html.

  assay evaluate runs/pareto                            a whole sweep; model, site and text as in its provenance
  assay evaluate runs/a runs/b --text other.jsonl       other text, halved into validation and test
  assay evaluate runs/pareto --text wiki.jsonl --shift wikitext      judged under shift
  assay evaluate hf://org/repo/path --text wiki.jsonl   another tool's dictionary, where it lies; model and site as its files say

The text of the training is split by document: 90 % trained, 5 % validation, 5 % test. Documents that a dictionary was trained on are
refused. Verdicts compare each method with the strongest baseline, chosen on validation, at equal L0.
"""


@dataclasses.dataclass(kw_only=True)
class Flags(Common):
    dictionaries: tuple[str, ...] = ()
    """Folders of dictionaries of any format, or of sweeps; hf://org/repo/path; or names of known releases (assay list releases)."""
    dict: tuple[str, ...] = ()
    """The same as naming them without a flag."""
    text: str | None = None
    """Text to evaluate on; the held-out documents of the training text when not given."""
    text_column: str = "text"
    """The column or key that holds the text."""
    activations: Path | None = None
    """Activations on disk instead of text; language-model metrics are null then."""
    join: tuple[Path, ...] = ()
    """More stores of the same tokens, of other models, for a crosscoder of several models."""
    model: str | None = None
    """The model, when it is not where the provenance says."""
    site: str | None = None
    """The site, when the dictionaries do not say it, or when the files of another tool name a wrong one."""
    target: str | None = None
    """The site that transcoders of another tool predict, when their files do not say it."""
    context: int | None = None
    """Longest document in tokens; the rest is cut and counted."""
    max_documents: int | None = None
    """Take only this many documents."""
    shift: str | None = None
    """Call the test split shift:NAME: the text is of another kind than the training text."""
    baseline: tuple[str, ...] = ()
    """Arms that are baselines, instead of those that say so themselves (relu, ica, nmf, kmeans, sparse_coding)."""
    allow_train: bool = False
    """Measure even on documents that a dictionary was trained on, and say so."""
    resamples: int = 10_000
    """Bootstrap resamples of an interval."""


def main(argv: list[str]) -> int:
    flags = parse("evaluate", ABOUT, argv, Flags, positional=("dictionaries",))
    named = (*flags.dictionaries, *flags.dict)
    if not named:
        raise BadOption("No dictionary was given; name one or more folders, such as assay evaluate runs/train-1.")
    from assay import report
    from assay.cli.measuring import measure
    from assay.cli.opening import entries, set_threads

    set_threads(flags.threads)
    out = result_folder(flags.out, "evaluate")
    found = entries(named, flags.baseline)
    result = measure(
        found, out, text=flags.text, text_column=flags.text_column, activations=flags.activations, join=flags.join,
        model=flags.model,
        site=flags.site, target=flags.target, context=flags.context, max_documents=flags.max_documents, shift=flags.shift,
        allow_train=flags.allow_train, seed=flags.seed, resamples=flags.resamples, device=flags.device, dtype=flags.dtype,
        quiet=flags.quiet,
    )  # fmt: skip
    page = report.build([out], out / "report.html")
    if flags.json:
        print(
            json.dumps(
                {
                    "out": str(out),
                    "report": str(page),
                    "alarms": result.alarms,
                    "outcomes": json.loads(result.to_pandas().to_json(orient="records")),
                }
            )
        )
    else:
        print(report.verdict_table(result))
        print(f"Report: {page}")
    return 0
