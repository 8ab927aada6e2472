"""How much memory a training step takes, from 4,096 latents to 65,536: one process a point, since a process never gives its peak back.

    python bench/memory.py                            or with --arch topk --d-sae 4096 16384 --kernels native torch --record

peak      what the process grew by, at the most (VmHWM less what was resident before the dictionary was made)
counted   parameters, Adam's two moments, and gradients where they are made: 16 or 12 bytes a weight
rest      peak less counted: the batch, active pairs, the encoder's block, what the allocator keeps
B x F     one tensor of batch x d_sae floats; a step on the active pairs makes none
planned   what `assay plan` says of the peak

Rows are planted (sums of a few directions), L0 starts near --k in every architecture, the steps are those of a run from its first on:
Member.step, with clipping and statistics, no dead latents.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import recording  # noqa: E402

MIB = 2**20


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--arch", nargs="+", default=["topk", "gated", "relu"])
    asked.add_argument("--d-sae", nargs="+", type=int, default=[4096, 8192, 16_384, 32_768, 65_536])
    asked.add_argument("--kernels", nargs="+", default=["native", "torch"])
    asked.add_argument("--d-in", type=int, default=512)
    asked.add_argument("--batch", type=int, default=2048)
    asked.add_argument("--k", type=int, default=32)
    asked.add_argument("--steps", type=int, default=4)
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--record", action="store_true")
    asked.add_argument("--point", help=argparse.SUPPRESS)
    flags = asked.parse_args()
    if flags.point:
        print(json.dumps(measured(**json.loads(flags.point))))
        return
    lines: list[dict[str, Any]] = []
    for arch in flags.arch:
        for d_sae in flags.d_sae:
            for kernels in flags.kernels:
                point = {"arch": arch, "d_sae": d_sae, "kernels": kernels, "d_in": flags.d_in, "batch": flags.batch,
                         "k": flags.k, "steps": flags.steps, "threads": flags.threads}  # fmt: skip
                lines.append(point | in_a_process(point))
                print(json.dumps(lines[-1]), flush=True)
    text = recording.section("memory of a training step", flags.threads, EXPLAINED, table(lines))
    print("\n" + text)
    if flags.record:
        recording.append(text)


EXPLAINED = (
    "Each line is a process of its own. *peak*: what it grew by at the most (VmHWM); *counted*: parameters, moments, and gradients where they\n"
    "are made, 16 or 12 bytes a weight; *rest*: the difference; *B x F*: one tensor of batch x d_sae floats, of which the sparse step makes\n"
    "none; *planned*: the peak that `assay plan` says. MiB."
)


def in_a_process(point: dict[str, Any]) -> dict[str, Any]:
    kept = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(point["threads"])}
    command = [sys.executable, __file__, "--point", json.dumps(point)]
    done = subprocess.run(command, capture_output=True, text=True, env=kept)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it was killed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def resident(name: str) -> int:
    """VmHWM, the peak, or VmRSS, now."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def measured(
    arch: str, d_sae: int, kernels: str, d_in: int, batch: int, k: int, steps: int, threads: int
) -> dict[str, Any]:
    """Bytes of one point; runs in a process of its own."""
    import torch
    from train_step import rows

    from assay.dictionaries import build, config_class
    from assay.training import TrainConfig, budget
    from assay.training.member import Member

    torch.set_num_threads(threads)
    known = config_class(arch).__dataclass_fields__
    given = {"k": k, "init_l0": float(k), "l1_coef": 0.5, "l0_coef": 0.5, "lp_coef": 0.5}
    chosen = {name: value for name, value in given.items() if name in known}
    options = TrainConfig(n_tokens=1000 * batch, batch_size=batch, kernels=kernels, dead_after=10**9)

    def member(width: int, x: torch.Tensor) -> Member:
        config = config_class(arch)(d_in=d_in, d_sae=width, **chosen)
        return Member(arch, build(config, torch.Generator().manual_seed(0), x), options, 1.0)

    x = rows(batch, d_in, "planted")
    member(4 * k, x[:64]).step(0, x[:64], x[:64])  # libraries and threads are there
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    before = resident("VmRSS")
    made = member(d_sae, x)
    for t in range(steps):
        made.step(t, x, x)
    highest = resident("VmHWM")  # before the plan, which loads more of torch
    planned = budget.Job(
        budget.sizes_of(made.dictionary.config, k), 0, 0, batch, kernels=kernels, shuffle_rows=1, dead_frac=0.0
    )
    counted = sum(f.value for f in budget.held(planned) if f.name in ("dictionary", "Adam's moments", "gradients"))
    planned_bytes = sum(f.value for f in [*budget.held(planned), *budget.passing(planned)])
    assert made.n_support is not None
    return {
        "l0": round(made.n_support / batch, 1), "peak": highest - before, "counted": counted,
        "b_x_f": 4 * batch * d_sae, "planned": round(planned_bytes), "resident": highest,
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> list[str]:
    out = [
        "| arch | F | kernels | L0 | peak | counted | rest | B x F | planned | planned / peak | whole process |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        start = f"| {line['arch']} | {line['d_sae']:,} | {line['kernels']} |"
        if "error" in line:
            out.append(f"{start} does not run: {line['error'][:90]} | | | | | | | |")
            continue
        sizes = [line["peak"], line["counted"], line["peak"] - line["counted"], line["b_x_f"], line["planned"]]
        shown = " | ".join(f"{n / MIB:,.0f}" for n in sizes)
        out.append(
            f"{start} {line['l0']} | {shown} | {line['planned'] / line['peak']:.2f} | {line['resident'] / MIB:,.0f} |"
        )
    return out


if __name__ == "__main__":
    main()
