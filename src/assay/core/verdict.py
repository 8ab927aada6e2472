"""Who beats whom: each method arm, at each of its points, against the best baseline chosen on validation.

Everything is planned first, so that the family is known before anything is tested; then every planned gain is
resampled, corrected by Holm within its family, and put into one word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from assay.core.arms import Arm, Metric, Role
from assay.core.cells import blocks
from assay.core.errors import BadInput, nearest
from assay.core.gains import Gain, holm, paired_gain
from assay.core.intervals import Resampler, known_metrics
from assay.core.outcome import Cost, Note, Units, Verdict, Word
from assay.core.plan import CHOSEN_ON, Plan, note, plan_block
from assay.core.points import Side
from assay.core.resampling import FEWEST_FOR_BOOTSTRAP, resamples_needed
from assay.core.sentence import Setting, sentence

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """The verdicts, and notes on comparisons that could not be made."""

    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    notes: list[Note] = field(default_factory=list[Note])


def compare(
    units: Units,
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    costs: Sequence[Cost],
    *,
    seed: int,
    resamples: int = 10_000,
    level: float = 0.95,
    against: tuple[Role, ...] = ("baseline",),
    nouns: tuple[str, str] = ("dictionaries", "architectures"),
) -> Comparison:
    """Verdicts for every arm of role `method`, metric with a direction, task, and split but train and validation.

    `against`: the roles whose arms are candidates; the strongest of them on validation, at the arm's point, is the
    baseline. A study without an arm of role `baseline` raises `BadInput`, and so does one with several candidates that
    were not measured on validation. With three seeds or more in common a verdict speaks of the second of `nouns`, else
    of these instances of the first. `resamples` is the least number; large families of few units take more, so that p
    can pass Holm. Metrics of direction "none" get no verdict.
    """
    _require_declared(arms, costs)
    found = blocks(units, arms)
    known = known_metrics(found, metrics)
    place = {(b.study, b.task, b.metric, b.split): b for b in found}
    families: dict[tuple[str, str], list[Plan]] = {}
    notes: list[Note] = []
    for block in found:
        if known[block.metric].better != "none" and block.split not in ("train", CHOSEN_ON):
            chosen_on = place.get((block.study, block.task, block.metric, CHOSEN_ON))
            plans, unmade = plan_block(block, chosen_on, arms, known[block.metric], against)
            families.setdefault((block.study, block.metric), []).extend(plans)
            notes += unmade
    verdicts: list[Verdict] = []
    for (_, name), plans in families.items():
        setting = Setting(known[name], nouns, costs, many_tasks=len({plan.block.task for plan in plans}) > 1)
        verdicts += _judge(plans, arms, setting, seed, resamples, level, notes)
    return Comparison(verdicts, notes)


def _require_declared(arms: Sequence[Arm], costs: Sequence[Cost]) -> None:
    if not any(arm.role == "baseline" for arm in arms):
        shown = ", ".join(sorted({f"{arm.name} ({arm.role})" for arm in arms})) or "none at all"
        raise BadInput(f"This study declares no baseline arm (its arms: {shown}); add one, or nothing can be reported.")
    known = {cost.id for cost in costs}
    for arm in arms:
        if arm.cost not in known:
            raise BadInput(f'Arm {arm.name} names cost "{arm.cost}", which was not recorded.{nearest(arm.cost, known)}')


def _judge(
    plans: list[Plan],
    arms: Sequence[Arm],
    setting: Setting,
    seed: int,
    resamples: int,
    level: float,
    notes: list[Note],
) -> list[Verdict]:
    """Resample the planned gains of one family, correct them, and say them."""
    by_block: dict[int, list[Plan]] = {}
    for plan in plans:
        by_block.setdefault(id(plan.block), []).append(plan)
    measured: list[tuple[Plan, Gain, tuple[str, ...]]] = []
    for same in by_block.values():
        fewest = min((plan.n_units for plan in same if plan.n_units >= FEWEST_FOR_BOOTSTRAP), default=resamples)
        resampler = Resampler(same[0].block, seed, resamples_needed(fewest, len(plans), ALPHA, resamples))
        for plan in same:
            gain = paired_gain(resampler, plan.arm, plan.baseline, setting.metric.better, level)
            if isinstance(gain, str):
                notes.append(note(plan.block, plan.arm.name, plan.baseline.name, plan.point, gain))
                continue
            measured.append((plan, gain, _unbeaten_floors(resampler, plan, setting.metric, level)))
    corrected = holm([gain.interval.p for _, gain, _ in measured])
    return [
        _verdict(plan, gain, p_holm, floors, arms, setting, len(measured))
        for (plan, gain, floors), p_holm in zip(measured, corrected)
    ]


def _unbeaten_floors(resampler: Resampler, plan: Plan, metric: Metric, level: float) -> tuple[str, ...]:
    """The floors that neither the arm nor its baseline beats: their paired gain's interval is not above 0."""

    def beaten(side: Side, floor: Side) -> bool:
        gain = paired_gain(resampler, side, floor, metric.better, level)
        return not isinstance(gain, str) and gain.interval.lo > 0

    unbeaten = {
        side.name: {floor.name for floor in plan.floors if not beaten(side, floor)}
        for side in (plan.arm, plan.baseline)
    }
    if not all(unbeaten.values()):
        return ()
    return tuple(floor.name for floor in plan.floors if any(floor.name in names for names in unbeaten.values()))


def word_of(gain: Gain, p_holm: float, margin: float, floors: tuple[str, ...]) -> Word:
    """The word of DESIGN §2; a significant gain inside the margin still beats or loses, and its sentence says so."""
    lo, hi = gain.interval.lo, gain.interval.hi
    if floors:
        return "no signal"
    if p_holm < ALPHA and lo > 0:
        return "beats"
    if p_holm < ALPHA and hi < 0:
        return "loses"
    return "ties" if -margin <= lo and hi <= margin else "no signal"


def _verdict(
    plan: Plan,
    gain: Gain,
    p_holm: float,
    floors: tuple[str, ...],
    arms: Sequence[Arm],
    setting: Setting,
    family_size: int,
) -> Verdict:
    block, margin = plan.block, setting.metric.margin or 0.0

    def cost(side: Side) -> str:
        cell = block.cells[side.main_column]
        return next(arm.cost for arm in arms if (arm.name, arm.label) == (cell.arm, cell.label))

    draft = Verdict(
        study=block.study,
        task=block.task,
        metric=block.metric,
        split=block.split,
        arm=plan.arm.name,
        baseline=plan.baseline.name,
        chosen_on=CHOSEN_ON,
        n_candidates=plan.n_candidates,
        point_name=next(arm.point_name for arm in arms if arm.name == plan.arm.name),
        point=plan.point,
        arm_value=gain.arm_value,
        baseline_value=gain.baseline_value,
        gain=gain.gain,
        lo=gain.interval.lo,
        hi=gain.interval.hi,
        p=gain.interval.p,
        p_holm=p_holm,
        family=f"{block.study}/{block.metric}",
        family_size=family_size,
        n_units=gain.n_units,
        unit_kind=block.unit_kind,
        n_seeds=gain.n_seeds,
        margin=margin,
        word=word_of(gain, p_holm, margin, floors),
        sentence="",
        costs=(cost(plan.arm), cost(plan.baseline)),
    )
    return replace(draft, sentence=sentence(draft, setting, floors, interpolated=plan.baseline.interpolated))
