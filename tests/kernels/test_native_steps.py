"""Whole training steps on the native kernels are those of the torch path, for every architecture that steps on its support."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builds import every_build, needs_native, use

from assay.dictionaries import build as make
from assay.dictionaries import config_class
from assay.kernels import implementation, native, screening
from assay.training import step
from assay.training.member import Member
from assay.training.options import TrainConfig

pytestmark = needs_native
D, F, B = 21, 150, 200
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "topk": ("topk", {"k": 5}),
    "topk transcoder": ("topk", {"k": 5, "wiring": "transcoder", "d_out": 13}),
    "topk transcoder with skip": ("topk", {"k": 5, "wiring": "transcoder", "d_out": 13, "skip": True}),
    "abstopk": ("abstopk", {"k": 5}),
    "relu": ("relu", {"l1_coef": 0.1, "init_l0": 6.0}),
    "relu, free rows": ("relu", {"l1_coef": 0.1, "init_l0": 6.0, "decoder_norm": "free"}),
    "transcoder": ("transcoder", {"l1_coef": 0.1, "init_l0": 6.0, "d_out": 13}),
    "gated": ("gated", {"l1_coef": 0.1, "init_l0": 6.0}),
    "gated, own decoder": ("gated", {"l1_coef": 0.1, "init_l0": 6.0, "auxiliary": "own_decoder"}),
    "gated, l0": ("gated", {"l1_coef": 0.1, "init_l0": 6.0, "auxiliary": "l0", "bandwidth": 0.7}),
    "jumprelu": ("jumprelu", {"l0_coef": 0.1, "init_l0": 6.0, "bandwidth": 0.5}),
    "jumprelu, frequency": ("jumprelu", {"l0_coef": 0.1, "init_l0": 6.0, "bandwidth": 0.5, "penalty": "frequency"}),
    "batchtopk": ("batchtopk", {"k": 5}),
    "matryoshka": ("matryoshka", {"k": 5}),
}
every_case = pytest.mark.parametrize("case", CASES)


def batch(t: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    rng = torch.Generator().manual_seed(t)
    directions = torch.randn(60, width, generator=torch.Generator().manual_seed(99))
    codes = torch.rand(B, 60, generator=rng) * (torch.rand(B, 60, generator=rng) < 0.1)
    return (codes @ directions + 0.05 * torch.randn(B, width, generator=rng) + 0.3).to(dtype)


def member(case: str, kernels: str, dtype: torch.dtype) -> Member:
    arch, options = CASES[case]
    config = config_class(arch)(d_in=D, d_sae=F, **options)
    made = make(
        config, torch.Generator().manual_seed(0), batch(0, D, torch.float32), batch(1, config.d_out or D, torch.float32)
    )
    with torch.no_grad():
        for i, name in enumerate(made.vectors):
            getattr(made, name).add_(0.01 * torch.randn(F, generator=torch.Generator().manual_seed(i)))
    made.n_steps = 20
    # a step of Adam with beta1 = 0 is about the sign of the gradient, which rounding decides where the gradient is about 0
    told = TrainConfig(
        n_tokens=20 * B, batch_size=B, kernels=kernels, lr=1e-3, lr_warmup=0.0, clip=1.0, beta1=0.9, dead_after=3 * B
    )
    started = Member("m", made.to(dtype), told, 2.0)
    started.silent_tokens[::5] = 3 * B  # AuxK has work from the first step
    started.n_support = 0
    return started


@every_build
@every_case
def test_several_steps_in_float64(build, case, monkeypatch) -> None:
    use(build, monkeypatch)
    runs = [member(case, kernels, torch.float64) for kernels in ("native", "torch")]
    assert [run.kernel for run in runs] == [native, implementation("torch")]
    start = {n: p.detach().clone() for n, p in runs[0].params.items()}
    for t in range(8):
        x, y = batch(t, D, torch.float64), batch(t + 100, runs[0].dictionary.d_out, torch.float64)
        for run in runs:
            run.step(t, x, y)
        assert runs[0].n_support == runs[1].n_support > 0
    for name, p in runs[0].params.items():
        assert not torch.equal(p, start[name]), f"{name} does not train here"
        torch.testing.assert_close(p, runs[1].params[name], rtol=1e-7, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    assert torch.equal(runs[0].silent_tokens, runs[1].silent_tokens)


@every_build
@every_case
def test_one_step_in_float32_at_each_of_several_places(build, case, monkeypatch) -> None:
    """With screening: the same support, and gradients that agree to rounding."""
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    run, torchs = member(case, "torch", torch.float32), implementation("torch")
    for t in range(4):
        x, y = batch(t, D, torch.float32), batch(t + 100, run.dictionary.d_out, torch.float32)
        with torch.no_grad():
            weights = run.dictionary.weights(0.8)
            found, expected = (step.sparse(run.dictionary, x, y, weights, 0.5, kernel) for kernel in (native, torchs))
        assert torch.equal(found.f.row, expected.f.row)
        assert torch.equal(found.f.latent, expected.f.latent)
        assert found.n_support == expected.n_support
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        for name, grad in expected.grads.items():
            size = float(grad.abs().max())
            torch.testing.assert_close(
                found.grads[name], grad, rtol=1e-4, atol=1e-5 * size, msg=lambda m, n=name: f"{n}: {m}"
            )
        run.step(t, x, y)


@every_build
def test_two_runs_are_the_same_bit_for_bit(build, monkeypatch) -> None:
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    runs = [member("topk", "native", torch.float32) for _ in range(2)]
    for t in range(5):
        for run in runs:
            run.step(t, batch(t, D, torch.float32), batch(t, D, torch.float32))
    for name, p in runs[0].params.items():
        assert torch.equal(p, runs[1].params[name]), name
