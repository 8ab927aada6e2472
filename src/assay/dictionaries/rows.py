"""Normalising each row by itself, before a dictionary encodes it, and undoing that after it decodes.

    layer_norm      z = (x - m) / (s + 1e-5)      x_hat = s z_hat + m      m, s: the row's mean and its deviation (over d - 1)
    constant_norm   z = c x,  c = sqrt(d) / ||x||   x_hat = z_hat / c        a row of zeros stays one

Such a dictionary lives in the space of z: its weights say nothing of the activations' scale, and its loss is measured there. Source: SAELens 6.54
(normalize_activations = layer_norm, constant_norm_rescale) and OpenAI's sparse_autoencoder (layer norm before TopK); 1e-5 is left out
on the way back, as both do.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Rows = Literal["as_is", "layer_norm", "constant_norm"]
EPS = 1e-5
SHORTEST = 1e-30  # of a row: shorter ones are zeros


def normalised(x: Tensor, how: Rows) -> Tensor:
    """z [..., d] of x [..., d]."""
    if how == "layer_norm":
        centred = x - x.mean(-1, keepdim=True)
        return centred / (x.std(-1, keepdim=True) + EPS)
    return x if how == "as_is" else x * (x.shape[-1] ** 0.5 / _length(x))


def undone(z_hat: Tensor, x: Tensor, how: Rows) -> Tensor:
    """x_hat [..., d] of z_hat [..., d], the prediction of what `normalised` made of x [..., d]."""
    if how == "layer_norm":
        return z_hat * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)
    return z_hat if how == "as_is" else z_hat * (_length(x) / x.shape[-1] ** 0.5)


def _length(x: Tensor) -> Tensor:
    return x.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)
