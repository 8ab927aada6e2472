"""Conversions give the same codes, or the same output, before and after; every bias is random and not 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from assay.core.errors import BadInput
from assay.dictionaries import Dictionary, class_of, config_class, load, save
from assay.dictionaries.conversions import fold_decoder_norm, gated_to_jumprelu, jumprelu_to_gated, relu_to_gated
from assay.training import Plan, TrainConfig, sweep
from assay.training.step import trainable

D, F = 6, 15
TIGHT = {"rtol": 1e-11, "atol": 1e-11}
GATED = (
    {},
    {"aux_decoder": "live"},
    {"r_mag": "off"},
    {"b_mag": "tied"},
    {"wiring": "transcoder", "d_out": 4, "skip": True},
)
JUMPRELU = (
    {},
    {"pre_bias": True},
    {"theta": "log"},
    {"penalty": "tanh"},
    {"wiring": "transcoder", "d_out": 4, "skip": True},
)
RELU = ({}, {"decoder_norm": "free"}, {"wiring": "transcoder", "d_out": 4})


def made(arch: str, seed: int = 0, **options: Any) -> Dictionary:
    rng = torch.Generator().manual_seed(seed)
    coef = {"jumprelu": {"l0_coef": 0.3}, "topk": {"k": 3}}.get(arch, {"l1_coef": 0.3})
    dictionary = class_of(arch)(config_class(arch)(d_in=D, d_sae=F, **coef, **options)).double()
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64) + 0.05)
    dictionary.scale = (3.7, 3.7)
    dictionary.provenance = {"site": "resid_post.1"}
    return dictionary


def rows(n: int = 200) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64) + 0.3


def same_codes(before: Dictionary, after: Dictionary) -> None:
    x = rows()
    with torch.no_grad():
        codes = before.encode(x)
        assert 0 < int((codes != 0).sum()) < codes.numel()
        torch.testing.assert_close(after.encode(x), codes, **TIGHT)
        assert torch.equal(after.encode(x) != 0, codes != 0)
        torch.testing.assert_close(after(x), before(x), **TIGHT)
    assert after.scale == before.scale
    assert after.provenance == {"site": "resid_post.1", "converted_from": before.arch}


@pytest.mark.parametrize("options", GATED, ids=str)
def test_gated_to_jumprelu_keeps_the_codes(options) -> None:
    gated = made("gated", **options)
    jumprelu = gated_to_jumprelu(gated, l0_coef=0.2)
    same_codes(gated, jumprelu)
    theta = jumprelu.thresholds(jumprelu.params_at())
    assert bool((jumprelu.theta >= 0).all())
    if options.get("b_mag") == "tied":
        assert not bool((theta > 1e-12).any())
    else:
        raw = gated.b_mag - gated.params_at().__dict__.get("r_mag", torch.zeros(F)).exp() * gated.b_gate
        assert bool((raw < 0).any()) and bool((raw > 0).any()), "both signs must occur, or the clamp is not tested"
        with torch.no_grad():  # without the clamp: z passes wherever it is above a negative threshold
            z = jumprelu.pre_activations(rows()) + jumprelu.b_enc
            assert float((z * (z > raw) - gated.encode(rows())).abs().max()) > 0.1


def test_untied_encoders_are_refused() -> None:
    with pytest.raises(BadInput, match="untied encoders has two directions a latent"):
        gated_to_jumprelu(made("gated", tie_encoder=False))


def test_thresholds_of_0_are_refused_as_logarithms() -> None:
    with pytest.raises(BadInput, match="Some thresholds are 0"):
        gated_to_jumprelu(made("gated"), theta="log")


@pytest.mark.parametrize("options", JUMPRELU, ids=str)
def test_jumprelu_to_gated_keeps_the_codes(options) -> None:
    jumprelu = made("jumprelu", **options)
    gated = jumprelu_to_gated(jumprelu, l1_coef=0.4)
    same_codes(jumprelu, gated)
    assert not gated.r_mag.any()
    back = gated_to_jumprelu(gated)
    with torch.no_grad():
        torch.testing.assert_close(back.encode(rows()), jumprelu.encode(rows()), **TIGHT)
        torch.testing.assert_close(
            back.thresholds(back.params_at()), jumprelu.thresholds(jumprelu.params_at()), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("options", RELU, ids=str)
def test_relu_to_gated_keeps_the_codes_and_trains_two_vectors(options) -> None:
    relu = made("relu", **options)
    gated = relu_to_gated(relu)
    same_codes(relu, gated)
    assert set(trainable(gated)) == {"r_mag", "b_mag"}
    assert set(trainable(relu_to_gated(relu, train="all"))) > {"W_enc", "W_dec"}
    assert gated.config.l1_coef == relu.config.l1_coef


def test_a_gated_variant_that_cannot_hold_a_threshold_is_refused() -> None:
    with pytest.raises(BadInput, match="leave these options out"):
        jumprelu_to_gated(made("jumprelu"), r_mag="off")


@pytest.mark.parametrize(
    ("arch", "options"),
    [("relu", o) for o in RELU]
    + [("jumprelu", o) for o in JUMPRELU]
    + [("gated", o) for o in (*GATED, {"tie_encoder": False})],
    ids=str,
)
def test_folding_norms_keeps_the_output(arch, options) -> None:
    before = made(arch, **options)
    norm = before.W_dec.detach().norm(dim=1)
    assert float((norm - 1).abs().min()) > 1e-3
    after = fold_decoder_norm(before)
    with torch.no_grad():
        torch.testing.assert_close(after.W_dec.norm(dim=1), torch.ones(F, dtype=torch.float64))
        torch.testing.assert_close(after.encode(rows()), before.encode(rows()) * norm, **TIGHT)
        torch.testing.assert_close(after(rows()), before(rows()), **TIGHT)
    assert after.config == before.config


def test_a_row_of_zeros_stays_when_norms_are_folded() -> None:
    before = made("relu", decoder_norm="free")
    with torch.no_grad():
        before.W_dec[3] = 0.0
    after = fold_decoder_norm(before)
    with torch.no_grad():
        assert bool(torch.isfinite(after.W_enc).all()) and not after.W_dec[3].any()
        torch.testing.assert_close(after(rows()), before(rows()), **TIGHT)


def test_folding_is_refused_where_the_selection_would_change() -> None:
    with pytest.raises(BadInput, match="not into this topk"):
        fold_decoder_norm(made("topk"))


def test_rescale_and_shift_trains_from_a_relu_dictionary_on_disk(tmp_path, stream_of: Callable[..., Any]) -> None:
    """The whole of section 5.2: a ReLU dictionary, converted, saved, continued by --init: two vectors move and nothing else."""
    options = TrainConfig(n_tokens=64 * 60, batch_size=64, lr=0.01)
    relu = config_class("relu")(d_in=D, d_sae=F, l1_coef=0.3)
    (trained,) = sweep([Plan("relu", relu, options)], stream_of(), tmp_path / "a", site="x", quiet=True)
    start = relu_to_gated(trained)
    save(start, tmp_path / "start", golden=rows(32).float(), provenance={"site": "x"})
    plan = Plan("shift", start.config, options, init_from=tmp_path / "start")
    (done,) = sweep([plan], stream_of(), tmp_path / "b", site="x", quiet=True)
    for name, tensor in load(tmp_path / "start").state_dict().items():
        moved = float((done.state_dict()[name] - tensor).abs().max())
        assert (moved > 1e-2) if name in ("r_mag", "b_mag") else (moved < 1e-5), (name, moved)
    x = stream_of().sample(500, "check")["x"].float()
    with torch.no_grad():
        before, after = ((d(x) - x).pow(2).sum() for d in (load(tmp_path / "start"), done))
    assert float(after) < 0.99 * float(before)


@pytest.fixture
def stream_of() -> Callable[..., Any]:
    from assay.activations.source import TensorSource
    from assay.activations.stream import Stream

    def make() -> Any:
        rng = torch.Generator().manual_seed(4)
        directions = torch.nn.functional.normalize(torch.randn(10, D, generator=rng))
        on = torch.rand(4000, 10, generator=rng) < 0.15
        x = 2.3 * (on * (1 + torch.rand(4000, 10, generator=rng))) @ directions + 0.4
        return Stream(TensorSource({"x": x}), seed=0, batch_size=64)

    return make
