"""The processes of one run, as `torchrun` starts them, and what they say to each other. One process alone: everything is the identity.

Rows are split between processes only inside `with split_rows():`, the step of a training run; there `mean`, `total` and `gathered`
speak to the others, elsewhere they return what they are given. So code that sums over rows says so once, and evaluation, sampling
and initialisation, which every process does for itself, need not know that there are others.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from assay.core.errors import BadOption

PATIENCE = timedelta(hours=4)  # one process may fit a classical dictionary or write a large file while the others wait

_split = False


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


def n_processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


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


@contextmanager
def split_rows() -> Generator[None]:
    """Inside, each process holds its own part of the rows, and the functions below speak to the others."""
    global _split
    before, _split = _split, n_processes() > 1
    try:
        yield
    finally:
        _split = before


def parts() -> int:
    """Among how many processes the rows at hand are divided."""
    return n_processes() if _split else 1


def share(n: int) -> slice:
    """This process's rows of n, contiguous and in the order of ranks; n must be divisible."""
    each, rest = divmod(n, n_processes())
    if rest:
        raise BadOption(f"{n} rows cannot be divided evenly among {n_processes()} processes; choose --batch-size so.")
    return slice(rank() * each, (rank() + 1) * each)


def portion(n: int, unit: int) -> slice:
    """This process's part of n things that are worked on `unit` at a time: whole units, contiguous, in the order of ranks."""
    n_units = -(-n // unit)
    first, last = (n_units * r // n_processes() for r in (rank(), rank() + 1))
    return slice(first * unit, min(last * unit, n))


def joined_rows(x: Tensor) -> Tensor:
    """The rows of every process's x, one after the other, wherever this is called: all processes must call it together."""
    return x if n_processes() == 1 else torch.cat(each(x))


def total(x: Tensor) -> Tensor:
    """The sum over all processes, the same bits in each."""
    if not _split:
        return x
    summed = x.detach().clone().contiguous()
    dist.all_reduce(summed)
    return summed


def mean(x: Tensor) -> Tensor:
    """The mean over all processes. Under autograd the gradient of this process's own part, as if it were alone: averaging the
    gradients of all processes then gives that of the mean."""
    if not _split:
        return x
    others = total(x) / n_processes() - x.detach()
    return x + others


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor's mean over all processes, in one exchange."""
    if not _split or not tensors:
        return tensors
    flat = total(torch.cat([t.flatten() for t in tensors.values()])) / n_processes()
    pieces = flat.split([t.numel() for t in tensors.values()])
    return {name: piece.view_as(t) for (name, t), piece in zip(tensors.items(), pieces, strict=True)}


def gathered(x: Tensor) -> Tensor:
    """The rows of all processes one after the other, in the order of ranks; their numbers of rows may differ."""
    return torch.cat(each(x)) if _split else x


def each(x: Tensor) -> list[Tensor]:
    """Every process's x, in the order of ranks; all but the first axis agree. Bytes are exchanged, so any dtype will do."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(n_processes())]
    dist.all_gather(sizes, torch.tensor([len(x)], device=_device()))
    lengths = [int(size) for size in sizes]
    padded = torch.zeros(max(lengths), *x.shape[1:], dtype=x.dtype, device=_device())
    padded[: len(x)] = x.detach()
    found = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather([f.view(-1).view(torch.uint8) for f in found], padded.view(-1).view(torch.uint8))
    return [part[:n].to(x.device) for part, n in zip(found, lengths, strict=True)]


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
