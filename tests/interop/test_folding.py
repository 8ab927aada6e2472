"""Every fold keeps the output, and codes as it says: random biases that are not 0, scales that are not 1, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.golden import compare, inputs
from assay.interop.ours import from_dictionary, to_dictionary
from assay.interop.parts import VECTORS, Parts

D, F = 5, 17
TIGHT = {"rtol": 1e-10, "atol": 1e-11}
RULES: dict[str, dict[str, Any]] = {
    "relu": {},
    "gated": {},
    "jumprelu": {},
    "topk": {"k": 4},
    "abstopk": {"k": 4},
    "batchtopk": {"k": 4, "threshold": 0.6},
}


def rand(*shape: int, seed: int, size: float = 0.5, around: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return around + size * torch.randn(*shape, generator=rng, dtype=torch.float64)


def parts_of(rule: str, d_out: int = D, **more: Any) -> Parts:
    vectors = {n: rand(F, seed=20 + i, around=0.1) for i, n in enumerate(VECTORS[rule])}
    if "theta" in vectors:
        vectors["theta"] = vectors["theta"].abs() + 0.2
    given: dict[str, Any] = {**RULES[rule], **more}
    return Parts(
        rule=rule,
        W_enc=rand(D, F, seed=1),
        W_dec=rand(F, d_out, seed=2),
        b_dec=rand(d_out, seed=3, around=0.4),
        vectors=vectors,
        **given,
    )  # type: ignore[arg-type]


def rows(n: int = 200) -> Tensor:
    return rand(n, D, seed=9, size=1.2, around=0.2)


def answer(p: Parts, x: Tensor) -> tuple[Tensor, Tensor]:
    f = p.codes(x)
    assert 0.02 < float((f != 0).double().mean()) < 0.98
    return f, p.predict(x, f)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, **TIGHT)


CASES: list[tuple[str, dict[str, Any]]] = [(rule, {"subtracts": sub}) for rule in RULES for sub in (True, False)]
CASES += [
    ("relu", {"transcoder": True, "d_out": 3}),
    ("jumprelu", {"transcoder": True, "d_out": 3, "W_skip": rand(D, 3, seed=31)}),
]
NORMED = [(rule, {"subtracts": sub, "norm_in_code": True}) for rule in RULES for sub in (True, False)]


@pytest.mark.parametrize("codes", ["kept", "scaled"])
@pytest.mark.parametrize(("rule", "options"), [*CASES, *NORMED], ids=str)
def test_the_activation_scale_goes_into_the_weights(rule, options, codes) -> None:
    scale = (2.7, 2.7) if options.get("subtracts") else (2.7, 0.6)
    before = parts_of(rule, scale=scale, **options)
    after = folding.activation_scale(before, codes)
    f, y = answer(before, rows())
    g, y_after = answer(after, rows())
    close(y_after, y)
    close(g, f if codes == "kept" else f / 2.7)
    assert after.scale == (1.0, 1.0)
    if codes == "scaled" and not options.get("norm_in_code"):
        assert torch.equal(after.W_enc, before.W_enc), "the other convention leaves the encoder as it is"


def test_two_scales_are_refused_where_b_dec_is_subtracted() -> None:
    with pytest.raises(BadInput, match="one scale is needed for both"):
        folding.activation_scale(parts_of("relu", subtracts=True, scale=(2.0, 3.0)))


@pytest.mark.parametrize(
    ("rule", "options"),
    [c for c in [*CASES, *NORMED] if c[0] not in ("topk", "abstopk", "batchtopk") or "norm_in_code" in c[1]],
    ids=str,
)
def test_decoder_norms_go_into_the_codes(rule, options) -> None:
    before = parts_of(rule, **options)
    after = folding.decoder_norm(before)
    f, y = answer(before, rows())
    g, y_after = answer(after, rows())
    close(after.norms, torch.ones(F, dtype=torch.float64))
    close(y_after, y)
    close(g, f if before.norm_in_code else f * before.norms)


@pytest.mark.parametrize("rule", ["topk", "abstopk", "batchtopk"])
def test_norms_are_not_folded_where_the_choice_would_change(rule) -> None:
    with pytest.raises(BadInput, match="would change which latents"):
        folding.decoder_norm(parts_of(rule))


@pytest.mark.parametrize("normed", [False, True])
def test_a_row_of_zeros_survives_folding(normed) -> None:
    before = parts_of("topk" if normed else "jumprelu", norm_in_code=normed)
    before.W_dec[3] = 0
    after = folding.decoder_norm(before)
    f, y = answer(before, rows())
    g, y_after = answer(after, rows())
    close(y_after, y)
    assert bool(torch.isfinite(after.W_enc).all()) and not after.W_dec[3].any()
    if normed:
        assert not f[:, 3].any() and not g[:, 3].any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("sub", [True, False])
@pytest.mark.parametrize("normed", [True, False])
def test_the_pre_encoder_bias_goes_into_the_biases_and_back(rule, sub, normed) -> None:
    before = parts_of(rule, subtracts=sub, norm_in_code=normed, scale=(1.7, 1.7))
    after = folding.pre_bias(before, not sub)
    for one, other in zip(answer(before, rows()), answer(after, rows()), strict=True):
        close(other, one)
    back = folding.pre_bias(after, sub)
    for name, vector in before.vectors.items():
        close(back.vectors[name], vector)
        if name in ("b_enc", "b_gate", "b_mag"):
            assert float((after.vectors[name] - vector).abs().min()) > 1e-4


def test_a_transcoder_has_no_pre_encoder_bias() -> None:
    with pytest.raises(BadInput, match="lies at another site"):
        folding.pre_bias(parts_of("relu", transcoder=True), True)


@pytest.mark.parametrize(("rule", "options"), [c for c in [*CASES, *NORMED] if "transcoder" not in c[1]], ids=str)
def test_whitening_goes_into_the_weights(rule, options) -> None:
    before = parts_of(rule, **options)
    mean, matrix = rand(D, seed=41), rand(D, D, seed=42) + 1.5 * torch.eye(D, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix)
    after = folding.whitening(before, mean, matrix, inverse)
    f, y = answer(before, (rows() - mean) @ matrix)
    g, y_after = answer(after, rows())
    torch.testing.assert_close(g, f, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(y_after, y @ inverse + mean, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", ["relu", "gated", "jumprelu", "batchtopk"])
@pytest.mark.parametrize("sub", [True, False])
def test_as_jumprelu_keeps_the_codes(rule, sub) -> None:
    before = parts_of(rule, subtracts=sub)
    after = folding.as_jumprelu(before)
    assert after.rule == "jumprelu"
    for one, other in zip(answer(before, rows()), answer(after, rows()), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


def test_topk_is_no_jumprelu() -> None:
    with pytest.raises(BadInput, match="no threshold can say"):
        folding.as_jumprelu(parts_of("topk"))


@pytest.mark.parametrize(("rule", "options"), [*CASES, *NORMED], ids=str)
def test_parts_become_ours_and_come_back(rule, options) -> None:
    scale = (2.7, 2.7) if options.get("subtracts") else (2.7, 0.6)
    before = parts_of(rule, scale=scale, **options)
    dictionary = to_dictionary(before)
    f, y = answer(before, rows())
    with torch.no_grad():
        torch.testing.assert_close(dictionary.encode(rows()), f, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(dictionary(rows()), y, rtol=1e-6, atol=1e-6)
    back = from_dictionary(dictionary)
    for one, other in zip((f, y), answer(back, rows()), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("rule", "options"), [*CASES, *NORMED], ids=str)
def test_golden_inputs_make_latents_fire_and_notice_every_number(rule, options) -> None:
    scale = (2.7, 2.7) if options.get("subtracts") else (2.7, 0.6)
    p = parts_of(rule, scale=scale, **options)
    x = inputs(p)
    f = p.codes(x)
    assert int((f != 0).any(0).sum()) >= F - 2, "nearly every latent is on somewhere"
    assert float((f == 0).double().mean()) > 0.1
    compare(p, p, x, "itself")
    changed = {
        "W_enc": replace(p, W_enc=p.W_enc + 0.05),
        "W_dec": replace(p, W_dec=p.W_dec + 0.05),
        "b_dec": replace(p, b_dec=p.b_dec + 0.05),
        **{n: replace(p, vectors={**p.vectors, n: v + 0.3}) for n, v in p.vectors.items()},
    }
    for name, other in changed.items():
        with pytest.raises(BadInput, match="not the same dictionary"):
            compare(p, other, x, name)
