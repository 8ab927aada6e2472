"""Area under the ROC curve of many scores at once, ties counted half, with row weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MAGNITUDE = 0x7FFFFFFF  # turns the bits of a negative float32 so that whole numbers have the order of the floats


def auc(scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """P(score of a positive > score of a negative) + P(equal) / 2, for each row of `scores` [..., n].

    y [..., n], 1 for positives, else 0; weight [..., n] (0 leaves an entry out). Both are broadcast. NaN where one class is
    missing. Float64 inside; memory of a few copies of `scores`.

    >>> auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([0, 0, 1, 1])).item()
    0.875
    """
    if weight is None and scores.dtype == torch.float32:
        return auc_by_group(scores, y, torch.zeros(scores.shape[-1], dtype=torch.int64), 1)[..., 0]
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


def auc_by_group(scores: Tensor, y: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """The AUC within each group of entries [..., n_groups]: scores [..., n] float32, y [..., n] of 0 and 1, group [n] from 0.

    Group, score and label are the high, middle and last bits of one whole number, so one sort of those does everything and needs
    no indices. NaN where a group lacks a class.
    """
    flat = (scores.detach().cpu() + 0.0).reshape(-1, scores.shape[-1])  # + 0.0: -0 becomes 0
    bits = flat.numpy().view(np.int32)
    truth = np.broadcast_to(y.detach().cpu().numpy().astype(np.int64), scores.shape).reshape(bits.shape)
    of = group.cpu().numpy().astype(np.int64)
    count = np.bincount(of, minlength=n_groups)
    held = np.flatnonzero(count)
    size = count[held]
    starts = np.cumsum(size) - size
    key = (bits ^ ((bits >> 31) & MAGNITUDE)).astype(np.int64)
    key *= 2
    key += of << 33
    ordered = key + truth
    ordered.sort(axis=1)
    ones = ordered & 1
    place = np.arange(ordered.shape[1]) - np.repeat(starts, size)  # within the group
    n_ones = np.add.reduceat(ones, starts, axis=1)
    won = np.add.reduceat(ones * place, starts, axis=1) - n_ones * (n_ones - 1) // 2  # pairs with the negative earlier
    tied = ((ordered[:, 1:] ^ ordered[:, :-1]) == 1).any(1)
    if tied.any():  # equal scores of both classes: a second order has the negatives later, and half of either counts
        later = 1 - (np.sort(key[tied] + 1 - truth[tied], axis=1) & 1)
        won = won.astype(np.float64)
        won[tied] += np.add.reduceat(later * place, starts, axis=1) - n_ones[tied] * (n_ones[tied] - 1) // 2
        won[tied] /= 2
    pairs = (n_ones * (size - n_ones)).astype(np.float64)
    found = np.full((len(bits), n_groups), np.nan)
    found[:, held] = np.divide(won, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    return torch.from_numpy(found.reshape(*scores.shape[:-1], n_groups)).to(scores.device)
