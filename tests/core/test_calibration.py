"""Null calibration: arms of the same law rarely beat one another, however many are compared."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_units import COSTS, FVU, arm, table

from assay.core.outcome import Units
from assay.core.verdict import compare


@pytest.mark.parametrize(("n", "n_seeds", "n_studies"), [(10, 1, 120), (30, 1, 120), (30, 3, 60)])
def test_identical_arms_beat_one_another_in_at_most_one_study_in_twenty(n: int, n_seeds: int, n_studies: int) -> None:
    """Five arms and one baseline whose documents, and dictionaries, differ by chance alone. Any word but no signal or a
    tie, in any of the five verdicts, is a false one; 5 % of 120 studies is 6, and 11 would come once in 40 times."""
    rng = np.random.default_rng(0)
    methods = [f"m{i}" for i in range(5)]
    arms = [
        arm(name, "baseline" if name == "b" else "method", subject=f"{name}{s}", seed=s, options={"seed": s})
        for name in [*methods, "b"]
        for s in range(n_seeds)
    ]
    false = single = 0
    for study in range(n_studies):
        den = rng.lognormal(0, 0.3, n)
        hard = rng.random(n)
        units = Units.concat(
            [
                table(
                    a.name, den * (hard + 0.2 * rng.standard_normal(n) + 0.1 * rng.standard_normal()), den,
                    subject=a.subject, seed=a.seed,
                )
                if n_seeds > 1
                else table(a.name, den * (hard + 0.2 * rng.standard_normal(n)), den, subject=a.subject)
                for a in arms
            ]
        )  # fmt: skip
        verdicts = compare(units, arms, [FVU], COSTS, seed=study, resamples=400).verdicts
        assert len(verdicts) == 5
        false += any(v.word in ("beats", "loses") for v in verdicts)
        single += sum(v.p < 0.05 for v in verdicts)
    assert false <= 0.05 * n_studies + 2 * np.sqrt(0.05 * 0.95 * n_studies)
    assert single <= 0.08 * 5 * n_studies
    if n_seeds == 1:
        assert single >= 0.02 * 5 * n_studies  # not silent either
