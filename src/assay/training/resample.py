"""Resampling: dead latents are given the directions of inputs that the dictionary reconstructs badly.

Inputs are drawn with probability proportional to the squared loss; the latent's decoder row becomes the input (less b_dec),
normalised; its encoder column the same at 0.2 of the living columns' mean length; its vectors and optimiser moments 0.
Source: Bricken et al. 2023, "Neuron resampling", as transcribed in two independent code bases.
Differs from the paper: b_dec is taken off the input first, since the encoder takes it off too; the losses come from as many inputs
as the caller gives, not 819,200.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.dictionaries import Dictionary

CHUNK = 4096


@torch.no_grad()
def resample(
    dictionary: Dictionary,
    dead: Tensor,
    x: Tensor,
    y: Tensor,
    rng: torch.Generator,
    moments: list[dict[str, Tensor]],
) -> None:
    """Give the latents `dead` [n] new directions in place. x [m, d_in], y [m, d_out] in training space."""
    if dead.numel() == 0:
        return
    losses = torch.cat(
        [
            (dictionary.reconstruct(part, dictionary.encode_sparse(part, training=True)) - target).pow(2).sum(-1)
            for part, target in zip(x.split(CHUNK), y.split(CHUNK), strict=True)
        ]
    )
    odds = losses.double().pow(2).cpu()
    odds = odds if float(odds.sum()) > 0 else torch.ones_like(odds)
    drawn = torch.multinomial(odds, dead.numel(), replacement=True, generator=rng).to(x.device)
    living = torch.ones(dictionary.W_dec.shape[0], dtype=torch.bool, device=x.device)
    living[dead] = False
    some = bool(living.any())
    enc_length = dictionary.W_enc[:, living].norm(dim=0).mean() if some else torch.ones((), device=x.device)
    dec_length = dictionary.W_dec[living].norm(dim=1).mean() if some else torch.ones((), device=x.device)
    read = unit(dictionary.centred(x[drawn]))
    write = unit(y[drawn] - dictionary.b_dec)
    dictionary.W_enc[:, dead] = (0.2 * enc_length * read).t()
    dictionary.W_dec[dead] = write * (1.0 if dictionary.unit_norm else dec_length)
    for name in dictionary.vectors:
        dictionary.get_parameter(name)[dead] = 0.0
    for moment in moments:
        moment["W_enc"][:, dead] = 0.0
        for name in ("W_dec", *dictionary.vectors):
            moment[name][dead] = 0.0


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
