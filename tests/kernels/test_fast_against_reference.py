"""Every kernel of every implementation against `reference`, which is the definition: outputs, in both precisions."""

from __future__ import annotations

import importlib

import pytest
import torch

from assay.core.errors import BadOption
from assay.kernels import IMPLEMENTATIONS, Above, BatchTop, Codes, Selection, Top, implementation

reference = implementation("reference")
FAST = [name for name in IMPLEMENTATIONS if name != "reference"]
D_IN, F, D_OUT, B = 7, 30, 5, 21
TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}

precise = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
fast = pytest.mark.parametrize("kernel", [implementation(name) for name in FAST], ids=FAST)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def encoder(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """W_enc [D_IN, F], stored latent-major as dictionaries store it."""
    return draw(F, D_IN, seed=1, dtype=dtype).t()


def selections(dtype: torch.dtype) -> dict[str, Selection]:
    bias = draw(F, seed=2, dtype=dtype)
    return {
        "above": Above(bias),
        "above all": Above(torch.full((F,), -1e9, dtype=dtype)),
        "above none": Above(torch.full((F,), 1e9, dtype=dtype)),
        "top 1": Top(1),
        "top": Top(4, bias),
        "top signed": Top(4, bias, signed=True),
        "top F": Top(F, bias),
        "top more than F": Top(F + 5, bias),
        "top, rows with too few positive keys": Top(6, bias - 3.5),
        "top, no positive key": Top(6, bias - 1e9),
        "batch": BatchTop(4, bias),
        "batch signed": BatchTop(4, bias, signed=True),
        "batch F": BatchTop(F, bias),
        "batch more than F": BatchTop(F + 5, bias),
        "batch, too few positive keys": BatchTop(6, bias - 3.5),
        "batch, no positive key": BatchTop(6, bias - 1e9),
    }


def same_pairs(found: Codes, expected: Codes, dtype: torch.dtype = torch.float64) -> None:
    assert found.shape == expected.shape
    assert torch.equal(found.row, expected.row)
    assert torch.equal(found.latent, expected.latent)
    assert found.value.dtype == expected.value.dtype
    torch.testing.assert_close(found.value, expected.value, **TOLERANCE[dtype])


@fast
@precise
@pytest.mark.parametrize("rows_per_block", [1, 4, B, 1000])
@pytest.mark.parametrize("name", list(selections(torch.float64)))
def test_encode_select(kernel, dtype, rows_per_block, name, monkeypatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK", rows_per_block * F, raising=False)
    x, selection = draw(B, D_IN, seed=3, dtype=dtype), selections(dtype)[name]
    expected = reference.encode_select(x, encoder(dtype), selection)
    same_pairs(kernel.encode_select(x, encoder(dtype), selection), expected, dtype)
    assert (len(expected) == 0) == (name in ("above none", "top, no positive key", "batch, no positive key"))


@fast
@pytest.mark.parametrize("rows_per_block", [1, 3, 1000])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", [Top, BatchTop])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_equal_keys_go_to_the_lower_index(kernel, kind, k, signed, rows_per_block, monkeypatch) -> None:
    """Small integers: many ties inside a row, at the k-th place, and across blocks of rows."""
    monkeypatch.setattr(kernel, "BLOCK", rows_per_block * 9, raising=False)
    for seed in range(5):
        x = torch.randint(-2, 3, (8, 9), generator=torch.Generator().manual_seed(seed)).double()
        W_enc, selection = torch.eye(9, dtype=torch.float64), kind(k, signed=signed)
        expected = reference.encode_select(x, W_enc, selection)
        same_pairs(kernel.encode_select(x, W_enc, selection), expected)


@pytest.mark.parametrize("kernel", [implementation(n) for n in IMPLEMENTATIONS], ids=IMPLEMENTATIONS)
def test_ties_by_hand(kernel) -> None:
    x = torch.tensor([[1.0, 2.0, 2.0, 2.0], [2.0, -2.0, 0.0, 1.0]])
    eye = torch.eye(4)

    def pairs(selection: Selection) -> list[tuple[int, int]]:
        codes = kernel.encode_select(x, eye, selection)
        return list(zip(codes.row.tolist(), codes.latent.tolist(), strict=True))

    assert pairs(Top(2)) == [(0, 1), (0, 2), (1, 0), (1, 3)]
    assert pairs(Top(2, signed=True)) == [(0, 1), (0, 2), (1, 0), (1, 1)]
    assert pairs(Top(3)) == [(0, 1), (0, 2), (0, 3), (1, 0), (1, 3)], "a key of 0 is never chosen"
    assert pairs(BatchTop(1)) == [(0, 1), (0, 2)]
    assert pairs(BatchTop(2)) == [(0, 1), (0, 2), (0, 3), (1, 0)]
    assert pairs(Top(1, key_bias=torch.tensor([1.5, 0.0, 0.0, 0.0]))) == [(0, 0), (1, 0)]
    assert pairs(Above(torch.tensor([0.5, 1.5, 2.0, 0.5]))) == [(0, 0), (0, 1), (0, 3), (1, 0), (1, 3)]


@fast
@precise
def test_decode_cotangent_and_accumulate(kernel, dtype) -> None:
    x, W_dec, g = draw(B, D_IN, dtype=dtype), draw(F, D_OUT, seed=4, dtype=dtype), draw(B, D_OUT, seed=5, dtype=dtype)
    for name, selection in selections(dtype).items():
        codes = reference.encode_select(x, encoder(dtype), selection)
        for value in (codes.value, torch.zeros_like(codes.value)):  # a pair of value 0 still has a cotangent
            pairs = codes.with_values(value)
            for found, expected in (
                (kernel.decode(pairs, W_dec), reference.decode(pairs, W_dec)),
                (kernel.cotangent(pairs, g, W_dec), reference.cotangent(pairs, g, W_dec)),
                (kernel.accumulate(pairs, g), reference.accumulate(pairs, g)),
            ):
                torch.testing.assert_close(found, expected, **TOLERANCE[dtype], msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kernel", [implementation(n) for n in IMPLEMENTATIONS], ids=IMPLEMENTATIONS)
def test_products_by_plain_loops(kernel) -> None:
    """Written out, so that the reference itself is held to something."""
    W_dec, g = draw(F, D_OUT, seed=4), draw(B, D_OUT, seed=5)
    codes = reference.encode_select(draw(B, D_IN), encoder(), Top(3))
    decoded, summed = torch.zeros(B, D_OUT, dtype=torch.float64), torch.zeros(F, D_OUT, dtype=torch.float64)
    alpha = []
    for b, i, value in zip(codes.row.tolist(), codes.latent.tolist(), codes.value.tolist(), strict=True):
        decoded[b] += value * W_dec[i]
        summed[i] += value * g[b]
        alpha.append(float(g[b] @ W_dec[i]))
    torch.testing.assert_close(kernel.decode(codes, W_dec), decoded, **TOLERANCE[torch.float64])
    torch.testing.assert_close(kernel.accumulate(codes, g), summed, **TOLERANCE[torch.float64])
    torch.testing.assert_close(kernel.cotangent(codes, g, W_dec), torch.tensor(alpha).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", [implementation(n) for n in IMPLEMENTATIONS], ids=IMPLEMENTATIONS)
def test_empty_batches_and_empty_supports(kernel) -> None:
    W_dec = draw(F, D_OUT, seed=4)
    for x, selection in (
        (draw(0, D_IN), Top(3)),
        (draw(0, D_IN), BatchTop(3)),
        (draw(3, D_IN), Above(torch.full((F,), 1e9))),
    ):
        codes = kernel.encode_select(x, encoder(), selection)
        assert len(codes) == 0
        assert codes.shape == (len(x), F)
        assert torch.equal(kernel.decode(codes, W_dec), torch.zeros(len(x), D_OUT, dtype=torch.float64))
        g = draw(len(x), D_OUT, seed=5)
        assert kernel.cotangent(codes, g, W_dec).shape == (0,)
        assert torch.equal(kernel.accumulate(codes, g), torch.zeros(F, D_OUT, dtype=torch.float64))


@fast
def test_inputs_are_left_alone_and_no_graph_is_made(kernel) -> None:
    x, W_dec, g = draw(B, D_IN), torch.nn.Parameter(draw(F, D_OUT, seed=4)), draw(B, D_OUT, seed=5)
    before = [t.detach().clone() for t in (x, W_dec, g)]
    with torch.no_grad():
        codes = kernel.encode_select(x, encoder(), Top(3))
        outputs = [kernel.decode(codes, W_dec), kernel.cotangent(codes, g, W_dec), kernel.accumulate(codes, g)]
    assert not any(o.requires_grad for o in outputs)
    assert W_dec.grad is None
    assert all(torch.equal(t, b) for t, b in zip((x, W_dec, g), before, strict=True))


def test_the_choice_of_an_implementation() -> None:
    assert implementation("auto") is implementation("native" if "native" in IMPLEMENTATIONS else "torch")
    assert implementation("torch") is importlib.import_module("assay.kernels.torch")
    with pytest.raises(BadOption, match='"tritn" is not a kernel implementation'):
        implementation("tritn")


@fast
@pytest.mark.parametrize("rows_per_block", [40, 1000])
@pytest.mark.parametrize("whole", [True, False], ids=["many ties", "no ties"])
@pytest.mark.parametrize("kind", [Top, BatchTop])
def test_many_latents(kernel, kind, whole, rows_per_block, monkeypatch) -> None:
    """Widths at which fast paths look at groups of latents, or at a sample of the keys, first."""
    width, n_rows = 512, 301
    monkeypatch.setattr(kernel, "BLOCK", rows_per_block * width, raising=False)
    x, W_enc, bias = draw(n_rows, D_IN, seed=3), draw(width, D_IN, seed=1).t(), draw(width, seed=2)
    if whole:
        x, W_enc, bias = x.round(), W_enc.round(), bias.round()
    for k in (1, 3, 7, 8, 100):
        for selection in (kind(k, bias), kind(k, bias, signed=True), kind(k), kind(k, bias - 4)):
            same_pairs(kernel.encode_select(x, W_enc, selection), reference.encode_select(x, W_enc, selection))
