"""What reading activations costs on top of the model: `assay harvest`, and a live stream, against the bare forward; interleaved in one run.

    python bench/harvest.py                    or: python bench/harvest.py --model gpt2-random --rounds 9 --record

bare     the Hugging Face module on the same batches, an exception in a forward hook of the hooked block, nothing kept
plain    the same in a process of its own that leaves the C library's memory as it is, as a script without assay would run it; assay
         keeps what is freed (`core/heap.py`), from which *bare* gains as well
harvest  `activations.harvest`: forward, finite check, cast, write, SHA-256, fsync, manifest; from an empty folder to an open store
live     `Stream(LiveSource)`: forward, windows, shuffled batches of 2,048 rows, thrown away

Each round runs all of them, one after the other, in rotating order. What a harvest does once, however long it is (hashing the weights,
versions, columns, manifest), is timed in each round on a harvest of one block and taken off: it stands in the column *start*.
*lost* is 1 - (tokens/s) / (tokens/s of bare, or of plain): median over the rounds, of wall time and of CPU time of all threads, which other
programs on the machine disturb less. `gpt2-random` is a GPT-2 of width 512 with
6 layers, 8 heads and 50,257 tokens, random weights, on random ids in 16 blocks of 128 tokens; the others read real text.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import recording
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ASSAY_SHARED", ROOT.parent / "shared")) / "data"
STREAM_ROWS = 2048


@dataclass(frozen=True)
class Case:
    """A model, the module whose output is read, its name as a site, context and tokens a round."""

    module: str
    site: str
    context: int
    tokens: int


CASES = {
    "gpt2-random": Case("transformer.h.2", "resid_post.2", 128, 16_384),
    "stories260k": Case("model.layers.2", "resid_post.2", 256, 100_000),
    "storyworld": Case("transformer.h.1", "resid_post.1", 256, 100_000),
}


class Stop(Exception):
    """Raised at the hooked block."""


@dataclass
class Arm:
    """What is timed, what of it is done once, and the seconds of each round: of `run` less those of `start`, and of `start`."""

    run: Callable[[], None]
    start: Callable[[], None] | None = None
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)

    def measure(self) -> tuple[float, float]:
        return timed(self.run)

    def time(self) -> None:
        wall, cpu = self.measure()
        once = timed(self.start) if self.start else (0.0, 0.0)
        self.wall.append(wall - once[0])
        self.cpu.append(cpu - once[1])
        self.began.append(once[0])

    def lost(self, other: Arm) -> dict[str, float]:
        """The share of the other's tokens/s in the same rounds, by wall and by CPU time."""
        pairs = {what: zip(getattr(self, what), getattr(other, what), strict=True) for what in ("wall", "cpu")}
        return {what: round(statistics.median(1 - b / a for a, b in pair), 4) for what, pair in pairs.items()}


@dataclass
class Plain(Arm):
    """An arm that runs in another process and says what it took."""

    process: Any = None

    def measure(self) -> tuple[float, float]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall, cpu = json.loads(self.process.stdout.readline())
        return wall, cpu


def main() -> None:
    flags = arguments()
    torch.set_num_threads(flags.threads)
    if flags.serve:
        serve(flags)
        return
    lines = [line for name in flags.model for line in race(name, flags)]
    text = table(lines, flags)
    print("\n" + text)
    if flags.record:
        recording.append(text)


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", nargs="+", default=list(CASES), choices=CASES)
    asked.add_argument("--store-dtype", nargs="+", default=["float32", "bfloat16"])
    asked.add_argument("--batch-size", type=int, default=16, help="blocks in one forward pass")
    asked.add_argument("--tokens", type=int, help="tokens a round; by default enough for some seconds")
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    asked.add_argument("--record", action="store_true", help="append the table to docs/results/performance.md")
    return asked.parse_args()


def race(name: str, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """One line an arm."""
    case = CASES[name]
    model, blocks = opened(name, case, flags.tokens or case.tokens)
    n = blocks.table.n_rows
    with tempfile.TemporaryDirectory(prefix="bench-harvest-") as folder:
        arms = arms_of(model, blocks, case, flags, Path(folder))
        with plain(name, flags) as other:
            arms["plain"] = Plain(lambda: None, process=other)
            order = list(arms)
            for i in range(flags.rounds + 1):
                for arm in order[i % len(order) :] + order[: i % len(order)]:
                    arms[arm].time() if i else arms[arm].measure()  # the first round warms up
    found = [line_of(name, case, arm, arms, n, flags) for arm in arms]
    for line in found:
        print(json.dumps(line), flush=True)
    return found


def plain(name: str, flags: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that runs the bare forward once for each line it is given."""
    given = ["--model", name, "--batch-size", f"{flags.batch_size}", "--threads", f"{flags.threads}"]
    given += ["--tokens", f"{flags.tokens}"] if flags.tokens else []
    return subprocess.Popen(
        [sys.executable, __file__, "--serve", *given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def serve(flags: argparse.Namespace) -> None:
    from assay.core import heap

    heap.keep_freed = lambda: False
    name = flags.model[0]
    model, blocks = opened(name, CASES[name], flags.tokens or CASES[name].tokens)
    run = bare_of(model, batches_of(blocks, flags), CASES[name])
    for _ in sys.stdin:
        print(json.dumps(timed(run)), flush=True)


def batches_of(blocks: Any, flags: argparse.Namespace) -> list[torch.Tensor]:
    return [
        blocks.batch(range(first, min(first + flags.batch_size, len(blocks))))[0]
        for first in range(0, len(blocks), flags.batch_size)
    ]


def bare_of(model: Any, batches: list[torch.Tensor], case: Case) -> Callable[[], None]:
    block = model.hf.get_submodule(case.module)

    def bare() -> None:
        def stop(*_: Any) -> None:
            raise Stop

        hook = block.register_forward_hook(stop)
        with torch.no_grad():
            for ids in batches:
                try:
                    model.hf(input_ids=ids, use_cache=False)
                except Stop:
                    continue
                raise RuntimeError(f"{case.module} was not reached")
        hook.remove()

    return bare


def arms_of(model: Any, blocks: Any, case: Case, flags: argparse.Namespace, folder: Path) -> dict[str, Arm]:
    from assay import activations

    fresh = itertools.count()

    def harvest(dtype: str, read: Any = blocks) -> None:
        out = folder / str(next(fresh))
        activations.harvest(model, [case.site], read, out, dtype=dtype, batch_size=flags.batch_size, quiet=True)
        shutil.rmtree(out)

    def live() -> None:
        source = activations.LiveSource(model, blocks, [case.site], batch_size=flags.batch_size)
        stream = activations.Stream(source, batch_size=STREAM_ROWS, split=None)
        for _ in stream.batches(0, -(-stream.n_rows // STREAM_ROWS) - 1):
            pass

    one = first_block(blocks)
    harvests = {
        f"harvest {dtype}": Arm(lambda dtype=dtype: harvest(dtype), lambda dtype=dtype: harvest(dtype, one))
        for dtype in flags.store_dtype
    }
    return {"bare": Arm(bare_of(model, batches_of(blocks, flags), case)), **harvests, "live": Arm(live)}


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor seconds of one run."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def first_block(blocks: Any) -> Any:
    table, n = blocks.table, int(blocks.table.block_rows[0])
    columns = {name: getattr(table, name)[:n] for name in ("token_id", "document", "position", "role")}
    return dataclasses.replace(blocks, table=dataclasses.replace(table, **columns, block_rows=table.block_rows[:1]))


def opened(name: str, case: Case, tokens: int) -> tuple[Any, Any]:
    """The model, and blocks of about `tokens` tokens, all full."""
    from assay import activations, models

    if name == "gpt2-random":
        return random_gpt2(case.context, tokens)
    model = models.load(name if name == "storyworld" else str(SHARED / "models" / name))
    text = "storyworld" if name == "storyworld" else str(SHARED / "text" / "tinystories-train.jsonl.gz")
    blocks = activations.pack(activations.documents(text), model, context=case.context, max_tokens=tokens, quiet=True)
    return model, blocks


def random_gpt2(context: int, tokens: int) -> tuple[Any, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    from assay import activations, models

    torch.manual_seed(0)
    config = GPT2Config(n_embd=512, n_layer=6, n_head=8, n_positions=1024, vocab_size=50_257)
    n = tokens // context
    ids = np.random.default_rng(0).integers(0, config.vocab_size, n * context).astype(np.int32)
    table = activations.Table(
        token_id=ids,
        document=np.repeat(np.arange(n, dtype=np.int32), context),
        position=np.tile(np.arange(context, dtype=np.int32), n),
        role=np.zeros(len(ids), np.uint8),
        block_rows=np.full(n, context, np.int32),
        documents=tuple(f"{i:016x}" for i in range(n)),
    )
    frame = activations.Frame((), (), frozenset(), 0, True)
    return models.Model(GPT2LMHeadModel(config), name="gpt2-random"), activations.Blocks(table, frame, context, True)


def line_of(name: str, case: Case, arm: str, arms: dict[str, Arm], n: int, flags: argparse.Namespace) -> dict[str, Any]:
    own = arms[arm]
    return {
        "model": name, "site": case.site, "arm": arm, "tokens": n, "blocks": flags.batch_size, "context": case.context,
        "tokens_per_second": round(n / statistics.median(own.wall)), "best": round(n / min(own.wall)),
        "cpu_us_per_token": round(1e6 * statistics.median(own.cpu) / n, 2),
        "start_seconds": round(statistics.median(own.began), 3), "lost": {to: own.lost(arms[to]) for to in ("bare", "plain")},
        "rounds": flags.rounds, "threads": flags.threads, "load": round(os.getloadavg()[0], 2), "torch": torch.__version__,
    }  # fmt: skip


def table(lines: list[dict[str, Any]], flags: argparse.Namespace) -> str:
    import transformers

    text = (
        f"Medians of {flags.rounds} interleaved rounds, fp32 models, {flags.batch_size} full blocks a forward pass; torch {torch.__version__}, transformers"
        f" {transformers.__version__}. *bare*: the Hugging Face module,\nstopped by an exception at the hooked block, nothing kept; *plain*: the same in a process whose memory is\nas the C library has it. *harvest*: from an"
        " empty folder to an open store (forward, check, cast, write,\nSHA-256, fsync), less *start*, the seconds of harvesting one block: hashing the"
        " weights, versions, columns, manifest. *live*: shuffled batches\nfor training, thrown away. *lost*: share of the tokens/s of *bare*, or of *plain*,"
        " median over the rounds."
    )
    out = [
        "| model, site | tokens a round | arm | start, s | tokens/s (best) | CPU µs a token | lost, wall | lost, CPU | lost to plain, wall | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        lost = " | ".join(
            "" if line["arm"] == to else f"{100 * share:.1f} %"
            for to, by in line["lost"].items()
            for share in by.values()
        )
        out.append(
            f"| {line['model']}, {line['site']}, {line['blocks']}x{line['context']} | {line['tokens']:,} | {line['arm']} | {line['start_seconds'] or ''} | "
            f"{line['tokens_per_second']:,} ({line['best']:,}) | {line['cpu_us_per_token']} | {lost} |"
        )
    return recording.section("harvesting against the bare forward", flags.threads, text, out)


if __name__ == "__main__":
    main()
