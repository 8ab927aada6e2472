"""Screening with bfloat16 products chooses what float32 says, under Triton's interpreter; started as `triton_cases.py` is."""

from __future__ import annotations

import pytest
import torch
from test_fast_against_reference import same_pairs
from test_native import draw
from test_screening import data
from triton_cases import wide_programs  # noqa: F401

from assay.kernels import Above, BatchTop, Codes, Top, implementation, triton, triton_bf16

reference, plain = implementation("reference"), implementation("torch")
HARD = ["plain", "outliers", "shifted", "lengths", "copies", "tiny", "rows", "every other", "spikes"]


def own_u(x: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """All u in the arithmetic of the kernel `cotangent`."""
    every = Codes.of(torch.ones(len(x), len(W)))
    return triton.cotangent(every, x, W).view(len(x), len(W))


@pytest.mark.parametrize("name", HARD)
@pytest.mark.usefixtures("wide_programs")
def test_the_set_that_bfloat16_screens_is_exact(name, monkeypatch) -> None:
    """No block is computed in full, however useless the screen is; the choice is that of float32 in the kernel's own sums."""
    monkeypatch.setattr(triton_bf16, "MOST", 1.0)
    monkeypatch.setattr(triton_bf16, "SAMPLE", 20)
    monkeypatch.setattr(triton_bf16, "BLOCK", 15 * 120)
    monkeypatch.setattr(triton_bf16, "_in_full", None)
    monkeypatch.setattr(full := triton, "encode_select", lambda *a: pytest.fail("the encoder of triton was used"))
    x, W = (t[:n].contiguous() for t, n in zip(data(name), (24, 120), strict=True))
    u, bias, k = own_u(x, W), 0.3 * draw(120, seed=5).float(), 7
    assert full is triton
    chosen = [Top(k, bias), Top(k, bias, signed=True), Top(1), Above(bias + 2)]
    if name not in (
        "shifted",
        "rows",
        "every other",
    ):  # where the guessed level is too high the encoder of triton serves
        chosen.append(BatchTop(k, bias))
    for selection in chosen:
        found = triton_bf16.encode_select(x, W.t(), selection)
        expected = reference.chosen(u, selection).nonzero()
        assert torch.equal(torch.stack([found.row, found.latent], dim=1), expected), selection
        assert torch.equal(found.value, u[found.row, found.latent])


@pytest.mark.usefixtures("wide_programs")
def test_a_level_that_was_guessed_too_high_is_noticed(monkeypatch) -> None:
    """The rows that it is guessed from are a thousand times longer than the others."""
    monkeypatch.setattr(triton_bf16, "SAMPLE", 12)
    x, W = (t[:n].contiguous() for t, n in zip(data("every other"), (24, 120), strict=True))
    selection = BatchTop(7)
    level = triton_bf16._level(x, W, selection)
    assert 0 < int(((x @ W.t()) > level).sum()) < 7 * 24
    same_pairs(
        triton_bf16.encode_select(x, W.t(), selection), reference.encode_select(x, W.t(), selection), torch.float32
    )


def test_what_bfloat16_rules_out_shrinks_the_work() -> None:
    x, W = data("plain")
    for selection in (Top(11), Above(torch.full((len(W),), 2.0))):
        halves = triton_bf16._halved(W)
        candidates = triton_bf16._candidates(x, *halves, selection, 0.0)
        assert candidates is not None
        n = len(reference.encode_select(x, W.t(), selection))
        assert n < len(candidates) < 2.5 * n


@pytest.mark.parametrize("rounded", ["W", "x"])
def test_every_u_lies_within_its_ends(rounded, monkeypatch) -> None:
    """Numbers half a step of bfloat16 off, all in the direction of the other side: the bound is nearly reached."""
    monkeypatch.setattr(triton_bf16, "MOST", 1.0)
    signs = draw(40, seed=0).sign().float()
    rough = 1 + (signs > 0) * 0.49 * 2.0**-7 - (signs < 0) * 0.49 * 2.0**-8
    x, W = (
        side.repeat(n, 1) for side, n in zip((signs, rough) if rounded == "W" else (rough, signs), (8, 30), strict=True)
    )
    u = x.double() @ W.double().t()
    moved = float((u - (x.bfloat16() @ W.bfloat16().t()).double()).abs().max())
    assert moved > 0.05
    assert float((x.bfloat16() @ W.bfloat16().t()).max()) < float(u.min()), (
        "what is rounded is less than what it stands for"
    )
    for level, inside in ((float(u.max()) - 1e-4, True), (float(u.max()) + 10 * moved, False)):
        selection = Above(torch.full((30,), level))
        candidates = triton_bf16._candidates(x, *triton_bf16._halved(W), selection, 0.0)
        assert candidates is not None
        assert len(candidates) == inside * 8 * 30


def test_the_product_is_rounded_too(monkeypatch) -> None:
    """256 + 1 is 256 in bfloat16, although both factors are exact there."""
    monkeypatch.setattr(triton_bf16, "MOST", 1.0)
    x, W = torch.ones(1, 2), torch.tensor([[256.0, 1.0]])
    assert float(x.bfloat16() @ W.bfloat16().t()) == 256
    found = triton_bf16.encode_select(x, W.t(), Above(torch.tensor([256.5])))
    assert found.value.tolist() == [257.0]


def test_numbers_that_are_not_finite_are_left_to_the_full_product(monkeypatch) -> None:
    x, W = (t[:n].contiguous() for t, n in zip(data("plain"), (6, 50), strict=True))
    monkeypatch.setattr(triton_bf16, "MOST", 1.0)
    for bad in (float("nan"), float("inf"), 3.4e38):
        broken = x.clone()
        broken[2, 3] = bad
        found, expected = (k.encode_select(broken, W.t(), Top(3)) for k in (triton_bf16, plain))
        assert torch.equal(found.row, expected.row)
        assert torch.equal(found.latent, expected.latent)
