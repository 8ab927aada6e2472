"""From units to outcomes: ratios of sums, whatever the cut; per seed and pooled."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_units import FVU, arm, table

from assay.core.arms import Arm, Metric
from assay.core.errors import BadInput
from assay.core.intervals import summarise
from assay.core.outcome import Units


def test_values_and_intervals_do_not_depend_on_how_units_are_cut_or_ordered() -> None:
    rng = np.random.default_rng(0)
    num, den = rng.random((2, 30))
    whole = table("topk", num, den)
    share = rng.random(30)
    parts = Units.concat([table("topk", num * share, den * (1 - share)), table("topk", num * (1 - share), den * share)])
    shuffled = parts.table.take(rng.permutation(60))
    arms = [arm("topk")]
    (one,) = summarise(whole, arms, [FVU], seed=0)
    (other,) = summarise(Units(shuffled), arms, [FVU], seed=0)
    assert one.value == pytest.approx(num.sum() / den.sum(), rel=1e-14)
    assert (other.value, other.lo, other.hi) == pytest.approx((one.value, one.lo, one.hi), rel=1e-12)
    assert (one.over, one.how, one.n_units, one.seed) == ("documents", "bootstrap", 30, 0)
    assert one.n_obs == 30
    assert other.n_obs == 60


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one() -> None:
    units, arms = table("topk", np.random.default_rng(0).random(50)), [arm("topk")]
    first, again, other = (summarise(units, arms, [FVU], seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first.lo != other.lo
    assert first.lo == pytest.approx(other.lo, abs=0.005)


def test_few_units_give_t_and_very_few_give_a_reason() -> None:
    values = np.random.default_rng(0).random(19)
    (some,) = summarise(table("topk", values), [arm("topk")], [FVU], seed=0)
    assert (some.how, some.over) == ("t", "documents")
    half = 2.1009 * values.std(ddof=1) / np.sqrt(19)  # t table, 18 degrees of freedom
    assert some.hi == pytest.approx(values.mean() + half, rel=1e-4)
    (few,) = summarise(table("topk", values[:4]), [arm("topk")], [FVU], seed=0)
    assert few.value == pytest.approx(values[:4].mean())
    assert (few.lo, few.hi, few.how, few.over) == (None, None, "none", "none")
    assert few.why_null == "4 documents: no interval under 5"


def test_seeds_are_reported_alone_and_pooled() -> None:
    rng = np.random.default_rng(0)
    base, level = rng.random(40), (0.0, 0.3, 0.9)
    arms = [arm("topk", subject=f"h{s}", seed=s, options={"k": 8, "seed": s}) for s in range(3)]
    units = Units.concat([table("topk", base + level[s], subject=f"h{s}", seed=s) for s in range(3)])
    *alone, pooled = summarise(units, arms, [FVU], seed=0)
    assert [outcome.seed for outcome in alone] == [0, 1, 2]
    assert [outcome.subject for outcome in alone] == ["h0", "h1", "h2"]
    assert pooled.seed is None
    assert pooled.value == pytest.approx(base.mean() + 0.4)
    assert (pooled.over, pooled.n_seeds, pooled.subject) == ("seeds+documents", 3, "h0,h1,h2")
    assert pooled.options == {"k": 8}
    assert pooled.hi is not None
    assert pooled.lo is not None
    assert alone[0].hi is not None
    assert alone[0].lo is not None
    assert pooled.hi - pooled.lo > 5 * (alone[0].hi - alone[0].lo)
    *_, two = summarise(units.where(seed=0).concat([units.where(seed=0), units.where(seed=1)]), arms, [FVU], seed=0)
    assert (two.over, two.n_seeds) == ("documents", 2)


def test_units_that_are_seeds_make_one_outcome_over_seeds() -> None:
    values = np.array([0.9, 0.8, 0.85, 0.95, 0.7, 0.75])
    mcc = Metric(name="mcc", better="higher")
    arms = [Arm(name="topk", role="baseline", cost="c", subject=f"h{s}", seed=s, options={"k": 8}) for s in range(6)]
    units = Units.concat(
        [
            Units.of(
                study="s", task="t", arm="topk", metric="mcc", split="test", unit=str(s), unit_kind="seed", num=v,
                den=1.0, seed=s, subject=f"h{s}",
            )
            for s, v in enumerate(values)
        ]
    )  # fmt: skip
    (one,) = summarise(units, arms, [mcc], seed=0)
    assert (one.over, one.how, one.n_units, one.n_seeds, one.seed) == ("seeds", "t", 6, 6, None)
    assert one.value == pytest.approx(values.mean())
    assert one.lo == pytest.approx(values.mean() - 2.5706 * values.std(ddof=1) / np.sqrt(6), rel=1e-4)


def test_metrics_that_do_not_apply_and_zero_denominators_say_why() -> None:
    ce = Metric(name="loss_recovered_zero", better="higher", why_null="an encoder has no next-token loss")
    arms = [arm("topk"), arm("raw", "control")]
    units = Units.concat([table("topk", np.ones(6)), table("raw", np.ones(6), 0.0)])
    found = {(o.arm, o.metric): o for o in summarise(units, arms, [FVU, ce], seed=0)}
    assert len(found) == 4
    assert found["topk", "loss_recovered_zero"].why_null == "an encoder has no next-token loss"
    assert found["topk", "loss_recovered_zero"].value is None
    assert found["raw", "fvu"].value is None
    assert "denominators sum to 0" in str(found["raw", "fvu"].why_null)


def test_what_was_not_declared_is_refused() -> None:
    units = table("topk", np.ones(6), subject="h", point=8.0)
    good = arm("topk", subject="h", point_name="l0")
    summarise(units, [good], [FVU], seed=0)
    with pytest.raises(BadInput, match="arm topk, seed 0, subject h; no Arm declares it"):
        summarise(units, [arm("topk", subject="g", point_name="l0")], [FVU], seed=0)
    with pytest.raises(BadInput, match='metric "fvu", which no Metric declares'):
        summarise(units, [good], [], seed=0)
    with pytest.raises(BadInput, match="points but no point_name"):
        summarise(units, [arm("topk", subject="h")], [FVU], seed=0)
    with pytest.raises(BadInput, match="as baseline and as method"):
        summarise(units, [good, arm("topk", "method", subject="g")], [FVU], seed=0)
    with pytest.raises(BadInput, match="same configuration"):
        summarise(units, [good, arm("topk", subject="g", point_name="l0")], [FVU], seed=0)
    with pytest.raises(BadInput, match="twice"):
        summarise(units, [good, good], [FVU], seed=0)
    moved = Units.concat([units, table("topk", np.ones(6), subject="h", point=9.0)])
    with pytest.raises(BadInput, match=r"points 8\.0 and 9\.0"):
        summarise(moved, [good], [FVU], seed=0)
