"""Sparse codes of a batch: which latents are on in which row, with one value each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """Pairs (row, latent) in row order, latents ascending within a row, with a value each; CSR through `pointers`.

    row [nnz] int64, latent [nnz] int64, value [nnz] float; shape = (batch B, number of latents F).
    """

    row: Tensor
    latent: Tensor
    value: Tensor
    shape: tuple[int, int]
    index: dict[str, Tensor] = field(default_factory=dict[str, Tensor], repr=False, compare=False)
    """Orders derived from the pairs, computed when first asked for and shared by all codes on the same pairs."""

    def __len__(self) -> int:
        return self.row.numel()

    @property
    def pointers(self) -> Tensor:
        """[B + 1]: the pairs of row b are pointers[b] : pointers[b + 1]."""
        if "pointers" not in self.index:
            counts = torch.bincount(self.row, minlength=self.shape[0])
            self.index["pointers"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return self.index["pointers"]

    @property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """(order [nnz], start [F]): the pairs sorted by latent, rows ascending within one, and where each latent begins."""
        if "order" not in self.index:
            self.index["order"] = torch.argsort(self.latent, stable=True)  # stable: sums run in row order on every run
            counts = torch.bincount(self.latent, minlength=self.shape[1])
            self.index["start"] = counts.cumsum(0) - counts
        return self.index["order"], self.index["start"]

    def with_values(self, value: Tensor) -> Codes:
        """The same pairs with other values [nnz]."""
        return Codes(self.row, self.latent, value, self.shape, self.index)

    def nonzero(self) -> Codes:
        """Without the pairs whose value is 0. Firing means f != 0, so negative values stay."""
        on = self.value != 0
        if bool(on.all()):
            return self
        return Codes(self.row[on], self.latent[on], self.value[on], self.shape)

    def dense(self) -> Tensor:
        """[B, F]; a pair that is absent is 0."""
        full = self.value.new_zeros(self.shape)
        full[self.row, self.latent] = self.value
        return full

    @staticmethod
    def of(dense: Tensor) -> Codes:
        """The non-zero pairs of a dense [B, F] tensor."""
        row, latent = dense.nonzero(as_tuple=True)
        return Codes(row, latent, dense[row, latent], (dense.shape[0], dense.shape[1]))
