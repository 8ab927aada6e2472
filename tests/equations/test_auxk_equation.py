"""AuxK in a plain loop, from arXiv 2406.04093 App. A: e = y - x_hat stopped,
e_hat from the k_aux largest dead latents."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.dictionaries import Dictionary
from assay.kernels import implementation
from assay.training import step
from assay.training.auxk import add_auxk

DEAD = torch.tensor([1, 4, 5, 9])
VARIANCE = 2.5


def paper(topk: Dictionary, x: np.ndarray, residual: np.ndarray, k_aux: int) -> float:
    """V_y |e - e_hat|^2 / V_e; b_dec is taken off the input and never added to e_hat."""
    p = {n: t.detach().numpy() for n, t in topk.named_parameters()}
    B, d = residual.shape
    error = 0.0
    for b in range(B):
        a = {}
        for i in DEAD.tolist():
            pre = sum(p["W_enc"][j, i] * (x[b, j] - p["b_dec"][j]) for j in range(d)) + p["b_enc"][i]
            a[i] = max(pre, 0.0)
        kept = sorted(a, key=lambda i: -a[i])[:k_aux]
        for j in range(d):
            e_hat = sum(a[i] * p["W_dec"][i, j] for i in kept)
            error += (residual[b, j] - e_hat) ** 2 / B
    spread = sum(residual[:, j].var() for j in range(d))
    return VARIANCE * error / spread


def problem(made, rows, **options) -> tuple[Dictionary, torch.Tensor, torch.Tensor, step.Step]:
    topk, x, y = made("topk", k=4, **options), rows(30, 0), rows(30, 1)
    return topk, x, y, step.sparse(topk, x, y, {"recon": 1.0}, 1.0, implementation("torch"))


@pytest.mark.parametrize("k_aux", [1, 3, 4, 50])
def test_the_term(made, rows, k_aux) -> None:
    topk, x, y, done = problem(made, rows, k_aux=k_aux)
    residual = y - done.x_hat
    term = add_auxk(topk, done.grads, x, residual, DEAD, VARIANCE)
    assert term == pytest.approx(paper(topk, x.numpy(), residual.numpy(), k_aux), rel=1e-10)


def test_k_aux_is_half_the_width_when_not_given(made, rows) -> None:
    topk, x, y, done = problem(made, rows)
    residual = y - done.x_hat
    term = add_auxk(topk, done.grads, x, residual, DEAD, VARIANCE)
    assert term == pytest.approx(paper(topk, x.numpy(), residual.numpy(), 3), rel=1e-10)
    assert term != pytest.approx(paper(topk, x.numpy(), residual.numpy(), 4), rel=1e-6)


def test_only_dead_latents_and_the_pre_bias_learn_from_it(made, rows) -> None:
    topk, x, y, done = problem(made, rows, k_aux=3, auxk_coef=0.5)
    before = {n: g.clone() for n, g in done.grads.items()}
    add_auxk(topk, done.grads, x, y - done.x_hat, DEAD, VARIANCE)
    change = {n: done.grads[n] - before[n] for n in before}
    alive = torch.ones(11, dtype=torch.bool)
    alive[DEAD] = False
    assert not change["W_enc"][:, alive].any()
    assert change["W_enc"][:, DEAD].any(0).all()
    for name in ("W_dec", "b_enc"):
        assert not change[name][alive].any()
        assert change[name][DEAD].reshape(4, -1).any(1).all()
    assert change["b_dec"].any()


def test_its_gradient_is_the_finite_difference_with_the_residual_held(made, rows) -> None:
    """The target is stopped: nothing flows into the main reconstruction, and auxk_coef multiplies once."""
    topk, x, y, done = problem(made, rows, k_aux=3, auxk_coef=0.5)
    residual = y - done.x_hat
    before = {n: g.clone() for n, g in done.grads.items()}
    add_auxk(topk, done.grads, x, residual, DEAD, VARIANCE)
    for name, parameter in topk.named_parameters():
        change = done.grads[name] - before[name]
        move = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-6 * move)
            values.append(paper(topk, x.numpy(), residual.numpy(), 3))
            with torch.no_grad():
                parameter.sub_(sign * 1e-6 * move)
        slope = 0.5 * (values[0] - values[1]) / 2e-6
        assert float((change * move).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-7), name


def test_nothing_dead_or_switched_off_changes_nothing(made, rows) -> None:
    for dead, coef in ((DEAD[:0], 0.5), (DEAD, 0.0)):
        topk, x, y, done = problem(made, rows, auxk_coef=coef)
        before = {n: g.clone() for n, g in done.grads.items()}
        assert add_auxk(topk, done.grads, x, y - done.x_hat, dead, VARIANCE) == 0.0
        assert all(torch.equal(done.grads[n], before[n]) for n in before)


def test_a_frozen_decoder_stays_out_of_it(made, rows) -> None:
    random, x, y = made("random", k=4, k_aux=3), rows(30, 0), rows(30, 1)
    done = step.sparse(random, x, y, {"recon": 1.0}, 1.0, implementation("torch"))
    before = {n: g.clone() for n, g in done.grads.items()}
    add_auxk(random, done.grads, x, y - done.x_hat, DEAD, VARIANCE)
    assert set(done.grads) == {"W_enc", "b_enc", "b_dec"}
    assert bool((done.grads["W_enc"] != before["W_enc"]).any())
