"""A probing run from tasks to tables, kept on disk after every task, so that the same command continues where it stopped.

OUT/asked.json          what was asked
OUT/tasks/NAME.json     the cells, the permuted fits and the audit of one task
OUT/results/            units, outcomes, costs and verdicts of core, and probing.json for the page
CACHE/KEY/              vectors and codes (harvest)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from assay import models
from assay.core import artefact
from assay.core.config import to_json
from assay.core.errors import BadInput, BadOption
from assay.core.progress import Bar, progress
from assay.core.provenance import collect
from assay.evaluation import Entry, checks
from assay.probing import audit, comparators, flags, terms
from assay.probing.comparators import NEURONS, Comparator
from assay.probing.data import Task
from assay.probing.harvest import Harvester, Named
from assay.probing.linear import TALLY
from assay.probing.measure import Bench, Cell
from assay.probing.options import MANY_TASKS, ProbeConfig
from assay.probing.protocol import Material
from assay.probing.regimes import REGIMES
from assay.probing.splits import rank

ASKED, TASKS = "asked.json", "tasks"


@dataclass
class Record:
    """What is known of one task after it ran."""

    cells: list[Cell]
    permuted: dict[str, list[float]]
    about: dict[str, Any]
    audit: dict[str, Any]

    def save(self, path: Path) -> None:
        artefact.write_json(
            path,
            {
                "cells": [c.plain() for c in self.cells],
                "permuted": self.permuted,
                "about": self.about,
                "audit": self.audit,
            },
        )

    @classmethod
    def load(cls, path: Path) -> Record:
        held = artefact.read_json(path)
        return cls([Cell(**cell) for cell in held["cells"]], held["permuted"], held["about"], held["audit"])


@dataclass
class Run:
    """One model, one site, some tasks, some dictionaries."""

    options: ProbeConfig
    tasks: Sequence[Task]
    entries: Sequence[Entry]
    out: Path
    cache: Path
    name: str = "tasks"
    quiet: bool = False
    _sample: Tensor | None = None

    # ---- what is asked, refused before anything is computed ----------------------------------------------------------

    def begin(self) -> None:
        """Check everything that can be checked before a text is read, and write down what was asked."""
        if not self.tasks:
            raise BadInput(f"--tasks {self.options.tasks} holds no task; name a preset, a file or a folder.")
        names = [artefact_name(task.name) for task in self.tasks]
        if twice := [task.name for task, name in zip(self.tasks, names, strict=True) if names.count(name) > 1]:
            raise BadInput(
                f"The tasks {' and '.join(twice)} would share a file; give their labels names of other letters."
            )
        if self.options.regime == "shift" and not any(task.shift for task in self.tasks):
            raise BadInput("None of these tasks has shifted texts; use --tasks shift, or give --test FILE.")
        for task in self.tasks if self.options.regime != "shift" else ():
            if not REGIMES[self.options.regime](self.limited(task), self.options.seed, self.options.folds):
                raise BadInput(f"Task {task.name} has too few rows for the regime {self.options.regime}.")
        self.named  # noqa: B018  (refuses dictionaries of another site or width)
        asked = {
            "options": to_json(self.options),
            "tasks": [task.name for task in self.tasks],
            "dictionaries": [checks.subject_of(entry) for entry in self.entries],
        }
        if (self.out / ASKED).exists():
            before = artefact.read_json(self.out / ASKED)
            if before != asked:
                differ = [key for key in asked if before.get(key) != asked[key]]
                raise BadOption(
                    f"{self.out} was begun with other {' and '.join(differ)}; give what it was begun with, or another --out such as "
                    f"{artefact.free_name(self.out)}."
                )
        else:
            artefact.refuse_existing(self.out)
            artefact.write_json(self.out / ASKED, asked)

    def limited(self, task: Task) -> Task:
        """At most --max-rows of a task's texts, drawn by hash."""
        most = self.options.max_rows
        if not most or len(task) <= most:
            return task
        return task.subset(np.sort(rank(task.texts, 0, "rows")[:most]))

    # ---- what is opened ----------------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Any:
        return models.load(self.options.model, device=self.options.device, dtype=self.options.dtype)

    @cached_property
    def site(self) -> str:
        if not self.entries:
            if self.options.site is None:
                raise BadOption("No --dict and no --site was given; name the site whose activations are probed.")
            return self.model.canonical(self.options.site)
        return checks.site_of(self.entries, self.options.site, self.model.canonical)

    @cached_property
    def pool(self) -> str:
        if self.options.pool != "auto":
            return self.options.pool
        return "last" if self.model.is_causal_lm else "mean"

    @cached_property
    def named(self) -> list[Named]:
        """The dictionaries under names of their own. Raises `BadInput` for one of another width."""
        width = int(self.model.width(self.site))
        labels = [entry.arm for entry in self.entries]
        found: list[Named] = []
        for entry in self.entries:
            d = entry.dictionary
            if d.d_in != width:
                raise BadInput(
                    f"A dictionary of arm {entry.arm} reads {d.d_in} numbers a token, {self.site} of {self.model.name} has {width}; "
                    "give dictionaries of this site."
                )
            folder = Path(d.path).name if d.path is not None else checks.subject_of(entry)
            name = entry.arm if labels.count(entry.arm) == 1 and entry.arm not in self.options.comparators else folder
            found.append(Named(name, d, checks.subject_of(entry)))
        names = [named.name for named in found]
        if len(set(names)) != len(names):
            found = [replace(named, name=f"{named.name} {named.subject[:6]}") for named in found]
        return found

    @cached_property
    def saes(self) -> list[Named]:
        """The dictionaries that are on trial; given ones of the classical kinds stand among the rivals."""

        def on_trial(entry: Entry) -> bool:
            made = entry.dictionary
            return entry.role == "method" or (made.learned_by == "gradient" and made.role != "control")

        return [named for named, entry in zip(self.named, self.entries, strict=True) if on_trial(entry)]

    @cached_property
    def comparators(self) -> list[Comparator]:
        """The rivals, fitted on tokens of the tasks' texts; an architecture that the user gave is not made again."""
        given = {entry.dictionary.arch for entry in self.entries}
        wanted = [a for a in self.options.comparators if a != NEURONS and a not in given]
        if not wanted:
            return []
        key = comparators.key(self.model.weights_hash(), self.site, self.tasks, self.options.context, self.options.seed)
        made: list[Comparator] = []
        with progress(len(wanted), "rivals", "fits", quiet=self.quiet) as bar:
            for arch in wanted:
                found = comparators.fit(
                    arch,
                    self.sampled,
                    int(self.model.width(self.site)),
                    self.options.seed,
                    self.cache / f"rivals-{key}",
                )
                bar.note(f"{arch}: a rival of {found.named.dictionary.d_sae} columns, fitted in {found.seconds:.1f} s")
                made.append(found)
                bar.advance()
        return made

    def sampled(self) -> Tensor:
        """Tokens of the tasks' texts that rivals are fitted to; read once, and only where a rival is not in the cache."""
        if self._sample is None:
            self._sample = comparators.sample(
                self.model, self.site, self.tasks, self.options.context, self.options.seed
            )
        return self._sample

    @cached_property
    def harvester(self) -> Harvester:
        tokenwise = [c.named for c in self.comparators if not c.linear]
        return Harvester(
            self.model, self.site, [*self.named, *tokenwise], self.cache, self.options.context,
            keep_tokens="attention" in self.dense,
        )  # fmt: skip

    @cached_property
    def dense(self) -> list[str]:
        return self.options.arms_for(len(self.tasks))

    @cached_property
    def bench(self) -> Bench:
        neurons = NEURONS in self.options.comparators
        return Bench(self.dense, self.options.k, self.named, self.comparators, neurons)

    # ---- what is done ------------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """Every task through every arm; tasks that an earlier run finished are read back."""
        self.begin()
        found: list[Record] = []
        n_texts = sum(len(self.limited(t)) + (len(t.shift) if t.shift else 0) for t in self.tasks)
        with progress(n_texts, "probe", "texts", quiet=self.quiet) as bar:
            for task in self.tasks:
                path = self.out / TASKS / f"{artefact_name(task.name)}.json"
                if not path.exists():
                    self.one(task, bar).save(path)
                else:
                    bar.advance(len(self.limited(task)))
                found.append(Record.load(path))
        return found

    def one(self, task: Task, bar: Bar) -> Record:
        """Harvest one task and run every arm on it."""
        options = self.options
        readings = flags.readings(task)
        task = self.limited(task)
        shifted = task.shift if options.regime == "shift" else None
        texts = [
            *task.texts,
            *(shifted.texts if shifted else ()),
        ]  # harvested together: a job's test rows come after the task's own
        labels = np.concatenate([task.labels, shifted.labels]) if shifted else task.labels
        self.bench  # noqa: B018  (fitted before the first task is read)
        read, spent = self.harvester.n_tokens_read, dict(self.harvester.spent)
        harvested = self.harvester.get(texts, bar.advance)
        material = Material(task.name, texts, harvested, self.pool, {"model": self.model, "task": task})
        seeds = range(options.seed, options.seed + options.seeds)
        jobs = [job for seed in seeds for job in REGIMES[options.regime](task, seed, options.folds)]
        before = (TALLY.fits, TALLY.open)
        cells = self.bench.cells(material, jobs, labels) if jobs else []
        n = -(-options.permutations // len(self.tasks))
        base = REGIMES["standard"](task, options.seed, options.folds)[0]
        permuted = self.bench.permuted(material, base, n, options.seed)
        warned = list(flags.sentences(readings))
        about = {
            "name": task.name, "source": task.source, "positive": task.positive, "negative": task.negative,
            "positive_frac": task.positive_frac, "n": len(task), "n_shift": len(shifted) if shifted else 0,
            "set": task.set_name, "notes": list(task.notes), "terms": terms.top(task) if self.described else {},
            **{key: getattr(task.counts, key) for key in ("n_read", "n_empty", "n_duplicates", "n_conflicts")},
            "n_cut": harvested.n_cut, "n_without_tokens": int((harvested.n_tokens == 0).sum()),
            "mean_tokens": float(harvested.n_tokens.float().mean()), "audit": readings, "flags": warned,
            "tokens_read": self.harvester.n_tokens_read - read,
            "harvest_seconds": {k: v - spent.get(k, 0.0) for k, v in self.harvester.spent.items()},
            "fits": TALLY.fits - before[0], "not_converged": TALLY.open - before[1],
        }  # fmt: skip
        bar.note(f"{task.name}: {len(cells)} probes judged" + (f"; {'; '.join(warned)}" if warned else ""))
        return Record(cells, permuted, about, self.audited(material, task))

    @property
    def described(self) -> bool:
        """Whether the data are looked at as they are given."""
        return self.options.audit and self.options.regime == "standard"

    def audited(self, material: Material, task: Task) -> dict[str, Any]:
        """Rows that look mislabelled, where the regime leaves labels as they are and there are not too many tasks."""
        if not self.described or len(self.tasks) > MANY_TASKS:
            return {}
        families = self.bench.families(material)
        wanted = {named.name: families[named.name] for named in self.saes}
        seeds = range(self.options.seed, self.options.seed + min(self.options.seeds, audit.SEEDS))
        return audit.audit(material, task, wanted, seeds).plain()

    # ---- what is told ------------------------------------------------------------------------------------------------

    def provenance(self) -> dict[str, Any]:
        return collect(
            model=self.model.name, model_hash=self.harvester.weights, site=self.site, pool=self.pool,
            options=to_json(self.options), seconds=dict(self.harvester.spent),
        )  # fmt: skip


def artefact_name(name: str) -> str:
    """A task's name as a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
