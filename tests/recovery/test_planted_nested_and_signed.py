"""BatchTopK, p-annealing, AbsTopK and Matryoshka on the planted world; two of them with a qualification."""

from __future__ import annotations

import pytest
import torch
from test_planted_directions import D_SAE, D, planted, share_found

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.dictionaries import Dictionary, config_class
from assay.training import Plan, TrainConfig, sweep

OPTIONS = {
    "batchtopk": {"k": 2},
    "panneal": {"lp_coef": 1.5},
    "abstopk": {"k": 2},
    "matryoshka": {"k": 2},
    "random": {"k": 2},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[dict[str, Dictionary], torch.Tensor]:
    """The dictionaries of one sweep, by architecture, and the true directions [32, 24]."""
    torch.set_num_threads(1)
    x, directions = planted(0)
    options = TrainConfig(n_tokens=128 * 400, batch_size=128, lr=1e-2, log_every=100, checkpoint_every=5000)
    plans = [Plan(a, config_class(a)(d_in=D, d_sae=D_SAE, **given), options) for a, given in OPTIONS.items()]
    stream = Stream(TensorSource(x), seed=0, batch_size=128)
    made = sweep(plans, stream, tmp_path_factory.mktemp("recovery") / "run", site="x", quiet=True)
    return {m.arch: m for m in made}, directions


@pytest.mark.parametrize("arch", ["batchtopk", "panneal"])
def test_planted_directions_are_recovered(world, arch) -> None:
    made, directions = world
    cosine, share = share_found(made[arch].W_dec, directions)
    print(f"{arch}: mean cosine {cosine:.3f}, above 0.9 {share:.2f}")
    assert share_found(made["random"].W_dec, directions)[1] < 0.1
    assert share > 0.8
    assert cosine > 0.95


def test_signed_codes_recover_axes_of_which_about_half_point_backwards(world) -> None:
    made, directions = world
    W_dec = made["abstopk"].W_dec
    either = share_found(torch.cat([W_dec, -W_dec]), directions)[1]
    forwards = share_found(W_dec, directions)[1]
    print(f"abstopk: above 0.9 {either:.2f} with either sign, {forwards:.2f} with f > 0")
    assert either > 0.8
    assert 0.2 < forwards < 0.8


def test_matryoshka_merges_directions_where_there_is_no_hierarchy(world) -> None:
    """Its inner latents must serve many directions each (feature hedging, arXiv 2505.11756): fewer are found than by batchtopk."""
    made, directions = world
    cosine, share = share_found(made["matryoshka"].W_dec, directions)
    print(f"matryoshka: mean cosine {cosine:.3f}, above 0.9 {share:.2f}")
    assert share_found(made["random"].W_dec, directions)[1] + 0.2 < share
    assert share < share_found(made["batchtopk"].W_dec, directions)[1]
