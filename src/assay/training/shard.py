"""A shard: the dictionary of an architecture that holds only some of its latents.

W_enc, W_dec, the vectors and whatever else an architecture makes with one row a latent have the shard's size; `config` stays that
of the whole. What the latents write together is summed over the shards once, then b_dec is added, and all that follows from x_hat is
the same in every shard. No architecture knows of this: the class is made here, of `Shard` and the architecture's own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.core.errors import BadOption
from assay.dictionaries import DENSE, GRADIENT, Dictionary, class_of
from assay.dictionaries.base import Recon
from assay.dictionaries.wiring import Block, width
from assay.training.plan import Plan

PIECE = 1 << 22  # random numbers drawn at once


class Shard(Dictionary):
    """What differs between a dictionary and a part of its latents; stands before the architecture in the class."""

    held: slice  # its latents among those of the whole

    @property
    def d_sae(self) -> int:
        return width(self.held)

    @property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(Block(b.reads, slice(0, self.d_sae), b.writes) for b in super().blocks)

    @property
    def recon(self) -> dict[str, Recon]:
        """A prefix ends at a latent of the whole; here it is counted from the first that is held."""
        terms = super().recon.items()
        return {t: (code, decoder, *(m - self.held.start for m in prefix)) for t, (code, decoder, *prefix) in terms}  # pyright: ignore[reportReturnType]

    def centred(self, x: Tensor) -> Tensor:
        return x if self.pre_bias is None else x - latent_shards.spread(self.get_parameter(self.pre_bias))

    def written(self, parts: list[Tensor], b_dec: Tensor | None = None) -> Tensor:
        return super().written([latent_shards.summed(part) for part in parts], b_dec)

    def skipped(self, x: Tensor, live: bool = True) -> Tensor:
        """Dense and the same in every shard, so it is not summed."""
        return x @ (self.W_skip if live else self.W_skip.detach())

    def normal_numbers(self, matrix: Tensor, axis: int, rng: torch.Generator) -> Tensor:
        """Those that the whole dictionary would have: the random numbers of all are drawn, those of the latents held are kept."""
        rows, columns = matrix.shape
        if axis == 0:
            return drawn((self.config.d_sae, columns), (self.held, slice(None)), rng).to(matrix)
        return drawn((rows, self.config.d_sae), (slice(None), self.held), rng).to(matrix)


def drawn(shape: tuple[int, int], part: tuple[slice, slice], rng: torch.Generator) -> Tensor:
    """torch.randn(shape, generator=rng)[part], without ever holding the whole.

    torch draws 16 numbers together and the last 16 of a tensor once more, so pieces begin at multiples of 16 and none is short.
    """
    n, n_columns = shape
    step = 16 * max(1, PIECE // (16 * n_columns))
    edges = [*range(0, max(1, n - step + 1), step), n]
    wanted = range(n)[part[0]]
    kept: list[Tensor] = []
    for first, last in pairwise(edges):
        piece = torch.randn(last - first, n_columns, generator=rng)
        kept.append(piece[max(0, wanted.start - first) : max(0, wanted.stop - first), part[1]].clone())
    return torch.cat(kept)


def part_of(config: Any, held: slice) -> Dictionary:
    """A dictionary of `config` that holds these latents only, all parameters 0."""
    cls = class_of(type(config).__module__.rsplit(".", 1)[-1])
    made: type[Dictionary] = type(cls.__name__, (Shard, cls), {"held": held, "__module__": cls.__module__})
    return made(config)


def shapes(config: Any) -> Dictionary:
    """The whole dictionary of `config` without memory for its numbers."""
    with torch.device("meta"):
        return class_of(type(config).__module__.rsplit(".", 1)[-1])(config)


def divided_axis(part: Tensor, whole: Tensor) -> int | None:
    """Along which axis shards hold parts of this tensor; None where every shard holds all of it."""
    differing = [axis for axis, (a, b) in enumerate(zip(part.shape, whole.shape, strict=True)) if a != b]
    assert len(differing) <= 1
    return differing[0] if differing else None


def refuse(plan: Plan) -> None:
    """Raise BadOption, with the reason, where a plan cannot be trained in latent shards."""
    n, cls = plan.options.latent_shards, class_of(plan.arch)
    why = None
    if cls.learned_by != GRADIENT:
        why = f"{plan.arch} is not trained by gradients, and its fit needs all latents (a sweep leaves it out with --no-controls)"
    elif (whole := shapes(plan.config)).step == DENSE:
        why = f"{plan.arch} with these options steps on all latents at once, not on the selected ones"
    elif len(whole.blocks) > 1:
        why = f"wiring={plan.config.wiring} has a block of latents for each layer"
    elif plan.config.d_sae < n:
        why = f"d_sae={plan.config.d_sae} is less"
    elif plan.init_from is not None:
        why = "--init starts from a whole dictionary"
    if why is not None:
        raise BadOption(f"--latent-shards is {n}, but {why}; leave --latent-shards out.")


def replicated(dictionary: Dictionary) -> frozenset[str]:
    """The parameters that every shard holds whole."""
    whole = dict(shapes(dictionary.config).named_parameters())
    return frozenset(n for n, p in dictionary.named_parameters() if divided_axis(p, whole[n]) is None)


@torch.no_grad()
def settle(
    dictionary: Dictionary,
    grads: dict[str, Tensor],
    same: frozenset[str],
    unit_rows: tuple[str, ...],
    clip: float | None,
) -> float:
    """Before the update, in place: what no shard can do alone. Removes the part of the gradient parallel to each row of `unit_rows`,
    gives the parameters `same`, which all hold, one gradient, and clips by the norm over all shards, these counted once. Returns the
    norm before clipping."""
    own, shared = (torch.zeros((), dtype=torch.float64, device=dictionary.b_dec.device) for _ in range(2))
    for name, grad in grads.items():
        if name in unit_rows:
            rows = dictionary.get_parameter(name)
            along = (grad * rows).sum(1, keepdim=True) / (rows * rows).sum(1, keepdim=True)
            grad.addcmul_(along, rows, value=-1)
        square = torch.linalg.vector_norm(grad).double().square()
        if name in same:
            grads[name] = latent_shards.from_shard(grad.contiguous(), 0)
            shared = shared + square
        else:
            own = own + square
    norm = float(distribution.all_summed(own, "latents") + latent_shards.from_shard(shared, 0)) ** 0.5
    if clip is not None and norm > clip:
        for grad in grads.values():
            grad.mul_(clip / (norm + 1e-6))
    return norm
