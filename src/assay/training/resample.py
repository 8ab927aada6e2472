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

from assay.core import distribution, latent_shards
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
    """Give the latents `dead` [n] of those held new directions in place. x [m, d_in], y [m, d_out] in training space."""
    counts = latent_shards.stacked(torch.tensor(dead.numel(), device=x.device)).tolist()
    if sum(counts) == 0:
        return
    losses = torch.cat(
        [
            (dictionary.reconstruct(part, dictionary.encode_sparse(part, training=True)) - target).pow(2).sum(-1)
            for part, target in zip(x.split(CHUNK), y.split(CHUNK), strict=True)
        ]
    )
    odds = losses.double().pow(2).cpu()
    odds = odds if float(odds.sum()) > 0 else torch.ones_like(odds)
    drawn = torch.multinomial(odds, sum(counts), replacement=True, generator=rng).to(x.device)  # of all shards
    drawn = drawn.split(counts)[distribution.shard() if len(counts) > 1 else 0]
    living = torch.ones(dictionary.d_sae, dtype=torch.bool, device=x.device)
    living[dead] = False
    read_from, write_to = dictionary.centred(x[drawn]), y[drawn] - dictionary.b_dec
    for (enc, dec), (block, W_enc, W_dec) in zip(dictionary.matrix_names, dictionary.wired, strict=True):
        mine = (dead >= block.latents.start) & (dead < block.latents.stop)
        ids, alive = dead[mine] - block.latents.start, living[block.latents]
        lengths = torch.stack([W_enc[:, alive].norm(dim=0).sum(), W_dec[alive].norm(dim=1).sum()])
        n_alive = latent_shards.summed(alive.sum())
        enc_length, dec_length = latent_shards.summed(lengths) / n_alive if n_alive > 0 else torch.ones_like(lengths)
        W_enc[:, ids] = (0.2 * enc_length * unit(read_from[mine][:, block.reads])).t()
        W_dec[ids] = unit(write_to[mine][:, block.writes]) * (1.0 if dictionary.unit_norm else dec_length)
        for moment in moments:
            if enc in moment:
                moment[enc][:, ids] = 0.0
            if dec in moment:
                moment[dec][ids] = 0.0
    for name in dictionary.extra_encoders:
        dictionary.get_parameter(name)[:, dead] = dictionary.W_enc[:, dead]
        for moment in moments:
            if name in moment:
                moment[name][:, dead] = 0.0
    for name in dictionary.extra_decoders:
        dictionary.get_parameter(name)[dead] = dictionary.W_dec[dead]
        for moment in moments:
            if name in moment:
                moment[name][dead] = 0.0
    for name in dictionary.vectors:
        dictionary.get_parameter(name)[dead] = 0.0
        for moment in moments:
            if name in moment:
                moment[name][dead] = 0.0


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
