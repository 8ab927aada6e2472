"""One side of the race: a process that builds a trainer of one library and steps it when told, one line of JSON each way.

    python bench/peers/worker.py LIBRARY           asked by bench/against_peers.py; runs in the library's own environment

Asked {"build": {...}} it answers with version and settings; {"steps": n} with seconds of wall and CPU of each step; {"l0": true} with the
active latents a row. Only what a library itself does for a batch is timed. Rows lie in memory, the same for everyone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """arch in the names of assay; variant: a setting of the library worth its own line."""

    arch: str
    variant: str
    d_in: int
    d_sae: int
    batch: int
    k: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Trainer:
    """step: one whole step on the next batch; l0: active latents a row now; said: what differs from the others' settings."""

    step: Callable[[], None]
    l0: Callable[[], float]
    version: str
    said: dict[str, Any]


def rows(asked: Asked, n_batches: int = 8) -> list[Tensor]:
    """Batches [batch, d_in]: about 20 of max(4 d_in, d_sae / 4) unit directions in each row, a little noise, E ||x||^2 = d_in."""
    rng = torch.Generator().manual_seed(asked.seed)
    n_true = max(4 * asked.d_in, asked.d_sae // 4)
    directions = torch.nn.functional.normalize(torch.randn(n_true, asked.d_in, generator=rng), dim=1)
    made: list[Tensor] = []
    for _ in range(n_batches):
        which = torch.randint(n_true, (asked.batch, 20), generator=rng)
        amounts = 0.2 + torch.empty(asked.batch, 20).exponential_(generator=rng)
        x = torch.nn.functional.embedding_bag(which, directions, per_sample_weights=amounts, mode="sum")
        made.append(x + 0.01 * torch.randn(x.shape, generator=rng))
    size = torch.cat(made).pow(2).sum(1).mean().div(asked.d_in).sqrt()
    return [x / size for x in made]


class Feed:
    """The batches in turn, without end."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches, self.taken = batches, 0

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        self.taken += 1
        return self.batches[self.taken % len(self.batches)]


def main() -> None:
    library = importlib.import_module(f"build_{sys.argv[1]}")
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not come between the answers
    trainer: Trainer | None = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if "build" in question:
                asked = Asked(**question["build"])
                torch.set_num_threads(asked.threads)
                torch.manual_seed(asked.seed)
                with contextlib.redirect_stdout(sys.stderr):
                    trainer = library.build(asked, Feed(rows(asked)))
                answer: dict[str, Any] = {"version": trainer.version, "said": trainer.said, "torch": torch.__version__}
            elif "steps" in question:
                assert trainer is not None
                answer = {"seconds": [timed(trainer.step) for _ in range(question["steps"])]}
            else:
                assert trainer is not None
                answer = {"l0": trainer.l0(), "peak_bytes": peak_bytes()}
        except Exception as error:  # whatever a library raises becomes a line of the table
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def timed(step: Callable[[], None]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.modules["worker"] = sys.modules["__main__"]
    main()
