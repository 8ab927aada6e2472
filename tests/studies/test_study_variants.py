"""ablations and pursuit: their claims on made-up numbers, their estimates by hand, and each at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_studies import TOY, results, verdict

from assay import dictionaries, studies
from assay.core.outcome import Results, Units
from assay.metrics.pursuit import gradient_pursuit
from assay.studies import ablations, pursuit
from assay.studies.ablations import Share
from assay.studies.pursuit import Gaps, Pursued
from assay.studies.resampled import Estimate, Resampled, interpolated


def units(arm: str, points: list[float], fvu: list[float], seed: int = 0, n: int = 30) -> Units:
    """Documents of two kinds, all with the same FVU, at every point."""
    parts = [
        Units.of(
            study="s", task="t", arm=arm, metric="fvu", split="test", unit=[f"d{i}" for i in range(n)],
            num=[value * (1 + i % 2) for i in range(n)], den=[1.0 + i % 2 for i in range(n)], n_obs=1, seed=seed, point=point,
            subject=f"{arm}{point}{seed}",
        )
        for point, value in zip(points, fvu, strict=True)
    ]  # fmt: skip
    return Units.concat(parts)


def test_share_of_the_gain_by_hand() -> None:
    parts = []
    for seed, rescaled in enumerate((0.35, 0.38)):
        parts += [
            units("gated", [4.0, 16.0], [0.3, 0.1], seed),  # at L0 8, half way in the logarithm: 0.2
            units("relu", [2.0, 8.0], [0.6, 0.4], seed),  # L0 2 lies outside
            units("relu-rescaled", [2.0, 8.0], [0.5, rescaled], seed),
        ]
    share = ablations.share_of_gain(Results(units=Units.concat(parts)), resamples=50)
    assert share is not None and share.mean.n_seeds == 2
    assert share.mean.value == pytest.approx((0.05 / 0.2 + 0.02 / 0.2) / 2)
    assert share.at == {8.0: pytest.approx(share.mean.value)}
    assert (
        share.mean.lo == pytest.approx(share.mean.value) == share.mean.hi
    )  # documents do not differ, and seeds are two
    outside = Results(units=Units.concat([units(a, [2.0], [0.5]) for a in ("gated", "relu", "relu-rescaled")][:1] + [
        units("relu", [8.0], [0.5]), units("relu-rescaled", [8.0], [0.4])]))  # fmt: skip
    assert ablations.share_of_gain(outside, resamples=50) is None


def test_seeds_widen_an_interval_from_three_on() -> None:
    table = Units.concat([units("a", [8.0], [0.2 + 0.1 * s], s) for s in range(3)])
    found = Resampled(Results(units=table), "fvu", seed=0, resamples=2000, use="x")
    by_seed = [found.curve("a", s)[0][1] for s in found.seeds("a")]
    estimate = found.estimate(by_seed)
    assert estimate.value == pytest.approx(0.3)
    assert estimate.lo == pytest.approx(0.2) and estimate.hi == pytest.approx(0.4)  # all three draws the same seed
    two = found.estimate(by_seed[:2])
    assert two.lo == pytest.approx(two.value) == two.hi


def test_interpolation_is_linear_in_the_logarithm_and_stays_inside() -> None:
    curve = [(4.0, np.array([0.4])), (16.0, np.array([0.2]))]
    assert interpolated(curve, 8.0) == pytest.approx([0.3])
    assert interpolated(curve, 16.0) == pytest.approx([0.2])
    assert interpolated(curve, 3.9) is None and interpolated(curve, 17.0) is None


def test_gaps_by_hand() -> None:
    parts = [
        units("relu", [4.0, 16.0], [0.6, 0.4]), units("relu-pursuit", [8.0, 32.0], [0.3, 0.1]),  # gap 0.2; 32 lies outside
        units("gated", [4.0, 16.0], [0.4, 0.2]), units("gated-pursuit", [8.0], [0.25]),  # gap 0.05
    ]  # fmt: skip
    found = pursuit.gap_difference(Results(units=Units.concat(parts)), resamples=50)
    assert found is not None
    assert (found.relu, found.gated, found.difference.value) == pytest.approx((0.2, 0.05, 0.15))


@pytest.mark.parametrize(
    ("live", "untied", "share", "word"),
    [
        ("loses", "ties", (0.1, 0.2), "reproduced"),
        ("ties", "ties", (0.1, 0.2), "not reproduced"),
        ("no signal", "ties", (0.1, 0.2), "cannot be told here"),
        ("loses", "beats", (0.1, 0.2), "not reproduced"),
        ("loses", "ties", (0.6, 0.8), "not reproduced"),
        ("loses", "ties", (0.4, 0.6), "cannot be told here"),
        ("loses", "ties", None, "cannot be told here"),
    ],
)
def test_the_claim_of_ablations(live: str, untied: str, share: Any, word: str) -> None:
    found = results(*(verdict(w, arm=a, baseline="gated") for a, w in (("gated-live", live), ("gated-untied", untied))))
    given = None if share is None else Share({8.0: 0.2}, Estimate(sum(share) / 2, *share, 3))
    assert ablations.claim_about(found, given, 0.5).word == word


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (["loses", "loses", "no signal"], True),
        (["loses", "loses", "beats"], None),
        (["loses", "ties"], False),
        (["no signal"], None),
        ([], None),
    ],
)
def test_worse_means_losing_most_and_beating_none(words: list[str], holds: bool | None) -> None:
    assert ablations.worse([verdict(word) for word in words], "x").holds is holds


@pytest.mark.parametrize(
    ("against", "gap", "word"),
    [
        ("beats", (0.1, 0.2), "reproduced"),
        ("loses", (0.1, 0.2), "not reproduced"),
        ("beats", (-0.2, -0.1), "not reproduced"),
        ("beats", (-0.1, 0.2), "cannot be told here"),
        ("no signal", (0.1, 0.2), "cannot be told here"),
    ],
)
def test_the_claim_of_pursuit(against: str, gap: tuple[float, float], word: str) -> None:
    found = results(verdict(against, arm="gated-pursuit", baseline="relu-pursuit"))
    gaps = Gaps(Estimate(sum(gap) / 2, *gap, 3), 0.2, 0.1)
    assert pursuit.claim_about(found, gaps).word == word


def toy(name: str, **more: Any) -> Any:
    return studies.study(name).Options(**(TOY | {"archs": ("gated",)} | more))


@pytest.fixture(scope="module")
def ablated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "ablations"
    studies.run("ablations", toy("ablations"), out, quiet=True)
    return out


@pytest.mark.slow
def test_rescale_and_shift_moves_nothing_else(ablated: Path) -> None:
    for relu_at in sorted((ablated / "dictionaries").glob("relu_*")):
        relu, rescaled = (
            dictionaries.load(ablated / room / relu_at.name) for room in ("dictionaries", "dictionaries-rescaled")
        )
        for name in ("W_enc", "W_dec", "b_dec"):
            torch.testing.assert_close(getattr(rescaled, name), getattr(relu, name), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rescaled.b_gate, relu.b_enc, rtol=1e-5, atol=1e-5)
        assert rescaled.r_mag.abs().max() > 1e-3
        assert (rescaled.b_mag - relu.b_enc).abs().max() > 1e-3


@pytest.mark.slow
def test_ablations_have_every_variant_and_shared_costs(ablated: Path) -> None:
    found = Results.load(ablated / "results")
    roles = {o.arm: o.role for o in found.outcomes}
    assert {
        "gated",
        "gated-live",
        "gated-no-r_mag",
        "gated-untied",
        "gated-tied-b_mag",
        "relu",
        "relu-rescaled",
    } <= set(roles)
    assert roles["gated"] == "baseline" and roles["relu"] == roles["relu-rescaled"] == "method"
    costs = {cost.id: cost for cost in found.costs}
    for o in found.outcomes:
        if o.arm == "relu-rescaled":
            (below,) = costs[o.cost].includes
            assert below in costs and below.startswith("relu-")
    again = studies.run("ablations", toy("ablations"), ablated, quiet=True)
    assert "these dictionaries only" in again.claim.sentence


def test_a_dictionary_under_pursuit_codes_with_its_decoder() -> None:
    d = dictionaries.build(
        dictionaries.config_class("gated")(d_in=6, d_sae=10, l1_coef=1.0),
        torch.Generator().manual_seed(0),
        torch.randn(50, 6),
    )
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    made = Pursued(d, 3)
    expected = gradient_pursuit(x, d.W_dec, d.b_dec, 3)
    torch.testing.assert_close(made.encode(x), expected)
    torch.testing.assert_close(made.decode(made.encode_sparse(x)), expected @ d.W_dec + d.b_dec)


@pytest.mark.slow
def test_pursuit_takes_the_decoder_that_is_best_on_validation(tmp_path: Path) -> None:
    found = studies.run("pursuit", toy("pursuit"), tmp_path / "p", quiet=True)
    roles = {o.arm: o.role for o in found.results.outcomes}
    assert roles["relu-pursuit"] == "baseline" and roles["gated-pursuit"] == "method"
    l0 = [o for o in found.results.outcomes if o.arm == "gated-pursuit" and o.metric == "l0"]
    assert l0 and all(o.value is not None and o.value <= o.options["k"] for o in l0)
    spans = {o.options["k"] for o in found.results.outcomes if o.arm == "relu-pursuit"}
    assert spans == {2, 4, 8, 16}
    tried = studies.bench.artefact.read_json(tmp_path / "p" / "decoders.json")
    fvu = {
        (o.options["k"], o.split): o.value
        for o in found.results.outcomes
        if o.arm == "gated-pursuit" and o.metric == "fvu"
    }
    for k in (4, 8):
        least = min(at[str(k)] for name, at in tried.items() if name.startswith("gated"))
        assert fvu[k, "validation"] == pytest.approx(least, rel=1e-4)
    assert studies.run("pursuit", toy("pursuit"), tmp_path / "p", quiet=True).claim == found.claim
