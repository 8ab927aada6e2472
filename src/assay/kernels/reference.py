"""The five kernels as their definitions: slow, dense, obviously right. Everything faster is tested against these.

Shapes: x [B, d_in], W_enc [d_in, F], W_dec [F, d_out], g [B, n]; pairs are `Codes` over (B, F).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from assay.kernels.codes import Codes
from assay.kernels.origin import Origin
from assay.kernels.selection import Above, Selection, Top, keys

DENSE_ABOVE = 0.06  # as in `torch`: which path is taken changes nothing but time
SUMS_FROM = math.inf  # `update` takes whole gradients


def chosen(u: Tensor, selection: Selection) -> Tensor:
    """Which pairs of u [B, F] are chosen, as a boolean mask."""
    if isinstance(selection, Above):
        return u > selection.threshold
    key = keys(u, selection)
    if isinstance(selection, Top):
        rank = torch.sort(key, dim=-1, descending=True, stable=True).indices
        mask = torch.zeros_like(key, dtype=torch.bool).scatter_(-1, rank[:, : selection.k], True)
    else:
        rank = torch.sort(key.flatten(), descending=True, stable=True).indices[: selection.k * key.shape[0]]
        mask = torch.zeros(key.numel(), dtype=torch.bool, device=key.device).scatter_(0, rank, True).view_as(key)
    return mask & (key > 0)


def encode_select(x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None) -> Codes:
    """u = x @ W_enc at the chosen pairs."""
    u = x @ W_enc
    row, latent = chosen(u, selection).nonzero(as_tuple=True)
    return Codes(row, latent, u[row, latent], (u.shape[0], u.shape[1]))


def decode(codes: Codes, W_dec: Tensor) -> Tensor:
    """sum_i f_bi W_dec[i], without bias: [B, d_out]."""
    return codes.dense() @ W_dec


def cotangent(codes: Codes, g: Tensor, W_dec: Tensor) -> Tensor:
    """alpha = g_b . W_dec[i] at the pairs of `codes`: [nnz]."""
    return (g @ W_dec.T)[codes.row, codes.latent]


def accumulate(codes: Codes, g: Tensor) -> Tensor:
    """sum_b f_bi g_b for every latent: [F, n]."""
    return codes.dense().T @ g


def update(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    clip: float | None,
    unit_rows: tuple[str, ...] = (),
) -> float:
    """One Adam step (Kingma & Ba 2015, Algorithm 1) in place; returns the gradient's global norm before clipping.

    `step` counts from 1. For the matrices in `unit_rows` the part of the gradient parallel to each row is removed before
    everything else and the rows are set back to length 1 afterwards.
    """
    grads = dict(grads)
    for name in unit_rows:
        rows, grad = params[name], grads[name]
        unit = rows / rows.norm(dim=1, keepdim=True)
        grads[name] = grad - (grad * unit).sum(1, keepdim=True) * unit
    norm = float(torch.sqrt(sum((g.double() ** 2).sum() for g in grads.values())))  # pyright: ignore[reportArgumentType]
    shrink = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
    for name, param in params.items():
        grad = grads[name] * shrink
        first[name].copy_(beta1 * first[name] + (1 - beta1) * grad)
        second[name].copy_(beta2 * second[name] + (1 - beta2) * grad**2)
        m_hat = first[name] / (1 - beta1**step)
        v_hat = second[name] / (1 - beta2**step)
        param.sub_(lr * m_hat / (v_hat.sqrt() + eps))
    for name in unit_rows:
        params[name].div_(params[name].norm(dim=1, keepdim=True))
    return norm
