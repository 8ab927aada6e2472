"""The n documents in which each latent fires hardest, kept while the documents stream by.

Rank is by |f|; one place a document (its peak), so that n contexts are n documents. Memory is d_sae x n for any text.
"""

from __future__ import annotations

import numpy as np
import torch

from assay.evaluation.readings import Reading
from assay.kernels import Codes


class Tops:
    """`height` float32, `document`, `position` int64, all [d_sae, n], the largest |f| first; -1 where there is none."""

    def __init__(self, d_sae: int, n: int) -> None:
        self.n = n
        self.height = np.zeros((d_sae, n), dtype=np.float32)
        self.document = np.full((d_sae, n), -1, dtype=np.int64)
        self.position = np.full((d_sae, n), -1, dtype=np.int64)

    def add(self, codes: Codes, reading: Reading) -> None:
        """Add the codes of a reading, which holds its documents whole."""
        if not self.n or not len(codes):
            return
        row, latent = codes.row.cpu(), codes.latent.cpu().numpy()
        height = codes.value.abs().float().cpu().numpy()
        document, position = reading.document[row].numpy(), reading.position[row].numpy()
        high = height > self.height[latent, -1]
        latent, height, document, position = latent[high], height[high], document[high], position[high]
        order = np.lexsort((position, document, -height, latent))
        latent, height, document, position = (c[order] for c in (latent, height, document, position))
        first = _first_of_each(latent * (int(document.max(initial=0)) + 1) + document)
        self._merge(latent[first], height[first], document[first], position[first])

    def _merge(self, latent: np.ndarray, height: np.ndarray, document: np.ndarray, position: np.ndarray) -> None:
        touched = np.unique(latent)
        old_latent = np.repeat(touched, self.n)
        latent = np.concatenate([old_latent, latent])
        height = np.concatenate([self.height[touched].ravel(), height])
        document = np.concatenate([self.document[touched].ravel(), document])
        position = np.concatenate([self.position[touched].ravel(), position])
        order = np.lexsort((position, document, -height, latent))  # equal heights: the earlier document, in any batches
        latent, height, document, position = (c[order] for c in (latent, height, document, position))
        starts = np.searchsorted(latent, touched)
        rank = np.arange(len(latent)) - np.repeat(starts, np.diff(np.append(starts, len(latent))))
        best = rank < self.n
        where = (latent[best], rank[best])
        self.height[where], self.document[where], self.position[where] = height[best], document[best], position[best]


def _first_of_each(key: np.ndarray) -> np.ndarray:
    """Indices of the first occurrence of each value, in order of appearance."""
    _, first = np.unique(key, return_index=True)
    return np.sort(first)


def spread_sample(frequency: torch.Tensor, n: int) -> np.ndarray:
    """n latents that fire, spread evenly over the ranks of frequency, the most frequent first."""
    alive = np.flatnonzero(frequency.numpy() > 0)
    by_rank = alive[np.argsort(-frequency.numpy()[alive], kind="stable")]
    places = np.linspace(0, len(by_rank) - 1, min(n, len(by_rank))).round().astype(int)
    return by_rank[places] if len(by_rank) else by_rank
