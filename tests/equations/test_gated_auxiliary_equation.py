"""Other tasks in the place of the Gated SAE's auxiliary reconstruction against plain loops, with the rectangle estimator
written out: d 1[g > 0] / d g := 1 / eps where |g| < eps / 2."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import SPARSE, build, config_class, conversions
from assay.kernels import IMPLEMENTATIONS, implementation
from assay.training import step
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.resample import resample

COEF = 0.7
TASKS = ("none", "straight_through", "l0", "own_decoder")
ESTIMATED = ("straight_through", "l0")
every = pytest.mark.parametrize("task", TASKS)


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def paper(task: str, eps: float, p: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray):
    """Terms, the gradient of their weighted sum, and codes; one number at a time."""
    n, F, d = len(x), len(p["b_gate"]), y.shape[1]
    f, v, gate, mag = (np.zeros((n, F)) for _ in range(4))
    for b in range(n):
        for i in range(F):
            u = sum((x[b, j] - p["b_dec"][j]) * p["W_enc"][j, i] for j in range(x.shape[1]))
            gate[b, i] = u + p["b_gate"][i]
            mag[b, i] = math.exp(p["r_mag"][i]) * u + p["b_mag"][i]
            f[b, i] = max(mag[b, i], 0.0) if gate[b, i] > 0 else 0.0
            v[b, i] = max(gate[b, i], 0.0)

    def error(code, W):
        decoded = [[p["b_dec"][j] + sum(code[b, i] * W[i, j] for i in range(F)) for j in range(d)] for b in range(n)]
        return np.array(decoded) - y

    e, own = error(f, p["W_dec"]), task == "own_decoder"
    terms = {"recon": (e**2).sum() / n}
    h = np.zeros_like(e)
    if own:
        a = error(v, p["W_aux"])
        terms["aux"], h = (a**2).sum() / n, 2 * a / n
    terms |= {"l0": (gate > 0).sum() / n} if task == "l0" else {"l1": v.sum() / n}
    g = 2 * e / n
    grads = {name: np.zeros_like(value) for name, value in p.items()}
    grads["b_dec"] += g.sum(0)
    for b in range(n):
        for i in range(F):
            opened, scale = gate[b, i] > 0, math.exp(p["r_mag"][i])
            window = 1 / eps if task in ESTIMATED and abs(gate[b, i]) < eps / 2 else 0.0
            to_f = float(g[b] @ p["W_dec"][i])
            to_mag = to_f if opened and mag[b, i] > 0 else 0.0
            to_gate = to_f * max(mag[b, i], 0.0) * window
            if task == "l0":
                to_gate += COEF / n * window
            elif opened:
                to_gate += COEF / n
            if own and opened:
                to_gate += float(h[b] @ p["W_aux"][i])
                grads["W_aux"][i] += v[b, i] * h[b]
            c = to_gate + scale * to_mag
            grads["W_dec"][i] += f[b, i] * g[b]
            grads["b_gate"][i] += to_gate
            grads["b_mag"][i] += to_mag
            grads["r_mag"][i] += to_mag * (mag[b, i] - p["b_mag"][i])
            grads["W_enc"][:, i] += c * (x[b] - p["b_dec"])
            grads["b_dec"] -= c * p["W_enc"][:, i]
    return terms, grads, f, gate


def example(made, rows, task: str, eps: float = 0.9):
    gated, x, y = made("gated", l1_coef=COEF, auxiliary=task, bandwidth=eps), rows(20, 0), rows(20, 1)
    return gated, x, y, *paper(task, eps, arrays(gated), x.numpy(), y.numpy())


@every
def test_codes_and_terms(made, rows, task) -> None:
    gated, x, y, terms, _, f, _ = example(made, rows, task)
    np.testing.assert_allclose(gated.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gated.encode_sparse(x).dense().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gated.encode_sparse(x, training=True).dense().numpy(), f, rtol=1e-11, atol=1e-12)
    assert {t: float(v.detach()) for t, v in gated.loss(x, y).items()} == pytest.approx(terms, rel=1e-11)
    penalty = "l0" if task == "l0" else "l1"
    expected = {"recon": 1.0, penalty: COEF / 4} | ({"aux": 1.0} if task == "own_decoder" else {})
    assert gated.weights(0.25) == pytest.approx(expected)


@pytest.mark.parametrize("eps", [0.2, 0.9, 2.5])
@every
def test_gradients_by_hand(made, rows, task, eps) -> None:
    gated, x, y, terms, expected, _, gate = example(made, rows, task, eps)
    if task in ESTIMATED:
        inside = abs(gate) < eps / 2
        assert (inside & (gate > 0)).any() and (inside & (gate < 0)).any(), "both sides of the jump must occur"
        assert (~inside & (gate > 0)).any() and (~inside & (gate < 0)).any()
    weights = gated.weights(1.0)
    assert gated.step == SPARSE
    done = [step.dense(gated, x, y, weights, 1.0)]
    done += [step.sparse(gated, x, y, weights, 1.0, implementation(kernel)) for kernel in IMPLEMENTATIONS]
    for one in done:
        assert one.terms == pytest.approx(terms, rel=1e-11)
        assert set(one.grads) == set(expected)
        for name, grad in one.grads.items():
            assert bool(grad.any()), name
            np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def reached(gated, x, y, term: str) -> set[str]:
    """Parameters to which one term alone gives a gradient."""
    weights = {t: float(t == term) for t in gated.weights(1.0)}
    grads = step.sparse(gated, x, y, weights, 1.0, implementation("torch")).grads
    return {name for name, grad in grads.items() if bool(grad.any())}


def test_which_term_reaches_the_gate(made, rows) -> None:
    """The reconstruction reaches b_gate through the estimator only; nobody but the auxiliary term moves W_aux."""
    x, y = rows(20, 0), rows(20, 1)
    gated = {task: made("gated", l1_coef=COEF, auxiliary=task, bandwidth=0.9) for task in TASKS}
    rest = {"W_enc", "W_dec", "b_dec", "r_mag", "b_mag"}
    for task, made_so in gated.items():
        assert reached(made_so, x, y, "recon") == rest | ({"b_gate"} if task in ESTIMATED else set()), task
    assert reached(gated["own_decoder"], x, y, "aux") == {"W_enc", "b_gate", "b_dec", "W_aux"}
    for task in ("none", "straight_through", "own_decoder"):
        assert reached(gated[task], x, y, "l1") == {"W_enc", "b_gate", "b_dec"}
    assert reached(gated["l0"], x, y, "l0") == {"W_enc", "b_gate", "b_dec"}


def test_without_a_task_the_gate_only_closes(made, rows) -> None:
    gated, x, y = made("gated", l1_coef=COEF, auxiliary="none"), rows(20, 0), rows(20, 1)
    grad = step.sparse(gated, x, y, gated.weights(1.0), 1.0, implementation("torch")).grads["b_gate"]
    assert bool((grad >= 0).all())


def test_the_auxiliary_reconstruction_stops_at_b_dec(made, rows) -> None:
    """sg[b_dec]: what reaches b_dec comes through the encoder, −W_enc Σ c."""
    gated, x, y = made("gated", l1_coef=0.0, auxiliary="own_decoder"), rows(20, 0), rows(20, 1)
    weights = {"recon": 0.0, "aux": 1.0, "l1": 0.0}
    for kernel in IMPLEMENTATIONS:
        grads = step.sparse(gated, x, y, weights, 1.0, implementation(kernel)).grads
        expected = -gated.W_enc.detach() @ grads["b_gate"]
        torch.testing.assert_close(grads["b_dec"], expected)


def test_the_own_decoder_starts_as_the_main_one_and_keeps_rows_of_length_one(rows) -> None:
    x = rows(200, 0).float()
    gated = build(config_class("gated")(d_in=6, d_sae=11, l1_coef=COEF, auxiliary="own_decoder"), torch_rng(0, "a"), x)
    assert torch.equal(gated.W_aux, gated.W_dec) and bool(gated.W_aux.any())
    options = TrainConfig(n_tokens=320, batch_size=32, lr=0.02, lr_warmup=0, lr_decay=0, sparsity_warmup=0)
    member = Member("m", gated, options, variance=1.0)
    for t in range(8):
        part = x[20 * t : 20 * t + 20]
        member.step(t, part, part)
    assert float((gated.W_aux - gated.W_dec).detach().abs().max()) > 1e-2
    torch.testing.assert_close(gated.W_aux.detach().norm(dim=1), torch.ones(11), rtol=1e-5, atol=1e-5)


def test_a_revived_latent_starts_alike_in_both_decoders(made, rows) -> None:
    gated = made("gated", l1_coef=COEF, auxiliary="own_decoder")
    before = gated.W_aux.detach().clone()
    moments = [{n: torch.ones_like(p) for n, p in gated.named_parameters()} for _ in range(2)]
    dead = torch.tensor([2, 7])
    resample(gated, dead, rows(30, 0), rows(30, 1), torch.Generator().manual_seed(0), moments)
    alive = [i for i in range(11) if i not in (2, 7)]
    assert torch.equal(gated.W_aux[dead], gated.W_dec[dead])
    assert torch.equal(gated.W_aux[alive], before[alive])
    for moment in moments:
        assert not moment["W_aux"][dead].any()
        assert bool(moment["W_aux"][alive].all())


def test_folding_norms_keeps_the_auxiliary_reconstruction(made, rows) -> None:
    gated, x = made("gated", l1_coef=COEF, auxiliary="own_decoder"), rows(20, 0)
    folded = conversions.fold_decoder_norm(gated)
    for term in ("recon", "aux"):
        assert float(folded.loss(x)[term]) == pytest.approx(float(gated.loss(x)[term]), rel=1e-10)


@pytest.mark.parametrize("task", [None, *TASKS])
def test_gains_are_true_derivatives(made, rows, task) -> None:
    """Not what the estimator adds: a row at a time, f moves by gain · (move · encoder vector)."""
    options = {} if task is None else {"auxiliary": task, "bandwidth": 2.5}
    gated, x = made("gated", l1_coef=COEF, **options), rows(20, 0)
    gains = gated.gains(x)
    move = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        change = (gated.encode(x + move) - gated.encode(x - move))[gains.row, gains.latent]
        along = (2 * move @ gated.W_enc)[gains.row, gains.latent]
    torch.testing.assert_close(change, gains.value * along, rtol=1e-5, atol=1e-13)
    assert len(gains) > 20


def test_arms_and_refusals() -> None:
    config = config_class("gated")
    labels = {t: build(config(d_in=6, d_sae=12, l1_coef=0.1, auxiliary=t)).label for t in ("frozen", *TASKS)}
    assert labels == {"frozen": "gated", **{t: f"gated-{t}" for t in TASKS}}
    for options, message in (
        ({"auxiliary": "l0", "train": "rescale_shift"}, "--auxiliary is 'l0'; it must be frozen with --train rescale_shift"),
        ({"auxiliary": "none", "aux_decoder": "live"}, "--auxiliary is 'none'; it must be frozen with --aux-decoder live"),
        (
            {"auxiliary": "own_decoder", "wiring": "crosslayer", "in_sites": (3, 3), "out_sites": (3, 3)},
            "--auxiliary is 'own_decoder'; it must be another than own_decoder in a crosslayer wiring",
        ),
        ({"auxiliary": "l0", "bandwidth": 0.0}, r"--bandwidth is 0\.0; it must be positive"),
        ({"auxiliary": "thawed"}, "--auxiliary"),
    ):  # fmt: skip
        with pytest.raises(BadOption, match=message):
            config(d_in=6, d_sae=12, l1_coef=0.1, **options)
