r"""Many small networks at once: score = w2 · relu(W1 x + b1) + b2, trained by Adam on mini-batches, all in the same products.

Networks differ in width (narrow ones are masked), learning rate, weight decay, drop-out, and in which rows they may see. The score kept of
each network is that of its best epoch by AUC on rows that were set aside from the rows it sees: training stops itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.metrics.auc import auc

BATCH = 128
STOP_SHARE = 0.15  # of the rows a network sees, set aside for its stopping
BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Plan:
    """Options of each of M networks: width, lr, decay (of the weights, decoupled), drop (share of hidden units)."""

    width: Tensor
    lr: Tensor
    decay: Tensor
    drop: Tensor


def fit_scores(
    x: Tensor, y: Tensor, weight: Tensor, held: Tensor, plan: Plan, epochs: int, rng: torch.Generator
) -> Tensor:
    """Scores [M, rows of held] after training on x [n, d], y [n] of 0 and 1, weight [M, n] (0: not seen).

    Memory: M networks of d x width, three times over. Every network sees every mini-batch; rows of weight 0 give no gradient.
    """
    n, d = x.shape
    m, widest = len(plan.width), int(plan.width.max())
    mask = (torch.arange(widest) < plan.width[:, None]).float()
    aside = torch.zeros(n, dtype=torch.bool)
    for label in (0, 1):
        rows = torch.nonzero(y == label)[:, 0]
        rows = rows[torch.randperm(len(rows), generator=rng)]
        aside[rows[: max(1, round(STOP_SHARE * len(rows)))]] = True
    stop_weight = weight * aside
    usable = (stop_weight * y).sum(1).gt(0) & (stop_weight * (1 - y)).sum(1).gt(0)
    seen = torch.where(usable[:, None], weight * ~aside, weight)
    parameters = [
        torch.randn(m, d, widest, generator=rng) * (2 / d) ** 0.5 * mask[:, None],
        torch.zeros(m, 1, widest),
        torch.randn(m, widest, 1, generator=rng) * (1 / plan.width.float()).sqrt()[:, None, None] * mask[..., None],
        torch.zeros(m, 1, 1),
    ]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    best, kept, step = torch.full((m,), -1.0, dtype=torch.float64), torch.zeros(m, len(held)), 0
    for _ in range(epochs):
        order = torch.randperm(n, generator=rng)
        for rows in order.split(BATCH):
            step += 1
            drop = (torch.rand(m, len(rows), widest, generator=rng) >= plan.drop[:, None, None]) / (
                1 - plan.drop[:, None, None]
            )
            _step(parameters, moments, x[rows], y[rows], seen[:, rows], drop * mask[:, None], plan, step)
        now = auc(_forward(parameters, x)[..., 0], y, stop_weight).nan_to_num(0.0)
        better = (now > best) | ~usable
        if bool(better.any()):
            best = torch.where(better, now, best)
            kept[better] = _forward([p[better] for p in parameters], held)[..., 0]
    return kept


def _forward(parameters: list[Tensor], x: Tensor) -> Tensor:
    w1, b1, w2, b2 = parameters
    return (x @ w1 + b1).relu() @ w2 + b2


def _step(
    parameters: list[Tensor], moments: list[tuple[Tensor, Tensor]], x: Tensor, y: Tensor, weight: Tensor, drop: Tensor, plan: Plan,
    step: int,
) -> None:  # fmt: skip
    """One step of Adam on the mean logistic loss of each network; the gradient of one hidden layer, written out."""
    w1, b1, w2, b2 = parameters
    before = x @ w1 + b1
    hidden = before.relu() * drop
    score = (hidden @ w2 + b2)[..., 0]
    slope = (weight * (score.sigmoid() - y) / weight.sum(1, keepdim=True).clamp_min(1.0))[..., None]
    back = slope @ w2.transpose(1, 2) * drop * (before > 0)
    gradients = (x.t() @ back, back.sum(1, keepdim=True), hidden.transpose(1, 2) @ slope, slope.sum(1, keepdim=True))
    rate = plan.lr[:, None, None]
    for p, g, (first, second) in zip(parameters, gradients, moments, strict=True):
        first.lerp_(g, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
        size = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
        p.mul_(1 - rate * plan.decay[:, None, None]).sub_(rate * first / (1 - BETAS[0] ** step) / size)
