"""Seconds that `assay plan` says: the formula by hand, what it grows with, and the steps on record that it must come near."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assay.core.errors import BadOption
from assay.dictionaries import config_class
from assay.models.shape import KNOWN, Shape
from assay.training import budget, pace
from assay.training.rates import Rates, rates_of

ROUND = Rates(
    "round", 1e9, {"float32": 1e9, "bfloat16": 4e9}, memory=1e8, link=1e7, screened=2.0, overhead=0.5, forward=0.5
)


def job(
    d_sae: int = 1000, d_in: int = 10, batch: int = 100, k: int = 4, kernels: str = "torch", **more: int
) -> budget.Job:
    sizes = budget.sizes_of(config_class("topk")(d_in=d_in, d_sae=d_sae, k=k), 64)
    return budget.Job(sizes, d_in, 100_000, batch, kernels=kernels, **more)


def test_a_step_by_hand() -> None:
    P = 2 * 10 * 1000 + 1000 + 10
    product, pairs, rows = 2 * 100 * 10 * 1000, 16 * 100 * 4 * 10, 56 * 100 * 10
    native = product / 2e9 + (pairs + 36 * P + rows) / 1e8 + 0.5
    assert pace.step_seconds(job(kernels="native"), ROUND) == pytest.approx(native)
    torch = product / 1e9 + (20 * 100 * 1000 + pairs + 60 * P + rows) / 1e8 + 0.5
    assert pace.step_seconds(job(), ROUND) == pytest.approx(torch)
    half = product / 4e9 + (20 * 100 * 1000 + pairs + 36 * P + rows) / 1e8 + 0.5
    assert pace.step_seconds(job(kernels="triton_bf16"), ROUND) == pytest.approx(half)
    assert pace.step_seconds(job(n_dictionaries=3), ROUND) == pytest.approx(3 * torch)


def test_processes_divide_the_work_and_talk() -> None:
    alone = pace.step_seconds(job(d_sae=100_000, batch=4000), ROUND)
    deaf = replace(ROUND, link=1e30)
    both = job(d_sae=100_000, batch=4000, rows=2, latents=2)
    assert pace.step_seconds(both, deaf) < 0.35 * alone
    assert pace.step_seconds(both, ROUND) > pace.step_seconds(both, deaf)


# docs/results/performance.md, topk k=32, B=2048, d=512, two threads: milliseconds of a whole step
RECORDED = {("native", 4096): 56.3, ("torch", 4096): 97.7, ("native", 16_384): 127.9, ("torch", 16_384): 316.9}


@pytest.mark.parametrize(("kernels", "d_sae"), RECORDED)
def test_steps_on_record_are_met(kernels: str, d_sae: int) -> None:
    planned = 1e3 * pace.step_seconds(job(d_sae, 512, 2048, 32, kernels), rates_of("cpu"))
    assert 1 / 1.5 < planned / RECORDED[kernels, d_sae] < 1.5


def test_a_harvest_by_hand() -> None:
    shape = KNOWN["gpt2"]
    work = 2 * 3 * (4 * 768 * 768 + 2 * 768 * 3072) + 3 * 2 * 128 * 768
    assert shape.work("resid_post.2", 128) == work
    handled = 3 * (24 * 768 + 4 * 12 * 128 + 16 * 3072)
    assert pace.forward_seconds(shape, "resid_post.2", 128, "float32", ROUND) == pytest.approx(
        work / 0.5e9 + 4 * handled / 1e8
    )
    found = pace.times(job(d_in=768), shape, ("resid_post.0", "resid_post.2"), 128, "bfloat16", ROUND)
    assert found[1].value == pytest.approx(100_000 * (work / 2e9 + 2 * handled / 1e8)), "the last site counts"
    assert found[0].value * found[1].value == pytest.approx(100_000)
    assert all(f.how == "estimated" for f in found)


MODELS = {  # tokens/s of the bare forward, two threads: docs/results/performance.md, and the last two LOG.md
    "gpt2-random": (Shape(512, 6, 8, 64, 8, 2048, 50_257, gated=False), "resid_post.2", 128, 9_987),
    "stories260k": (Shape(64, 5, 8, 8, 4, 172, 512), "resid_post.2", 256, 155_459),
    "storyworld": (Shape(96, 3, 4, 24, 4, 384, 1024, gated=False), "resid_post.1", 256, 166_835),
    "MiniLM": (Shape(384, 6, 12, 32, 12, 1536, 30_522, gated=False), "resid_post.5", 128, 10_077),
    "tinystories-656k": (Shape(128, 2, 8, 16, 4, 384, 2048), "resid_post.1", 128, 151_054),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_forwards_on_record_are_met(name: str) -> None:
    shape, site, context, rate = MODELS[name]
    planned = 1 / pace.forward_seconds(shape, site, context, "float32", rates_of("cpu"))
    assert 1 / 1.5 < planned / rate < 1.5, planned


def test_nothing_is_handled_before_the_first_block_and_no_mlp_before_mlp_in() -> None:
    shape = KNOWN["gpt2"]
    assert shape.handled("embed", 64) == shape.handled("resid_pre.0", 64) == 0
    assert shape.handled("resid_post.1", 64) - shape.handled("mlp_in.1", 64) == 16 * 3072
    assert shape.handled("resid_pre.2", 64) == shape.handled("resid_post.1", 64)


def test_shards_grow_until_it_fits() -> None:
    large = job(d_sae=1_000_000, d_in=100)
    assert pace.shards_to_fit(large, 1e12) == 1
    n = pace.shards_to_fit(large, 0.4 * budget.peak(large))
    assert n is not None and n > 1
    assert (
        budget.peak(replace(large, latents=n)) <= 0.4 * budget.peak(large) < budget.peak(replace(large, latents=n // 2))
    )
    assert pace.shards_to_fit(large, 1e5) is None
    assert dict(pace.devices_that_fit(large)) == {"rtx4090": 1, "a100": 1, "h100": 1, "h200": 1, "b200": 1}


def test_devices() -> None:
    h200 = rates_of("h200")
    assert (h200.holds, h200.memory) == (141e9, pytest.approx(4.32e12))
    assert h200.matmul["bfloat16"] == pytest.approx(593.4e12) and "never measured" in h200.about
    with pytest.raises(BadOption, match="h200"):
        rates_of("h20")
