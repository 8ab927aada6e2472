"""The native kernels at awkward shapes: every output against the float64 definition, every refusal in one sentence."""

from __future__ import annotations

import pytest
import torch
from builds import every_build, needs_native, use

from assay.core.errors import BadInput, BadOption
from assay.kernels import Above, BatchTop, Codes, Selection, Top, describe, implementation, library, native, screening

pytestmark = needs_native
reference = implementation("reference")
# B, d_in, F, d_out: ones, primes, one less and one more than lanes, panels and blocks hold
SHAPES = [(1, 1, 1, 1), (5, 3, 7, 2), (7, 16, 15, 33), (21, 17, 65, 63), (150, 31, 257, 129), (301, 65, 130, 16)]
TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 2e-5, "atol": 2e-5}}


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def whole_numbers(*shape: int, seed: int) -> torch.Tensor:
    """Small integers: float32 computes with them exactly, and keys are equal all the time."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def selections(F: int) -> list[Selection]:
    bias = whole_numbers(F, seed=9) / 2
    return [
        Top(1),
        Top(1, bias),
        Top(min(5, F), bias),
        Top(F, bias),
        Top(F + 3),
        Top(max(1, F // 3), bias, signed=True),
        Top(4, bias - 30),  # few rows have so many positive keys
        Top(4, bias - 1e6),  # none has
        BatchTop(1, bias),
        BatchTop(max(1, F // 4), bias, signed=True),
        BatchTop(F, bias),
        BatchTop(2, bias - 1e6),
        Above(bias),
        Above(bias + 8),
        Above(bias - 1e6),
        Above(bias + 1e6),
    ]


@every_build
@pytest.mark.parametrize("screened", [False, True], ids=["in full", "screened"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_pairs_as_the_definition(build, shape, screened, monkeypatch) -> None:
    """Ties, empty rows, k = 1 and k = F; with whole numbers there is no rounding, so everything is equal."""
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1} if screened else {})
    monkeypatch.setattr(screening, "SAMPLE", 64 if not screened else 1)
    B, d, F, _ = shape
    x, W_enc = whole_numbers(B, d, seed=1), whole_numbers(F, d, seed=2).t()
    x[B // 2] = 0
    assert screening.screens(x, W_enc) is screened
    for selection in selections(F):
        expected = reference.encode_select(x, W_enc, selection)
        found = native.encode_select(x, W_enc, selection)
        assert found.shape == expected.shape
        for name in ("row", "latent", "value", "pointers"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), (selection, name)


@every_build
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sparse_products_against_float64(build, shape, dtype, monkeypatch) -> None:
    use(build, monkeypatch)
    B, _, F, d_out = shape
    W_dec, g = draw(F, d_out, seed=3), draw(B, d_out, seed=4)
    for share in (0.0, 0.2, 1.0):
        on = torch.rand(B, F, generator=torch.Generator().manual_seed(5)) < share
        exact = Codes.of(on * draw(B, F, seed=6))
        codes = Codes(exact.row, exact.latent, exact.value.to(dtype), exact.shape)
        for name, found, expected in (
            ("decode", native.decode(codes, W_dec.to(dtype)), reference.decode(exact, W_dec)),
            ("cotangent", native.cotangent(codes, g.to(dtype), W_dec.to(dtype)), reference.cotangent(exact, g, W_dec)),
            ("accumulate", native.accumulate(codes, g.to(dtype)), reference.accumulate(exact, g)),
        ):
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), expected, **TOLERANCE[dtype], msg=lambda m, n=name: f"{n}: {m}")


@every_build
@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_updates_against_float64(build, shape, beta1, monkeypatch) -> None:
    """Rows without a gradient decay as dense Adam's do; unit rows, clipping, and a vector."""
    use(build, monkeypatch)
    _, d, F, d_out = shape
    exact = {
        "W_enc": draw(F, d, seed=1).t(),
        "W_dec": draw(F, d_out, seed=2),
        "b": draw(F, seed=3),
        "scalar": draw(seed=4),
    }
    exact["W_dec"] /= exact["W_dec"].norm(dim=1, keepdim=True)
    runs = []
    for kernel, dtype in ((native, torch.float32), (native, torch.float64), (reference, torch.float64)):
        params = {n: t.to(dtype, copy=True) for n, t in exact.items()}
        first, second = ({n: torch.zeros_like(t) for n, t in params.items()} for _ in range(2))
        norms = []
        for t in range(1, 5):
            silent = torch.arange(F) % 3 != t % 3
            grads = {n: draw(*p.shape, seed=10 * t).to(dtype) for n, p in params.items()}
            grads["W_dec"][silent], grads["W_enc"][:, silent] = 0.0, 0.0
            norms.append(
                kernel.update(
                    params, grads, first, second, step=t, lr=0.01, beta1=beta1, beta2=0.99, eps=1e-3, clip=2.0, unit_rows=("W_dec",)
                )
            )  # fmt: skip
        runs.append((params, first, second, norms))
    for found, dtype in ((runs[0], torch.float32), (runs[1], torch.float64)):
        assert found[3] == pytest.approx(runs[2][3], rel=1e-5 if dtype == torch.float32 else 1e-12)
        for mine, theirs in zip(found[:3], runs[2][:3], strict=True):
            for name in exact:
                torch.testing.assert_close(
                    mine[name].double(), theirs[name], **TOLERANCE[dtype], msg=lambda m, n=name: f"{n}: {m}"
                )


@every_build
def test_the_number_of_threads_changes_nothing(build, monkeypatch) -> None:
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    B, d, F = 700, 40, 300
    x, W = draw(B, d, seed=1, dtype=torch.float32), draw(F, d, seed=2, dtype=torch.float32)
    runs = []
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        codes = native.encode_select(x, W.t(), Top(9))
        params, grads = {"W": W.clone()}, {"W": native.accumulate(codes, x)}
        moments = [{"W": torch.zeros_like(W)} for _ in range(2)]
        norm = native.update(
            params, grads, *moments, step=1, lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8, clip=1.0, unit_rows=("W",)
        )
        runs.append([codes.latent, codes.value, native.decode(codes, W), native.cotangent(codes, x, W), grads["W"], params["W"],
                     torch.tensor(norm)])  # fmt: skip
    for one, two, three in zip(*runs, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


def test_slices_of_wider_matrices_are_read_in_place() -> None:
    wide, W_dec = draw(9, 20, seed=1), draw(7, 6, seed=2)
    codes = Codes.of(draw(9, 7, seed=3))
    g = wide[:, 3:9]
    torch.testing.assert_close(native.cotangent(codes, g, W_dec), reference.cotangent(codes, g, W_dec))
    torch.testing.assert_close(native.accumulate(codes, g), reference.accumulate(codes, g))
    W_enc = draw(11, 6, seed=4).t()
    assert torch.equal(native.encode_select(g, W_enc, Top(3)).latent, reference.encode_select(g, W_enc, Top(3)).latent)


def pairs(row: list[int], latent: list[int]) -> Codes:
    return Codes(torch.tensor(row), torch.tensor(latent), torch.ones(len(row)), (3, 4))


GOOD, W, G = pairs([0, 2], [1, 3]), torch.ones(4, 5), torch.ones(3, 5)
REFUSED = {
    "half": (lambda: native.decode(GOOD, W.half()), "W_dec is torch.float16; the native kernels need float32 or float64"),
    "mixed": (lambda: native.cotangent(GOOD, G.double(), W), "g is torch.float64; the native kernels need float32 here"),
    "elsewhere": (lambda: native.decode(GOOD, W.to("meta")), "W_dec is on meta; the native kernels need it on the CPU"),
    "transposed": (lambda: native.decode(GOOD, torch.ones(5, 4).t()), r"W_dec has strides \(1, 4\)"),
    "every other": (lambda: native.accumulate(GOOD, torch.ones(3, 10)[:, ::2]), r"g has strides \(10, 2\)"),
    "spread": (lambda: native.accumulate(GOOD, torch.ones(5).expand(3, 5)), r"strides \(0, 1\); its rows overlap"),
    "shape": (lambda: native.cotangent(GOOD, torch.ones(3, 6), W), r"g has shape \(3, 6\); expected \(3, 5\)"),
    "latents": (lambda: native.decode(GOOD, torch.ones(3, 5)), r"W_dec has shape \(3, 5\); expected \(4, any\)"),
    "latent too large": (lambda: native.decode(pairs([0, 2], [1, 4]), W), "Pair 1 has latent 4; expected 0 to 3"),
    "latent negative": (lambda: native.accumulate(pairs([0, 2], [-1, 3]), G), "Pair 0 has latent -1; expected 0 to 3"),
    "row too large": (lambda: native.accumulate(pairs([0, 3], [1, 3]), G), r"Pair 1 has row 3|pointers has shape \(5,\)"),
    "rows out of order": (lambda: native.decode(pairs([2, 0], [1, 3]), W), "Pair 1 has row 0 after row 2"),
    "ids": (lambda: native.decode(Codes(GOOD.row, GOOD.latent.int(), GOOD.value, (3, 4)), W), "latent is torch.int32"),
    "fewer values": (lambda: native.decode(GOOD.with_values(torch.ones(1)), W), r"value has shape \(1,\); expected \(2,\)"),
    "bias": (lambda: native.encode_select(G, torch.ones(4, 5).t(), Top(2, torch.ones(3))), r"bias has shape \(3,\); expected \(4,\)"),
    "widths": (lambda: native.encode_select(G, torch.ones(4, 6).t(), Top(2)), "x has 5 columns, W_enc has 6 rows"),
    "whole numbers": (lambda: native.encode_select(G.long(), torch.ones(4, 5).t(), Top(2)), "x is torch.int64"),
    "gradient": (
        lambda: native.update(
            {"b": torch.ones(3)}, {"b": torch.ones(2)}, {"b": torch.ones(3)}, {"b": torch.ones(3)}, step=1, lr=0.1, beta1=0.9,
            beta2=0.9, eps=1e-8, clip=None,
        ),
        r"gradient of b has shape \(2,\); expected \(3,\)",
    ),
    "moment": (
        lambda: native.update(
            {"b": torch.ones(3)}, {"b": torch.ones(3)}, {"b": torch.ones(3)}, {"b": torch.ones(3).double()}, step=1, lr=0.1,
            beta1=0.9, beta2=0.9, eps=1e-8, clip=None,
        ),
        "moment of b is torch.float64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name) -> None:
    call, words = REFUSED[name]
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert str(caught.value).count("\n") == 0
    assert str(caught.value).endswith(".")


def test_without_the_library_native_is_refused_and_auto_is_torch(monkeypatch) -> None:
    nothing = library.Found(None, "", "the native kernels were not compiled")
    monkeypatch.setattr(library, "find", lambda: nothing)
    monkeypatch.setattr("assay.kernels.IMPLEMENTATIONS", ("reference", "torch"))
    assert implementation("auto") is implementation("torch")
    assert describe() == ("torch", "the native kernels were not compiled")
    with pytest.raises(BadOption, match=r"were not compiled\. Choose torch"):
        implementation("native")
    with pytest.raises(BadOption, match=r"were not compiled\. Choose torch"):
        native.decode(GOOD, W)


def test_a_variable_names_what_auto_stands_for(monkeypatch) -> None:
    for name in ("reference", "torch", "native"):
        monkeypatch.setenv("ASSAY_KERNELS", name)
        assert implementation("auto") is implementation(name)
        assert implementation("torch") is implementation("torch"), "what an option says comes first"
    assert describe("auto")[0].startswith("native")
    monkeypatch.setenv("ASSAY_KERNELS", "fast")
    with pytest.raises(BadOption, match='ASSAY_KERNELS: "fast" is not a kernel implementation'):
        implementation("auto")


def test_auto_takes_torch_where_native_cannot_go(monkeypatch) -> None:
    monkeypatch.delenv("ASSAY_KERNELS", raising=False)
    weight = torch.ones(2, requires_grad=True)
    assert implementation("auto", weight) is implementation("torch"), "gradients are on"
    with torch.no_grad():
        assert implementation("auto", weight) is native
    assert implementation("auto", torch.ones(2).bfloat16()) is implementation("torch")
    assert implementation("auto", torch.ones(2, device="meta")) is implementation("torch")


def test_a_library_from_other_sources_is_not_used(monkeypatch) -> None:
    library.open_build.cache_clear()
    monkeypatch.setattr(library, "digest", lambda: "another")
    found = library.open_build("plain")
    library.open_build.cache_clear()
    assert found.library is None
    assert "compiled from other sources" in found.why
