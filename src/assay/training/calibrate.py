r"""From the batch's largest codes to thresholds: a JumpReLU dictionary that does at inference what batch top-k does in training.

    f_i = z_i 1[z_i > theta_i],   z = x W_enc + b_enc,   b_enc here = b_enc there - b_dec W_enc (the pre-encoder bias is folded in)

one threshold:    theta such that exactly round(l0 * n) of the pairs of n held-out rows lie above it
one a latent:     theta_i such that latent i fires on as many of these rows as it does under top-k in batches of the training's size
                  (the same quantile of z_i); a latent that never does gets the largest z_i seen

A threshold lies half-way between the last value that is on and the first that is off, so that rounding flips nothing; where the
two are equal (equal rows of x) all pairs of that value are off, and L0 is a little lower.
Directions, b_dec and, at the pairs that stay on, the values do not change. Quantile matching after the Gemma Scope 2 report, App. B.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.config import require
from assay.core.errors import BadInput
from assay.dictionaries import Dictionary, config_class
from assay.dictionaries import class_of as class_of_arch
from assay.dictionaries.options import Config
from assay.kernels import BatchTop, Top

ELEMENTS = 1 << 24  # of z in memory at once


@torch.no_grad()
def calibrate(
    dictionary: Dictionary, x: Tensor, *, l0: float | None = None, per_latent: bool = False, batch_size: int = 2048
) -> Dictionary:
    """A jumprelu dictionary from one of topk, batchtopk or matryoshka, with thresholds set on held-out rows x [n, d_in].

    l0: the L0 that one threshold shall give on x; the dictionary's own k when not given. per_latent: one threshold a latent,
    at the L0 of its training. x must be in the dictionary's space: raw activations for one that was loaded.
    """
    chosen = dictionary.select(dictionary.params_at(), training=True) if dictionary.learned_by == "gradient" else None
    if not isinstance(chosen, (Top, BatchTop)) or chosen.signed:
        raise BadInput(
            f"A {dictionary.arch} dictionary cannot be calibrated; one is needed whose codes are the k largest of relu(z): "
            "topk, batchtopk or matryoshka."
        )
    require(
        l0 is None or not per_latent, "l0", l0, "left out with one threshold a latent, which keeps the L0 of training"
    )
    wanted = float(chosen.k if l0 is None else l0)
    require(0 < wanted <= dictionary.d_sae, "l0", wanted, f"above 0 and at most d_sae={dictionary.d_sae}")
    rows = dictionary.rows_of(x)
    if not len(rows):
        raise BadInput("Thresholds are set on held-out activations, and none were given.")
    made = _as_jumprelu(dictionary)
    theta = _each(dictionary, made, rows, batch_size) if per_latent else _one(made, rows, wanted)
    made.get_parameter("theta").copy_(theta)
    made.provenance = {
        **dictionary.provenance,
        "calibrated": {"arch": dictionary.arch, "l0": wanted, "per_latent": per_latent, "rows": len(rows)},
    }
    return made.requires_grad_(False)


def _as_jumprelu(dictionary: Dictionary) -> Dictionary:
    """The same matrices and the folded bias; thresholds still to be set."""
    old = dictionary.config
    shape = {name: getattr(old, name) for name in Config.__dataclass_fields__}
    made = class_of_arch("jumprelu")(config_class("jumprelu")(**shape, l0_coef=0.0)).to(dictionary.b_dec)
    at_zero = dictionary.pre_activations(torch.zeros(1, dictionary.d_in).to(dictionary.b_dec))[0]
    state = {n: t for n, t in dictionary.state_dict().items() if n in dict(made.named_parameters())}
    bias = dictionary.get_parameter("b_enc") + at_zero
    made.load_state_dict({**state, "b_enc": bias, "theta": torch.zeros_like(bias)})
    made.scale = dictionary.scale
    return made


def _one(made: Dictionary, rows: Tensor, l0: float) -> Tensor:
    """The threshold above which exactly round(l0 * n) values lie, if so many are positive."""
    n_pairs = max(1, round(l0 * len(rows)))
    bias = made.get_parameter("b_enc")
    largest = rows.new_empty(0)
    for part in rows.split(max(1, ELEMENTS // made.d_sae)):
        z = made.pre_activations(part) + bias
        largest = torch.cat([largest, z[z > 0]])
        largest = largest.topk(min(n_pairs + 1, len(largest))).values
    if len(largest) < n_pairs:
        raise BadInput(
            f"An L0 of {l0:g} was asked for, but only {len(largest) / len(rows):.3g} values a row are positive; ask for less."
        )
    below = largest[n_pairs] if len(largest) > n_pairs else torch.zeros_like(largest[0])
    return (largest[n_pairs - 1] + below) / 2


def _each(dictionary: Dictionary, made: Dictionary, rows: Tensor, batch_size: int) -> Tensor:
    """[d_sae]: for each latent the value below its n_i-th largest z, n_i = how often it fires under top-k in batches."""
    counts = torch.zeros(made.d_sae, dtype=torch.int64, device=rows.device)
    for part in rows.split(batch_size):
        counts += torch.bincount(dictionary.encode_sparse(part, training=True).latent, minlength=made.d_sae)
    theta = torch.empty_like(made.get_parameter("theta"))
    for block, W_enc, _ in made.wired:
        first, size = block.latents.start, max(1, ELEMENTS // len(rows))
        for start in range(0, W_enc.shape[1], size):
            here = slice(first + start, first + min(start + size, W_enc.shape[1]))
            z = rows[:, block.reads] @ W_enc[:, start : start + size] + made.get_parameter("b_enc")[here]
            z = torch.cat([z.clamp_min(0).sort(dim=0, descending=True).values, z.new_zeros(1, z.shape[1])])
            n_on = counts[here][None]
            on, off = z.gather(0, (n_on - 1).clamp_min(0))[0], z.gather(0, n_on)[0]
            theta[here] = torch.where(n_on[0] > 0, (on + off) / 2, off)
    return theta
