"""How many latents fire, how often each does, how many never or nearly always do. Firing is f != 0: signed codes count.

L0      mean number of latents with f != 0 a token
dead    share of latents that fired on none of the N tokens seen; N is part of the statement
dense   share of latents that fired on more than 1 % (10 %) of them
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.metrics.ratio import Terms, pooled

DENSE_ABOVE = (0.01, 0.10)


def l0_terms(row: Tensor, value: Tensor, n: int) -> Terms:
    """Active latents and 1, of each of n tokens, from sparse codes: `row` int64 [m] (the token), `value` [m]."""
    counts = torch.bincount(row[value != 0], minlength=n).double()
    return counts, torch.ones_like(counts)


def l0(f: Tensor) -> float:
    """Mean number of active latents of codes f [n, d_sae]."""
    active = (f != 0).sum(-1).double()
    return pooled((active, torch.ones_like(active)))


class Firing:
    """On how many tokens each latent fired: `counts` int64 [d_sae], out of `n_tokens`."""

    def __init__(self, d_sae: int) -> None:
        self.counts = torch.zeros(d_sae, dtype=torch.int64)
        self.n_tokens = 0

    def add(self, latent: Tensor, value: Tensor, n_tokens: int) -> None:
        """Add sparse codes of `n_tokens` tokens: `latent` int64 [m], `value` [m]."""
        self.counts += torch.bincount(latent[value != 0].cpu(), minlength=self.counts.shape[0])
        self.n_tokens += n_tokens

    @property
    def frequency(self) -> Tensor:
        """float64 [d_sae]: share of tokens on which the latent fired."""
        return self.counts.double() / max(self.n_tokens, 1)

    def dead_share(self) -> float:
        return float((self.counts == 0).double().mean())

    def dense_share(self, above: float) -> float:
        """Share of latents that fired on more than `above` of the tokens."""
        return float((self.counts.double() > above * self.n_tokens).double().mean())
