"""Relative reconstruction bias γ (arXiv 2404.16014 v2, eq. 9-10).

γ is the factor by which x̂ should be divided to come nearest to x:  γ = argmin_g E‖x̂/g − x‖²  =  E‖x̂‖² / E[x̂·x].
Below 1 the reconstruction is shrunk, at 1 it is unbiased. Both means run over all tokens before they are divided. An
earlier version of the paper had another formula, which gives .577 instead of .5 for x = 1, x̂ = ½.

Latent by latent the same question is asked of what one latent writes, f_i d_i, against what the others leave for it:

    γ_i = argmin_g E_i‖f_i d_i/g − (x − x̂ + f_i d_i)‖²  =  Σ f_i² ‖d_i‖²  /  Σ f_i d_i·(x − x̂ + f_i d_i)

with both sums over the tokens where latent i fires. Codes c times too large on orthogonal directions have γ_i = c. Ours: the
paper has no such measure.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from assay.metrics.ratio import Terms, pooled

PAIRS = 1 << 16  # (token, latent) pairs whose directions are gathered at once


def bias_terms(x: Tensor, x_hat: Tensor) -> Terms:
    """‖x̂‖² and x̂·x of each token; x, x_hat [n, d]."""
    x, x_hat = x.double(), x_hat.double()
    return x_hat.square().sum(-1), (x_hat * x).sum(-1)


def relative_reconstruction_bias(x: Tensor, x_hat: Tensor) -> float:
    """γ of the tokens; nan where x_hat is 0 everywhere.

    >>> import torch
    >>> relative_reconstruction_bias(torch.ones(3, 1), torch.full((3, 1), 0.5))
    0.5
    """
    return pooled(bias_terms(x, x_hat))


def first_version(gamma: float) -> float:
    """What the paper's first version gave where γ is right; **wrong**, kept so that old numbers can be told from new ones.

    It was √(E‖x̂‖² / (E‖x‖² − E‖x − x̂‖²)); since E‖x‖² − E‖x − x̂‖² = 2 E[x̂·x] − E‖x̂‖², that is √(γ / (2 − γ)), from the same
    two sums. It is nan from γ = 2 on. Being a rising function of γ, it maps the ends of an interval to the ends of one.

    >>> round(first_version(0.5), 3)
    0.577
    """
    return math.sqrt(gamma / (2 - gamma)) if 0 <= gamma < 2 else math.nan


def latent_bias_sums(
    x: Tensor, x_hat: Tensor, row: Tensor, latent: Tensor, value: Tensor, W_dec: Tensor
) -> tuple[Tensor, Tensor]:
    """Σ f_i² ‖d_i‖² and Σ f_i d_i·(x − x̂ + f_i d_i) of every latent, float64 [d_sae]; γ_i is their ratio.

    x, x_hat [n, d]; codes `value` of `latent` on token `row`, all [nnz], none 0; W_dec [d_sae, d].
    """
    error, directions = (x - x_hat).double(), W_dec.double()
    own = value.double().square() * directions.square().sum(-1)[latent]
    left = own.clone()
    for start in range(0, len(row), PAIRS):
        part = slice(start, start + PAIRS)
        left[part] += value[part].double() * (error[row[part]] * directions[latent[part]]).sum(-1)
    sums = torch.zeros(2, W_dec.shape[0], dtype=torch.float64, device=W_dec.device)
    return sums[0].index_add(0, latent, own), sums[1].index_add(0, latent, left)
