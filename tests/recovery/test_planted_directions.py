"""Each architecture finds most of the directions that made the data, and a dictionary of random directions does not."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.dictionaries import config_class
from assay.training import Plan, TrainConfig, sweep

D, N_TRUE, D_SAE = 24, 32, 48


def planted(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """16,384 rows [n, 24], about 1.6 of 32 unit directions on in each, and the directions [32, 24]."""
    rng = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(N_TRUE, D, generator=rng))
    on = torch.rand(16_384, N_TRUE, generator=rng) < 0.05
    amounts = on * (1 + 0.3 * torch.randn(16_384, N_TRUE, generator=rng).abs())
    return amounts @ directions + 0.2 * torch.randn(D, generator=rng), directions


def share_found(W_dec: torch.Tensor, directions: torch.Tensor) -> tuple[float, float]:
    """Over the true directions: the mean of the largest cosine with a row, and the share above 0.9."""
    best = (torch.nn.functional.normalize(W_dec) @ directions.T).max(0).values
    return float(best.mean()), float((best > 0.9).float().mean())


@pytest.fixture(scope="module", params=[0, 1], ids=["world 0", "world 1"])
def found(request, tmp_path_factory) -> Callable[[str], tuple[float, float, float]]:
    """Mean largest cosine, share found and last gamma, by architecture, after one sweep over one world."""
    torch.set_num_threads(1)
    x, directions = planted(request.param)
    options = TrainConfig(
        n_tokens=128 * 600, batch_size=128, lr=1e-2, log_every=100, checkpoint_every=5000, seed=request.param
    )
    penalty = {"gated": {"l1_coef": 4.0}, "relu": {"l1_coef": 1.5}, "topk": {"k": 2}, "random": {"k": 2}}
    plans = [Plan(a, config_class(a)(d_in=D, d_sae=D_SAE, **given), options) for a, given in penalty.items()]
    stream = Stream(TensorSource(x), seed=request.param, batch_size=128)
    made = sweep(plans, stream, tmp_path_factory.mktemp("recovery") / "run", site="x", quiet=True)
    logs = {m.arch: (m.path / "log.jsonl").read_text().splitlines() for m in made if m.path is not None}
    results = {m.arch: (*share_found(m.W_dec, directions), json.loads(logs[m.arch][-1])["gamma"]) for m in made}
    return lambda arch: results[arch]


@pytest.mark.parametrize("arch", ["gated", "relu", "topk"])
def test_planted_directions_are_recovered(found, arch) -> None:
    cosine, share, _ = found(arch)
    control_cosine, control_share, _ = found("random")
    print(f"{arch}: mean cosine {cosine:.3f}, above 0.9 {share:.2f}; random {control_cosine:.3f}, {control_share:.2f}")
    assert control_share < 0.1
    assert share > 0.8
    assert cosine > control_cosine + 0.25


def test_l1_shrinks_and_gated_does_not(found) -> None:
    """The claim of arXiv 2404.16014 section 4.2, where it is cheap to see: gamma near 1 for gated, below for L1."""
    print(f"gamma: gated {found('gated')[2]:.3f}, relu {found('relu')[2]:.3f}, topk {found('topk')[2]:.3f}")
    assert found("gated")[2] == pytest.approx(1.0, abs=0.03)
    assert found("relu")[2] < 0.93
