r"""AuxK: dead latents predict what the living ones left over, so that they come back.

    e = y - x_hat (detached),   a = the k_aux largest of relu(u + b_enc) among dead latents,   e_hat = a W_dec (no b_dec)
    aux = V_y * ||e - e_hat||^2 / V_e

Where codes are signed: a = the k_aux largest |u + b_enc| with their signs.

V_e = summed variance of e over the batch, V_y = summed variance of the data at the start of the run. Gao et al. (arXiv 2406.04093,
App. A) divide the main error by V_y as well; multiplying AuxK by it is the same loss up to a constant factor. No b_dec is added:
e has it taken off already.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.dictionaries import Dictionary
from assay.dictionaries.wiring import Block, largest


def auxk_loss(
    dictionary: Dictionary,
    x: Tensor,
    residual: Tensor,
    dead: list[Tensor],
    n_dead: int,
    k_aux: int,
    variance: float,
    params: dict[str, Tensor],
) -> Tensor:
    """The unweighted term, under autograd. dead: ids within each block; n_dead: how many in all shards. params: b_enc of the dead, the
    pre-bias under its name, and each block's columns W_enc [read width, dead] and rows W_dec [dead, written width], so that only
    these carry gradients."""
    centred = x - latent_shards.spread(params[dictionary.pre_bias]) if dictionary.pre_bias is not None else x
    names = dictionary.matrix_names
    u = [centred[:, b.reads] @ params[enc] for b, (enc, _) in zip(dictionary.blocks, names, strict=True)]
    z = torch.cat(u, dim=1) + params["b_enc"]
    a = z if dictionary.signed else z.relu()
    if k_aux < n_dead:
        a = a * kept(a.detach().abs(), k_aux)
    pieces = a.split([len(d) for d in dead], dim=1)
    nothing = torch.zeros_like(dictionary.b_dec)
    e_hat = dictionary.written([p @ params[dec] for p, (_, dec) in zip(pieces, names, strict=True)], nothing)
    centre = distribution.mean(residual.mean(0))
    spread = distribution.mean((residual - centre).pow(2).sum(-1).mean())
    error = (residual - e_hat).pow(2).sum(-1).mean()
    return variance * error / spread.clamp_min(torch.finfo(spread.dtype).tiny)


def kept(size: Tensor, k_aux: int) -> Tensor:
    """1 at the k_aux largest of each row of size [B, dead latents], among those of all shards where latents are split; else 0."""
    values, index = size.topk(min(k_aux, size.shape[1]), dim=-1)
    if distribution.latent_parts() > 1:
        padded = torch.nn.functional.pad(values, (0, k_aux - values.shape[1]))
        chosen = largest(padded)[:, : values.shape[1]].to(size.dtype)
    else:
        chosen = torch.ones_like(values)
    return torch.zeros_like(size).scatter_(-1, index, chosen)


def add_auxk(
    dictionary: Dictionary,
    grads: dict[str, Tensor],
    x: Tensor,
    residual: Tensor,
    dead: Tensor,
    variance: float,
) -> float:
    """Add the gradients of auxk_coef * AuxK to `grads` in place; return the unweighted term (0 when nothing is dead).

    dead: ids [n_dead] among the latents that are held, ascending.
    """
    coef = dictionary.config.auxk_coef
    n_dead = int(latent_shards.summed(torch.tensor(dead.numel(), device=x.device)))
    if n_dead == 0 or coef == 0:
        return 0.0
    k_aux = dictionary.config.k_aux or max(1, dictionary.d_in // 2)
    inside = [within(dead, block) for block in dictionary.blocks]
    leaves = {"b_enc": dictionary.get_parameter("b_enc").detach()[dead]}
    rows: dict[str, Tensor] = {}
    for (enc, dec), ids, (_, W_enc, W_dec) in zip(dictionary.matrix_names, inside, dictionary.wired, strict=True):
        leaves[enc], leaves[dec] = W_enc.detach()[:, ids], W_dec.detach()[ids]
        rows[enc] = rows[dec] = ids
    if dictionary.pre_bias is not None:
        leaves[dictionary.pre_bias] = dictionary.get_parameter(dictionary.pre_bias).detach().clone()
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    with torch.enable_grad():
        term = auxk_loss(dictionary, x, residual.detach(), inside, n_dead, k_aux, variance, leaves)
        found = torch.autograd.grad(coef * term, list(leaves.values()))
    for name, grad in zip(leaves, found, strict=True):
        if name not in grads:  # frozen
            continue
        if name.startswith("W_enc"):
            grads[name].t().index_add_(0, rows[name], grad.t())
        elif name.startswith("W_dec"):
            grads[name].index_add_(0, rows[name], grad)
        elif name == "b_enc":
            grads[name].index_add_(0, dead, grad)
        else:
            grads[name] += grad
    return float(term.detach())


def within(latents: Tensor, block: Block) -> Tensor:
    """Those of the ids `latents` that belong to the block, counted from its first."""
    here = (latents >= block.latents.start) & (latents < block.latents.stop)
    return latents[here] - block.latents.start
