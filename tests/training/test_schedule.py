"""Learning rate and sparsity ramp, by hand, on a run of 100 steps."""

from __future__ import annotations

import math

import pytest

from assay.training.options import TrainConfig
from assay.training.schedule import learning_rate, resample_steps, sparsity_ramp


def run(**options) -> TrainConfig:
    return TrainConfig(**{"n_tokens": 1000, "batch_size": 10, "lr": 0.5, "lr_warmup": 0.1, "lr_decay": 0.2, **options})


def test_warm_up_is_linear_and_never_zero() -> None:
    """Warm-up of 10 steps: 1/11, 2/11, ..., 10/11, then the whole rate."""
    assert [learning_rate(run(), t) for t in range(10)] == pytest.approx([0.5 * (t + 1) / 11 for t in range(10)])
    assert learning_rate(run(), 10) == 0.5
    assert learning_rate(run(lr_warmup=0), 0) == 0.5


def test_decay_is_linear_over_the_last_fifth() -> None:
    assert [learning_rate(run(), t) for t in (50, 79, 80)] == [0.5, 0.5, 0.5]
    assert learning_rate(run(), 81) == pytest.approx(0.5 * 19 / 20)
    assert learning_rate(run(), 90) == pytest.approx(0.25)
    assert learning_rate(run(), 99) == pytest.approx(0.5 / 20), "the last step still learns"
    assert learning_rate(run(lr_decay=0), 99) == 0.5


def test_the_dip_after_resampling_is_a_cosine_from_a_tenth() -> None:
    """arXiv 2404.16014 App. D: 0.1x, then a cosine; over a twentieth of a short run, here 5 steps."""
    dipped = [learning_rate(run(), 40 + i, last_resample=40) for i in range(7)]
    cosine = [0.1 + 0.9 * (1 - math.cos(math.pi * i / 5)) / 2 for i in range(6)]
    assert dipped == pytest.approx([0.5 * c for c in cosine] + [0.5])
    assert dipped[0] == pytest.approx(0.05)
    assert dipped[5] == dipped[6] == pytest.approx(0.5)


def test_the_dip_is_at_most_a_thousand_steps() -> None:
    long = run(n_tokens=1_000_000)  # 100,000 steps
    assert learning_rate(long, 40_500, 40_000) == pytest.approx(0.5 * 0.55)
    assert learning_rate(long, 41_000, 40_000) == pytest.approx(0.5)


def test_dip_and_decay_multiply() -> None:
    assert learning_rate(run(), 90, 90) == pytest.approx(0.1 * 0.25)


def test_the_ramp_rises_from_zero_to_one() -> None:
    ramp = run(sparsity_warmup=0.2)
    assert [sparsity_ramp(ramp, t) for t in (0, 1, 10, 19, 20, 99)] == pytest.approx([0, 0.05, 0.5, 0.95, 1, 1])
    assert sparsity_ramp(run(sparsity_warmup=0), 0) == 1.0


def test_moments_of_resampling() -> None:
    assert resample_steps(run(resample_at=(0.2, 0.555))) == [20, 55]
    assert resample_steps(run(resample_at=())) == []
