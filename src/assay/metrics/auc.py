"""Area under the ROC curve of many scores at once, ties counted half, with row weights."""

from __future__ import annotations

import torch
from torch import Tensor


def auc(scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """P(score of a positive > score of a negative) + P(equal) / 2, for each row of `scores` [..., n].

    y [..., n], 1 for positives, else 0; weight [..., n] (0 leaves an entry out). Both are broadcast. NaN where one class is
    missing. Float64 inside; memory of a few copies of `scores`.

    >>> auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([0, 0, 1, 1])).item()
    0.875
    """
    flat = scores.reshape(-1, scores.shape[-1]).contiguous()
    truth = y.expand(scores.shape).reshape(flat.shape).double()
    w = torch.ones_like(truth) if weight is None else weight.expand(scores.shape).reshape(flat.shape).double()
    positive, negative = truth * w, (1 - truth) * w
    ordered, place = flat.sort(dim=-1)
    below = torch.nn.functional.pad(negative.gather(-1, place).cumsum(-1), (1, 0))
    less = below.gather(-1, torch.searchsorted(ordered, flat))
    up_to = below.gather(-1, torch.searchsorted(ordered, flat, right=True))
    won = (positive * (less + up_to)).sum(-1) / 2
    return (won / (positive.sum(-1) * negative.sum(-1))).reshape(scores.shape[:-1])
