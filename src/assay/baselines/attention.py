r"""A probe that pools tokens itself: score = sum_t softmax_t(x_t · q) (x_t · v) + b.

Source: Kantamneni et al. 2025 (arXiv 2502.16681), the attention-pooled baseline. Differs from the paper: q = 0 and (v, b) of a logistic
regression on the mean start it, so that it begins as the mean-pooled probe and can only learn to look elsewhere; padding is a mask; v is
penalised. Several probes (learning rates, penalties, folds) are trained side by side on the same products.
"""

from __future__ import annotations

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Pooled:
    """M probes over texts whose tokens x [tokens, d] lie one text after the other, `pointer` [n + 1] telling where."""

    def __init__(self, q: Tensor, v: Tensor, b: Tensor) -> None:
        self.q, self.v, self.b = q, v, b  # [d, M], [d, M], [M]

    def scores(self, x: Tensor, text: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """(scores [n, M], attention [tokens, M], values [tokens, M]); text [tokens] says whose each token is."""
        logit, value = x @ self.q, x @ self.v
        where = text[:, None].expand_as(logit)
        top = torch.full((n, logit.shape[1]), -torch.inf).scatter_reduce_(0, where, logit, "amax")
        weight = (logit - top[text]).exp()
        total = torch.zeros_like(top).index_add_(0, text, weight)
        weight = weight / total[text]
        return torch.zeros_like(top).index_add_(0, text, weight * value) + self.b, weight, value

    def gradients(self, x: Tensor, text: Tensor, n: int, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d(sum of slope * scores) / d(q, v, b), slope [n, M]."""
        scores, weight, value = self.scores(x, text, n)
        along = weight * slope[text]
        return x.t() @ (along * (value - (scores - self.b)[text])), x.t() @ along, slope.sum(0)


def train(
    start: Pooled, x: Tensor, pointer: Tensor, rows: Tensor, y: Tensor, weight: Tensor, lr: Tensor, decay: Tensor, *, epochs: int, batch: int,
    rng: torch.Generator,
) -> Pooled:  # fmt: skip
    """Adam on the logistic loss. rows [n] of the texts, y [n], weight [n, M], lr [M], decay [M] (of v and q, decoupled)."""
    probe = Pooled(start.q.clone(), start.v.clone(), start.b.clone())
    names = ("q", "v", "b")
    moments = {name: (torch.zeros_like(getattr(probe, name)), torch.zeros_like(getattr(probe, name))) for name in names}
    step = 0
    for _ in range(epochs):
        for part in torch.randperm(len(rows), generator=rng).split(batch):
            step += 1
            tokens, text = gathered(x, pointer, rows[part])
            scores, _, _ = probe.scores(tokens, text, len(part))
            w = weight[part]
            slope = w * (scores.sigmoid() - y[part][:, None]) / w.sum(0).clamp_min(1.0)
            for name, g in zip(names, probe.gradients(tokens, text, len(part), slope), strict=True):
                p, (first, second) = getattr(probe, name), moments[name]
                first.lerp_(g, 1 - BETAS[0])
                second.mul_(BETAS[1]).addcmul_(g, g, value=1 - BETAS[1])
                size = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
                if name != "b":
                    p.mul_(1 - lr * decay)
                p.sub_(lr * first / (1 - BETAS[0] ** step) / size)
    return probe


def gathered(x: Tensor, pointer: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of some texts [tokens, d] float32, and which of these texts each belongs to."""
    size = pointer[rows + 1] - pointer[rows]
    text = torch.repeat_interleave(torch.arange(len(rows)), size)
    within = torch.arange(int(size.sum())) - torch.repeat_interleave(size.cumsum(0) - size, size)
    return x[pointer[rows][text] + within].float(), text
