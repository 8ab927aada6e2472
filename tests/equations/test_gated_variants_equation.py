"""The variants of the Gated SAE (arXiv 2404.16014v2, section 5.1 and 5.2, and the tied b_mag) against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.core.errors import BadOption
from assay.dictionaries import DENSE, SPARSE, config_class
from assay.kernels import IMPLEMENTATIONS, implementation
from assay.training import step
from assay.training.resample import resample

VARIANTS = {
    "live": {"aux_decoder": "live"},
    "no r_mag": {"r_mag": "off"},
    "tied b_mag": {"b_mag": "tied"},
    "untied": {"tie_encoder": False},
    "untied, live": {"tie_encoder": False, "aux_decoder": "live"},
    "rescale shift": {"train": "rescale_shift"},
}
every = pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(
    o, p: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray], np.ndarray]:
    """Terms, gradient of recon + aux + l1_coef * l1 (or of recon alone in section 5.2), and codes."""
    n, F, d = len(x), len(p["b_gate"]), y.shape[1]
    f, v, mag, u, u_mag = (np.zeros((n, F)) for _ in range(5))
    e_r = [math.exp(r) for r in p["r_mag"]] if o.r_mag == "on" and o.tie_encoder else [1.0] * F
    b_mag = p["b_mag"] if o.b_mag == "free" else [e_r[i] * p["b_gate"][i] for i in range(F)]
    W_mag = p["W_enc"] if o.tie_encoder else p["W_mag"]
    for b in range(n):
        for i in range(F):
            u[b, i] = sum((x[b, j] - p["b_dec"][j]) * p["W_enc"][j, i] for j in range(x.shape[1]))
            u_mag[b, i] = sum((x[b, j] - p["b_dec"][j]) * W_mag[j, i] for j in range(x.shape[1]))
            mag[b, i] = e_r[i] * u_mag[b, i] + b_mag[i]
            v[b, i] = max(u[b, i] + p["b_gate"][i], 0.0)
            f[b, i] = max(mag[b, i], 0.0) if u[b, i] + p["b_gate"][i] > 0 else 0.0

    def decoded(code):
        return np.array(
            [[p["b_dec"][j] + sum(code[b, i] * p["W_dec"][i, j] for i in range(F)) for j in range(d)] for b in range(n)]
        )

    g, h = 2 * (decoded(f) - y) / n, 2 * (decoded(v) - y) / n
    terms = {"recon": ((decoded(f) - y) ** 2).sum() / n}
    whole = o.train == "all"
    if whole:
        terms |= {"aux": ((decoded(v) - y) ** 2).sum() / n, "l1": v.sum() / n}
    grads = {name: np.zeros_like(a) for name, a in p.items()}
    grads["b_dec"] += g.sum(0)
    if o.aux_decoder == "live":
        grads["b_dec"] += h.sum(0)
    for b in range(n):
        for i in range(F):
            open_gate = u[b, i] + p["b_gate"][i] > 0
            alpha = float(g[b] @ p["W_dec"][i]) if open_gate and mag[b, i] > 0 else 0.0
            beta = float(h[b] @ p["W_dec"][i]) + o.l1_coef / n if open_gate else 0.0
            grads["W_dec"][i] += f[b, i] * g[b] + (v[b, i] * h[b] if o.aux_decoder == "live" else 0.0)
            grads["b_gate"][i] += beta
            to_r = alpha * e_r[i] * u_mag[b, i]
            if o.b_mag == "free":
                grads["b_mag"][i] += alpha
            else:
                grads["b_gate"][i] += alpha * e_r[i]
                to_r += alpha * b_mag[i]
            if "r_mag" in p:
                grads["r_mag"][i] += to_r
            centred = x[b] - p["b_dec"]
            grads["W_enc"][:, i] += beta * centred
            grads["W_enc" if o.tie_encoder else "W_mag"][:, i] += alpha * e_r[i] * centred
            grads["b_dec"] -= beta * p["W_enc"][:, i] + alpha * e_r[i] * W_mag[:, i]
    return terms, grads if whole else {name: grads[name] for name in ("r_mag", "b_mag")}, f


def example(made, rows, options):
    gated, x, y = made("gated", l1_coef=0.7, **options), rows(20, 0), rows(20, 1)
    return gated, x, y, *paper(gated.config, arrays(gated), x.numpy(), y.numpy())


@every
def test_codes_and_terms(made, rows, options) -> None:
    gated, x, y, terms, _, f = example(made, rows, options)
    np.testing.assert_allclose(gated.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gated.encode_sparse(x).dense().numpy(), f, rtol=1e-11, atol=1e-12)
    assert {t: float(v.detach()) for t, v in gated.loss(x, y).items()} == pytest.approx(terms, rel=1e-11)
    assert set(gated.weights(1.0)) == set(terms)


@every
def test_gradients_by_hand(made, rows, options) -> None:
    gated, x, y, terms, expected, _ = example(made, rows, options)
    weights = gated.weights(1.0)
    done = [step.dense(gated, x, y, weights, 1.0)]
    if gated.step == SPARSE:
        done += [step.sparse(gated, x, y, weights, 1.0, implementation(kernel)) for kernel in IMPLEMENTATIONS]
    assert (gated.step == DENSE) == (not gated.config.tie_encoder)
    for one in done:
        assert one.terms == pytest.approx(terms, rel=1e-11)
        assert set(one.grads) == set(expected)
        for name, grad in one.grads.items():
            assert bool(grad.any()), name
            np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_what_each_variant_stores(made) -> None:
    """What is fixed is no parameter: the paper's ablations train fewer numbers, the untied one more."""
    stored = {name: set(arrays(made("gated", l1_coef=0.7, **o))) for name, o in VARIANTS.items()}
    base = {"W_enc", "W_dec", "b_dec", "b_gate"}
    assert stored == {
        "live": base | {"r_mag", "b_mag"},
        "no r_mag": base | {"b_mag"},
        "tied b_mag": base | {"r_mag"},
        "untied": base | {"b_mag", "W_mag"},
        "untied, live": base | {"b_mag", "W_mag"},
        "rescale shift": base | {"r_mag", "b_mag"},
    }


def test_the_auxiliary_task_reaches_only_a_live_decoder(made, rows) -> None:
    x, y = rows(20, 0), rows(20, 1)
    for aux_decoder, reached in (("frozen", False), ("live", True)):
        gated = made("gated", l1_coef=0.7, aux_decoder=aux_decoder)
        for kernel in IMPLEMENTATIONS:
            grads = step.sparse(gated, x, y, {"recon": 0.0, "aux": 1.0, "l1": 0.0}, 1.0, implementation(kernel)).grads
            assert bool(grads["W_dec"].any()) == reached


def test_a_tied_b_mag_makes_a_rescaled_relu_without_shift(made, rows) -> None:
    """f = exp(r_mag) relu(u + b_gate): no jump, so the threshold of the equal JumpReLU is 0."""
    gated, x = made("gated", l1_coef=0.7, b_mag="tied"), rows(200, 0)
    with torch.no_grad():
        v = (gated.pre_activations(x) + gated.b_gate).relu()
        torch.testing.assert_close(gated.encode(x), gated.r_mag.exp() * v)
        free = made("gated", l1_coef=0.7)
        smallest = free.encode(x).where(free.encode(x) > 0, torch.inf).min(0).values
        assert float(smallest.max()) > 0.1, "a free b_mag does jump here"


def test_untied_gains_are_derivatives_along_the_encoder_vectors(made, rows) -> None:
    gated, x = made("gated", l1_coef=0.7, tie_encoder=False), rows(10, 0)
    gains = gated.gains(x)
    move = 1e-6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        change = gated.encode(x + move) - gated.encode(x - move)
        for row, latent, gain in zip(gains.row, gains.latent, gains.value, strict=True):
            expected = float(gain * (2 * move[row] @ gated.encoder_vector(int(latent))))
            assert float(change[row, latent]) == pytest.approx(expected, rel=1e-6, abs=1e-15)


def test_untied_latents_are_revived_in_both_encoders(made, rows) -> None:
    gated = made("gated", l1_coef=0.7, tie_encoder=False)
    before = gated.W_mag.detach().clone()
    moments = [{n: torch.ones_like(p) for n, p in gated.named_parameters()} for _ in range(2)]
    dead = torch.tensor([2, 7])
    resample(gated, dead, rows(30, 0), rows(30, 1), torch.Generator().manual_seed(0), moments)
    alive = [i for i in range(11) if i not in (2, 7)]
    assert torch.equal(gated.W_mag[:, dead], gated.W_enc[:, dead])
    assert torch.equal(gated.W_mag[:, alive], before[:, alive])
    for moment in moments:
        assert not moment["W_mag"][:, dead].any()
        assert bool(moment["W_mag"][:, alive].all())


def test_rescale_and_shift_is_never_resampled(made) -> None:
    assert made("gated", l1_coef=0.7).dead_latents == "resample"
    assert made("gated", l1_coef=0.7, train="rescale_shift").dead_latents is None


def test_combinations_without_meaning_are_refused() -> None:
    config = config_class("gated")
    for options, message in (
        ({"b_mag": "tied", "r_mag": "off"}, r"--b-mag is 'tied'; it must be free without r_mag"),
        ({"b_mag": "tied", "tie_encoder": False}, r"--b-mag is 'tied'"),
        ({"train": "rescale_shift", "r_mag": "off"}, r"--train is 'rescale_shift'; it must be all, unless"),
        (
            {"tie_encoder": False, "wiring": "crosscoder", "in_sites": (3, 3)},
            r"--tie-encoder is False; it must be True",
        ),
    ):
        with pytest.raises(BadOption, match=message):
            config(d_in=6, d_sae=12, l1_coef=0.1, **options)
