r"""AuxK: dead latents predict what the living ones left over, so that they come back.

    e = y - x_hat (detached),   a = the k_aux largest of relu(u + b_enc) among dead latents,   e_hat = a W_dec (no b_dec)
    aux = V_y * ||e - e_hat||^2 / V_e

V_e = summed variance of e over the batch, V_y = summed variance of the data at the start of the run. Gao et al. (arXiv 2406.04093,
App. A) divide the main error by V_y as well; multiplying AuxK by it is the same loss up to a constant factor. No b_dec is added:
e has it taken off already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.dictionaries import Dictionary


def auxk_loss(
    dictionary: Dictionary,
    x: Tensor,
    residual: Tensor,
    dead: Tensor,
    k_aux: int,
    variance: float,
    params: dict[str, Tensor],
) -> Tensor:
    """The unweighted term, under autograd. dead [n_dead] ids; params W_enc [d_in, n_dead], b_enc [n_dead], W_dec [n_dead, d_out],
    and the pre-bias under its name, so that only these columns carry gradients."""
    centred = x - params[dictionary.pre_bias] if dictionary.pre_bias is not None else x
    a = (centred @ params["W_enc"] + params["b_enc"]).relu()
    if k_aux < dead.numel():
        kept = a.topk(k_aux, dim=-1).indices
        a = a * torch.zeros_like(a).scatter_(-1, kept, 1.0)
    e_hat = a @ params["W_dec"]
    spread = (residual - residual.mean(0)).pow(2).sum(-1).mean()
    error = (residual - e_hat).pow(2).sum(-1).mean()
    return variance * error / spread.clamp_min(torch.finfo(spread.dtype).tiny)


def add_auxk(
    dictionary: Dictionary,
    grads: dict[str, Tensor],
    x: Tensor,
    residual: Tensor,
    dead: Tensor,
    variance: float,
) -> float:
    """Add the gradients of auxk_coef * AuxK to `grads` in place; return the unweighted term (0 when nothing is dead)."""
    coef = dictionary.config.auxk_coef
    if dead.numel() == 0 or coef == 0:
        return 0.0
    k_aux = dictionary.config.k_aux or max(1, dictionary.W_enc.shape[0] // 2)
    leaves = {
        "W_enc": dictionary.W_enc.detach()[:, dead],
        "b_enc": dictionary.get_parameter("b_enc").detach()[dead],
        "W_dec": dictionary.W_dec.detach()[dead],
    }
    if dictionary.pre_bias is not None:
        leaves[dictionary.pre_bias] = dictionary.get_parameter(dictionary.pre_bias).detach().clone()
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    with torch.enable_grad():
        term = auxk_loss(dictionary, x, residual.detach(), dead, k_aux, variance, leaves)
        found = torch.autograd.grad(coef * term, list(leaves.values()))
    for name, grad in zip(leaves, found, strict=True):
        if name not in grads:  # frozen
            continue
        if name == "W_enc":
            grads[name].t().index_add_(0, dead, grad.t())
        elif name in ("W_dec", "b_enc"):
            grads[name].index_add_(0, dead, grad)
        else:
            grads[name] += grad
    return float(term.detach())
