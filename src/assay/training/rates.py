"""What a device holds and how fast it is: the makers' figures, or a second's measurement of this processor.

matmul  operations a second of a large matrix product, by number format       memory  bytes a second of reading and writing
Makers state peaks. A product is taken to reach 0.6 of its peak in 16 bits and 0.8 in 32 (TF32 is off, as torch leaves it), memory 0.9:
so that an H200 has 0.59 PF/s and 4.3 TB/s. Nothing here was ever measured on a GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from assay.core.errors import BadOption, nearest

GB, TF = 1e9, 1e12
BY_MAKER = "estimated"
MEASURED = "measured"


@dataclass(frozen=True)
class Rates:
    """holds: bytes of memory; link: bytes a second between two processes; disk: bytes a second of reading a store; screened: how many
    times faster candidates are found in 8 bits than in a 32-bit product; overhead: seconds of a step that no size explains."""

    name: str
    holds: float
    matmul: dict[str, float]
    memory: float
    link: float
    disk: float = 2 * GB
    screened: float = 1.0
    overhead: float = 0.002
    forward: float = 0.7  # of the product's rate that a model's forward pass reaches
    how: str = BY_MAKER
    about: str = "makers' figures, never measured"


def _gpu(name: str, holds: float, half: float, single: float, memory: float, link: float) -> Rates:
    """From peaks: TF/s in 16 and in 32 bits, TB/s of memory, GB/s of the link in one direction."""
    rates = {"bfloat16": 0.6 * half * TF, "float16": 0.6 * half * TF, "float32": 0.8 * single * TF}
    return Rates(name, holds * GB, rates, 0.9 * memory * TF, link * GB)


def _cpu() -> Rates:
    return Rates(
        "cpu",
        float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        {"float32": 225e9, "bfloat16": 140e9, "float16": 215e9},
        memory=24 * GB,
        link=1 * GB,
        disk=1 * GB,
        screened=2.2,
        overhead=0.010,
        forward=0.95,
        about="two threads of a Xeon with AVX-512 VNNI; --measure takes those of this machine",
    )


DEVICES: dict[str, Callable[[], Rates]] = {
    "cpu": _cpu,
    "rtx4090": lambda: _gpu("rtx4090", 24, 165, 83, 1.0, 25),
    "a100": lambda: _gpu("a100", 80, 312, 19.5, 2.0, 250),
    "h100": lambda: _gpu("h100", 80, 989, 67, 3.35, 400),
    "h200": lambda: _gpu("h200", 141, 989, 67, 4.8, 400),
    "b200": lambda: _gpu("b200", 180, 2250, 75, 8.0, 800),
}


def rates_of(device: str) -> Rates:
    """The stated rates of a device by name. Raises BadOption naming the nearest."""
    if device not in DEVICES:
        raise BadOption(f'--device "{device}" is not one whose figures are known.{nearest(device, DEVICES)}')
    return DEVICES[device]()


def measured() -> Rates:
    """Those of this processor with torch's present number of threads: the best of a few products and sums, about two seconds."""
    import torch

    from assay import kernels

    def best(work: Callable[[], object], seconds: float) -> float:
        work()
        least, until = float("inf"), time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            work()
            least = min(least, time.perf_counter() - started)
        return least

    a, b = torch.randn(1024, 512), torch.randn(512, 4096)
    out = torch.empty(1024, 4096)
    rate = 2 * 1024 * 512 * 4096 / best(lambda: torch.mm(a, b, out=out), 0.6)
    half, other = a.bfloat16(), b.bfloat16()
    slow = 2 * 1024 * 512 * 4096 / best(lambda: half @ other, 0.4)
    x, y, z = (torch.ones(1 << 24) for _ in range(3))
    memory = 12 * (1 << 24) / best(lambda: torch.add(x, y, out=z), 0.6)
    return replace(
        _cpu(),
        matmul={"float32": rate, "bfloat16": slow, "float16": rate},
        memory=memory,
        screened=2.2 if "vnni" in kernels.describe()[0] else 1.0,
        how=MEASURED,
        about=f"products {rate / 1e9:,.0f} GF/s, memory {memory / GB:,.0f} GB/s, {torch.get_num_threads()} threads, measured just now",
    )
