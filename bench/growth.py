"""What a training step costs as things grow: tokens a second against F, B, k and the number of dictionaries in a sweep; coding rows as an
evaluation does; and text to dictionary from end to end.

    python bench/growth.py                 or: python bench/growth.py --what F sweep --rounds 5 --record

All points of a table are built first and stepped in turns, so that a slow minute of the machine hits all of them. *planned*: tokens a
second that `assay plan --measure` would say, from products and sums timed at the start of this run; *real / planned* shows how far it
may be trusted. Ours only; `against_peers.py` races the others.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

import recording
from train_step import rows

from assay import activations, models, training
from assay.dictionaries import build, config_class
from assay.kernels import Shared
from assay.training import TrainConfig, budget, pace
from assay.training.member import Member
from assay.training.rates import Rates, measured
from assay.training.workers import workers

Work = Callable[[], None]
HEAD = "| {} | tokens/s | ms | CPU ms | planned tokens/s | real / planned |"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--what", nargs="+", choices=list(TABLES), default=list(TABLES))
    asked.add_argument("--rounds", type=int, default=4)
    asked.add_argument("--d-in", type=int, default=512)
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--small", action="store_true", help="a quarter of every size, to try the script")
    asked.add_argument("--record", action="store_true")
    flags = asked.parse_args()
    torch.set_num_threads(flags.threads)
    flags.shrink = 4 if flags.small else 1
    rates = measured()
    lines = [line for what in flags.what for line in TABLES[what](flags, rates)]
    text = recording.section(
        "growth", flags.threads, f"topk unless said, native kernels where they run, clipping on; {rates.about}.", lines
    )
    print("\n" + text)
    if flags.record:
        recording.append(text)


def in_turns(work: dict[str, Work], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of wall and of processor of each, after one untimed round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for i in range(rounds + 1):
        for name, do in work.items():
            wall, processor = time.perf_counter(), time.process_time()
            do()
            if i:
                taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {n: (statistics.median(w for w, _ in t), statistics.median(p for _, p in t)) for n, t in taken.items()}


def member(d_in: int, d_sae: int, batch: int, k: int, seed: int = 0) -> Member:
    x = rows(min(batch, 512), d_in, "planted")
    made = build(config_class("topk")(d_in=d_in, d_sae=d_sae, k=k), torch.Generator().manual_seed(seed), x)
    return Member(f"{d_sae}-{k}-{seed}", made, TrainConfig(n_tokens=10**9, batch_size=batch), 1.0)


def stepping(of: Member, batch: int, d_in: int) -> Work:
    x, steps = rows(batch, d_in, "planted"), iter(range(10**6))
    return lambda: of.step(next(steps), x, x)


def planned(of: Member, batch: int, rates: Rates, n: int = 1) -> float:
    """Tokens a second that the plan says."""
    kernels = of.kernel.__name__.rsplit(".", 1)[-1]
    job = budget.Job(budget.sizes_of(of.dictionary.config, 64), 0, batch, batch, kernels=kernels, n_dictionaries=n)
    return batch / pace.step_seconds(job, rates)


def grown(what: str, points: dict[str, dict[str, int]], flags: Any, rates: Rates) -> list[str]:
    """One table of single steps."""
    made = {name: member(flags.d_in, p["d_sae"] // flags.shrink, p["batch"], p["k"]) for name, p in points.items()}
    work = {name: stepping(made[name], p["batch"], flags.d_in) for name, p in points.items()}
    out = ["", HEAD.format(what), "|---|---|---|---|---|---|"]
    for name, (wall, processor) in in_turns(work, flags.rounds).items():
        batch = points[name]["batch"]
        out.append(line(name, batch / wall, wall, processor, planned(made[name], batch, rates)))
    return out


def line(name: str, rate: float, wall: float, processor: float, said: float) -> str:
    print(
        json.dumps({"point": name, "tokens_per_second": round(rate), "load": round(os.getloadavg()[0], 1)}), flush=True
    )
    return f"| {name} | {rate:,.0f} | {1e3 * wall:,.1f} | {1e3 * processor:,.1f} | {said:,.0f} | {rate / said:.2f} |"


def with_latents(flags: Any, rates: Rates) -> list[str]:
    sizes = [4096, 8192, 16_384, 32_768, 65_536]
    return grown("F (B 2,048, k 32)", {f"{F:,}": {"d_sae": F, "batch": 2048, "k": 32} for F in sizes}, flags, rates)


def with_rows(flags: Any, rates: Rates) -> list[str]:
    sizes = [512, 1024, 2048, 4096, 8192]
    return grown("B (F 4,096, k 32)", {f"{B:,}": {"d_sae": 4096, "batch": B, "k": 32} for B in sizes}, flags, rates)


def with_k(flags: Any, rates: Rates) -> list[str]:
    sizes = [8, 16, 32, 64, 128, 256]
    return grown("k (F 4,096, B 2,048)", {f"{k}": {"d_sae": 4096, "batch": 2048, "k": k} for k in sizes}, flags, rates)


def with_dictionaries(flags: Any, rates: Rates) -> list[str]:
    """Steps of 1 to 10 dictionaries of one sweep, as its workers take them; what each costs after the first."""
    numbers, d_sae, x = [1, 2, 5, 10], 4096 // flags.shrink, rows(2048, flags.d_in, "planted")
    groups = {n: [member(flags.d_in, d_sae, 2048, 32, seed) for seed in range(n)] for n in numbers}
    steps = iter(range(10**6))

    def together(some: list[Member]) -> None:
        t = next(steps)
        shared = Shared(x)
        with workers(some) as on_all:
            on_all(lambda one: one.step(t, x, x, shared=shared))

    found = in_turns({str(n): lambda some=some: together(some) for n, some in groups.items()}, flags.rounds)
    out = ["", HEAD.format("dictionaries (F 4,096, B 2,048, k 32)"), "|---|---|---|---|---|---|"]
    for n in numbers:
        wall, processor = found[str(n)]
        out.append(line(str(n), 2048 / wall, wall, processor, planned(groups[n][0], 2048, rates, n)))
    (ten, ten_cpu), (first, first_cpu) = found["10"], found["1"]
    more, more_cpu = (ten - first) / 9, (ten_cpu - first_cpu) / 9
    return [
        *out,
        "",
        f"A further dictionary, up to the tenth, costs {1e3 * more:.1f} ms a step, the first {1e3 * first:.1f}: {more / first:.2f} of it "
        f"({more_cpu / first_cpu:.2f} by CPU time).",
    ]


def coding(flags: Any, rates: Rates) -> list[str]:
    """Rows that are encoded and decoded, as an evaluation does with each."""
    sizes, x = [4096, 16_384], rows(2048, flags.d_in, "planted")
    made = {f"{F:,}": member(flags.d_in, F // flags.shrink, 2048, 32).dictionary.requires_grad_(False) for F in sizes}
    work = {name: lambda one=one: one.reconstruct(x, one.encode_sparse(x)) for name, one in made.items()}
    out = ["", "| F, encoding and decoding | rows/s | ms | CPU ms |", "|---|---|---|---|"]
    for name, (wall, processor) in in_turns(work, flags.rounds).items():
        out.append(f"| {name} | {2048 / wall:,.0f} | {1e3 * wall:,.1f} | {1e3 * processor:,.1f} |")
    return out


def end_to_end(flags: Any, rates: Rates) -> list[str]:
    """Text to dictionary on what ships: the harvest, then 20 steps over its rows."""
    from assay.models.shape import shape_of

    site, shape = "resid_post.1", shape_of("storyworld")
    out = [
        "",
        "| storyworld, resid_post.1, topk 2,048 k 16 | tokens/s | seconds | CPU s | planned tokens/s | real / planned |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        model = models.load("storyworld")
        started, processor = time.perf_counter(), time.process_time()
        blocks = activations.pack(activations.documents("storyworld:2000"), model, context=256, quiet=True)
        read, read_cpu = time.perf_counter() - started, time.process_time() - processor
        started, processor = time.perf_counter(), time.process_time()
        store = activations.harvest(model, [site], blocks, Path(folder) / "acts", quiet=True)
        kept, kept_cpu = time.perf_counter() - started, time.process_time() - processor
        said = 1 / pace.forward_seconds(shape, site, 256, "float32", rates)
        out.append(
            f"| reading and tokenising the text | {store.n_rows / read:,.0f} | {read:.1f} | {read_cpu:.1f} | | |"
        )
        out.append(
            f"| harvest | {store.n_rows / kept:,.0f} | {kept:.1f} | {kept_cpu:.1f} | {said:,.0f} | {store.n_rows / kept / said:.2f} |"
        )
        options = TrainConfig(n_tokens=100 * 2048, batch_size=2048)
        config = config_class("topk")(d_in=96, d_sae=2048, k=16)
        stream = activations.Stream(store, [site], batch_size=2048)
        started, processor = time.perf_counter(), time.process_time()
        made = training.train(config, stream, Path(folder) / "run", site=site, options=options, quiet=True)
        took, took_cpu = time.perf_counter() - started, time.process_time() - processor
        job = budget.Job(budget.sizes_of(made.config, 64), 96, options.n_tokens, 2048)
        said = 2048 / pace.step_seconds(job, rates)
        rate = options.n_tokens / took
        out.append(
            f"| training, with start and end | {rate:,.0f} | {took:.1f} | {took_cpu:.1f} | {said:,.0f} | {rate / said:.2f} |"
        )
    return out


TABLES: dict[str, Callable[[Any, Rates], list[str]]] = {
    "F": with_latents, "B": with_rows, "k": with_k, "sweep": with_dictionaries, "evaluate": coding, "end": end_to_end,
}  # fmt: skip

if __name__ == "__main__":
    main()
