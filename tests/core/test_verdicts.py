"""Words, families, floors, the choice of the baseline, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_units import COSTS, FVU, GAMMA, RECOVERED, Array, arm, curve, table
from scipy import stats

from assay.core.arms import Metric
from assay.core.errors import BadInput
from assay.core.outcome import Arm, Cost, Units, Verdict
from assay.core.verdict import Comparison, compare

RNG = np.random.default_rng(0)
DOCS = RNG.random(60)
NOISE = RNG.standard_normal(60)


def judge(metric: Metric, more: list[tuple[Arm, Array]] | None = None, /, **values: Array) -> Comparison:
    """`gated` (method) and other arms (baselines unless given in `more`), one value per document and arm."""
    sides = [(arm(name, "method" if name == "gated" else "baseline"), v) for name, v in values.items()] + (more or [])
    tables = [
        table(a.name, v, metric=metric.name, split=split) for a, v in sides for split in ("validation", "test")
    ]  # fmt: skip
    return compare(Units.concat(tables), [a for a, _ in sides], [metric], COSTS, seed=0, resamples=2_000)


def only(found: Comparison) -> Verdict:
    (verdict,) = found.verdicts
    return verdict


@pytest.mark.parametrize(
    ("metric", "gated", "topk", "word", "gain"),
    [
        (FVU, DOCS, DOCS + 0.1 + 0.05 * NOISE, "beats", 0.1 + 0.05 * NOISE.mean()),
        (FVU, DOCS + 0.1 + 0.05 * NOISE, DOCS, "loses", -0.1 - 0.05 * NOISE.mean()),
        (RECOVERED, DOCS + 0.1 + 0.05 * NOISE, DOCS, "beats", 0.1 + 0.05 * NOISE.mean()),
        (RECOVERED, DOCS, DOCS + 0.1 + 0.05 * NOISE, "loses", -0.1 - 0.05 * NOISE.mean()),
        (FVU, DOCS + 0.001 * (NOISE - NOISE.mean()), DOCS, "ties", 0.0),
        (FVU, DOCS + 0.5 * (NOISE - NOISE.mean()), DOCS, "no signal", 0.0),
    ],
)
def test_words_and_direction(metric: Metric, gated: Array, topk: Array, word: str, gain: float) -> None:
    verdict = only(judge(metric, gated=gated, topk=topk))
    assert verdict.word == word
    assert verdict.gain == pytest.approx(gain, abs=1e-12)
    assert verdict.lo <= verdict.gain <= verdict.hi


def test_one_metrics_compare_distances_to_one() -> None:
    above, below = 1.05 + 0.01 * NOISE, 0.90 + 0.01 * NOISE
    verdict = only(judge(GAMMA, gated=above, topk=below))
    assert verdict.word == "beats"
    assert verdict.gain == pytest.approx(abs(below.mean() - 1) - abs(above.mean() - 1))
    assert only(judge(GAMMA, gated=below, topk=above)).gain == pytest.approx(-verdict.gain)
    few = only(judge(GAMMA, gated=above[:12], topk=below[:12]))  # the t path: influence carries the signs
    assert few.gain == pytest.approx(abs(below[:12].mean() - 1) - abs(above[:12].mean() - 1))
    expected = stats.ttest_rel(1 - below[:12], above[:12] - 1)
    assert few.p == pytest.approx(expected.pvalue, rel=1e-6)


def test_resampling_is_paired() -> None:
    """Positive control: documents differ far more than arms do. Paired, the gain is sharp; shuffled, it drowns."""
    hard = 5 * RNG.random(60)
    paired = only(judge(FVU, gated=hard, topk=hard + 0.05 + 0.01 * NOISE))
    shuffled = only(judge(FVU, gated=RNG.permutation(hard), topk=hard + 0.05 + 0.01 * NOISE))
    assert paired.gain == pytest.approx(shuffled.gain, abs=1e-12)
    assert paired.word == "beats"
    assert shuffled.word == "no signal"
    assert 50 * (paired.hi - paired.lo) < shuffled.hi - shuffled.lo
    outcome_width = 2 * 1.96 * hard.std() / np.sqrt(60)
    assert (shuffled.hi - shuffled.lo) == pytest.approx(np.sqrt(2) * outcome_width, rel=0.2)


def test_a_real_but_tiny_gain_beats_and_says_that_it_is_within_the_margin() -> None:
    verdict = only(judge(FVU, gated=DOCS, topk=DOCS + 0.001 + 1e-5 * NOISE))
    assert verdict.word == "beats"
    assert "less than the margin 0.005" in verdict.sentence


def test_holm_counts_every_verdict_of_the_study_and_metric() -> None:
    noise = 0.02 * RNG.standard_normal((5, 60))
    gated_arms, gated = curve("gated", "method", {float(2**i): DOCS + noise[i] for i in range(1, 5)})
    topk_arms, topk = curve("topk", "baseline", {float(2**i): DOCS + 0.006 for i in range(1, 5)})
    shift = Units.concat(
        [table(name, DOCS, subject=f"{name}-1-0", point=4.0, split="shift:news") for name in ("gated", "topk")]
    )
    found = compare(Units.concat([gated, topk, shift]), gated_arms + topk_arms, [FVU], COSTS, seed=0, resamples=2_000)
    assert [(v.split, v.point, v.family_size) for v in found.verdicts] == [
        ("shift:news", 4.0, 5), ("test", 2.0, 5), ("test", 4.0, 5), ("test", 8.0, 5), ("test", 16.0, 5),
    ]  # fmt: skip
    ordered = sorted(found.verdicts, key=lambda v: v.p)
    assert ordered[0].p_holm == pytest.approx(min(1, 5 * ordered[0].p))
    assert ordered[1].p_holm == pytest.approx(max(ordered[0].p_holm, min(1, 4 * ordered[1].p)))
    assert {v.family for v in found.verdicts} == {"s/fvu"}


def test_the_baseline_is_chosen_on_validation_and_judged_on_test() -> None:
    arms = [arm("gated", "method"), arm("topk"), arm("relu"), arm("pca", "control")]
    values = {  # relu is the better one on test, topk on validation
        "test": {"gated": DOCS, "topk": DOCS + 0.3, "relu": DOCS + 0.1, "pca": DOCS - 0.5},
        "validation": {"gated": DOCS, "topk": DOCS + 0.1, "relu": DOCS + 0.3, "pca": DOCS - 0.4},
    }
    units = Units.concat([table(n, v, split=split) for split, sides in values.items() for n, v in sides.items()])
    verdict = only(compare(units, arms, [FVU], COSTS, seed=0, resamples=500))
    assert (verdict.baseline, verdict.n_candidates, verdict.split) == ("topk", 2, "test")
    assert verdict.gain == pytest.approx(0.3)
    verdict = only(compare(units, arms, [FVU], COSTS, seed=0, resamples=500, against=("baseline", "control")))
    assert (verdict.baseline, verdict.n_candidates, verdict.word) == ("pca", 3, "loses")
    candidates = [units.where(arm=name, split="validation") for name in ("topk", "relu")]
    without_arm = Units.concat([units.where(split="test"), *candidates])
    assert only(compare(without_arm, arms, [FVU], COSTS, seed=0, resamples=500)).baseline == "topk"
    with pytest.raises(BadInput, match="chosen on validation"):
        compare(units.where(split="test"), arms, [FVU], COSTS, seed=0, resamples=500)


def test_neither_beats_its_floor() -> None:
    floor = (arm("mean", "floor"), DOCS + 0.05 + 0.01 * NOISE)
    sunk = only(judge(FVU, [floor], gated=DOCS + 0.2, topk=DOCS + 0.4 + 0.01 * NOISE))
    assert sunk.word == "no signal"
    assert sunk.p_holm < 0.05
    assert "neither beats its floor, mean" in sunk.sentence
    level_with_it = DOCS + 0.05 + 0.05 * (NOISE - NOISE.mean())
    assert only(judge(FVU, [floor], gated=level_with_it, topk=DOCS + 0.4 + 0.01 * NOISE)).word == "no signal"
    one_above = only(judge(FVU, [floor], gated=DOCS, topk=DOCS + 0.4 + 0.01 * NOISE))
    assert one_above.word == "beats"
    other_above = only(judge(FVU, [floor], gated=DOCS + 0.4 + 0.01 * NOISE, topk=DOCS))
    assert other_above.word == "loses"


def test_without_a_baseline_nothing_is_reported() -> None:
    arms = [arm("gated", "method"), arm("pca", "control")]
    units = Units.concat([table(a.name, DOCS) for a in arms])
    with pytest.raises(BadInput, match=r"declares no baseline arm \(its arms: gated \(method\), pca \(control\)\)"):
        compare(units, arms, [FVU], COSTS, seed=0)
    with pytest.raises(BadInput, match='cost "dear", which was not recorded'):
        compare(units, [*arms, arm("topk")], [FVU], COSTS[:1], seed=0)


def test_under_five_units_there_is_a_note_and_under_twenty_a_paired_t() -> None:
    few = judge(FVU, gated=DOCS[:4], topk=DOCS[:4] + 0.1)
    assert few.verdicts == []
    assert few.notes[0].reason == "4 documents in common; a verdict needs 5 or more"
    topk = DOCS + 0.1 + 0.05 * NOISE
    verdict = only(judge(FVU, gated=DOCS[:10], topk=topk[:10]))
    assert verdict.p == pytest.approx(stats.ttest_rel(topk[:10], DOCS[:10]).pvalue, rel=1e-6)


def test_only_units_that_both_have_are_compared() -> None:
    arms = [arm("gated", "method"), arm("topk")]
    units = Units.concat([table("gated", DOCS), table("topk", DOCS[:30] + 0.1)])
    verdict = only(compare(units, arms, [FVU], COSTS, seed=0, resamples=500))
    assert verdict.n_units == 30
    assert verdict.arm_value == pytest.approx(DOCS[:30].mean())


def test_metrics_without_a_direction_get_no_verdict() -> None:
    assert judge(Metric(name="l0", better="none"), gated=DOCS, topk=DOCS + 1) == Comparison([], [])


def test_the_seed_decides_everything() -> None:
    sides = {"gated": DOCS, "topk": DOCS + 0.01 * NOISE}
    assert judge(FVU, **sides).verdicts == judge(FVU, **sides).verdicts


def test_two_tasks_are_one_family_and_the_sentence_names_them() -> None:
    arms = [arm("gated", "method"), arm("topk")]
    units = Units.concat([table("gated", DOCS), table("topk", DOCS + 0.1 + 0.01 * NOISE)])
    other = Units.of(
        study="s", task="u", arm=units["arm"], metric="fvu", split="test", unit=units["unit"], num=units["num"], den=1.0
    )
    found = compare(Units.concat([units, other]), arms, [FVU], COSTS, seed=0, resamples=500)
    assert [(v.task, v.family_size) for v in found.verdicts] == [("t", 2), ("u", 2)]
    assert "on FVU in u by" in found.verdicts[1].sentence


def test_costs_are_those_of_the_nearest_point() -> None:
    gated_arms, gated = curve("gated", "method", {6.0: DOCS})
    topk_arms, topk = curve("topk", "baseline", {2.0: DOCS, 8.0: DOCS})
    near = Arm(
        name="topk", role="baseline", cost="near", subject="topk-1-0", point_name="l0", options={"k": 1, "seed": 0}
    )
    costs = [*COSTS, Cost(id="near", access="activations", upfront_seconds=7.0)]
    found = compare(
        Units.concat([gated, topk]), [*gated_arms, topk_arms[0], near], [FVU], costs, seed=0, resamples=500
    )  # fmt: skip
    assert only(found).costs == ("dear", "near")
    assert "3.1 s vs 7 s of training" in only(found).sentence
