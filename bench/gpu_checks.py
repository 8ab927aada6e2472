"""What bench/gpu.py checks: kernels against their definitions, sparse steps against autograd, resumed runs against whole ones.

Each check returns words for the table and raises AssertionError where something is wrong.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay import dictionaries
from assay.activations import Stream
from assay.activations.source import TensorSource
from assay.kernels import Above, BatchTop, Codes, Selection, Top, implementation
from assay.training import Plan, TrainConfig, step, sweep

SHAPES = [
    (1, 1, 1, 1),
    (5, 3, 7, 2),
    (7, 16, 15, 33),
    (129, 65, 301, 300),
    (2049, 100, 4097, 2305),
]  # B, d_in, F, d_out
TINY = [(1, 1, 1, 1), (5, 3, 15, 33)]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 3e-5}  # of the largest number; sums in another order
ARCHS: dict[str, dict[str, Any]] = {
    "topk": {"k": 5}, "abstopk": {"k": 5}, "batchtopk": {"k": 5}, "matryoshka": {"k": 5},
    "relu": {"l1_coef": 0.1, "init_l0": 6.0, "decoder_norm": "free"}, "gated": {"l1_coef": 0.1, "init_l0": 6.0},
    "jumprelu": {"l0_coef": 0.1, "init_l0": 6.0, "bandwidth": 0.5},
    "panneal": {"lp_coef": 0.3}, "transcoder": {"l1_coef": 0.1, "init_l0": 6.0, "d_out": 13},
    "skip_transcoder": {"k": 5, "d_out": 13}, "crosscoder": {"l1_coef": 0.3, "in_sites": (4, 3, 5)},
    "crosslayer": {"l0_coef": 0.05, "bandwidth": 0.5, "in_sites": (4, 8), "out_sites": (7, 2), "d_out": 9},
    "soft_frozen": {"k": 5}, "frozen_encoder": {"k": 5}, "archetypal": {"k": 5, "n_candidates": 70, "delta": 0.5},
}  # fmt: skip
DRY = ("topk", "gated", "crosslayer", "archetypal")
D_IN = 12


def draw(*shape: int, seed: int, dtype: torch.dtype, device: str) -> Tensor:
    """The same numbers on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def whole_numbers(*shape: int, seed: int, device: str) -> Tensor:
    """Small integers: no product of them is rounded, and many keys are equal."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float().to(device)


def off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest number."""
    assert found.shape == expected.shape, f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    if not found.numel():
        return 0.0
    error = float((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-9))
    assert error == error, "not a number"
    return error


def selections(F: int, bias: Tensor) -> list[Selection]:
    k = min(5, F)
    return [
        Top(1),
        Top(k, bias),
        Top(F, bias),
        Top(k, bias, signed=True),
        Top(4, bias - 30),
        BatchTop(k, bias),
        Above(bias + 8),
    ]


def chosen_pairs(name: str, device: str, dry: bool) -> str:
    """The chosen sets and their values are those of the definition, exactly."""
    kernel, reference = implementation(name), implementation("reference")
    n = 0
    for B, d, F, _ in TINY if dry else SHAPES:
        x, W_enc = whole_numbers(B, d, seed=1, device=device), whole_numbers(F, d, seed=2, device=device).t()
        for selection in selections(F, whole_numbers(F, seed=3, device=device) / 2):
            found, expected = (k.encode_select(x, W_enc, selection) for k in (kernel, reference))
            same = torch.equal(found.row, expected.row) and torch.equal(found.latent, expected.latent)
            assert same, f"{selection} at {(B, d, F)}: other pairs than the definition's"
            assert torch.equal(found.value, expected.value), f"{selection} at {(B, d, F)}: other values"
            n += len(expected)
    return f"{n:,} pairs, all equal"


def products(name: str, device: str, dry: bool) -> str:
    """decode, cotangent and accumulate against the definitions in float64."""
    kernel, reference = implementation(name), implementation("reference")
    worst = {}
    for dtype, limit in TOLERANCE.items():
        found: list[float] = []
        for B, _, F, d_out in TINY if dry else SHAPES:
            on = torch.rand(B, F, generator=torch.Generator().manual_seed(4)) < min(0.3, 60 / F)
            on[B // 2], on[:, F // 2] = False, True
            wide = Codes.of(on.to(device) * (draw(B, F, seed=5, dtype=torch.float64, device=device).abs() + 0.1))
            codes = wide.with_values(wide.value.to(dtype))
            W_dec, g = (draw(*s, seed=6, dtype=dtype, device=device) for s in ((F, d_out), (B, d_out)))
            for call in ("decode", "cotangent", "accumulate"):
                given = {"decode": (W_dec,), "cotangent": (g, W_dec), "accumulate": (g,)}[call]
                one, two = (getattr(kernel, call)(codes, *given) for _ in range(2))
                assert torch.equal(one, two), f"{call} at {(B, F, d_out)}: two calls give other bits"
                expected = getattr(reference, call)(
                    wide.with_values(codes.value.double()), *(t.double() for t in given)
                )
                found.append(off(one, expected))
                assert found[-1] < limit, (
                    f"{call} {dtype} at {(B, F, d_out)} is {found[-1]:.1e} off; allowed {limit:.0e}"
                )
        worst[dtype] = max(found)
    return f"at most {worst[torch.float64]:.0e} off in float64, {worst[torch.float32]:.0e} in float32"


def updates(name: str, device: str, dry: bool) -> str:
    """Three updates against the definition in float64."""
    worst = {}
    F, d_in, d_out = (5, 3, 7) if dry else (4097, 100, 2305)
    for dtype, limit in TOLERANCE.items():
        states: list[list[Tensor]] = []
        for kernel, precision in ((implementation(name), dtype), (implementation("reference"), torch.float64)):

            def made(t: int, precision: torch.dtype = precision, dtype: torch.dtype = dtype) -> dict[str, Tensor]:
                shapes = {"W_enc": (F, d_in), "W_dec": (F, d_out), "b": (d_out,)}
                full = {
                    n: draw(*s, seed=10 * t + i, dtype=dtype, device=device) for i, (n, s) in enumerate(shapes.items())
                }
                return {n: (p.t() if n == "W_enc" else p).to(precision) for n, p in full.items()}

            params = made(0)
            first, second = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
            for t in (1, 2, 3):
                kernel.update(
                    params, made(t), first, second, step=t, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-3, clip=1.0,
                    unit_rows=("W_dec",),
                )  # fmt: skip
            states.append([*params.values(), *first.values(), *second.values()])
        worst[dtype] = max(off(a, b) for a, b in zip(*states, strict=True))
        assert worst[dtype] < 30 * limit, f"{dtype}: {worst[dtype]:.1e} off; allowed {30 * limit:.0e}"
    return f"at most {worst[torch.float64]:.0e} off in float64, {worst[torch.float32]:.0e} in float32"


def sparse_step(arch: str, name: str, device: str, dry: bool) -> str:
    """Loss and every gradient of the step on the support against dense autograd, float64, non-zero biases, y other than x."""
    B, F = (5, 16) if dry else (512, 400)
    options = {**ARCHS[arch], **({"n_candidates": F + 30} if arch == "archetypal" else {})}
    config = dictionaries.config_class(arch)(d_in=D_IN, d_sae=F, **options)
    x = draw(max(B, F + 30), D_IN, seed=1, dtype=torch.float32, device="cpu") + 0.3
    made = dictionaries.build(config, torch.Generator().manual_seed(0), x)
    with torch.no_grad():
        for i, parameter in enumerate(made.parameters()):
            if parameter.dim() == 1:
                parameter.add_(0.02 * draw(len(parameter), seed=20 + i, dtype=torch.float32, device="cpu"))
    made = made.to(device, torch.float64)
    x, y = x[:B].to(device).double(), draw(B, made.d_out, seed=2, dtype=torch.float64, device=device)
    weights = made.weights(0.8)
    expected = step.dense(made, x, y, weights, 0.5)
    if made.step == dictionaries.DENSE:
        return "trains by autograd alone"
    found = step.sparse(made, x, y, weights, 0.5, implementation(name))
    assert abs(found.loss - expected.loss) < 1e-10 * abs(expected.loss), f"loss {found.loss} instead of {expected.loss}"
    worst = {n: off(found.grads[n], g) for n, g in expected.grads.items()}
    n = max(worst, key=lambda n: worst[n])
    assert worst[n] < 1e-9, f"the gradient of {n} is {worst[n]:.1e} off"
    return f"{len(worst)} gradients, at most {worst[n]:.0e} off"


class Stopped(Exception):
    """Ends a run as a kill would."""


def resumes(name: str, device: str, dry: bool) -> str:
    """A run that is stopped and resumed ends at the same weights, bit for bit, as one that is left alone."""
    n_steps, B, F = (4, 4, 8) if dry else (60, 512, 2048)
    d = 8 if dry else 100
    rng = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=rng))
    rows = (torch.rand(20 * B, 2 * d, generator=rng) < 0.1).float() @ directions + 0.3
    options = TrainConfig(
        n_tokens=B * n_steps, batch_size=B, log_every=1, checkpoint_every=1 if dry else 10, dead_after=4 * B, shuffle_rows=8 * B,
        kernels=name, device=device, sparsity_warmup=0.0, resample_at=(0.5,),
    )  # fmt: skip
    plans = [Plan("topk", dictionaries.config_class("topk")(d_in=d, d_sae=F, k=2, k_aux=3), options)]
    plans += (
        []
        if dry
        else [Plan("gated", dictionaries.config_class("gated")(d_in=d, d_sae=F, l1_coef=1.0, init_l0=3.0), options)]
    )

    def run(out: Path, resume: bool = False, stop: Callable[..., None] | None = None) -> None:
        stream = Stream(TensorSource(rows), batch_size=B, shuffle_rows=8 * B)
        sweep(plans, stream, out, site="x", quiet=True, resume=resume, on_tick=stop)

    def stop(_: str, line: dict[str, Any], __: Any) -> None:
        if line["step"] >= n_steps // 2:
            raise Stopped

    def same(a: Path, b: Path) -> bool:
        return all(
            (a / p.name / "weights.safetensors").read_bytes() == (b / p.name / "weights.safetensors").read_bytes()
            for p in plans
        )

    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        whole, again, halves, free = (Path(folder) / n for n in ("whole", "again", "halves", "free"))
        run(free)  # before the exact mode is on
        with exact():
            run(whole)
            run(again)
            assert same(whole, again), "two runs alike end at different weights"
            try:
                run(halves, stop=stop)
                raise AssertionError("the run was never stopped")
            except Stopped:
                run(halves, resume=True)
            assert same(whole, halves), "a resumed run ends at other weights than a whole one"
        return "the same bits; without torch's deterministic mode " + (
            "too" if same(whole, free) else "NOT the same bits"
        )


class exact:
    """torch's deterministic mode, where it has deterministic forms."""

    def __enter__(self) -> None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(False)
