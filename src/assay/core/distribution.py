"""The processes of one run, as `torchrun` starts them, and what they say to each other. One process alone: everything is the identity.

They stand in a mesh [row parts, latent shards], rank = row part * shards + shard. The processes of one row part see the same rows and
hold different latents of a dictionary; those of one shard hold the same latents and see different rows. Without `divided` there is
one shard, and every process is a row part.

Rows are split only inside `with split_rows():` and latents only inside `with split_latents():`, which the step of a training run opens;
there the functions below and those of `latent_shards.py` speak to the others, elsewhere they return what they are given. So code that
sums over rows or latents says so once, and evaluation, sampling and initialisation, which every process does for itself, need not know that there are others.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from assay.core.errors import BadOption

PATIENCE = timedelta(hours=4)  # one process may fit a classical dictionary or write a large file while the others wait

Axis = Literal["rows", "latents"]

_split: set[Axis] = set()
_mesh: Any = None  # torch's DeviceMesh while a run divides its latents


def asked() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: str = "cpu") -> Generator[str]:
    """Join the group that `torchrun` describes in the environment; yields the device that is this process's own.

    gloo on CPUs, nccl on GPUs. Does nothing where the process is alone. Raises BadOption where the description is not complete.
    """
    if not asked() or dist.is_initialized():
        yield device
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise BadOption(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {missing[0]} is not set; start the processes with torchrun, "
            "or unset WORLD_SIZE."
        )
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield own
    finally:
        dist.destroy_process_group()


# ---- who is there --------------------------------------------------------------------------------------------------


@contextmanager
def divided(latent_shards: int) -> Generator[None]:
    """Inside, the processes stand in a mesh of so many latent shards. Raises BadOption where their number does not allow it."""
    global _mesh
    if latent_shards == 1:
        yield
        return
    if n_processes() % latent_shards:
        started = f"torchrun started {n_processes()} processes" if n_processes() > 1 else "there is one process"
        raise BadOption(
            f"--latent-shards is {latent_shards}, but {started}; start a multiple of {latent_shards}: "
            f"torchrun --nproc-per-node {latent_shards} -m assay train ..."
        )
    from torch.distributed.device_mesh import init_device_mesh

    before = _mesh
    shape = (n_processes() // latent_shards, latent_shards)
    _mesh = init_device_mesh(_device(), shape, mesh_dim_names=("rows", "latents"))
    try:
        yield
    finally:
        _mesh = before


def n_processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def shards() -> int:
    """Among how many processes the latents of a dictionary are divided."""
    return 1 if _mesh is None else _mesh.size(1)


def shard() -> int:
    """Which of the shards this process holds."""
    return rank() % shards()


def row_parts() -> int:
    return n_processes() // shards()


def row_part() -> int:
    return rank() // shards()


def leading() -> bool:
    """Whether this process is the one that writes files and talks to the user."""
    return rank() == 0


def wait() -> None:
    """Until all processes are here."""
    if n_processes() > 1:
        dist.barrier()


def agreed(said: bool) -> bool:
    """Whether any process says so: the same answer in all of them."""
    if n_processes() == 1:
        return said
    vote = torch.tensor(int(said), device=_device())
    dist.all_reduce(vote, dist.ReduceOp.MAX)
    return bool(vote.item())


# ---- what is divided -----------------------------------------------------------------------------------------------


@contextmanager
def split_rows() -> Generator[None]:
    """Inside, each process holds its own part of the rows."""
    with _splitting("rows", row_parts()):
        yield


@contextmanager
def split_latents() -> Generator[None]:
    """Inside, each process holds its own latents of a dictionary."""
    with _splitting("latents", shards()):
        yield


@contextmanager
def _splitting(axis: Axis, n: int) -> Generator[None]:
    global _split
    before = _split
    _split = {*before, axis} if n > 1 else before
    try:
        yield
    finally:
        _split = before


def parts() -> int:
    """Among how many processes the rows at hand are divided."""
    return row_parts() if "rows" in _split else 1


def latent_parts() -> int:
    """Among how many processes the latents at hand are divided."""
    return shards() if "latents" in _split else 1


def share(n: int) -> slice:
    """This process's rows of n, contiguous and in the order of ranks; n must be divisible."""
    each, rest = divmod(n, row_parts())
    if rest:
        raise BadOption(f"{n} rows cannot be divided evenly among {row_parts()} processes; choose --batch-size so.")
    return slice(row_part() * each, (row_part() + 1) * each)


def held(n: int, which: int | None = None) -> slice:
    """The latents of n that a shard holds (this process's own unless said), contiguous and in the order of shards."""
    which = shard() if which is None else which
    return slice(n * which // shards(), n * (which + 1) // shards())


def portion(n: int, unit: int) -> slice:
    """This process's part of n things that are worked on `unit` at a time: whole units, contiguous, in the order of ranks."""
    n_units = -(-n // unit)
    first, last = (n_units * r // n_processes() for r in (rank(), rank() + 1))
    return slice(first * unit, min(last * unit, n))


# ---- rows ----------------------------------------------------------------------------------------------------------


def joined_rows(x: Tensor) -> Tensor:
    """The rows of every process's x, one after the other, wherever this is called: all processes must call it together."""
    return x if n_processes() == 1 else torch.cat(each(x))


def total(x: Tensor) -> Tensor:
    """The sum over the parts of the rows, the same bits in each."""
    return all_summed(x, "rows") if parts() > 1 else x


def mean(x: Tensor) -> Tensor:
    """The mean over the parts of the rows. Under autograd the gradient of this process's own part, as if it were alone: averaging
    the gradients of all parts then gives that of the mean."""
    if parts() == 1:
        return x
    others = total(x) / parts() - x.detach()
    return x + others


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor's mean over the parts of the rows, in one exchange."""
    if parts() == 1 or not tensors:
        return tensors
    flat = total(torch.cat([t.flatten() for t in tensors.values()])) / parts()
    pieces = flat.split([t.numel() for t in tensors.values()])
    return {name: piece.view_as(t) for (name, t), piece in zip(tensors.items(), pieces, strict=True)}


# ---- rows and latents ----------------------------------------------------------------------------------------------


def each_part(x: Tensor) -> list[Tensor]:
    """x of every process that holds some of the rows and latents at hand, in the order of ranks; their lengths may differ."""
    if parts() > 1 and latent_parts() > 1:
        return each(x)
    return each(x, "rows") if parts() > 1 else each(x, "latents") if latent_parts() > 1 else [x]


def each(x: Tensor, axis: Axis | None = None) -> list[Tensor]:
    """Every process's x (those along one axis of the mesh), in the order of ranks; all but the first axis agree. Bytes are
    exchanged, so any dtype will do."""
    along = group(axis)
    n = dist.get_world_size(along)
    sizes = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(n)]
    dist.all_gather(sizes, torch.tensor([len(x)], device=_device()), group=along)
    lengths = [int(size) for size in sizes]
    if max(lengths) == 0:
        return [x] * n
    padded = torch.zeros(max(lengths), *x.shape[1:], dtype=x.dtype, device=_device())
    padded[: len(x)] = x.detach()
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather([f.view(-1).view(torch.uint8) for f in found], padded.view(-1).view(torch.uint8), group=along)
    return [part[:n].to(x.device) for part, n in zip(found, lengths, strict=True)]


def all_summed(x: Tensor, axis: Axis) -> Tensor:
    """The sum over the processes along one axis of the mesh, split or not; always a tensor of its own, without a graph."""
    result = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result, group=group(axis))
    return result


def group(axis: Axis | None) -> Any:
    """The processes along one axis of the mesh that this one belongs to; None: all there are."""
    return None if axis is None or _mesh is None else _mesh.get_group(axis)


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
