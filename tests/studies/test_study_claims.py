"""The word on a claim follows from numbers: each rule with made-up results on both sides of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_up_studies import outcome, results, verdict
from scipy.stats import spearmanr

from assay import studies
from assay.core.errors import BadOption, NotFound
from assay.studies import pareto, recovery, shrinkage
from assay.studies.finding import Part, claim_of, pooled, won
from assay.studies.options import Options, Sparsities
from assay.studies.recipes import CONTROLS, autoencoders, chosen, knob_of, plans, role_of, standard


@pytest.mark.parametrize(
    ("holds", "moving", "word"),
    [
        ([True, True], "", "reproduced"),
        ([True, None], "", "cannot be told here"),
        ([True, None, False], "", "not reproduced"),
        ([True, False], "it still moved", "cannot be told here"),
        ([True], "it still moved", "reproduced"),
        ([], "", "cannot be told here"),
    ],
)
def test_the_word_of_several_parts(holds: list[bool | None], moving: str, word: str) -> None:
    claim = claim_of([Part(f"part {i}", h) for i, h in enumerate(holds)], 3, moving)
    assert claim.word == word
    assert claim.sentence.startswith(f"claim: {word} (speaks of the architectures, 3 seeds)")
    assert ("it still moved" in claim.sentence) == (bool(moving) and word != "reproduced")


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_too_few_seeds_speak_of_these_dictionaries(n_seeds: int) -> None:
    assert "these dictionaries only" in claim_of([Part("x", True)], n_seeds).sentence


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (["beats", "beats", "ties"], True),
        (["beats", "beats", "no signal", "no signal"], None),
        (["beats", "beats", "beats", "loses"], None),
        (["beats", "ties"], False),
        (["beats", "loses", "loses"], False),
        (["no signal", "no signal"], None),
        ([], None),
    ],
)
def test_winning_means_most_and_losing_none(words: list[str], holds: bool | None) -> None:
    assert won([verdict(word) for word in words], "gated").holds is holds


def test_pareto_reads_the_verdicts_against_l1_baselines_alone() -> None:
    wins = [verdict("beats", metric=m, baseline="relu-1.5x") for m in ("fvu", "loss_recovered_zero")]
    others = [verdict("loses", metric="gamma"), verdict("loses", arm="topk"), verdict("loses", baseline="pca")]
    assert pareto.claim_about(results(*wins, *others), "gated").word == "reproduced"
    assert pareto.claim_about(results(*others), "gated").word == "cannot be told here"


def gamma(arm: str, *values: float, half: float = 0.01) -> list:
    return [outcome(arm, "gamma", 4.0 * 2**i, v, half) for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("gated", "relu", "half", "word"),
    [
        ((0.99, 1.01), (0.7, 0.9), 0.01, "reproduced"),
        ((0.90, 1.01), (0.7, 0.9), 0.01, "not reproduced"),  # gated shrinks at one
        ((0.95, 1.01), (0.7, 0.9), 0.01, "cannot be told here"),  # its interval crosses the edge
        ((0.99, 1.01), (0.7, 1.02), 0.01, "not reproduced"),  # relu does not shrink at one
        ((0.99, 1.01), (0.9, 0.7), 0.01, "not reproduced"),  # relu shrinks less where it is sparser
        ((0.99, 1.01), (0.8, 0.81), 0.02, "cannot be told here"),  # no telling which is lower
    ],
)
def test_shrinkage_has_three_parts(gated: tuple, relu: tuple, half: float, word: str) -> None:
    found = results(*gamma("gated", *gated, half=half), *gamma("relu", *relu, half=half))
    assert shrinkage.claim_about(found, 0.05).word == word


def test_the_wrong_formula_keeps_its_interval_in_order() -> None:
    made = shrinkage.wrong(outcome("relu", "gamma", 8, 0.5, 0.1))
    assert made.metric == "gamma_first_version" and made.better == "none"
    assert made.value == pytest.approx(3**-0.5)
    assert made.lo == pytest.approx(math.sqrt(0.4 / 1.6)) and made.hi == pytest.approx(math.sqrt(0.6 / 1.4))
    assert shrinkage.wrong(outcome("relu", "gamma", 8, 1.95, 0.1)).value is None


def near(fvu: list[float], mcc: list[float]) -> dict:
    return {f"m{i}": {"l0": 8.0, "fvu": a, "mcc": b} for i, (a, b) in enumerate(zip(fvu, mcc, strict=True))}


def test_explained_variance_ranks_recovery_or_not() -> None:
    options = recovery.Options()
    ranked = near([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    rho = recovery.correlation(ranked)
    assert rho is not None and rho.rho == pytest.approx(1)
    assert recovery.claim_about(ranked, rho, options).word == "not reproduced"
    reverse = near([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    rho = recovery.correlation(reverse)
    assert rho is not None and rho.rho == pytest.approx(-1) and rho.hi < 0
    assert recovery.claim_about(reverse, rho, options).word == "reproduced"
    few = near([0.1, 0.2], [0.9, 0.8])
    assert recovery.claim_about(few, recovery.correlation(few), options).word == "cannot be told here"


def test_the_published_table_has_no_rank_correlation() -> None:
    """SynthSAEBench at L0 25: BatchTopK, Matryoshka, JumpReLU, L1, matching pursuit."""
    found = recovery.correlation(
        near([1 - v for v in (0.792, 0.779, 0.795, 0.765, 0.835)], [0.757, 0.793, 0.753, 0.604, 0.693])
    )
    assert found is not None and found.rho == pytest.approx(0)


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (20, 9)), rng.normal(size=(20, 9))
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(recovery.spearman(a, b), expected)
    assert np.isnan(recovery.spearman(np.ones((1, 4)), b[:1, :4]))[0]


def test_configurations_far_from_the_l0_of_the_worlds_are_left_out() -> None:
    def at(arm: str, point: float, role: str) -> list:
        return [outcome(arm, m, point, 0.5, role=role) for m in ("mcc", "f1", "fvu", "matched")]

    found = results(*at("a", 7, "method"), *at("a", 12, "method"), *at("b", 20, "baseline"), *at("c", 8, "control"))
    assert {arm: v["l0"] for arm, v in recovery.nearest_l0(found, 8.0, 1.6).items()} == {"a": 7}


def test_pooled_takes_seeds_together_where_they_were() -> None:
    single = [outcome("a", "fvu", 8 + s, 0.5, seed=s, subject=f"h{s}") for s in range(2)]
    both = outcome("a", "fvu", 8.5, 0.5, subject="h0,h1")
    alone = outcome("b", "fvu", 4, 0.4, seed=-1, subject="p")
    validation = outcome("a", "fvu", 8.5, 0.5, split="validation")
    assert pooled(results(*single, both, alone, validation), "fvu") == [both, alone]


def test_architectures_take_part_by_their_options() -> None:
    assert {"gated", "topk", "relu"} <= set(autoencoders())
    assert set(CONTROLS) <= {*autoencoders(controls=True), *autoencoders("fit", controls=True)}
    assert (knob_of("topk"), knob_of("gated"), knob_of("transcoder")) == ("k", "l1_coef", None)
    assert (role_of("relu"), role_of("gated"), role_of("pca")) == ("baseline", "method", "control")


def test_plans_cover_every_sparsity_and_seed() -> None:
    options = Sparsities(seeds=2, d_sae=24, k=(4, 32), l1_coef=(2.0, 8.0))
    made = plans(standard(options, ["gated", "topk"]), 16, options)
    names = [m.plan.name for m in made]
    assert len(names) == len(set(names))
    assert {m.plan.config.l1_coef for m in made if m.arm == "relu"} == {1.0, 2.0, 8.0}  # half of the smallest too
    assert {m.plan.config.l1_coef for m in made if m.arm == "gated"} == {2.0, 8.0}
    assert {m.plan.config.k for m in made if m.arm == "topk"} == {4}  # 32 exceeds 24 latents
    assert {m.seed for m in made if m.arm == "gated"} == {0, 1} and {m.seed for m in made if m.arm == "pca"} == {-1}
    assert {m.plan.options.order_seed for m in made} == {0}


def test_bad_options_are_refused_with_what_to_do() -> None:
    with pytest.raises(NotFound, match='Did you mean "pareto"'):
        studies.study("paretto")
    with pytest.raises(NotFound, match='Did you mean "gated"'):
        chosen(Sparsities(archs=("gatd",)), autoencoders())
    with pytest.raises(BadOption, match="control"):
        chosen(Sparsities(archs=("random",)), autoencoders())
    with pytest.raises(BadOption, match="cannot train"):
        chosen(Sparsities(archs=("transcoder",)), autoencoders())
    with pytest.raises(BadOption, match="--seeds is 0"):
        Options(seeds=0)
    with pytest.raises(BadOption, match="--site"):
        _ = Options(model="other").chosen_site
    with pytest.raises(BadOption, match="--wider"):
        pareto.Options(wider=1.0)


@pytest.mark.parametrize("name", studies.names())
def test_every_study_has_its_page(name: str) -> None:
    docs = Path(__file__).resolve().parents[2] / "docs" / "studies"
    page = (docs / f"{name}.md").read_text()
    module = studies.study(name)
    assert module.QUESTION in page and f"assay study {name}" in page and "**Rule of the claim.**" in page
    assert f"({name}.md)" in (docs / "README.md").read_text()
    assert module.CLAIM.endswith(".") and module.SOURCE
