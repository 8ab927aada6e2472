"""The batched networks: gradients written by hand against autograd, and that they learn what a linear probe cannot."""

from __future__ import annotations

import torch

from assay.baselines import attention, mlp
from assay.metrics.auc import auc


def test_one_step_of_each_network_is_adams_on_its_own_rows() -> None:
    rng = torch.Generator().manual_seed(0)
    m, n, d, h = 3, 20, 5, 4
    x, y = torch.randn(n, d, generator=rng), (torch.rand(n, generator=rng) < 0.5).float()
    weight = (torch.rand(m, n, generator=rng) < 0.7).float()
    drop = torch.ones(m, n, h)
    drop[:, :, 1] = 0
    plan = mlp.Plan(
        torch.tensor([4, 4, 4]), torch.tensor([0.1, 0.01, 0.2]), torch.tensor([0.0, 0.5, 0.1]), torch.zeros(3)
    )
    start = [torch.randn(s, generator=rng) for s in ((m, d, h), (m, 1, h), (m, h, 1), (m, 1, 1))]
    ours = [p.clone() for p in start]
    mlp._step(ours, [(torch.zeros_like(p), torch.zeros_like(p)) for p in ours], x, y, weight, drop, plan, 1)
    for i in range(m):
        w1, b1, w2, b2 = (p[i].clone().requires_grad_() for p in start)
        score = (((x @ w1 + b1).relu() * drop[i]) @ w2 + b2)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(score, y, reduction="none")
        ((loss * weight[i]).sum() / weight[i].sum()).backward()
        for p, found in zip((w1, b1, w2, b2), ours, strict=True):
            assert p.grad is not None
            first_step = p.grad / (p.grad.abs() + mlp.EPSILON)  # Adam's first step is the sign
            expected = p.detach() * (1 - plan.lr[i] * plan.decay[i]) - plan.lr[i] * first_step
            assert torch.allclose(found[i], expected, atol=1e-5)


def test_networks_learn_an_exclusive_or_and_ignore_rows_they_may_not_see() -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(600, 2, generator=rng)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).float()
    told = y.clone()
    told[300:] = 1 - told[300:]  # wrong labels, which no network is allowed to see
    weight = torch.zeros(2, 600)
    weight[:, :300] = 1
    plan = mlp.Plan(
        torch.tensor([32, 16]), torch.tensor([0.02, 0.02]), torch.tensor([0.0, 0.01]), torch.tensor([0.0, 0.1])
    )
    scores = mlp.fit_scores(x, told, weight, x[300:], plan, 60, rng)
    assert float(auc(scores, y[300:]).min()) > 0.93


def tokens() -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    rng = torch.Generator().manual_seed(2)
    size = torch.randint(1, 7, (40,), generator=rng)
    pointer = torch.cat([torch.zeros(1, dtype=torch.int64), size.cumsum(0)])
    return torch.randn(int(pointer[-1]), 6, generator=rng), pointer, rng


def test_the_attention_probe_is_its_equation_and_its_gradients_are_autograds() -> None:
    x, pointer, rng = tokens()
    q, v, b = torch.randn(6, 2, generator=rng), torch.randn(6, 2, generator=rng), torch.randn(2, generator=rng)
    rows = torch.tensor([3, 17, 5])
    some, text = attention.gathered(x, pointer, rows)
    slope = torch.randn(3, 2, generator=rng)
    leaves = [p.clone().requires_grad_() for p in (q, v, b)]
    scores = torch.stack(
        [
            (
                (x[pointer[i] : pointer[i + 1]] @ leaves[0]).softmax(0) * (x[pointer[i] : pointer[i + 1]] @ leaves[1])
            ).sum(0)
            + leaves[2]
            for i in rows
        ]
    )
    probe = attention.Pooled(q, v, b)
    assert torch.allclose(probe.scores(some, text, 3)[0], scores, atol=1e-5)
    (scores * slope).sum().backward()
    for leaf, found in zip(leaves, probe.gradients(some, text, 3, slope), strict=True):
        assert leaf.grad is not None and torch.allclose(leaf.grad, found, atol=1e-4)


def test_the_attention_probe_learns_where_to_look_and_rate_0_keeps_the_start() -> None:
    x, pointer, rng = tokens()
    x[:, 0] = -2.0
    last = pointer[1:] - 1
    x[last, 0] = 2.0  # the last token is marked, and it alone knows
    y = (torch.rand(40, generator=rng) < 0.5).float()
    x[last, 1] = 3 * (2 * y - 1)
    start = attention.Pooled(torch.zeros(6, 2), torch.zeros(6, 2), torch.zeros(2))
    rate = torch.tensor([0.0, 0.05])
    found = attention.train(
        start, x, pointer, torch.arange(40), y, torch.ones(40, 2), rate, torch.zeros(2), epochs=60, batch=16, rng=rng
    )
    scores = found.scores(*attention.gathered(x, pointer, torch.arange(40)), 40)[0]
    assert float(scores[:, 0].abs().max()) == 0 and float(auc(scores[:, 1], y)) > 0.95
    assert float(found.q[0, 1]) > 0.1
