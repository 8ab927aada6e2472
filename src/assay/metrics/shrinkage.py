"""Relative reconstruction bias γ (arXiv 2404.16014 v2, eq. 9-10).

γ is the factor by which x̂ should be divided to come nearest to x:  γ = argmin_g E‖x̂/g − x‖²  =  E‖x̂‖² / E[x̂·x].
Below 1 the reconstruction is shrunk, at 1 it is unbiased. Both means run over all tokens before they are divided. An
earlier version of the paper had another formula, which gives .577 instead of .5 for x = 1, x̂ = ½.
"""

from __future__ import annotations

from torch import Tensor

from assay.metrics.ratio import Terms, pooled


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
