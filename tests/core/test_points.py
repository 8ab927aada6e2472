"""Matched points: interpolated in log L0 between two neighbours, inside each resample, and never beyond the ends."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_units import COSTS, FVU, GAMMA, arm, curve, table

from assay.core.arms import SEEDLESS
from assay.core.cells import blocks
from assay.core.intervals import Resampler
from assay.core.outcome import Arm, Units
from assay.core.points import mix_at
from assay.core.resampling import percentile_interval, resampled_ratios
from assay.core.verdict import Comparison, compare

RNG = np.random.default_rng(0)
DOCS = RNG.random(40)


def judge(*sides: tuple[list[Arm], Units], metric: object = FVU, **more: object) -> Comparison:
    arms = [arm for side in sides for arm in side[0]]
    units = Units.concat([side[1] for side in sides])
    return compare(units, arms, [metric], COSTS, seed=0, resamples=1_000, **more)  # type: ignore[arg-type, list-item]


def test_weights_by_hand() -> None:
    curve = [(2.0, 0), (8.0, 1), (32.0, 2)]
    assert mix_at(curve, 4.0, "topk", "l0") == pytest.approx({0: 0.5, 1: 0.5})  # log 4 is half way from log 2 to log 8
    assert mix_at(curve, 16.0, "topk", "l0") == pytest.approx({1: 0.5, 2: 0.5})
    assert mix_at(curve, 2.0 * 4**0.25, "topk", "l0") == pytest.approx({0: 0.75, 1: 0.25})
    assert mix_at(curve, 8.0, "topk", "l0") == {1: 1.0}
    assert mix_at([(0.0, 0), (8.0, 1)], 0.0, "topk", "l0") == {0: 1.0}


@pytest.mark.parametrize("point", [1.999, 32.001, 0.0])
def test_nothing_is_extrapolated(point: float) -> None:
    reason = mix_at([(2.0, 0), (8.0, 1), (32.0, 2)], point, "topk", "l0")
    assert isinstance(reason, str)
    assert "outside what topk covers (2 to 32)" in reason
    assert "no logarithm" in str(mix_at([(0.0, 0), (8.0, 1)], 4.0, "topk", "l0"))


def test_the_baseline_value_is_the_hand_computed_interpolation() -> None:
    found = judge(curve("gated", "method", {4.0: DOCS}), curve("topk", "baseline", {2.0: DOCS + 0.4, 8.0: DOCS + 0.2}))
    (verdict,) = found.verdicts
    assert verdict.arm_value == pytest.approx(DOCS.mean())
    assert verdict.baseline_value == pytest.approx(DOCS.mean() + 0.3)
    assert verdict.gain == pytest.approx(0.3)
    assert (verdict.point_name, verdict.point, verdict.word) == ("l0", 4.0, "beats")
    assert "topk interpolated between its neighbours" in verdict.sentence


def test_interpolation_happens_inside_each_resample() -> None:
    """The neighbours vary against each other over documents, so the mix varies less than either."""
    wave = RNG.standard_normal(40)
    found = judge(
        curve("gated", "method", {4.0: DOCS}), curve("topk", "baseline", {2.0: DOCS + wave, 8.0: DOCS - wave})
    )
    (verdict,) = found.verdicts
    assert verdict.hi - verdict.lo < 1e-9
    assert verdict.gain == pytest.approx(0, abs=1e-12)


def test_an_arm_outside_the_range_gets_a_note_and_no_verdict() -> None:
    found = judge(
        curve("gated", "method", {1.5: DOCS, 4.0: DOCS, 9.0: DOCS}),
        curve("topk", "baseline", {2.0: DOCS + 0.4, 8.0: DOCS + 0.2}),
    )
    assert [verdict.point for verdict in found.verdicts] == [4.0]
    assert [verdict.family_size for verdict in found.verdicts] == [1]
    notes = [(note.point, note.baseline) for note in found.notes]
    assert notes == [(1.5, "topk"), (9.0, "topk")], "each reason once"
    assert "L0 1.5 lies outside what topk covers (2 to 8); nothing is extrapolated" in found.notes[0].reason


def test_each_seed_is_matched_on_its_own_curve_at_its_own_point() -> None:
    """The arm's L0 and the baseline's values differ between the seeds; gains by hand: .1, .2, .3."""
    sides = [
        side
        for seed, (point, low, high) in enumerate([(4.0, 0.0, 0.2), (2.0 * 4**0.25, 0.1, 0.5), (8.0, 0.9, 0.3)])
        for side in (
            curve("gated", "method", {point: DOCS}, seed=seed),
            curve("topk", "baseline", {2.0: DOCS + low, 8.0: DOCS + high}, seed=seed),
        )
    ]
    (verdict,) = judge(*sides).verdicts
    assert verdict.gain == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert verdict.point == pytest.approx((4.0 + 2.0 * 4**0.25 + 8.0) / 3)
    assert verdict.n_seeds == 3
    # paired t of the three gains by hand: s = .1, half = 4.3027 * .1 / sqrt(3); documents add nothing here
    assert verdict.hi - verdict.gain == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=0.1)
    assert "these two architectures" in verdict.sentence


def test_one_seed_out_of_range_leaves_no_verdict() -> None:
    sides = [
        side
        for seed, point in enumerate([4.0, 4.0, 9.0])
        for side in (
            curve("gated", "method", {point: DOCS}, seed=seed),
            curve("topk", "baseline", {2.0: DOCS, 8.0: DOCS}, seed=seed),
        )
    ]
    found = judge(*sides)
    assert found.verdicts == []
    assert "L0 9 lies outside" in found.notes[0].reason


def test_an_arm_that_no_seed_changes_stands_beside_every_seed() -> None:
    sides = [curve("gated", "method", {4.0: DOCS + 0.01 * seed}, seed=seed) for seed in range(3)]
    pca = curve("pca", "baseline", {2.0: DOCS + 0.4, 8.0: DOCS + 0.2}, seed=SEEDLESS)
    (verdict,) = judge(*sides, pca).verdicts
    assert verdict.n_seeds == 3
    assert verdict.gain == pytest.approx(0.29)
    one_seed = curve("pca", "baseline", {2.0: DOCS + 0.4, 8.0: DOCS + 0.2}, seed=1)
    (verdict,) = judge(*sides, one_seed).verdicts
    assert verdict.n_seeds == 1
    assert "these two dictionaries" in verdict.sentence


def test_gamma_is_interpolated_before_its_distance_to_one() -> None:
    found = judge(
        curve("gated", "method", {4.0: np.full(40, 0.98)}, metric="gamma"),
        curve("topk", "baseline", {2.0: np.full(40, 0.8), 8.0: np.full(40, 1.0)}, metric="gamma"),
        metric=GAMMA,
    )
    assert found.verdicts[0].baseline_value == pytest.approx(0.9)
    assert found.verdicts[0].gain == pytest.approx(0.08)  # |.9 - 1| - |.98 - 1|


def test_two_configurations_at_one_point_use_the_better_on_validation() -> None:
    good, bad = DOCS + 0.1, DOCS + 0.5

    def topk(split: str, first: np.ndarray, second: np.ndarray) -> tuple[list[Arm], Units]:
        arms = [arm("topk", subject=f"h{i}", point_name="l0", options={"lr": i}) for i in range(2)]
        both = [table("topk", v, subject=f"h{i}", point=4.0, split=split) for i, v in enumerate((first, second))]
        return (arms if split == "test" else []), Units.concat(both)

    found = judge(curve("gated", "method", {4.0: DOCS}), topk("test", good, bad), topk("validation", bad, good))
    assert found.verdicts[0].baseline_value == pytest.approx(bad.mean())


def test_an_arm_known_at_points_is_not_set_beside_one_without() -> None:
    found = judge(
        ([arm("probe", "method")], table("probe", DOCS)), curve("topk", "baseline", {2.0: DOCS, 8.0: DOCS})
    )  # fmt: skip
    assert found.verdicts == []
    assert "at points only" in found.notes[0].reason or "known by l0" in found.notes[0].reason


def test_matched_draws_agree_with_a_direct_computation() -> None:
    low, high = RNG.random((2, 40))
    arms, units = curve("topk", "baseline", {2.0: low, 8.0: high})
    (block,) = blocks(units, arms)
    resampler = Resampler(block, 3, 500)
    drawn = resampler.draws(np.ones(40, bool), [0, 1])
    names = sorted(range(40), key=lambda i: f"d{i}")
    stacked = np.stack([low[names], high[names]], axis=1)
    expected = resampled_ratios(stacked, np.ones((40, 2)), 500, resampler.rng("bootstrap"))
    assert drawn is not None
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    assert percentile_interval(drawn[:, 0], 40, 0.95)[0] < low.mean()
