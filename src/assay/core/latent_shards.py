"""What the processes say to each other that hold different latents of one dictionary and see the same rows.

Outside `distribution.split_latents()`, and in a process that is alone, all of it is the identity. `summed` and `spread` are each
other's transpose: where the sum goes forward the gradient passes, where the value passes the gradient is summed. So autograd of what a
shard computes gives exactly its part of the gradient of the whole.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from assay.core.distribution import all_summed, each, group, latent_parts, shard, shards


def summed(x: Tensor) -> Tensor:
    """The sum over the shards, the same bits in each. Under autograd the gradient goes to this shard's own summand."""
    return _Summed.apply(x) if latent_parts() > 1 else x  # pyright: ignore[reportReturnType]


def spread(x: Tensor) -> Tensor:
    """x, which is the same in every shard. Under autograd its gradient is the sum of what all shards' latents give it."""
    return _Spread.apply(x) if latent_parts() > 1 else x  # pyright: ignore[reportReturnType]


def whole(x: Tensor) -> Tensor:
    """x [latents held, ...] of all shards one after the other. Under autograd the gradient of this shard's own."""
    return _Whole.apply(x) if latent_parts() > 1 else x  # pyright: ignore[reportReturnType]


def stacked(x: Tensor) -> Tensor:
    """[shards, ...]: every shard's x, of one shape in all."""
    if latent_parts() == 1:
        return x[None]
    found = x.new_empty(latent_parts(), *x.shape)
    dist.all_gather([*found], x.detach().contiguous(), group=group("latents"))
    return found


def from_shard(x: Tensor, source: int) -> Tensor:
    """Fill x in place with what shard `source` has in it, split or not."""
    if shards() > 1:
        dist.broadcast(x, group=group("latents"), group_src=source)
    return x


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return all_summed(x, "latents")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_summed(grads[0], "latents")


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        pieces = each(x, "latents")
        first = sum(len(p) for p in pieces[: shard()])
        ctx.own = slice(first, first + len(x))
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0][ctx.own]
