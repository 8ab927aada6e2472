"""The Triton kernels under Triton's interpreter against the definitions; `test_triton.py` runs this file in a process of its own.

By hand: TRITON_INTERPRET=1 python -m pytest tests/kernels/triton_cases.py
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_fast_against_reference import same_pairs
from test_native import SHAPES, draw, selections, whole_numbers
from test_native_steps import CASES

from assay.core.errors import BadInput, BadOption
from assay.dictionaries import build as make
from assay.dictionaries import config_class
from assay.kernels import Above, BatchTop, Codes, Top, describe, implementation, triton, triton_bf16, triton_found
from assay.training import step
from assay.training.member import Member
from assay.training.options import TrainConfig

reference, plain = implementation("reference"), implementation("torch")
KERNELS = [triton, triton_bf16]
TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 2e-5, "atol": 2e-5}}
both = pytest.mark.parametrize("kernel", KERNELS, ids=["triton", "triton_bf16"])
precise = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
SMALL = [*SHAPES[:3], (11, 17, 33, 63)]  # B, d_in, F, d_out


@pytest.fixture
def wide_programs(monkeypatch) -> None:
    """Each program costs the interpreter a millisecond, so where a kernel only serves, fewer do the work."""
    monkeypatch.setattr(triton, "PAIRS", 128)


def random_codes(B: int, F: int, share: float, dtype: torch.dtype, seed: int = 4) -> Codes:
    on = torch.rand(B, F, generator=torch.Generator().manual_seed(seed)) < share
    on[B // 2] = False  # an empty row
    on[:, F // 2] = True  # a latent with many pairs
    return Codes.of((on * (draw(B, F, seed=seed + 1).abs() + 0.1)).to(dtype))


@pytest.mark.parametrize(
    ("kernel", "most"),
    [(triton, 0.0), (triton_bf16, 0.0), (triton_bf16, 1.0)],
    ids=["triton", "triton_bf16 in full", "triton_bf16 screened"],
)
@pytest.mark.parametrize("shape", SMALL, ids=str)
@pytest.mark.usefixtures("wide_programs")
def test_the_same_pairs_as_the_definition(kernel, shape, most, monkeypatch) -> None:
    """Ties, empty rows, k = 1 and k = F, blocks of a few rows; with whole numbers there is no rounding, so everything is equal."""
    monkeypatch.setattr(triton_bf16, "MOST", most)
    monkeypatch.setattr(triton_bf16, "SAMPLE", 1)
    B, d, F, _ = shape
    x, W_enc = whole_numbers(B, d, seed=1), whole_numbers(F, d, seed=2).t()
    x[B // 2] = 0
    for block in (3 * F, 1 << 20) if F < 20 else (5 * F,):
        monkeypatch.setattr(kernel, "BLOCK", block)
        for selection in selections(F):
            expected = reference.encode_select(x, W_enc, selection)
            same_pairs(kernel.encode_select(x, W_enc, selection), expected, torch.float32)


@precise
@pytest.mark.parametrize("shape", [*SMALL, (3, 2, 9, 300)], ids=str)
def test_decode_cotangent_and_accumulate(shape, dtype) -> None:
    B, _, F, d_out = shape
    W_dec, g = draw(F, d_out, seed=5, dtype=dtype), draw(B, d_out + 3, seed=6, dtype=dtype)[:, 1 : d_out + 1]
    for share in (0.2,) if F > 30 else (0.05, 0.4, 1.0):
        codes = random_codes(B, F, share, dtype)
        for name, found, expected in (
            ("decode", triton.decode(codes, W_dec), reference.decode(codes, W_dec)),
            ("cotangent", triton.cotangent(codes, g, W_dec), reference.cotangent(codes, g, W_dec)),
            ("accumulate", triton.accumulate(codes, g), reference.accumulate(codes, g)),
        ):
            assert found.dtype == dtype
            torch.testing.assert_close(found, expected, **TOLERANCE[dtype], msg=lambda m, n=name: f"{n}: {m}")


def test_matrices_whose_rows_are_not_adjacent() -> None:
    wide, g = draw(9, 12, seed=5)[:, 2:7], draw(4, 5, seed=6)
    codes = random_codes(4, 9, 0.4, torch.float64)
    torch.testing.assert_close(triton.decode(codes, wide), reference.decode(codes, wide))
    torch.testing.assert_close(triton.cotangent(codes, g, wide), reference.cotangent(codes, g, wide))


@both
def test_empty_batches_and_empty_supports(kernel) -> None:
    W_dec = draw(9, 5, seed=4)
    for n, selection in ((0, Top(3)), (0, BatchTop(3)), (3, Above(torch.full((9,), 1e9)))):
        codes = kernel.encode_select(draw(n, 7, seed=1).float(), draw(9, 7, seed=2).float().t(), selection)
        codes = codes.with_values(codes.value.double())
        assert len(codes) == 0
        assert codes.shape == (n, 9)
        g = draw(n, 5, seed=5)
        assert torch.equal(kernel.decode(codes, W_dec), torch.zeros(n, 5, dtype=torch.float64))
        assert kernel.cotangent(codes, g, W_dec).shape == (0,)
        assert torch.equal(kernel.accumulate(codes, g), torch.zeros(9, 5, dtype=torch.float64))


def test_sums_of_bfloat16_are_made_in_float32() -> None:
    """A thousand ones: a sum in bfloat16 stops growing at 256."""
    codes = Codes(torch.arange(1000), torch.zeros(1000, dtype=torch.int64), torch.ones(1000).bfloat16(), (1000, 1))
    assert triton.accumulate(codes, torch.ones(1000, 2).bfloat16()).tolist() == [[1000.0, 1000.0]]


STATE = ("params", "grads", "first", "second")


def optimiser(seed: int, dtype: torch.dtype, shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    made = {n: draw(*shape, seed=seed + i, dtype=dtype) for i, (n, shape) in enumerate(shapes.items())}
    return {n: t.t() if n == "W_enc" else t for n, t in made.items()}  # W_enc is stored latent-major


@precise
@pytest.mark.parametrize(("widths", "clip"), [((5, 5), 0.5), ((1, 2), None), ((13, 2100), 0.5)], ids=str)
def test_many_updates_agree_with_the_definition(dtype, widths, clip) -> None:
    """Rows wider than one block, a width that equals the number of latents, more numbers than one flat program takes."""
    d_in, d_out = widths
    shapes = {"W_enc": (5, d_in), "W_dec": (5, d_out), "b": (d_out,), "one": (1,)}
    shapes |= {"flat": (3, 1500)} if d_out == 2100 else {}
    n_steps, runs = 2 if d_out == 2100 else 3, []
    for kernel in (triton, reference):
        params = optimiser(0, dtype, shapes)
        first, second = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
        norms = [
            kernel.update(
                params, optimiser(10 * t, dtype, shapes), first, second,
                step=t, lr=0.01, beta1=0.9, beta2=0.99, eps=1e-3, clip=clip, unit_rows=("W_dec",),
            )
            for t in range(1, n_steps + 1)
        ]  # fmt: skip
        assert not params["W_enc"].is_contiguous() or 1 in params["W_enc"].shape
        runs.append({**params, **{f"m {n}": t for n, t in first.items()}, **{f"v {n}": t for n, t in second.items()}})
        runs[-1]["norms"] = torch.tensor(norms)
    for name, expected in runs[1].items():
        tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(runs[0][name], expected, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_the_gradient_of_a_square_matrix_is_not_transposed() -> None:
    params = {"W_enc": torch.zeros(4, 4, dtype=torch.float64).t()}
    grad = torch.arange(16, dtype=torch.float64).reshape(4, 4)
    first, second = ({"W_enc": torch.zeros_like(params["W_enc"])} for _ in range(2))
    told: dict[str, Any] = {"lr": 0.01, "beta1": 0.0, "beta2": 0.9, "eps": 1e-8, "clip": None}
    triton.update(params, {"W_enc": grad}, first, second, step=1, **told)
    torch.testing.assert_close(first["W_enc"], grad)


D, F, B = 9, 40, 16


def dictionary(case: str, dtype: torch.dtype) -> Any:
    arch, options = CASES[case]
    made = make(
        config_class(arch)(d_in=D, d_sae=F, **options),
        torch.Generator().manual_seed(0),
        rows(0, D),
        rows(1, options.get("d_out", D)),
    )
    with torch.no_grad():
        made.b_dec.add_(0.1 * draw(made.d_out, seed=8))
        for i, name in enumerate(made.vectors):
            getattr(made, name).add_(0.02 * draw(F, seed=i))
    return made.to(dtype)


def rows(seed: int, width: int) -> torch.Tensor:
    return (draw(B, 12, seed=seed).relu() @ draw(12, width, seed=99)).float() + 0.3


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("wide_programs")
def test_every_gradient_of_a_sparse_step_is_that_of_autograd(case) -> None:
    made = dictionary(case, torch.float64)
    x, y = rows(2, D).double(), rows(3, made.d_out).double()
    weights = made.weights(0.8)
    found, expected = step.sparse(made, x, y, weights, 0.5, triton), step.dense(made, x, y, weights, 0.5)
    assert 0 < found.n_support < B * F
    assert torch.equal(found.f.row, expected.f.row)
    assert torch.equal(found.f.latent, expected.f.latent)
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.grads.keys() == expected.grads.keys()
    for name, grad in expected.grads.items():
        torch.testing.assert_close(found.grads[name], grad, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("kernel", "case"), [(triton, "gated"), (triton_bf16, "topk")], ids=["triton", "triton_bf16"])
@pytest.mark.usefixtures("wide_programs")
def test_training_twice_gives_the_same_bits_and_the_numbers_of_torch(kernel, case) -> None:
    runs: list[Member] = []
    name = kernel.__name__.rsplit(".", 1)[-1]
    for kernels in (name, name, "torch"):
        told = TrainConfig(n_tokens=20 * B, batch_size=B, kernels=kernels, lr=1e-3, lr_warmup=0.0, beta1=0.9)
        run = Member("m", dictionary(case, torch.float32), told, 2.0)
        run.n_support = 0
        for t in range(2):
            run.step(t, rows(t, D), rows(t, D))
        runs.append(run)
    assert runs[0].kernel is kernel
    for name, p in runs[0].params.items():
        assert torch.equal(p, runs[1].params[name]), name
        torch.testing.assert_close(p, runs[2].params[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_bad_calls_are_refused_in_one_sentence() -> None:
    W, g, codes = draw(9, 5, seed=1), draw(4, 5, seed=2), random_codes(4, 9, 0.4, torch.float64)

    def with_ids(**ids: torch.Tensor) -> Codes:
        return Codes(ids.get("row", codes.row), ids.get("latent", codes.latent), codes.value, codes.shape)

    for call, words in (
        (lambda: triton.decode(codes, W[:8]), r"W_dec has shape \(8, 5\); expected \(9, any\)"),
        (lambda: triton.decode(codes, W.t().contiguous().t()), "must be adjacent"),
        (lambda: triton.decode(codes, W.long()), "expected a floating-point dtype"),
        (lambda: triton.decode(codes, W.to("meta")), "W_dec is on meta; the triton kernels need it on a GPU"),
        (lambda: triton.cotangent(codes, g.float(), W), "g is torch.float32; expected torch.float64"),
        (lambda: triton.cotangent(codes, g[:3], W), r"g has shape \(3, 5\)"),
        (lambda: triton.decode(with_ids(latent=codes.latent + 1), W), "A pair has latent 9; expected 0 to 8"),
        (lambda: triton.decode(with_ids(latent=codes.latent - 9), W), "expected 0 to 8"),
        (lambda: triton.accumulate(with_ids(row=codes.row + 4), g), "A pair has row 7; expected 0 to 3"),
        (lambda: triton.accumulate(with_ids(row=codes.row.flip(0)), g), "not in row order"),
        (lambda: triton.accumulate(with_ids(row=codes.row.int()), g), "expected contiguous int64"),
        (lambda: triton.decode(codes.with_values(codes.value[1:]), W), "value has shape"),
        (lambda: triton.encode_select(g, W, Top(1)), "x has 5 columns, W_enc has 9 rows"),
        (lambda: triton_bf16.encode_select(g.float(), W.float().contiguous(), Top(1)), "x has 5 columns"),
    ):
        with pytest.raises(BadInput, match=words):
            call()


def test_the_trial_finds_what_is_broken(monkeypatch) -> None:
    assert triton_found.trial() == ""
    assert implementation("triton") is triton
    assert implementation("triton_bf16") is triton_bf16
    assert describe("triton") == ("triton", "asked for")
    assert implementation("auto", like=torch.zeros(3)) not in KERNELS, "the interpreter is never chosen"
    right = triton.decode
    for broken, words in (
        (lambda codes, W: right(codes, W) * 1.001, "decode gives other numbers than the definition"),
        (lambda codes, W: 1 / 0, "fail here: ZeroDivisionError: division by zero"),
    ):
        triton_found.trial.cache_clear()
        monkeypatch.setattr(triton, "decode", broken)
        try:
            with pytest.raises(BadOption, match=words):
                implementation("triton")
        finally:
            triton_found.trial.cache_clear()
