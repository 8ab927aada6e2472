"""Gradient pursuit: the best sparse code that a decoder allows, found without its encoder.

    r = x − b,  S = {},  f = 0;  k times:
        S += argmax_i d_i·r,   g = (D r) on S, 0 elsewhere,   c = g D,   f = relu(f + (c·r / c·c) g),   r = x − b − f D

Every step moves all coefficients of S along the gradient by the length that is best on that line, and keeps them non-negative. A latent
may be chosen twice, so a row has at most k active ones. The code after j steps is the code for k = j.

Source: Blumensath & Davies 2008, "Gradient pursuits"; as used in Rajamanoharan et al. 2024, arXiv 2404.16014v2, App. A.
Differs from the paper: nothing known; coefficients that the clamp brings to 0 stay in S.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


@torch.no_grad()
def pursue(x: Tensor, W_dec: Tensor, b_dec: Tensor, k: int) -> Iterator[Tensor]:
    """Yield the codes [n, d_sae] after 1, 2, ..., k steps; x [n, d], W_dec [d_sae, d] rows of length 1, b_dec [d]."""
    target = (x - b_dec).to(W_dec.dtype)
    residual = target
    f = torch.zeros(len(x), len(W_dec), dtype=W_dec.dtype, device=W_dec.device)
    chosen = torch.zeros_like(f, dtype=torch.bool)
    for _ in range(k):
        slope = residual @ W_dec.t()
        chosen.scatter_(1, slope.argmax(1, keepdim=True), True)
        g = slope * chosen
        c = g @ W_dec
        squared = c.square().sum(1, keepdim=True)
        length = torch.where(squared > 0, (c * residual).sum(1, keepdim=True) / squared.clamp_min(1e-30), 0.0)
        f = (f + length * g).relu()
        residual = target - f @ W_dec
        yield f


def gradient_pursuit(x: Tensor, W_dec: Tensor, b_dec: Tensor, k: int) -> Tensor:
    """The codes [n, d_sae] after k steps, at most k of a row not 0."""
    *_, f = pursue(x, W_dec, b_dec, k)
    return f
