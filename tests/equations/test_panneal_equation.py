"""p-annealing against plain loops: the schedule of p, the penalty with its guard, the rescaling that keeps it continuous."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_batchtopk_equation import arrays, pre

from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import build, config_class
from assay.dictionaries.panneal import FLOOR, WINDOW, power
from assay.kernels import Codes, implementation
from assay.training import step
from assay.training.member import Member
from assay.training.options import TrainConfig

SCHEDULE = {"anneal_start": 0.2, "anneal_end": 0.8, "anneal_steps": 3, "p_end": 0.4}  # p: 1, .8, .6, .4


def paper(f: float, p: float) -> float:
    """f^p from FLOOR on, its chord from 0 below."""
    return f**p if f >= FLOOR else f * FLOOR**p / FLOOR


@pytest.mark.parametrize(
    ("progress", "p"),
    [(0.0, 1.0), (0.199, 1.0), (0.2, 0.8), (0.399, 0.8), (0.4, 0.6), (0.599, 0.6), (0.6, 0.4), (0.8, 0.4), (1.0, 0.4)],
)
def test_the_schedule_of_p(made, progress, p) -> None:
    panneal = made("panneal", lp_coef=0.3, **SCHEDULE)
    panneal.rescale.fill_(1.7)
    assert panneal.schedule(progress)["p"] == pytest.approx(p)
    assert panneal.schedule(progress)["rescale"] == (1.0 if p == 1.0 else pytest.approx(1.7)), (
        "1 before the first change"
    )


def test_the_defaults_are_ten_steps_to_a_fifth(made) -> None:
    panneal = made("panneal", lp_coef=0.3)
    found = [panneal.schedule(t / 1000)["p"] for t in range(1000)]
    assert sorted(set(found), reverse=True) == pytest.approx([1 - 0.08 * j for j in range(11)])
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(("progress", "p"), [(0.1, 1.0), (0.3, 0.8), (0.9, 0.4)])
def test_codes_loss_and_gradients_by_hand(made, rows, progress, p) -> None:
    panneal, x, y = made("panneal", lp_coef=0.3, **SCHEDULE), rows(30, 0), rows(30, 1)
    rescale = 1.0 if p == 1.0 else 1.7
    panneal.rescale.fill_(1.7)
    w, B = arrays(panneal), 30
    z = pre(w, x.numpy())
    f = np.maximum(z, 0)
    np.testing.assert_allclose(panneal.encode(x).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    x_hat = f @ w["W_dec"] + w["b_dec"]
    penalty = rescale * sum(paper(v, p) for v in f.flat) / B
    terms = panneal.loss(x, y, progress=progress)
    assert float(terms["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / B, rel=1e-11)
    assert float(terms["lp"]) == pytest.approx(penalty, rel=1e-6)
    weights = panneal.weights(0.5)
    assert weights == {"recon": 1.0, "lp": 0.15}
    g = 2 * (x_hat - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in w.items()}
    expected["b_dec"] = g.sum(0)
    for b in range(B):
        for i in range(11):
            if z[b, i] <= 0:
                continue
            slope = p * f[b, i] ** (p - 1) if f[b, i] > FLOOR else FLOOR ** (p - 1)
            c = float(g[b] @ w["W_dec"][i]) + 0.15 * rescale * slope / B
            expected["W_dec"][i] += f[b, i] * g[b]
            expected["b_enc"][i] += c
            expected["W_enc"][:, i] += c * (x.numpy()[b] - w["b_dec"])
            expected["b_dec"] -= c * w["W_enc"][:, i]
    for found in (
        step.sparse(panneal, x, y, weights, progress, implementation("torch")).grads,
        step.dense(panneal, x, y, weights, progress).grads,
    ):
        for name, grad in found.items():
            np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("p", [1.0, 0.6, 0.2])
def test_the_guard_on_both_sides_of_the_floor(p) -> None:
    f = torch.tensor(
        [0.0, 1e-30, FLOOR / 2, FLOOR * 0.999, FLOOR * 1.001, 0.5, 3.0], dtype=torch.float64, requires_grad=True
    )
    value = power(f, p)
    (slope,) = torch.autograd.grad(value.sum(), f)
    assert value.tolist() == pytest.approx([paper(v, p) for v in f.tolist()], rel=1e-9)
    for v, s in list(zip(f.tolist(), slope.tolist(), strict=True))[1:]:
        assert s == pytest.approx(p * v ** (p - 1) if v > FLOOR else FLOOR ** (p - 1), rel=1e-9)
    assert bool(torch.isfinite(slope).all())


def test_a_latent_that_is_off_or_at_zero_gets_no_slope(made) -> None:
    panneal = made("panneal", lp_coef=0.3, **SCHEDULE)
    p = panneal.params_at(progress=0.9)
    u = -p.b_enc.detach() + torch.tensor([-1.0, -1e-12, 0.0, 1e-12, *[1.0] * 7], dtype=torch.float64)
    u[2] = -p.b_enc.detach()[2]
    u = u.requires_grad_()
    (slope,) = torch.autograd.grad(panneal.pairs(u, p)[1]["lp"].sum(), u)
    assert slope[:3].tolist() == [0.0, 0.0, 0.0]
    assert bool((slope[3:] > 0).all())


def random_codes(rng: np.random.Generator) -> np.ndarray:
    return rng.exponential(2.0, (4, 11)) * (rng.random((4, 11)) < 0.3)


def test_rescaling_by_hand_over_a_run(made) -> None:
    """40 steps; p changes before steps 8, 16 and 24; the last of the batches since the last change, at most 10, decide."""
    panneal = made("panneal", lp_coef=0.3, **SCHEDULE)
    panneal.n_steps = 40
    rng = np.random.default_rng(0)
    exponents, multiplier, seen = {0: 1.0, 8: 0.8, 16: 0.6, 24: 0.4}, 1.0, []
    p = 1.0
    for t in range(40):
        if t in exponents and t:
            old = np.mean([np.mean([sum(paper(v, p) for v in row) for row in f]) for f in seen[-WINDOW:]])
            new = np.mean([np.mean([sum(paper(v, exponents[t]) for v in row) for row in f]) for f in seen[-WINDOW:]])
            multiplier *= old / new
            p, seen = exponents[t], []
        found = panneal.schedule(t / 40)
        assert found["p"] == pytest.approx(p)
        assert found["rescale"] == pytest.approx(multiplier, rel=1e-6), t
        f = random_codes(rng)
        seen.append(f)
        panneal.observe(Codes.of(torch.from_numpy(f)), t)
    assert not math.isclose(multiplier, 1.0, rel_tol=0.05)


def test_several_steps_down_between_two_batches(made) -> None:
    """A run of 6 steps with 10 steps of p: 0 0 0 2 5 8 of them are taken; the last batch before each change decides."""
    panneal = made("panneal", lp_coef=0.3, anneal_start=0.4, anneal_end=1.0, anneal_steps=10, p_end=0.2)
    panneal.n_steps = 6
    rng = np.random.default_rng(1)
    multiplier, p, f = 1.0, 1.0, np.zeros((1, 1))
    for t, down in enumerate([0, 0, 0, 2, 5, 8]):
        now = 1 - 0.08 * down
        if now != p:
            multiplier *= sum(paper(v, p) for v in f.flat) / sum(paper(v, now) for v in f.flat)
            p = now
        found = panneal.schedule(t / 6)
        assert found["p"] == pytest.approx(p)
        assert found["rescale"] == pytest.approx(multiplier, rel=1e-6), t
        f = random_codes(rng)
        panneal.observe(Codes.of(torch.from_numpy(f)), t)


def test_only_the_last_ten_batches_count(made) -> None:
    panneal = made("panneal", lp_coef=0.3, anneal_start=0.5, anneal_end=1.0, anneal_steps=1, p_end=0.5)
    panneal.n_steps = 40
    for t in range(20):
        value = 100.0 if t < 10 else 4.0
        panneal.observe(Codes.of(torch.full((3, 11), value, dtype=torch.float64)), t)
    assert float(panneal.rescale) == pytest.approx(4.0 / 2.0, rel=1e-6)


def test_state_moves_in_observe_alone_and_a_silent_run_keeps_it(made, rows) -> None:
    panneal, x = made("panneal", lp_coef=0.3, **SCHEDULE), rows(30, 0)
    before = {n: b.clone() for n, b in panneal.named_buffers()}
    assert set(before) == {"rescale", "recent"}
    step.dense(panneal, x, x, panneal.weights(1.0), 0.9)
    panneal.encode(x, training=True)
    assert all(torch.equal(b, before[n]) for n, b in panneal.named_buffers())
    panneal.n_steps = 10
    for t in range(10):
        panneal.observe(Codes.of(torch.zeros(3, 11, dtype=torch.float64)), t)
    assert float(panneal.rescale) == 1.0
    assert bool(torch.isfinite(panneal.recent).all())


def test_a_dictionary_trained_before_starts_its_own_annealing(made) -> None:
    panneal = made("panneal", lp_coef=0.3, **SCHEDULE)
    panneal.rescale.fill_(5.0)
    panneal.recent.fill_(7.0)
    panneal.n_steps = 40
    assert panneal.schedule(0.0)["rescale"] == 1.0
    panneal.observe(Codes.of(torch.full((3, 11), 2.0, dtype=torch.float64)), 0)
    assert float(panneal.rescale) == 1.0
    assert int((panneal.recent != 0).sum()) == 2


def test_the_penalty_is_continuous_in_a_real_run(rows) -> None:
    """On one repeated batch, with steps too small to matter, the penalty of the log does not jump where p does."""
    config = config_class("panneal")(d_in=6, d_sae=11, lp_coef=0.3, **SCHEDULE)
    x = 5 * rows(64, 3).float()
    member = Member(
        "m",
        build(config, torch_rng(0, "init"), x),
        TrainConfig(n_tokens=64 * 30, batch_size=64, lr=1e-12),
        variance=1.0,
    )
    penalties, exponents = [], []
    for t in range(30):
        before = member.window.terms.get("lp", 0.0)
        exponents.append(member.dictionary.schedule(t / 30)["p"])
        member.step(t, x, x)
        penalties.append(member.window.terms["lp"] - before)
    assert len(set(exponents)) == 4
    assert penalties == pytest.approx([penalties[0]] * 30, rel=1e-4)
    assert float(member.dictionary.rescale) > 1.05 or float(member.dictionary.rescale) < 0.95


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"p_end": 0.0}, "--p-end is 0.0"),
        ({"p_end": 1.5}, "--p-end is 1.5"),
        ({"anneal_start": 0.5, "anneal_end": 0.5}, "--anneal-end is 0.5.*above --anneal-start 0.5"),
        ({"anneal_end": 1.2}, "--anneal-end is 1.2"),
        ({"anneal_steps": 0}, "--anneal-steps is 0"),
    ],
)
def test_impossible_schedules_are_refused(given, said) -> None:
    with pytest.raises(BadOption, match=said):
        config_class("panneal")(d_in=6, d_sae=11, lp_coef=0.3, **given)
