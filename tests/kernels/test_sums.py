"""A gradient that the update sums gives the same bits as one that is summed before it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from builds import every_build, needs_native, use
from test_native import SHAPES, draw
from test_native_steps import CASES, D, batch, every_case, member

from assay.core.errors import BadInput
from assay.kernels import Codes, Sums, implementation, native
from assay.training import step

pytestmark = needs_native
ADAM: dict[str, Any] = {"step": 3, "lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


def problem(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict[str, Sums]]:
    """W_enc latent-major, W_dec, a bias, and the sums of the matrices; some latents have no pair, rows of g are a stride apart."""
    B, d, F, d_out = shape
    on = (torch.rand(B, F, generator=torch.Generator().manual_seed(1)) < 0.3) & (torch.arange(F) % 4 != 1)
    codes = Codes.of((on * draw(B, F, seed=4)).to(dtype))
    x, g = (draw(B, n + 3, seed=n, dtype=dtype)[:, 1 : n + 1] for n in (d, d_out))
    params = {
        "W_enc": draw(F, d, seed=2, dtype=dtype).t(),
        "W_dec": draw(F, d_out, seed=3, dtype=dtype),
        "b": draw(F, seed=5, dtype=dtype),
    }
    return params, {"W_enc": Sums(codes.with_values(codes.value * 0.5), x, transposed=True), "W_dec": Sums(codes, g)}


@every_build
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_update_from_sums(build, shape, clip, dtype, monkeypatch) -> None:
    use(build, monkeypatch)
    found: list[tuple[float, dict[str, torch.Tensor]]] = []
    for whole in (False, True):
        params, sums = problem(shape, dtype)
        bias = {"b": torch.cos(params["b"])}
        matrices: dict[str, Any] = {n: s.whole(native.accumulate) for n, s in sums.items()} if whole else dict(sums)
        moments = [{n: 0.1 * torch.ones_like(p) for n, p in params.items()} for _ in range(2)]
        norm = native.update(params, matrices | bias, *moments, clip=clip, unit_rows=("W_dec",), **ADAM)
        found.append((norm, params | {f"{i} {n}": t for i, m in enumerate(moments) for n, t in m.items()}))
    assert found[0][0] == found[1][0] > 0
    for name, tensor in found[0][1].items():
        assert torch.equal(tensor, found[1][1][name]), name


def test_sums_are_what_the_definition_says() -> None:
    params, sums = problem((21, 17, 65, 63), torch.float64)
    for name, one in sums.items():
        expected = implementation("reference").accumulate(one.codes, one.g)
        expected = expected.t() if name == "W_enc" else expected
        assert expected.shape == params[name].shape
        torch.testing.assert_close(one.whole(native.accumulate), expected)


@every_case
def test_a_step_leaves_to_the_update_what_it_would_sum_itself(case) -> None:
    run = member(case, "native", torch.float64)
    x, y = batch(0, D, torch.float64), batch(100, run.dictionary.d_out, torch.float64)
    weights = run.dictionary.weights(0.8)
    with torch.no_grad():
        left, whole = (step.sparse(run.dictionary, x, y, weights, 0.5, native, sums_from=n) for n in (0, math.inf))
    assert not whole.sums
    assert left.sums, "nothing was left to the update"
    assert all(run.params[name].dim() == 2 for name in left.sums)
    assert {*left.grads, *left.sums} == {*whole.grads}
    assert not {*left.grads} & {*left.sums}
    for name, one in left.sums.items():
        assert torch.equal(one.whole(native.accumulate), whole.grads[name]), name
    for name, grad in left.grads.items():
        assert torch.equal(grad, whole.grads[name]), name


@pytest.mark.parametrize("case", [c for c in CASES if c in ("topk", "relu, free rows", "gated", "matryoshka")])
def test_training_is_the_same_bit_for_bit(case, monkeypatch) -> None:
    """Also where AuxK needs whole gradients in some steps and not in others."""
    runs = [member(case, "native", torch.float32) for _ in range(2)]
    left: list[int] = []
    update = native.update

    def noting(params: Any, grads: Any, *rest: Any, **options: Any) -> float:
        left.append(sum(isinstance(g, Sums) for g in grads.values()))
        return update(params, grads, *rest, **options)

    monkeypatch.setattr(native, "update", noting)
    for t in range(8):
        for run, limit in zip(runs, (0, math.inf), strict=True):
            monkeypatch.setattr(native, "SUMS_FROM", limit)
            run.silent_tokens.fill_(0 if t % 3 else run.options.dead_tokens)
            run.step(t, batch(t, D, torch.float32), batch(t, run.dictionary.d_out, torch.float32))
    assert sum(left[::2]) > 0 == sum(left[1::2])
    for name, p in runs[0].params.items():
        assert torch.equal(p, runs[1].params[name]), name


def test_an_encoder_that_is_not_stored_by_latent_gets_a_whole_gradient() -> None:
    run = member("topk", "native", torch.float64)
    run.dictionary.W_enc.data = run.dictionary.W_enc.data.contiguous()
    x = batch(0, D, torch.float64)
    with torch.no_grad():
        found = step.sparse(run.dictionary, x, x, run.dictionary.weights(0.8), 0.5, native, sums_from=0)
    assert "W_enc" in found.grads
    assert "W_dec" in found.sums


def test_sums_of_another_shape_are_refused() -> None:
    params, sums = problem((21, 17, 65, 63), torch.float32)
    moments = [{n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2)]
    turned = Sums(sums["W_enc"].codes, sums["W_enc"].g)
    narrow = Sums(sums["W_dec"].codes, sums["W_dec"].g[:, 1:])
    double = Sums(sums["W_dec"].codes, sums["W_dec"].g.double())
    for name, bad, word in (("W_enc", turned, "strides"), ("W_dec", narrow, "62"), ("W_dec", double, "float64")):
        with pytest.raises(BadInput, match=word):
            native.update({name: params[name]}, {name: bad}, *moments, clip=None, **ADAM)
