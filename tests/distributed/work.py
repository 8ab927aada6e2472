"""What each process of the tests runs: `python work.py OUT [--resume] [--slow]` trains a few dictionaries on planted rows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.core import distribution
from assay.dictionaries import config_class
from assay.training import Plan, TrainConfig, sweep

D, D_SAE, BATCH, STEPS = 12, 40, 64, 30
ARCHS = {  # what sums over rows in different ways: AuxK, resampling, a global selection, penalties of frequencies, a shuffled batch
    "topk": {"k": 3},
    "gated": {"l1_coef": 0.5},
    "relu": {"l1_coef": 0.5},
    "batchtopk": {"k": 3},
    "matryoshka": {"k": 3, "groups": (8, 16, 16)},
    "jumprelu": {"l0_coef": 0.1, "penalty": "frequency"},
    "panneal": {"lp_coef": 0.5},
    "shuffled": {"k": 3},
    "matching_pursuit": {"k": 3},
}


def plans() -> list[Plan]:
    options = TrainConfig(
        n_tokens=BATCH * STEPS, batch_size=BATCH, lr=3e-3, log_every=5, checkpoint_every=4, resample_at=(0.5,), dead_after=BATCH * 6,
    )  # fmt: skip
    return [Plan(arch, config_class(arch)(d_in=D, d_sae=D_SAE, **given), options) for arch, given in ARCHS.items()]


def stream() -> Stream:
    rng = torch.Generator().manual_seed(3)
    rows = torch.randn(2000, 20, generator=rng).relu() @ torch.randn(20, D, generator=rng) + torch.randn(
        D, generator=rng
    )
    return Stream(TensorSource(rows), batch_size=BATCH)


def main(out: Path, resume: bool, slow: bool) -> None:
    torch.set_num_threads(1)
    with distribution.joined():
        source = stream()
        if slow:  # so that a kill finds it at work
            fetch = source.source.fetch
            source.source.fetch = lambda *words: (time.sleep(0.05), fetch(*words))[1]  # type: ignore[method-assign]
        sweep(plans(), source, out, site="x", resume=resume, quiet=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--resume" in sys.argv, "--slow" in sys.argv)
