"""How long a training step takes: the sparse step against the dense autograd reference, interleaved in one run.

    make bench                     or: python bench/train_step.py --d-in 512 --d-sae 4096 --batch 2048

Each line is one JSON object: median and best milliseconds, tokens a second, L0, and the machine's load. Compare only lines of one run.
The dictionaries start from a threshold that puts L0 near --l0, so that the sparse step is timed where it is used.
"""

from __future__ import annotations

import argparse
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
    flags = asked.parse_args()
    torch.set_num_threads(flags.threads)
    x = torch.randn(flags.batch, flags.d_in, generator=torch_rng(0, "bench"))
    width = {"d_in": flags.d_in, "d_sae": flags.d_sae}
    configs = {
        "topk": dictionaries.config_class("topk")(**width, k=int(flags.l0)),
        "relu": dictionaries.config_class("relu")(**width, l1_coef=1.0, init_l0=flags.l0),
        "gated": dictionaries.config_class("gated")(**width, l1_coef=1.0, init_l0=flags.l0),
    }
    made = {name: dictionaries.build(config, torch_rng(0, "init"), x) for name, config in configs.items()}
    torch_kernels = kernels.implementation("torch")

    def one(name: str, path: str) -> float:
        dictionary = made[name]
        params = trainable(dictionary)
        weights = dictionary.weights(1.0)
        moments = [{n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2)]
        started = time.perf_counter()
        with torch.no_grad():
            done = (
                steps.dense(dictionary, x, x, weights, 1.0)
                if path == "dense"
                else steps.sparse(dictionary, x, x, weights, 1.0, torch_kernels)
            )
            torch_kernels.update(
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
        return time.perf_counter() - started

    taken: dict[tuple[str, str], list[float]] = {(name, path): [] for name in made for path in ("dense", "sparse")}
    for i in range(flags.repeats + 1):
        for name, path in taken:
            seconds = one(name, path)
            if i:  # the first round warms up
                taken[name, path].append(seconds)
    for name in made:
        l0 = len(made[name].encode_sparse(x, training=True)) / flags.batch
        for path in ("dense", "sparse"):
            median = statistics.median(taken[name, path])
            line = {
                "arch": name, "path": path, "d_in": flags.d_in, "d_sae": flags.d_sae, "batch": flags.batch, "l0": round(l0, 1),
                "ms": round(1e3 * median, 1), "best_ms": round(1e3 * min(taken[name, path]), 1),
                "tokens_per_second": round(flags.batch / median), "threads": flags.threads,
                "load": round(os.getloadavg()[0], 1), "torch": torch.__version__, "clip": 1.0,
            }  # fmt: skip
            print(json.dumps(line), flush=True)
        ratio = statistics.median(taken[name, "dense"]) / statistics.median(taken[name, "sparse"])
        print(json.dumps({"arch": name, "dense_over_sparse": round(ratio, 2)}), flush=True)


if __name__ == "__main__":
    main()
