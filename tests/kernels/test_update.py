"""The fifth kernel: removal of the parallel gradient, clipping, Adam, unit rows; against torch's Adam and by hand."""

from __future__ import annotations

import pytest
import torch

from assay.kernels import IMPLEMENTATIONS, implementation

every = pytest.mark.parametrize("kernel", [implementation(n) for n in IMPLEMENTATIONS], ids=IMPLEMENTATIONS)
ADAM = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


def parameters(seed: int = 0) -> dict[str, torch.Tensor]:
    """W_enc latent-major [5, 8] as dictionaries store it, W_dec [8, 4], b [4]."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return {"W_enc": draw(8, 5).t(), "W_dec": draw(8, 4), "b": draw(4)}


def zeros(like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: torch.zeros_like(t) for n, t in like.items()}


def copies(of: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in of.items()}


@every
@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("contiguous_grad", [False, True])
def test_adam_is_torchs(kernel, beta1, contiguous_grad) -> None:
    params = parameters()
    theirs = {n: torch.nn.Parameter(t.clone()) for n, t in params.items()}
    adam = torch.optim.Adam(theirs.values(), lr=0.01, betas=(beta1, 0.99), eps=1e-8)
    first, second = zeros(params), zeros(params)
    for t in range(1, 6):
        grads = parameters(seed=t)
        if contiguous_grad:
            grads = {n: g.contiguous() for n, g in grads.items()}
        for name, parameter in theirs.items():
            parameter.grad = grads[name].clone()
        adam.step()
        kernel.update(params, grads, first, second, step=t, clip=None, **{**ADAM, "beta1": beta1})
    for name, parameter in theirs.items():
        torch.testing.assert_close(params[name], parameter.detach(), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(first[name], adam.state[parameter]["exp_avg"], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(second[name], adam.state[parameter]["exp_avg_sq"], rtol=1e-10, atol=1e-12)


@every
def test_the_first_step_by_hand(kernel) -> None:
    """With corrected moments the first step is lr * g / (|g| + eps)."""
    params, grads = {"b": torch.tensor([1.0, 1.0, 1.0])}, {"b": torch.tensor([0.5, -2.0, 0.0])}
    kernel.update(params, grads, zeros(params), zeros(params), step=1, clip=None, **ADAM)
    torch.testing.assert_close(params["b"], torch.tensor([0.99, 1.01, 1.0]))


@every
def test_clipping_by_the_global_norm(kernel) -> None:
    params = parameters()
    grads = parameters(seed=1)
    norm = torch.cat([g.flatten() for g in grads.values()]).norm()
    for clip, factor in ((1.0, 1.0 / norm), (1e6, 1.0), (None, 1.0)):
        first = zeros(params)
        reported = kernel.update(
            copies(params), copies(grads), first, zeros(params), step=1, clip=clip, **{**ADAM, "beta1": 0.0}
        )
        assert reported == pytest.approx(float(norm), rel=1e-12), "the norm before clipping"
        for name, grad in grads.items():
            torch.testing.assert_close(first[name], grad * factor, rtol=1e-5, atol=0)


@every
def test_unit_rows(kernel) -> None:
    """The gradient's part along a row is removed before clipping and Adam; the row has length 1 afterwards."""
    params, grads = parameters(), parameters(seed=1)
    params["W_dec"] /= params["W_dec"].norm(dim=1, keepdim=True)
    rows, grad = params["W_dec"].clone(), grads["W_dec"].clone()
    others = [g for n, g in grads.items() if n != "W_dec"]
    first = zeros(params)
    norm = kernel.update(
        params, grads, first, zeros(params), step=1, clip=None, unit_rows=("W_dec",), **{**ADAM, "beta1": 0.0}
    )
    across = torch.stack([g - (g @ r) * r for g, r in zip(grad, rows, strict=True)])
    torch.testing.assert_close(first["W_dec"], across, rtol=1e-12, atol=1e-12)
    assert float((first["W_dec"] * rows).sum(1).abs().max()) < 1e-12
    assert norm == pytest.approx(float(torch.cat([across.flatten(), *(g.flatten() for g in others)]).norm()), rel=1e-12)
    moved = rows - 0.01 * across / (across.abs() + 1e-8)
    torch.testing.assert_close(params["W_dec"], moved / moved.norm(dim=1, keepdim=True), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(params["W_dec"].norm(dim=1), torch.ones(8, dtype=torch.float64))


@every
def test_the_parallel_part_is_removed_from_rows_of_any_length(kernel) -> None:
    params, grads = parameters(), parameters(seed=1)
    params["W_dec"] *= torch.linspace(0.5, 3, 8)[:, None]
    rows, first = params["W_dec"].clone(), zeros(params)
    kernel.update(params, grads, first, zeros(params), step=1, clip=None, unit_rows=("W_dec",), **ADAM)
    assert float((first["W_dec"] * rows).sum(1).abs().max()) < 1e-12


@pytest.mark.parametrize("name", [n for n in IMPLEMENTATIONS if n != "reference"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_many_steps_agree_with_the_reference(name, dtype, tolerance) -> None:
    runs = []
    for kernel in (implementation(name), implementation("reference")):
        params = {n: t.to(dtype) for n, t in parameters().items()}
        params["W_dec"] /= params["W_dec"].norm(dim=1, keepdim=True)
        first, second = zeros(params), zeros(params)
        for t in range(1, 11):
            grads = {n: g.to(dtype) for n, g in parameters(seed=t).items()}
            kernel.update(params, grads, first, second, step=t, clip=1.0, unit_rows=("W_dec",), **ADAM)
        runs.append(
            {**params, **{f"first {n}": t for n, t in first.items()}, **{f"second {n}": t for n, t in second.items()}}
        )
    for key in runs[0]:
        torch.testing.assert_close(runs[0][key], runs[1][key], rtol=tolerance, atol=tolerance)


@every
def test_storage_order_is_kept(kernel) -> None:
    params = parameters()
    pointers = {n: t.data_ptr() for n, t in params.items()}
    kernel.update(params, parameters(seed=1), zeros(params), zeros(params), step=1, clip=0.1, **ADAM)
    assert {n: t.data_ptr() for n, t in params.items()} == pointers, "in place"
    assert params["W_enc"].t().is_contiguous()


@every
def test_square_matrices_are_not_transposed(kernel) -> None:
    """A square latent-major W_enc would swallow a swapped gradient silently."""
    W_enc = torch.zeros(4, 4, dtype=torch.float64).t()
    grad = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    for given in (grad, grad.t().contiguous().t()):
        params = {"W_enc": W_enc.clone(memory_format=torch.preserve_format)}
        first = zeros(params)
        kernel.update(
            params, {"W_enc": given.clone()}, first, zeros(params), step=1, clip=None, **{**ADAM, "beta1": 0.0}
        )
        torch.testing.assert_close(first["W_enc"], grad)
        torch.testing.assert_close(params["W_enc"], -0.01 * grad.sign())
