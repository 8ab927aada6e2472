"""Who computes a step: threads of our own, one for each group of dictionaries, instead of many threads inside one small operation.

Dictionaries of a sweep do not depend on each other, so they are stepped side by side; on small matrices a second thread inside an
operation only waits, and on a busy machine it waits very long. The division depends on the number of threads alone, never on time, and
each dictionary's arithmetic runs within one worker: results are the same in every run with that number.
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


@contextmanager
def workers(members: Sequence[Member]) -> Generator[Apply]:
    """Yield `apply(fn)`, which calls fn on every member and returns when all are done; the first exception is raised."""
    threads = torch.get_num_threads()
    largest = max(m.options.batch_size * m.dictionary.d_in * m.dictionary.d_sae for m in members)
    alone = members[0].options.device == "cpu" and distribution.n_processes() == 1  # processes must meet in one order
    n_workers = min(threads, len(members)) if alone else 1
    inside = 1 if largest < SMALL else max(1, threads // n_workers)
    torch.set_num_threads(inside)
    try:
        with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(inside,)) as pool:

            def apply(fn: Callable[[Member], None]) -> None:
                if n_workers == 1:
                    for member in members:
                        fn(member)
                else:
                    for future in [pool.submit(fn, member) for member in members]:
                        future.result()

            yield apply
    finally:
        torch.set_num_threads(threads)
