"""shrinkage: the relative reconstruction bias γ against L0 for every architecture, and latent by latent.

γ = E‖x̂‖² / E[x̂·x]; γ_i asks the same of each latent alone (both defined in metrics/shrinkage.py). The formula of the paper's first
version stands beside the corrected one, labelled wrong: it comes from the same two sums as √(γ / (2 − γ)).

The claim has three parts, each judged by intervals. (1) γ of gated lies within 1 ± --near at every sparsity; refuted where an interval
lies outside. (2) γ of relu is below 1 at every sparsity; refuted where an interval reaches 1. (3) γ of relu is lower at its lowest L0
than at its highest; refuted where the intervals say the reverse. Reproduced: all three; not reproduced: one is refuted
and the runs of gated had settled (γ of training batches moved by .02 at most over their last fifth).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from assay.core.config import config, require
from assay.core.intervals import summarise
from assay.core.outcome import Metric, Outcome, Results, Units
from assay.evaluation import Entry, Evaluation, checks, coding, tables
from assay.evaluation.readings import TEST
from assay.metrics.shrinkage import first_version, latent_bias_sums
from assay.studies.bench import RESULTS, Bench, still_moving
from assay.studies.finding import Claim, Finding, Panel, Part, Series, Table, claim_of, curve, pooled
from assay.studies.options import WithOwn
from assay.studies.recipes import BASELINE, CONTROLS, autoencoders, chosen, plans, standard

QUESTION = "Are reconstructions too short, at which sparsity, in which architecture, and by which latents?"
CLAIM = "Gated SAEs are unbiased (γ near 1) at every sparsity; L1 baselines shrink, the more so the sparser they are."
SOURCE = "Rajamanoharan et al. 2024, arXiv 2404.16014v2, section 4.2, eq. 9-10, figure 6"
METHOD = "gated"
SETTLED = 0.02  # as far as γ of a run may move over its last fifth: the margin of a tie
LATENT, WRONG = "gamma_latent", "gamma_first_version"


@config
class Options(WithOwn):
    """Options of the study."""

    near: float = 0.05
    """How far from 1 the γ of an unbiased architecture may lie."""
    fires: int = 20
    """Held-out tokens on which a latent must fire for its own γ to be shown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.near > 0, "near", self.near, "above 0")
        require(self.fires > 0, "fires", self.fires, "positive")


def run(bench: Bench, options: Options) -> Finding:
    archs = chosen(options, autoencoders(slow=False))
    own = bench.own(options.dict)
    entries = [*bench.train(plans(standard(options, archs), bench.width, options)), *own]

    def more(found: Evaluation) -> None:
        measure_latents(bench, options, entries, found)
        found.outcomes += [wrong(o) for o in found.outcomes if o.metric == "gamma" and o.value is not None]

    results = bench.measure(entries, more=more)
    arms = list(dict.fromkeys(e.arm for e in entries if e.arm not in CONTROLS))
    return Finding(
        results,
        [RESULTS],
        claim_about(results, options.near, still_moving(entries, METHOD, "gamma", SETTLED)),
        panels(results, arms, options),
        [table(results, arms)],
    )


def wrong(outcome: Outcome) -> Outcome:
    """The same outcome by the formula of the first version; null where that has no value."""
    value, lo, hi = (None if v is None else first_version(v) for v in (outcome.value, outcome.lo, outcome.hi))
    ends = [v for v in (value, lo, hi) if v is not None]
    if not np.isfinite(ends).all():
        return replace(
            outcome, metric=WRONG, better="none", value=None, lo=None, hi=None, how="none", over="none",
            why_null="the first version's formula has no value here",
        )  # fmt: skip
    return replace(outcome, metric=WRONG, better="none", value=value, lo=lo, hi=hi)


@torch.no_grad()
def measure_latents(bench: Bench, options: Options, entries: Sequence[Entry], found: Evaluation) -> None:
    """Add γ latent by latent on the test documents: one unit a latent that fires on `options.fires` tokens or more."""
    readings = bench.readings()
    sums: dict[int, list[torch.Tensor]] = {}
    for reading in readings.batches(readings.members(TEST)):
        for i, entry in enumerate(entries):
            codes = coding.encode(entry.dictionary, reading.x)
            x_hat = coding.reconstruct(entry.dictionary, reading.x, codes)
            counts = torch.bincount(codes.latent, minlength=codes.shape[1])
            new = [
                *latent_bias_sums(reading.x, x_hat, codes.row, codes.latent, codes.value, entry.dictionary.W_dec),
                counts,
            ]
            sums[i] = [a + b for a, b in zip(sums[i], new, strict=True)] if i in sums else new
    points = {o.subject: o.point for o in found.outcomes if o.seed is not None}
    units: list[Units] = []
    arms = []
    for i, entry in enumerate(entries):
        subject = checks.subject_of(entry)
        arms.append(tables.standing(entry, subject, points[subject], tables.recorded_cost(entry, subject)))
        num, den, fired = (total.cpu().numpy() for total in sums[i])
        shown = np.flatnonzero((fired >= options.fires) & (den > 0))
        if len(shown):
            units.append(
                Units.of(
                    study=bench.name, task=found.run["task"], arm=entry.arm, metric=LATENT, split=readings.rule.test,
                    unit=[f"{entry.seed}/{latent}" for latent in shown], num=num[shown], den=den[shown], n_obs=fired[shown],
                    seed=entry.seed, point=points[subject], subject=subject, unit_kind="latent",
                )
            )  # fmt: skip
    table = Units.concat(units)
    made = summarise(table, arms, [Metric(name=LATENT, better="none")], seed=options.seed, resamples=options.resamples)
    found.units = Units.concat([found.units, table])
    found.outcomes += [
        o for o in made if o.value is not None
    ]  # latents of several seeds have nothing in common to pool


def claim_about(results: Results, near: float, moving: str = "") -> Claim:
    """The three parts of the claim, from the intervals of γ."""
    gated, relu = pooled(results, "gamma", [METHOD]), pooled(results, "gamma", [BASELINE])
    seeds = min((o.n_seeds for o in (*gated, *relu)), default=0)
    if not gated or not relu:
        return claim_of([Part("γ was not measured for both gated and relu", None)], seeds)
    inside = [_within(o, 1 - near, 1 + near) for o in gated]
    below = [_within(o, 0.0, 1.0) for o in relu]
    lowest, highest = relu[0], relu[-1]
    falls = None
    if len(relu) > 1 and None not in (lowest.lo, lowest.hi, highest.lo, highest.hi):
        falls = True if lowest.hi < highest.lo else False if lowest.lo > highest.hi else None  # type: ignore[operator]
    return claim_of(
        [
            Part(f"γ of gated {_span(gated)}, within 1 ± {near:g} at {inside.count(True)} of {len(gated)} sparsities", _all(inside)),
            Part(f"γ of relu {_span(relu)}, below 1 at {below.count(True)} of {len(relu)}", _all(below)),
            Part(f"γ of relu {lowest.value:.3f} at L0 {lowest.point:.3g} and {highest.value:.3f} at L0 {highest.point:.3g}", falls),
        ],
        seeds,
        moving,
    )  # fmt: skip


def _within(outcome: Outcome, low: float, high: float) -> bool | None:
    """Whether the whole interval lies inside (True) or outside (False); None where it does neither."""
    if outcome.lo is None or outcome.hi is None:
        return None
    if low <= outcome.lo and outcome.hi < high:
        return True
    return False if outcome.hi < low or outcome.lo >= high else None


def _all(parts: Sequence[bool | None]) -> bool | None:
    return False if False in parts else None if None in parts else True


def _span(outcomes: Sequence[Outcome]) -> str:
    values = [o.value for o in outcomes if o.value is not None]
    return f"{min(values):.3f} to {max(values):.3f}"


def panels(results: Results, arms: Sequence[str], options: Options) -> list[Panel]:
    """Figure 6 with the wrong formula beside the right one, and the latents' own γ at the middle sparsity of each arm."""
    right, first = pooled(results, "gamma"), pooled(results, WRONG)
    lines = [curve(right, arm) for arm in arms]
    lines += [curve(first, arm, f"{arm}: first version (wrong)") for arm in (METHOD, BASELINE) if arm in arms]
    latents = [Series(arm, [], values) for arm in arms if (values := middle_latents(results, arm))]
    return [
        Panel(
            "gamma", "γ against L0", "lines", "L0, active latents a token (log scale)", "γ", lines,
            "On the dotted line reconstructions have the right length. Dotted curves: the formula of the paper's first version, "
            "which is wrong.", x_log=True, line=1.0,
        ),
        Panel(
            "latents", "γ latent by latent", "histogram", "γ of a latent", "share of the arm's latents", latents,
            f"Latents that fire on {options.fires} held-out tokens or more, first seed, middle sparsity of each arm.", line=1.0,
        ),
    ]  # fmt: skip


def middle_latents(results: Results, arm: str) -> list[float]:
    """γ of every shown latent of the arm's first seed at its middle sparsity."""
    mine = sorted((o for o in results.outcomes if o.metric == LATENT and o.arm == arm), key=lambda o: (o.seed, o.point))
    first = [o for o in mine if o.seed == mine[0].seed]
    if not first:
        return []
    units = results.units.where(metric=LATENT, arm=arm, subject=first[len(first) // 2].subject)
    return (units["num"] / units["den"]).tolist()


def table(results: Results, arms: Sequence[str]) -> Table:
    """γ by both formulas, one line a sparsity."""
    wrong_at = {(o.arm, o.subject): o for o in pooled(results, WRONG)}
    rows: list[list[str]] = []
    for arm in arms:
        for o in pooled(results, "gamma", [arm]):
            other = wrong_at.get((o.arm, o.subject))
            spread = "" if o.lo is None or o.hi is None else f" [{o.lo:.3f}, {o.hi:.3f}]"
            value = "" if other is None or other.value is None else f"{other.value:.3f}"
            rows.append([arm, f"{o.point:.3g}", f"{o.value:.3f}{spread}", value])
    return Table(
        "γ at each sparsity, and what the wrong formula says", ["arm", "L0", "γ", "first version (wrong)"], rows
    )
