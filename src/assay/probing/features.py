"""Columns that a sparse probe may choose from: dense, or sparse codes that are never made dense as a whole.

Both give class moments under many row masks at once, which is all that a selector needs, and the few columns that were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sparse: Any = import_module("scipy.sparse")
Ints = NDArray[np.int64]


class Features(Protocol):
    """n rows of F features."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def sums(self, rows: Ints, masks: Tensor) -> tuple[Tensor, Tensor]:
        """(sum of x, sum of x^2) [masks, F] over the given rows, weighted by masks [masks, rows]."""
        ...

    def columns(self, chosen: Tensor) -> Tensor:
        """All rows of the chosen features [n, k], a view of one contiguous matrix [k, n]."""
        ...


@dataclass(frozen=True)
class Dense:
    """x [n, F] float32."""

    x: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape[0], self.x.shape[1]

    def sums(self, rows: Ints, masks: Tensor) -> tuple[Tensor, Tensor]:
        x = self.x.index_select(0, torch.from_numpy(rows))
        return masks @ x, masks @ x.square()

    def columns(self, chosen: Tensor) -> Tensor:
        return self.x.t().index_select(0, chosen).t()


@dataclass(frozen=True)
class Sparse:
    """Codes as a scipy CSR matrix [n, F], and the same by column."""

    by_row: Any
    by_column: Any

    @classmethod
    def of(cls, pointer: Tensor, latent: Tensor, value: Tensor, shape: tuple[int, int]) -> Sparse:
        made = sparse.csr_matrix(
            (value.numpy(), latent.to(torch.int32).numpy(), pointer.to(torch.int32).numpy()), shape=shape
        )
        return cls(made, made.tocsc())

    @property
    def shape(self) -> tuple[int, int]:
        return self.by_row.shape

    def sums(self, rows: Ints, masks: Tensor) -> tuple[Tensor, Tensor]:
        x = self.by_row[rows]
        weights = masks.numpy().T.astype(np.float32)
        first = x.T @ weights
        x.data = x.data**2
        return torch.from_numpy(np.ascontiguousarray(first.T)), torch.from_numpy(
            np.ascontiguousarray((x.T @ weights).T)
        )

    def columns(self, chosen: Tensor) -> Tensor:
        return torch.from_numpy(self.by_column.T[chosen.numpy()].toarray()).t()

    def decoded(self, W_dec: Tensor, b_dec: Tensor) -> Tensor:
        """codes @ W_dec + b_dec [n, d]."""
        return torch.from_numpy(self.by_row @ W_dec.detach().float().numpy()) + b_dec.detach().float()
