"""From cells to the tables of core: units are tasks, seeds are splits, and every verdict belongs to a family that is said.

probe              each SAE arm at each k against the strongest baseline of any kind, chosen on validation
probe, same k      each SAE arm at each k against the strongest sparse rival of the same k
probe, pool        the pool with SAE arms, and the pool with other sparse arms, against the pool without
probe, always lr   the pools against always taking logistic regression
probe, thrown away the probe on the SAE's reconstruction against the same probe on the vectors themselves
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from assay.core.arms import Arm, Metric, Role
from assay.core.intervals import summarise
from assay.core.outcome import Access, Cost, Results, Units
from assay.core.verdict import compare
from assay.probing.measure import MAX, Cell
from assay.probing.pool import ALWAYS, POOL, WITH_SAE, WITH_SPARSE

STUDY = "probe"
AUC = Metric(name="auc", better="higher")
NOUNS = ("splits", "kinds of probe")


@dataclass(frozen=True)
class ArmFacts:
    """What is known of an arm beside its cells. kind: dense, sae, reconstruction, rival, floor or pool."""

    kind: str
    access: Access
    about: str
    subject: str = ""
    includes: tuple[str, ...] = ()
    marginal_seconds: float = 0.0
    marginal_tokens: int = 0


RANDOM = ("random", f"random {MAX}")


@dataclass
class Tables:
    """Everything that was measured in one setting (a set of tasks under one regime's point)."""

    task: str
    cells: list[Cell]
    facts: dict[str, ArmFacts]
    shared: list[Cost] = field(default_factory=list[Cost])
    split: str = "test"
    sets: dict[str, str] = field(default_factory=dict[str, str])  # task -> the set it is one of several of

    def unit(self, task: str) -> str:
        """What is resampled: a task, or the set whose tasks share their texts."""
        return self.sets.get(task) or task

    def role(self, arm: str, study: str) -> Role:
        kind = self.facts[arm].kind
        if kind == "floor":
            return "floor"
        if study.endswith("always lr"):
            return "baseline" if arm == ALWAYS else "method"
        if study.endswith("pool"):
            return "baseline" if arm == POOL else "method"
        if study.endswith("thrown away"):
            return "baseline" if arm == ALWAYS else "method"
        return "method" if kind in ("sae", "reconstruction") else "control" if arm in RANDOM else "baseline"

    def members(self, study: str) -> list[Cell]:
        """The cells that take part in a family."""
        kinds = {name: facts.kind for name, facts in self.facts.items()}
        if study == STUDY:
            return [c for c in self.cells if kinds[c.arm] in ("dense", "sae", "rival", "floor") and c.arm not in POOLS]
        if study.endswith("same k"):
            return [c for c in self.cells if c.k is not None or kinds[c.arm] == "floor"]
        if study.endswith("always lr"):
            return [c for c in self.cells if c.arm in (ALWAYS, *POOLS)]
        if study.endswith("pool"):
            return [c for c in self.cells if c.arm in POOLS]
        return [c for c in self.cells if c.arm == ALWAYS or kinds[c.arm] == "reconstruction"]

    def arms(self, cells: Sequence[Cell], study: str) -> list[Arm]:
        found: dict[tuple[str, int | None, int], Arm] = {}
        for c in cells:
            if (c.arm, c.k, c.seed) not in found:
                facts = self.facts[c.arm]
                options = {} if c.k is None else {"k": c.k}
                found[c.arm, c.k, c.seed] = Arm(
                    name=c.arm, role=self.role(c.arm, study), cost=cost_id(c.arm, c.k, self.task), seed=c.seed,
                    subject=":".join(filter(None, (facts.subject, "" if c.k is None else f"k{c.k}"))),
                    point_name=None if c.k is None else "k", options=options, label=f"k={c.k}",
                )  # fmt: skip
        return list(found.values())

    def units(self, cells: Sequence[Cell], study: str) -> Units:
        """Two rows a cell, its validation and its test AUC; a task is a unit, and so is a set of tasks on the same texts."""
        rows = [(c, split, value, n) for c in cells for split, value, n in (
            ("validation", c.validation, c.n_train), (self.split, c.test, c.n_test)) if np.isfinite(value)]  # fmt: skip
        if not rows:
            return Units.empty()
        subject = [
            ":".join(filter(None, (self.facts[c.arm].subject, "" if c.k is None else f"k{c.k}"))) for c, *_ in rows
        ]
        return Units.of(
            study=study, task=self.task, arm=[c.arm for c, *_ in rows], metric=AUC.name, split=[s for _, s, *_ in rows],
            seed=[c.seed for c, *_ in rows], point=[np.nan if c.k is None else float(c.k) for c, *_ in rows], subject=subject,
            unit_kind="task", unit=[self.unit(c.task) for c, *_ in rows], num=[v for *_, v, _ in rows], den=np.ones(len(rows)),
            n_obs=[n for *_, n in rows],
        )  # fmt: skip

    def costs(self) -> list[Cost]:
        """What a probe of each arm takes on one task: labels, seconds of fitting; shared parts are named, and counted once."""
        groups: dict[tuple[str, int | None], list[Cell]] = {}
        for c in self.cells:
            groups.setdefault((c.arm, c.k), []).append(c)
        return [
            Cost(
                id=cost_id(arm, k, self.task), access=self.facts[arm].access,
                upfront_labels=round(float(np.mean([c.n_train for c in same]))),
                upfront_seconds=float(np.mean([c.seconds for c in same])), includes=self.facts[arm].includes,
                marginal_seconds=self.facts[arm].marginal_seconds, marginal_tokens=self.facts[arm].marginal_tokens,
            )
            for (arm, k), same in groups.items()
        ]  # fmt: skip


POOLS = (POOL, WITH_SPARSE, WITH_SAE)
STUDIES = (STUDY, f"{STUDY}, same k", f"{STUDY}, pool", f"{STUDY}, always lr", f"{STUDY}, thrown away")


def cost_id(arm: str, k: int | None, task: str) -> str:
    return f"{arm}{'' if k is None else f' k={k}'} on {task}"


def results(tables: Sequence[Tables], *, seed: int, resamples: int) -> Results:
    """Outcomes of every arm and verdicts of every family, over all settings; Holm's correction runs over a whole family."""
    found = Results(costs=list({c.id: c for t in tables for c in (*t.shared, *t.costs())}.values()))
    for study in STUDIES:
        chosen = [(t, t.members(study)) for t in tables]
        arms = list({(a.name, a.seed, a.subject): a for t, cells in chosen for a in t.arms(cells, study)}.values())
        units = Units.concat([t.units(cells, study) for t, cells in chosen])
        roles = {arm.role for arm in arms}
        if not {"method", "baseline"} <= roles and study != STUDY:
            continue
        found.units = Units.concat([found.units, units])
        found.outcomes += summarise(units, arms, [AUC], seed=seed, resamples=resamples)
        if {"method", "baseline"} <= roles:
            judged = compare(units, arms, [AUC], found.costs, seed=seed, resamples=resamples, nouns=NOUNS)
            found.verdicts += judged.verdicts
            found.notes += judged.notes
    return found
