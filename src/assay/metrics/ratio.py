"""Every metric here is a ratio of two sums over tokens; this is the one place where the sums are kept and divided.

A metric's file states its *terms*: two numbers a token. `pooled` divides the sums of both over all tokens once;
`Ratio` keeps the sums per document in float64, so that any set of documents, and any resample of them, can be divided
later. How the tokens came in batches cannot matter, because nothing is divided before the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Terms = tuple[Tensor, Tensor]  # numerator [n], denominator [n], float64


def pooled(terms: Terms) -> float:
    """Σ numerator / Σ denominator over all tokens; nan where the denominator is 0."""
    return divided(float(terms[0].sum()), float(terms[1].sum()))


def divided(num: float, den: float) -> float:
    return num / den if den != 0 else math.nan


class Ratio:
    """Sums of a metric's terms per document: `num`, `den` float64 [n_documents], `n_obs` int64 [n_documents] tokens."""

    def __init__(self, n_documents: int) -> None:
        self.num = torch.zeros(n_documents, dtype=torch.float64)
        self.den = torch.zeros(n_documents, dtype=torch.float64)
        self.n_obs = torch.zeros(n_documents, dtype=torch.int64)

    def add(self, document: Tensor, terms: Terms) -> None:
        """Add the terms of n tokens; `document` int64 [n] says which document each belongs to."""
        where = document.cpu()
        self.num.index_add_(0, where, terms[0].double().cpu())
        self.den.index_add_(0, where, terms[1].double().cpu())
        self.n_obs.index_add_(0, where, torch.ones_like(where))

    def value(self, documents: Sequence[int] | NDArray[np.int64] | Tensor | None = None) -> float:
        """The metric over the given documents, or over all."""
        chosen = slice(None) if documents is None else torch.as_tensor(documents, dtype=torch.int64)
        return divided(float(self.num[chosen].sum()), float(self.den[chosen].sum()))


class Mean:
    """Per-dimension mean [d] of rows that arrive in batches, in float64; `spread` [d] is their variance about it.

    The sums are taken about the first row, so that a large common offset costs no digits.
    """

    def __init__(self) -> None:
        self.n = 0
        self._origin: Tensor | None = None
        self._first: Tensor | None = None
        self._second: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """x [n, d]."""
        if not x.shape[0]:
            return
        x = x.detach().double().cpu()
        if self._origin is None or self._first is None or self._second is None:
            self._origin = x[0].clone()
            self._first = torch.zeros_like(self._origin)
            self._second = torch.zeros_like(self._origin)
        centred = x - self._origin
        self._first += centred.sum(0)
        self._second += centred.square().sum(0)
        self.n += x.shape[0]

    @property
    def value(self) -> Tensor:
        """float64 [d]. Raises `ValueError` when no row was added."""
        if self._origin is None or self._first is None:
            raise ValueError("a mean was asked for before any row was added")
        return self._origin + self._first / self.n

    @property
    def spread(self) -> Tensor:
        """float64 [d], the population variance; not below 0."""
        if self._first is None or self._second is None:
            raise ValueError("a variance was asked for before any row was added")
        return (self._second / self.n - (self._first / self.n).square()).clamp_min(0)
