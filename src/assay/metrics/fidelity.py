"""How near a reconstruction x_hat is to x. Shapes [n, d], any float dtype; sums are float64.

    FVU         Σ‖x − x̂‖² / Σ‖x − x̄‖²
                x̄ [d] is the per-dimension mean over the whole evaluation set, fixed when documents are resampled
    cosine      mean over tokens of x·x̂ / ‖x‖‖x̂‖ (0 where either is 0)
    norm ratio  Σ‖x̂‖ / Σ‖x‖; no measure of shrinkage, as an unbiased but imperfect x̂ is below 1 too (see shrinkage.py)

An FVU of 0 is perfect, 1 is what the mean alone gives, above 1 is worse than the mean. A constant offset of x̂ is
punished; scaling x and x̂ together changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.metrics.ratio import Terms, pooled


def fvu_terms(x: Tensor, x_hat: Tensor, x_mean: Tensor) -> Terms:
    """‖x − x̂‖² and ‖x − x̄‖² of each token; x_mean [d]."""
    x = x.double()
    return (x - x_hat.double()).square().sum(-1), (x - x_mean.double()).square().sum(-1)


def fvu(x: Tensor, x_hat: Tensor, x_mean: Tensor | None = None) -> float:
    """Fraction of variance unexplained. x_mean: the mean of x unless a fixed one [d] is given.

    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
    >>> fvu(x, torch.tensor([[1.0, 0.0], [2.0, 4.0]]))    # residuals 1; about the mean (1, 2): 5 + 5
    0.1
    """
    return pooled(fvu_terms(x, x_hat, x.double().mean(0) if x_mean is None else x_mean))


def length(x: Tensor) -> Tensor:
    """‖x‖ of each row."""
    return x.square().sum(-1).sqrt()


def cosine_terms(x: Tensor, x_hat: Tensor) -> Terms:
    x, x_hat = x.double(), x_hat.double()
    lengths = length(x) * length(x_hat)
    ones = torch.ones_like(lengths)
    return (x * x_hat).sum(-1) / torch.where(lengths > 0, lengths, ones), ones


def cosine(x: Tensor, x_hat: Tensor) -> float:
    """Mean cosine between x and x_hat."""
    return pooled(cosine_terms(x, x_hat))


def norm_ratio_terms(x: Tensor, x_hat: Tensor) -> Terms:
    return length(x_hat.double()), length(x.double())


def norm_ratio(x: Tensor, x_hat: Tensor) -> float:
    """Σ‖x̂‖ / Σ‖x‖."""
    return pooled(norm_ratio_terms(x, x_hat))
