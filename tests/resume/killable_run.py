"""One small sweep in which everything happens that a resumed run must repeat:
resampling, AuxK, the dense and the sparse path.

It runs in a process of its own, so that it can be killed.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.dictionaries import config_class
from assay.training import Interrupted, Plan, TrainConfig, sweep

N_STEPS = 90


def plans(n_steps: int = N_STEPS) -> list[Plan]:
    options = TrainConfig(
        n_tokens=64 * n_steps, batch_size=64, lr=0.02, log_every=8, checkpoint_every=10, dead_after=128,
        shuffle_rows=1000,
        resample_at=(0.5, 0.75), sparsity_warmup=0.0, lr_warmup=0.05,
    )  # fmt: skip
    return [
        Plan("gated", config_class("gated")(d_in=12, d_sae=96, l1_coef=6.0), options),
        Plan("relu", config_class("relu")(d_in=12, d_sae=96, l1_coef=6.0), options),
        Plan("topk", config_class("topk")(d_in=12, d_sae=96, k=2, k_aux=4), options),
        Plan("pca", config_class("pca")(d_in=12, k=2), options),
    ]


def stream() -> Stream:
    """1,500 rows, so that a run passes several epochs and windows."""
    rng = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 12, generator=rng))
    x = (
        3.0 * ((torch.rand(1500, 24, generator=rng) < 0.08) * (1 + torch.rand(1500, 24, generator=rng))) @ directions
        + 0.3
    )
    return Stream(TensorSource(x), batch_size=64, shuffle_rows=1000)


def run(out: str, resume: bool = False) -> None:
    """The whole sweep into `out`; exits with status 7 when it was asked to stop."""
    torch.set_num_threads(1)
    try:
        sweep(plans(), stream(), Path(out), site="x", resume=resume, quiet=True)
    except Interrupted as stopped:
        (Path(out).parent / "said").write_text(str(stopped))
        raise SystemExit(7) from None


def processes() -> Any:
    """A server that has imported torch once and forks a fresh process for every run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "assay.training", "assay.dictionaries"])
    return context


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl without the one figure that depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines]
