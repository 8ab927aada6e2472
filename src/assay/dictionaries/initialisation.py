"""Where training starts: the pieces that the `init` of several architectures shares."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.dictionaries.base import Dictionary


@torch.no_grad()
def init_tied(dictionary: Dictionary, rng: torch.Generator, norm: float = 1.0) -> None:
    """Random rows of length `norm` in W_dec; W_enc = W_dec^T where input is predicted, else random columns of length 1."""
    for _, W_enc, W_dec in dictionary.wired:
        rows = dictionary.normal_numbers(W_dec, 0, rng)
        W_dec.copy_(norm * rows / rows.norm(dim=1, keepdim=True))
        if dictionary.config.wiring in ("sae", "crosscoder") and dictionary.d_in == dictionary.d_out:
            W_enc.copy_(W_dec.t())
        else:
            columns = dictionary.normal_numbers(W_enc, 1, rng)
            W_enc.copy_(columns / columns.norm(dim=0, keepdim=True))


@torch.no_grad()
def firing_threshold(dictionary: Dictionary, x: Tensor, l0: float) -> Tensor:
    """[d_sae]: the level of u that each latent exceeds on a share l0 / d_sae of the sample x [n, d_in].

    A bias of minus this makes the starting L0 about `l0`, instead of about half of all latents.
    """
    n_above = max(1, min(len(x) - 1, round(len(x) * l0 / dictionary.config.d_sae)))
    centred = dictionary.centred(x.to(dictionary.b_dec))
    columns = max(1, (1 << 24) // len(x))
    levels = [
        (centred[:, block.reads] @ some).topk(n_above + 1, dim=0).values[-1]
        for block, W_enc, _ in dictionary.wired
        for some in W_enc.split(columns, dim=1)
    ]
    return torch.cat(levels)


def geometric_median(points: Tensor, n_steps: int = 100) -> Tensor:
    """The point of least summed distance to `points` [n, d], by Weiszfeld's iteration: [d]."""
    guess = points.mean(0)
    for _ in range(n_steps):
        weight = 1 / (points - guess).norm(dim=1).clamp_min(1e-8)
        moved = (points * weight[:, None]).sum(0) / weight.sum()
        if (moved - guess).norm() <= 1e-7 * guess.norm().clamp_min(1e-12):
            return moved
        guess = moved
    return guess
