"""Where a study works: one folder, one model and site, rows to train on, documents to measure on. Everything is kept on disk.

    asked.json         what the study was asked; a run with other options is refused
    activations/       the harvested rows
    dictionaries/      what was trained (or dictionaries-NAME/)
    results/           the tables of core (or results-NAME/)

A run that was stopped is continued by the same command: what is whole is read, what is not is made.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from assay import activations, evaluation, interop, models, training
from assay.core import artefact
from assay.core.config import to_json
from assay.core.errors import BadInput, BadOption
from assay.core.outcome import FILES, Results
from assay.dictionaries import Dictionary
from assay.evaluation import Entry, Evaluation
from assay.evaluation.readings import Live, splitting
from assay.studies.options import Options
from assay.studies.recipes import Made

ASKED = "asked.json"
RESULTS = "results"
BATCH_TOKENS = 4096
LATE = 0.8  # of a run: from here on it should stand still


@dataclass
class Opened:
    """The model, the site and the rows of its text's training documents."""

    model: Any
    site: str
    store: activations.Store
    facts: dict[str, Any]


class Bench:
    def __init__(self, name: str, options: Options, out: Path, quiet: bool = False) -> None:
        self.name, self.options, self.out, self.quiet = name, options, out, quiet
        self.asked = {"study": name, "options": to_json(options)}
        if (out / ASKED).exists():
            _same(artefact.read_json(out / ASKED), self.asked, out)
        else:
            artefact.refuse_existing(out)

    def begin(self) -> None:
        """Write down what was asked, before anything else is written: options that are refused leave nothing behind."""
        if not (self.out / ASKED).exists():
            artefact.write_json(self.out / ASKED, self.asked)

    # ---- a model's site --------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Any:
        """Loaded once; a study with several benches lends it from one to the others."""
        return models.load(self.options.model, device=self.options.device, dtype=self.options.dtype)

    @cached_property
    def opened(self) -> Opened:
        options = self.options
        wanted, text = options.chosen_site, options.chosen_text
        model = self.model
        site = model.canonical(wanted)
        facts = {
            "model": model.name,
            "model_path": str(model.source),
            "model_hash": model.weights_hash(),
            "text": text,
            "text_column": options.text_column,
            "context": options.context,
        }
        documents = activations.of_split(self.documents(text), "train")
        blocks = activations.pack(documents, model, context=options.context, quiet=self.quiet)
        if blocks.table.n_rows == 0:
            raise BadInput(f"{text} gave no tokens to train on; give more text.")
        self.begin()
        store = activations.harvest(
            model, [site], blocks, self.out / "activations", resume=True, quiet=self.quiet, facts=facts
        )
        return Opened(model, site, store, facts)

    def documents(self, text: str) -> Any:
        return activations.documents(text, text_column=self.options.text_column)

    @property
    def width(self) -> int:
        """d_in: the width of the site."""
        return self.opened.store.width(self.opened.site)

    def stream(self) -> activations.Stream:
        """The training rows, in the one order that all dictionaries share."""
        opened = self.opened
        return activations.Stream(
            opened.store, [opened.site], seed=self.options.seed, batch_size=self.options.batch_size
        )

    # ---- training --------------------------------------------------------------------------------------------------

    def train(
        self,
        made: Sequence[Made],
        *,
        where: str = "dictionaries",
        stream: Any | None = None,
        site: str | None = None,
        facts: dict[str, Any] | None = None,
    ) -> list[Entry]:
        """Train side by side over one reading of the rows, or go on with it; the entries of an evaluation."""
        self.begin()
        folder = self.out / where
        trained: list[Dictionary] = training.sweep(
            [each.plan for each in made],
            self.stream() if stream is None else stream,
            folder,
            site=self.opened.site if site is None else site,
            resume=(folder / "run.json").exists(),
            facts=self.opened.facts if facts is None else facts,
            quiet=self.quiet,
        )
        return [Entry(m.arm, m.role, d, seed=m.seed) for m, d in zip(made, trained, strict=True)]

    def own(self, names: Sequence[str]) -> list[Entry]:
        """The dictionaries of `--dict`, each an arm that is named after its place. Raises BadInput where one is of another width."""
        found: list[Entry] = []
        for name in names:
            dictionary = interop.open(name)
            if (dictionary.d_in, dictionary.d_out) != (self.width, self.width):
                raise BadInput(
                    f"--dict {name} takes {dictionary.d_in} numbers and gives {dictionary.d_out}, but {self.opened.site} of this model "
                    f"has {self.width}; give a dictionary of that site."
                )
            arm = f"{dictionary.label} of {name.rstrip('/').rsplit('/', 1)[-1]}"
            found.append(
                Entry(arm, "method", dictionary, seed=int(dictionary.provenance.get("train", {}).get("seed", 0)))
            )
        return found

    # ---- measuring -------------------------------------------------------------------------------------------------

    def has(self, where: str) -> bool:
        return (self.out / where / FILES["outcomes"]).exists()

    def measure(
        self,
        entries: Sequence[Entry],
        *,
        where: str = RESULTS,
        language: bool = True,
        more: Callable[[Evaluation], None] | None = None,
    ) -> Results:
        """The tables of these dictionaries on held-out documents; read back where they were written before.

        more: adds a study's own units and outcomes before the tables are written.
        """
        if not self.has(where):
            split, text, documents = self.heldout()
            found = evaluation.evaluate(
                entries,
                model=self.opened.model,
                site=self.opened.site,
                documents=documents,
                split=split,
                study=self.name,
                seed=self.options.seed,
                context=self.options.context,
                language=language,
                resamples=self.options.resamples,
                quiet=self.quiet,
                text=text,
            )
            if more is not None:
                more(found)
            with artefact.new_folder(self.out / where) as folder:
                found.save(folder)
        return Results.load(self.out / where)

    def heldout(self) -> tuple[str, str, Any]:
        """(rule of splitting, name of the text, documents to measure on)."""
        text = self.options.heldout
        if text is None:
            text = self.options.chosen_text
            documents = activations.of_split(self.documents(text), "validation", "test")
            split = "hash"
        else:
            documents, split = self.documents(text), "halves"
        return split, text, itertools.islice(documents, self.options.max_documents)

    def readings(self) -> Live:
        """The documents of `measure`, to be read again for what it does not measure."""
        split, _, documents = self.heldout()
        opened = self.opened
        return Live(
            opened.model,
            opened.site,
            documents,
            splitting(split),
            context=self.options.context,
            batch_tokens=BATCH_TOKENS,
        )

    def keep(self, results: Results, where: str = RESULTS) -> Results:
        """Write tables that the study made itself, unless they are there; read them back."""
        if not self.has(where):
            self.begin()
            with artefact.new_folder(self.out / where) as folder:
                results.save(folder)
        return Results.load(self.out / where)


def still_moving(entries: Sequence[Entry], arm: str, metric: str, by: float) -> str:
    """A sentence where a training metric of the arm's dictionaries moved by more than `by` over the last fifth; else empty."""
    moves: list[float] = []
    for entry in entries:
        log = Path(entry.dictionary.path) / "log.jsonl"
        if entry.arm != arm or not log.exists():
            continue
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        points = [(line["tokens"], line[metric]) for line in lines if line.get(metric) is not None]
        late = [value for tokens, value in points if tokens >= LATE * points[-1][0]]
        if len(late) < 2:
            return f"the runs of {arm} are too short to say whether they had settled"
        moves.append(abs(late[-1] - late[0]))
    if moves and max(moves) > by:
        return f"{arm} had not settled: {metric} moved by {max(moves):.3g} over the last fifth of training (allowed: {by:g})"
    return ""


def _same(before: Any, asked: dict[str, Any], out: Path) -> None:
    """Raises `BadOption` where a study is continued with other options than it was started with."""
    if before.get("study") != asked["study"]:
        raise BadOption(f"{out} holds the study {before.get('study')}, not {asked['study']}; give another --out.")
    was, now = before.get("options", {}), asked["options"]
    for name in [*now, *was]:
        if was.get(name) != now.get(name):
            raise BadOption(
                f"{out} was started with {name} = {was.get(name)}, now it is {now.get(name)}; continue it with what it was "
                f"started with, or give another --out such as {artefact.free_name(out)}."
            )
