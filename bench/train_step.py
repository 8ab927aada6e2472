"""How long a training step takes: the sparse step on native and torch kernels against the dense autograd reference, interleaved.

    make bench                     or: python bench/train_step.py --d-in 512 --d-sae 4096 --batch 2048

Each line is one JSON object: median and best milliseconds, processor milliseconds of all threads together (nearly the same on a busy
machine), tokens a second, L0, and the machine's load. Compare only lines of one run. The dictionaries start from a threshold that puts
L0 near --l0, so that the sparse step is timed where it is used. The rows are sums of a few fixed directions with noise: on isotropic
noise no row has anything to find, and 8-bit screening is at its worst; --rows noise shows that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time

import torch

from assay import dictionaries, kernels
from assay.core.randomness import torch_rng
from assay.training import step as steps
from assay.training.step import trainable


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--d-in", type=int, default=512)
    asked.add_argument("--d-sae", type=int, default=4096)
    asked.add_argument("--batch", type=int, default=2048)
    asked.add_argument("--l0", type=float, default=32)
    asked.add_argument("--repeats", type=int, default=7)
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--arch", nargs="*", default=["topk", "batchtopk", "relu", "gated", "jumprelu"])
    asked.add_argument("--rows", choices=["planted", "noise"], default="planted")
    flags = asked.parse_args()
    torch.set_num_threads(flags.threads)
    x = rows(flags.batch, flags.d_in, flags.rows)
    width = {"d_in": flags.d_in, "d_sae": flags.d_sae}
    configs = {
        "topk": dictionaries.config_class("topk")(**width, k=int(flags.l0)),
        "relu": dictionaries.config_class("relu")(**width, l1_coef=1.0, init_l0=flags.l0),
        "gated": dictionaries.config_class("gated")(**width, l1_coef=1.0, init_l0=flags.l0),
        "batchtopk": dictionaries.config_class("batchtopk")(**width, k=int(flags.l0)),
        "matryoshka": dictionaries.config_class("matryoshka")(**width, k=int(flags.l0)),
        "jumprelu": dictionaries.config_class("jumprelu")(**width, l0_coef=1.0, init_l0=flags.l0),
    }
    made = {name: dictionaries.build(configs[name], torch_rng(0, "init"), x) for name in flags.arch}
    paths = ["dense", *(name for name in kernels.IMPLEMENTATIONS if name != "reference")]

    def one(name: str, path: str) -> tuple[float, float]:
        dictionary = made[name]
        params = trainable(dictionary)
        weights = dictionary.weights(1.0)
        moments = [{n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2)]
        kernel = kernels.implementation("torch" if path == "dense" else path)
        started, processor = time.perf_counter(), time.process_time()
        with torch.no_grad():
            done = (
                steps.dense(dictionary, x, x, weights, 1.0)
                if path == "dense"
                else steps.sparse(dictionary, x, x, weights, 1.0, kernel)
            )
            kernel.update(
                params,
                done.grads,
                *moments,
                step=1,
                lr=0.0,
                beta1=0.9,
                beta2=0.999,
                eps=1e-8,
                clip=1.0,
                unit_rows=("W_dec",),
            )
        return time.perf_counter() - started, time.process_time() - processor

    taken: dict[tuple[str, str], list[tuple[float, float]]] = {(name, path): [] for name in made for path in paths}
    for i in range(flags.repeats + 1):
        for name, path in taken:
            seconds = one(name, path)
            if i:  # the first round warms up
                taken[name, path].append(seconds)
    for name in made:
        l0 = len(made[name].encode_sparse(x, training=True)) / flags.batch
        medians: dict[str, float] = {}
        for path in paths:
            wall, processor = zip(*taken[name, path], strict=True)
            medians[path] = statistics.median(wall)
            line = {
                "arch": name, "path": path if path != "native" else kernels.describe("native")[0], "d_in": flags.d_in,
                "d_sae": flags.d_sae, "batch": flags.batch, "l0": round(l0, 1), "ms": round(1e3 * medians[path], 1),
                "best_ms": round(1e3 * min(wall), 1), "processor_ms": round(1e3 * statistics.median(processor), 1),
                "tokens_per_second": round(flags.batch / medians[path]), "threads": flags.threads,
                "load": round(os.getloadavg()[0], 1), "torch": torch.__version__, "clip": 1.0,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
        pairs = [*itertools.pairwise(paths), ("dense", paths[-1])]
        ratios = {f"{a}_over_{b}": round(medians[a] / medians[b], 2) for a, b in pairs}
        print(json.dumps({"arch": name, **ratios}), flush=True)


def rows(n: int, d: int, what: str) -> torch.Tensor:
    """[n, d]: isotropic noise, or sums of 20 of 2 d fixed directions with a little of it."""
    rng = torch_rng(0, "bench")
    if what == "noise":
        return torch.randn(n, d, generator=rng)
    directions = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=rng), dim=1)
    which, size = torch.randint(0, 2 * d, (n, 20), generator=rng), 0.5 + torch.rand(n, 20, 1, generator=rng)
    return (directions[which] * size).sum(1) + 0.05 * torch.randn(n, d, generator=rng)


if __name__ == "__main__":
    main()
