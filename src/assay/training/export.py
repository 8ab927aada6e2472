"""Shards become one ordinary dictionary on disk, piece by piece: no process ever holds the whole."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.core.pieces import Put, assembled
from assay.dictionaries import Dictionary
from assay.dictionaries.files import GOLDEN_ROWS, WEIGHTS, write_around
from assay.dictionaries.rescaling import rescaled
from assay.dictionaries.wiring import gathered
from assay.training.shard import divided_axis, shapes

PIECE = 1 << 22  # numbers that travel at once


@torch.no_grad()
def export(shard: Dictionary, folder: Path, *, golden: Tensor, **facts: Any) -> None:
    """Write what `dictionaries.save` writes, from the shards of all processes, which call this together; the leading one writes.

    golden: raw activations [n, d_in] whose codes are stored; facts: the other arguments of `save`.
    """
    exported = type(shard)(shard.config)
    exported.load_state_dict(rescaled(shard, *shard.scale))
    exported.to(shard.b_dec.device, torch.float32).requires_grad_(False)
    state = exported.state_dict()
    whole = shapes(shard.config).state_dict()
    with _written_by_one(folder / WEIGHTS, {n: (state[n].dtype, tuple(t.shape)) for n, t in whole.items()}) as put:
        for name, tensor in state.items():
            _put_whole(put, name, tensor, divided_axis(tensor, whole[name]), shard.config.d_sae)
    x = golden[:GOLDEN_ROWS].float().to(shard.b_dec.device)
    with distribution.split_latents():
        codes = exported.encode_sparse(x)
        x_hat = exported.reconstruct(x, codes)
        codes = gathered(codes)
    if distribution.leading():
        write_around(folder, shard, x.cpu(), codes, x_hat, **facts)


@contextmanager
def _written_by_one(path: Path, tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]]) -> Generator[Put]:
    """`assembled` in the leading process; in the others what is put goes nowhere."""
    if distribution.leading():
        with assembled(path, tensors) as put:
            yield put
    else:
        yield lambda name, axis, first, values: None


def _put_whole(put: Put, name: str, tensor: Tensor, axis: int | None, n: int) -> None:
    """Put one tensor, of which each shard holds its latents along `axis`; every process calls this."""
    if axis is None:
        put(name, None, 0, tensor)
        return
    others = [length for i, length in enumerate(tensor.shape) if i != axis]
    step = max(1, PIECE // max(1, torch.Size(others).numel()))
    for source in range(distribution.shards()):
        held = distribution.held(n, source)
        for first in range(held.start, held.stop, step):
            last = min(first + step, held.stop)
            if source == distribution.shard():
                piece = tensor.narrow(axis, first - held.start, last - first).contiguous()
            else:
                piece = tensor.new_empty(*(others[:axis] + [last - first] + others[axis:]))
            piece = latent_shards.from_shard(piece, source)
            put(name, axis, first, piece)
