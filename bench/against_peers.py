"""Time one training step of assay and of the field's trainers on the same rows, interleaved in one run.

    make bench-peers                   or: python bench/against_peers.py --arch topk gated --d-sae 4096 16384 --record

Each library runs in a process of its own (bench/peers/), one at a time, in turn, so a slow minute of the machine hits all of them. A step is
what the library itself does for a batch that is in memory: forward, loss, backward, clipping, projection, optimiser, statistics.
Gradient clipping is on in SAELens, dictionary_learning and overcomplete and off in sparsify; each is compared with ours in the same setting.
Dense trainers cost the same at any L0; ours starts relu, gated and jumprelu near --k, the regime after warm-up, and both L0 are printed.
Compare only lines of one run. --record appends the table to docs/results/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recording

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-interop" / "bin" / "python"
ARCHS = ("topk", "batchtopk", "matryoshka", "relu", "gated", "jumprelu")
RUNNERS = (  # library, variant, architectures (all where None)
    ("assay", "", None),
    ("assay", "no-clip", ("topk",)),
    ("assay", "torch", None),
    ("sae_lens", "", None),
    ("sae_lens", "sparse", ("topk",)),
    ("dictionary_learning", "", None),
    ("sparsify", "", ("topk",)),
    ("sparsify", "adam", ("topk",)),
    ("overcomplete", "", ("topk", "batchtopk", "relu", "jumprelu")),
)


@dataclass
class Runner:
    """One process, and what it said."""

    library: str
    variant: str
    process: subprocess.Popen[str]
    built: dict[str, Any] = field(default_factory=dict)
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    now: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.library} ({self.variant})" if self.variant else self.library

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": "its process ended"}


def main() -> None:
    flags = arguments()
    lines = [line for d_sae in flags.d_sae for arch in flags.arch for line in race(arch, d_sae, flags)]
    text = table(lines, flags)
    print("\n" + text)
    if flags.record:
        recording.append(text)


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--arch", nargs="+", default=list(ARCHS), choices=ARCHS)
    asked.add_argument("--d-in", type=int, default=512)
    asked.add_argument("--d-sae", type=int, nargs="+", default=[4096, 16_384])
    asked.add_argument("--batch", type=int, default=2048)
    asked.add_argument(
        "--k", type=int, default=32, help="active latents; the L0 at which ours starts where there is no k"
    )
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument(
        "--steps", type=int, default=2, help="timed steps a round; one more before them warms the caches"
    )
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--record", action="store_true")
    return asked.parse_args()


def race(arch: str, d_sae: int, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """One line a library that has this architecture: steps timed in turns."""
    asked = {
        "arch": arch,
        "d_in": flags.d_in,
        "d_sae": d_sae,
        "batch": flags.batch,
        "k": flags.k,
        "threads": flags.threads,
        "seed": flags.seed,
    }
    runners = [start(library, variant) for library, variant, only in RUNNERS if only is None or arch in only]
    try:
        for runner in runners:
            runner.built = runner.ask({"build": asked | {"variant": runner.variant}})
            runner.built |= {} if "error" in runner.built else runner.ask({"steps": 2})  # untimed
        racing = [runner for runner in runners if "error" not in runner.built]
        for _ in range(flags.rounds):
            for runner in racing:
                taken = runner.ask({"steps": 1 + flags.steps}).get("seconds", [])[1:]
                runner.wall += [wall for wall, _ in taken]
                runner.cpu += [cpu for _, cpu in taken]
        for runner in racing:
            runner.now = runner.ask({"l0": True})
    finally:
        for runner in runners:
            runner.process.kill()
    found = [line_of(runner, asked) for runner in runners]
    for line in found:
        print(json.dumps(line), flush=True)
    return found


def start(library: str, variant: str) -> Runner:
    ours = library == "assay"
    # ours runs from the tree; the others see nothing of it
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or ours}
    kept |= {"SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1"} | (
        {"PYTHONPATH": str(ROOT / "src")} if ours else {}
    )
    command = [sys.executable if ours else str(PEERS_PYTHON), str(ROOT / "bench" / "peers" / "worker.py"), library]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return Runner(library, variant, subprocess.Popen(command, env=kept, text=True, **pipes))


def line_of(runner: Runner, asked: dict[str, Any]) -> dict[str, Any]:
    line: dict[str, Any] = {"library": runner.library, "variant": runner.variant, **asked}
    if "error" in runner.built or not runner.wall:
        return line | {"error": runner.built.get("error", "no step was timed")}
    median = statistics.median(runner.wall)
    return line | {
        "ms": round(1e3 * median, 1),
        "best_ms": round(1e3 * min(runner.wall), 1),
        "cpu_ms": round(1e3 * statistics.median(runner.cpu), 1),
        "tokens_per_second": round(asked["batch"] / median),
        "l0": round(runner.now.get("l0", float("nan")), 1),
        "peak_mib": round(runner.now.get("peak_bytes", 0) / 2**20),
        "version": runner.built["version"],
        "torch": runner.built["torch"],
        "load": round(os.getloadavg()[0], 2),
        **runner.built["said"],
    }


def table(lines: list[dict[str, Any]], flags: argparse.Namespace) -> str:
    """Markdown: medians, and how many times ours is as fast in the same setting of clipping."""
    text = (
        "Medians of interleaved steps, fp32. *times*: this line's milliseconds over those of assay, both with or both without clipping; in wall time, and in"
        " CPU\ntime, which other programs on the machine disturb less."
    )
    out = [
        "| arch | F | trainer | clip | tokens/s (best) | ms | CPU ms | L0 | peak MiB | times, wall | times, CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        name = f"{line['library']} {line['variant']}".strip()
        if "error" in line:
            out.append(
                f"| {line['arch']} | {line['d_sae']:,} | {name} | | does not run: {line['error'][:90]} | | | | | |"
            )
            continue
        wall, cpu = ratio(lines, line, "ms"), ratio(lines, line, "cpu_ms")
        best = round(line["batch"] / line["best_ms"] * 1e3)
        out.append(
            f"| {line['arch']} | {line['d_sae']:,} | {name} {line['version']}, {line.get('kernels', line['optimizer'])} | {line['clip'] or 'off'} | "
            f"{line['tokens_per_second']:,} ({best:,}) | {line['ms']} | {line['cpu_ms']} | {line['l0']} | {line['peak_mib']:,} | {wall} | {cpu} |"
        )
    return recording.section("training steps against the field's trainers", flags.threads, text, out)


def ratio(lines: list[dict[str, Any]], line: dict[str, Any], what: str) -> str:
    if line["library"] == "assay" and line["variant"] != "torch":
        return ""
    same = ("arch", "d_sae", "clip")
    ours = [x for x in lines if x["library"] == "assay" and "error" not in x and x["variant"] != "torch"]
    ours = [x for x in ours if all(x[name] == line[name] for name in same)]
    return f"{line[what] / ours[0][what]:.1f}x" if ours else ""


if __name__ == "__main__":
    main()
