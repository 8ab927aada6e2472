"""frequency: its claim on made-up numbers, its measure, and the study at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_studies import TOY, results, verdict

from assay import dictionaries, studies
from assay.core.outcome import Results
from assay.studies import frequency
from assay.studies.bench import Bench


def about(metric: str, word: str, **more: Any) -> Any:
    return verdict(word, arm="jumprelu-frequency", baseline="jumprelu", metric=metric, **more)


@pytest.mark.parametrize(
    ("dense", "gain", "word"),
    [
        ("beats", (-0.01, 0.01), "reproduced"),
        ("ties", (-0.01, 0.01), "not reproduced"),
        ("beats", (-0.05, -0.03), "not reproduced"),
        ("beats", (-0.03, 0.01), "cannot be told here"),
        ("no signal", (-0.01, 0.01), "cannot be told here"),
    ],
)
def test_the_claim_of_frequency(dense: str, gain: tuple[float, float], word: str) -> None:
    found = results(about("dense", dense), about("fvu", "ties", lo=gain[0], hi=gain[1]))
    assert frequency.claim_about(found, 0.02).word == word


def test_where_nothing_is_dense_nothing_can_be_removed() -> None:
    none = about("dense", "ties", baseline_value=0.0)
    assert (
        frequency.claim_about(results(none, about("fvu", "ties", lo=-0.01, hi=0.01)), 0.02).word
        == "cannot be told here"
    )


def test_a_study_that_compared_nothing_says_so() -> None:
    assert "nothing was compared" in frequency.claim_about(results(), 0.02).sentence


@pytest.mark.slow
def test_frequency_at_toy_size(tmp_path: Path) -> None:
    asked = frequency.Options(**(TOY | {"archs": ("gated",), "k": (4, 8), "l0_coef": (1.0,), "above": 0.3}))
    found = studies.run("frequency", asked, tmp_path / "f", quiet=True)
    roles = {o.arm: o.role for o in found.results.outcomes}
    assert roles["jumprelu"] == "baseline" and roles["jumprelu-frequency"] == roles["relu"] == "method"
    readings = Bench("frequency", asked, tmp_path / "f", quiet=True).readings()
    x = torch.cat([reading.x for reading in readings.batches(readings.members(1))])
    for name, arm in (
        ("gated_l1-coef-2.0_seed-0", "gated"),
        ("jumprelu-frequency_l0-coef-1.0_seed-0", "jumprelu-frequency"),
    ):
        dictionary = dictionaries.load(tmp_path / "f" / "dictionaries" / name)
        share = float(((dictionary.encode(x) != 0).double().mean(0) > 0.3).double().mean())
        values = [
            o.value for o in Results.load(tmp_path / "f" / "results").outcomes
            if (o.arm, o.metric, o.split) == (arm, "dense", "test") and o.options.get("l1_coef", 2.0) == 2.0
        ]  # fmt: skip
        assert values == [pytest.approx(share)]
