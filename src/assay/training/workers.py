"""Who computes a step: threads of our own, one for each group of dictionaries, instead of many threads inside one small operation.

Dictionaries of a sweep do not depend on each other, so they are stepped side by side, as many at a time as there are threads; those that
are left over share all threads, so that none waits. On small matrices a second thread inside an operation only waits, and on a busy
machine it waits very long. The division depends on the dictionaries and the number of threads alone, never on time, and each
dictionary's arithmetic runs within one worker: results are the same in every run with that number.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from assay.core import distribution
from assay.training.member import Member

SMALL = (
    1 << 28
)  # multiply-adds of the encoder in a step, below which one thread is quicker than two (measured: d=96, F=512)

Apply = Callable[[Callable[[Member], None]], None]


def work(member: Member) -> int:
    """Multiply-adds of the encoder in a step."""
    return member.options.batch_size * member.dictionary.d_in * member.dictionary.d_sae


def turns(members: Sequence[Member], threads: int) -> list[tuple[list[Member], int]]:
    """Who is stepped side by side, and with how many threads each: first the largest, as many as a whole number of rounds leaves
    over, then the others, the larger ones first."""
    ordered = sorted(members, key=work, reverse=True)
    if work(ordered[0]) < SMALL:
        return [(ordered, 1)]
    left = len(ordered) % threads
    parts = [(ordered[:left], threads // max(left, 1)), (ordered[left:], 1)]
    return [(some, inside) for some, inside in parts if some]


@contextmanager
def workers(members: Sequence[Member]) -> Generator[Apply]:
    """Yield `apply(fn)`, which calls fn on every member and returns when all are done; the first exception is raised."""
    threads = torch.get_num_threads()
    alone = members[0].options.device == "cpu" and distribution.n_processes() == 1  # processes must meet in one order
    small = max(work(member) for member in members) < SMALL
    side_by_side = turns(members, threads) if alone else [([m], 1 if small else threads) for m in members]

    def one(fn: Callable[[Member], None], member: Member, inside: int) -> None:
        torch.set_num_threads(inside)
        fn(member)

    try:
        with ThreadPoolExecutor(threads) as pool:

            def apply(fn: Callable[[Member], None]) -> None:
                for some, inside in side_by_side:
                    torch.set_num_threads(inside)  # some libraries have one number for all threads
                    if len(some) == 1:
                        fn(some[0])
                        continue
                    for future in [pool.submit(one, fn, member, inside) for member in some]:
                        future.result()

            yield apply
    finally:
        torch.set_num_threads(threads)
