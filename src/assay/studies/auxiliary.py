"""auxiliary: other tasks that teach a gate, in place of the reconstruction by a frozen decoder.

Variants of gated (`--auxiliary` of its file), each at every sparsity, stand at equal L0 against the paper's, which is the baseline here:
a straight-through gate with the L1 penalty, the same with a direct L0 penalty, an auxiliary reconstruction by a decoder of its own.
gated-none has no task at all: its gates stay where a quantile of the sample puts them, so that L0 is set by the start alone; it tells
what any task is worth. relu is the L1 baseline of equal width.

A task is better when it beats the paper's at more than half of its verdicts on FVU and loss recovered and loses at none; worse or no
better when it loses or ties at half of them or more. The claim is reproduced when one of the three tasks is better, not reproduced when all
three are worse or no better and had settled. Holm's correction covers all verdicts of a metric, so trying several tasks is paid for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from assay.core.config import config, require
from assay.core.outcome import Results, Verdict
from assay.evaluation import Entry
from assay.studies.bench import RESULTS, Bench, still_moving
from assay.studies.finding import Claim, Finding, Panel, Part, Table, claim_of, curve, pooled, seeds_of, won
from assay.studies.options import Sparsities
from assay.studies.recipes import BASELINE, CONTROLS, Recipe, plans, role_of, values_of

QUESTION = "Is there a better way to teach a gate than reconstructing with the frozen decoder?"
CLAIM = "Better auxiliary tasks than the reconstruction by the frozen decoder may exist."
SOURCE = (
    "a remark of the authors of arXiv 2404.16014v2, who explored no other auxiliary task; not read in the paper itself"
)
PAPER = "gated"
TASKS = ("straight_through", "l0", "own_decoder")
NONE = "none"
FIDELITY = ("fvu", "loss_recovered_zero")
SETTLED = 0.02  # as far as FVU of a run may move over its last fifth


@config
class Options(Sparsities):
    """Options of the study; --archs does not apply."""

    bandwidth: float = 0.1
    """Width of the estimator's window around a closed gate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.bandwidth > 0, "bandwidth", self.bandwidth, "above 0")


def arm_of(task: str) -> str:
    return f"{PAPER}-{task}"


def run(bench: Bench, options: Options) -> Finding:
    entries = bench.train(plans(recipes(options), bench.width, options))
    results = bench.measure(entries)
    moving = settled(entries)
    return Finding(results, [RESULTS], claim_about(results, moving), [panel(results)], [table(results)])


def recipes(options: Options) -> list[Recipe]:
    """The paper's at more penalties: wider, since it must span the others, and finer, since a coarse line flatters them."""
    paper = values_of(PAPER, options)
    ends = sorted({min(options.l1_coef) / 2, *options.l1_coef, 2 * max(options.l1_coef)})
    wide = {"l1_coef": sorted([*ends, *(math.sqrt(a * b) for a, b in itertools.pairwise(ends))])}

    def variant(task: str, **given: Any) -> Recipe:
        estimated = {"bandwidth": options.bandwidth} if task in ("straight_through", "l0") else {}
        return Recipe(arm_of(task), "method", PAPER, paper | {"auxiliary": task} | estimated | given)

    return [
        Recipe(PAPER, "baseline", PAPER, paper | wide),
        variant("straight_through"),
        variant("l0", l1_coef=sorted(set(options.l0_coef))),
        variant("own_decoder"),
        variant(NONE, l1_coef=0.0, init_l0=sorted({float(k) for k in options.k})),
        Recipe(BASELINE, "method", BASELINE, values_of(BASELINE, options)),
        *(Recipe(arch, role_of(arch), arch, values_of(arch, options)) for arch in CONTROLS),
    ]


def settled(entries: Sequence[Entry]) -> str:
    """A sentence where the runs of a task, or of the paper's, still moved; else empty."""
    found = (still_moving(entries, arm, "fvu", SETTLED) for arm in (PAPER, *map(arm_of, TASKS)))
    return next((said for said in found if said), "")


def claim_about(results: Results, moving: str = "") -> Claim:
    """One task that is better suffices; all must be no better to refute."""
    parts = [won(_about(results, arm_of(task)), f"{arm_of(task)} against {PAPER}") for task in TASKS]
    said = "; ".join(part.said for part in parts)
    held = [part.holds for part in parts]
    holds = True if True in held else False if all(h is False for h in held) else None
    found = [v for task in TASKS for v in _about(results, arm_of(task))]
    return claim_of([Part(said, holds)], seeds_of(found), moving)


def _about(results: Results, arm: str) -> list[Verdict]:
    return [v for v in results.verdicts if v.arm == arm and v.baseline == PAPER and v.metric in FIDELITY]


def panel(results: Results) -> Panel:
    outcomes = pooled(results, "fvu")
    arms = [PAPER, *map(arm_of, (*TASKS, NONE)), BASELINE]
    return Panel(
        "tasks", "FVU against L0", "lines", "L0, active latents a token (log scale)", "FVU",
        [curve(outcomes, arm) for arm in arms], "Lower is better.", x_log=True,
    )  # fmt: skip


def table(results: Results) -> Table:
    """Words of the verdicts of every task, of none, and of relu against the paper's."""
    rows: list[list[str]] = []
    for arm in [*map(arm_of, (*TASKS, NONE)), BASELINE]:
        for metric in FIDELITY:
            about = [v for v in _about(results, arm) if v.metric == metric]
            words = [v.word for v in about]
            counted = ", ".join(f"{word} {words.count(word)}" for word in dict.fromkeys(words)) or "no verdict"
            gains = [v.gain for v in about]
            spread = f"{min(gains):+.4f} to {max(gains):+.4f}" if gains else ""
            rows.append([arm, metric, counted, spread])
    return Table("Against the frozen-decoder task at equal L0", ["arm", "metric", "verdicts", "gain"], rows)
