"""Check and time everything that runs on a GPU, in under eight minutes, and print one table.

    python bench/gpu.py                          on a machine with a CUDA GPU and Triton
    python bench/gpu.py --dry                    the same code at tiny sizes on the CPU, under Triton's interpreter; times mean nothing

First the checks (`gpu_checks.py`): every kernel of torch, triton and triton_bf16 against its definition, the sparse step of every
architecture against dense autograd in float64, a stopped and resumed run against a whole one. Then the times (`gpu_times.py`): a training step (loss,
gradients, clipping by the global norm at 1, Adam, unit rows) by dense autograd and by each implementation of the kernels, interleaved;
and harvesting against the bare forward. A dense step differentiates `Dictionary.loss` and has torch's update. float32 products are
float32 (no TF32) on all sides, except the screen of triton_bf16. Peak memory is of the step, with weights and Adam's moments.

It starts nothing that would not end in time, says what it left out and why, and exits with 1 if a check failed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STARTED = time.perf_counter()
KERNELS = ("torch", "triton", "triton_bf16")
PATHS = ("dense", *KERNELS)
ARCHS = ("topk", "batchtopk", "relu", "gated", "jumprelu", "matryoshka")
Row = dict[str, Any]


def main() -> int:
    flags = arguments()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before cuBLAS is first used
    if flags.dry:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    bench = Bench(flags)
    from assay.kernels import triton_found

    if not flags.dry and not torch.cuda.is_available():
        print(f"There is no GPU here: {triton_found.why_not()}. `--dry` runs the same code on the CPU at tiny sizes.")
        return 2
    if why := triton_found.trial():
        bench.rows.append({"what": "check", "name": "triton", "words": f"FAILED: {why}", "failed": True})
    for name, check in checks(bench, bool(why)):
        bench.check(name, check)
    for name, timing in timings(bench, bool(why)):
        bench.time(name, timing)
    print(report(bench))
    if flags.json:
        Path(flags.json).write_text("".join(json.dumps(row) + "\n" for row in [about(flags), *bench.rows]))
    return 1 if any(row.get("failed") for row in bench.rows) else 0


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--dry", action="store_true", help="tiny sizes on the CPU, under Triton's interpreter")
    asked.add_argument("--minutes", type=float, default=7.5, help="start nothing that would end later")
    asked.add_argument("--d-in", type=int, default=2304)
    asked.add_argument("--batch", type=int, default=8192)
    asked.add_argument("--k", type=int, default=64, help="k, and L0 of relu, gated and jumprelu")
    asked.add_argument("--d-sae", type=int, nargs="+", default=[16_384, 65_536, 131_072])
    asked.add_argument("--arch", nargs="+", default=list(ARCHS), choices=ARCHS)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--json", help="also write the rows to this file, one JSON object a line")
    flags = asked.parse_args()
    if flags.dry:
        flags.d_in, flags.batch, flags.k, flags.d_sae, flags.repeats = 10, 6, 2, [10], 1
        flags.arch = ["topk", "gated"]
    return flags


class Bench:
    """The rows of the table, and the time that is left."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags, self.device = flags, "cpu" if flags.dry else "cuda"
        self.rows: list[Row] = []
        self.longest = {"check": 0.0, "time": 0.0}  # seconds that one item has taken of late

    def left(self) -> float:
        return 60 * self.flags.minutes - (time.perf_counter() - STARTED)

    def check(self, name: str, check: Callable[[], str]) -> None:
        """Whatever goes wrong is a failed check: the others still run."""
        if self.late("check", name):
            return
        started = time.perf_counter()
        try:
            row: Row = {"words": check()}
        except Exception as error:
            row = {"words": f"FAILED: {type(error).__name__}: {error}", "failed": True}
        self.done({"what": "check", "name": name, **row}, started)

    def time(self, name: str, timing: Callable[[], list[Row]]) -> None:
        if self.late("time", name):
            return
        started = time.perf_counter()
        try:
            rows = timing()
        except torch.cuda.OutOfMemoryError as error:
            rows = [{"words": f"skipped: out of memory ({str(error).splitlines()[0][:120]})"}]
        except Exception as error:
            rows = [{"words": f"FAILED: {type(error).__name__}: {error}", "failed": True}]
        for row in rows:
            self.done({"what": "time", "name": name, **row}, started)
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def late(self, what: str, name: str) -> bool:
        short = self.left() < 2.5 * self.longest[what] + 2  # the next d_sae may be twice as large
        if short:
            self.rows.append(
                {
                    "what": what,
                    "name": name,
                    "words": f"skipped: {self.left():.0f} s left of {self.flags.minutes} minutes",
                }
            )
        return short

    def done(self, row: Row, started: float) -> None:
        took = time.perf_counter() - started
        self.longest[row["what"]] = max(0.7 * self.longest[row["what"]], took)
        self.rows.append({**row, "seconds": round(took, 1)})
        print(f"  {row['name']}: {row.get('words') or row.get('ms')}", file=sys.stderr, flush=True)


def checks(bench: Bench, broken: bool) -> list[tuple[str, Callable[[], str]]]:
    import gpu_checks as those

    device, dry = bench.device, bench.flags.dry
    names = ["torch"] if broken else list(KERNELS)
    found: list[tuple[str, Callable[[], str]]] = []
    for name in names:
        found.append((f"{name}: chosen pairs", lambda n=name: those.chosen_pairs(n, device, dry)))
        if name != "triton_bf16":  # the other kernels are triton's
            found.append((f"{name}: products", lambda n=name: those.products(n, device, dry)))
            found.append((f"{name}: updates", lambda n=name: those.updates(n, device, dry)))
    best = "torch" if broken else "triton"
    found += [
        (f"{best}: step of {a}", lambda a=a: those.sparse_step(a, best, device, dry))
        for a in (those.DRY if dry else those.ARCHS)
    ]
    return found + [
        (f"{n}: resumed run", lambda n=n: those.resumes(n, device, dry)) for n in names if n == "triton" or not dry
    ]


def timings(bench: Bench, broken: bool) -> list[tuple[str, Callable[[], list[Row]]]]:
    import gpu_times as those

    flags = bench.flags
    paths = [p for p in PATHS if not (broken and p.startswith("triton"))]
    found = [
        (f"{arch}, F = {F:,}", lambda a=arch, F=F: those.train_steps(a, F, paths, flags, bench.device))
        for F in flags.d_sae
        for arch in flags.arch
    ]
    return [
        *found[: len(flags.arch)],
        ("harvest", lambda: those.harvest(flags, bench.device)),
        *found[len(flags.arch) :],
    ]


def about(flags: argparse.Namespace) -> Row:
    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "absent"

    where = "CPU under Triton's interpreter" if flags.dry else torch.cuda.get_device_name(0)
    return {
        "where": where, "python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "triton": version("triton"), "assay": version("assay"), "d_in": flags.d_in, "batch": flags.batch, "k": flags.k,
        "dtype": "float32", "clip": 1.0, "seconds": round(time.perf_counter() - STARTED),
    }  # fmt: skip


def report(bench: Bench) -> str:
    """The table, as Markdown."""
    said = about(bench.flags)
    lines = ["## GPU: " + ", ".join(f"{n} {v}" for n, v in said.items()), ""]
    if bench.flags.dry:
        lines += ["A dry run: it shows that the code runs. Its times say nothing.", ""]
    lines += [
        "| what | path | ms | best | tokens/s | L0 | peak GiB | dense / this | torch / this | |",
        "|" + "---|" * 10,
    ]
    columns = ("path", "ms", "best_ms", "tokens_per_second", "l0", "peak_gib", "over_dense", "over_torch", "words")
    for row in bench.rows:
        lines.append(
            "| " + " | ".join([row["name"], *("" if row.get(c) is None else str(row[c]) for c in columns)]) + " |"
        )
    failed = sum(bool(row.get("failed")) for row in bench.rows)
    skipped = sum(str(row.get("words", "")).startswith("skipped") for row in bench.rows)
    return "\n".join([*lines, "", f"{failed} failed, {skipped} skipped, {said['seconds']} s"])


if __name__ == "__main__":
    raise SystemExit(main())
