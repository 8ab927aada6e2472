"""Screening with 8-bit products chooses exactly what the 32-bit numbers say, on easy data and on hard data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builds import every_build, needs_native, use

from assay.core.errors import BadInput
from assay.kernels import Above, BatchTop, Codes, Origin, Shared, Top, implementation, native, screening

pytestmark = needs_native
reference = implementation("reference")
B, D, F, K = 300, 72, 700, 11


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def data(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """x [B, D] and latent-major rows of W_enc [F, D]."""
    x, W = draw(B, D, seed=1), torch.nn.functional.normalize(draw(F, D, seed=2), dim=1)
    if name == "outliers":  # two dimensions thirty times larger, as in real models
        x[:, [3, 50]] *= 30
    elif name == "shifted":
        x += 400
    elif name == "lengths":  # columns of very different length
        W *= 10 ** draw(F, 1, seed=3).clamp(-2, 2)
    elif name == "copies":  # pairs of latents that differ in the last bits only
        W[1::2] = W[::2] * (1 + 1e-7 * draw(F // 2, 1, seed=4))
    elif name == "tiny":
        x *= 1e-20
    elif name == "rows":  # some rows a thousand times longer, some zero
        x[::7] *= 1000
        x[::10] = 0
    elif name in ("aligned W", "aligned x"):  # what 8 bits leave over points along the other side: the bound is reached
        whole = (100 * draw(F + B, D, seed=6).clamp(-1, 1)).round()
        whole[:, 0] = 127
        signs = draw(F + B, D, seed=7).sign()
        if name == "aligned W":
            one = draw(D, seed=8).sign()
            x, W = 0.5 * one.repeat(B, 1), (whole[:F] + 0.49 * draw(F, 1, seed=9).sign() * one) / 127
            W[:, 0] = 1
        else:
            agree = torch.rand(F, D, generator=torch.Generator().manual_seed(8)) < torch.linspace(0, 1, F)[:, None]
            x, W = whole[F:] + 0.49 * signs[0], torch.where(agree, signs[0], signs[:F]) / 8
            x[:, 0] = 127
        x[1::2] = -x[::2]  # so that the mean row is 0
    elif name == "rest decides":  # all latents are nearly the same in 8 bits; what these leave over ranks them
        one, whole = draw(D, seed=8).sign(), (60 * draw(D, seed=9).clamp(-1, 1)).round()
        few = draw(F, D, seed=10) * (draw(F, D, seed=11) > 1.3)
        W = (whole + few.sign() + 0.45 * draw(F, seed=12).clamp(-1, 1)[:, None] * one) / 127
        x, W[:, 0] = 0.5 * one.repeat(B, 1), 1
        x[1::2] = -x[::2]
    elif name == "every other":  # the rows that a batch's level is guessed from are not like the others
        x[1::2] *= 1e-3
    elif name == "spikes":  # one huge number in each row, at another place: 8 bits cannot hold the rest
        x[torch.arange(B), torch.arange(B) % D] = 1e4
    return x, W


def own_u(x: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
    """All u in the arithmetic of the library, by its cotangent kernel on every pair."""
    every = Codes.of(torch.ones(len(x), len(W)))
    return native.cotangent(every, x, W).view(len(x), len(W))


IN_FULL = screening._in_full


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that are computed in full."""
    rows: list[int] = []

    def noting(*arguments: Any) -> None:
        rows.extend(arguments[-1].tolist())
        IN_FULL(*arguments)

    monkeypatch.setattr(screening, "_in_full", noting)
    return rows


BIAS = 0.3 * draw(F, seed=5)
SELECTIONS = {
    "top": Top(K, BIAS),
    "top without bias": Top(K),
    "top signed": Top(K, BIAS, signed=True),
    "top 1": Top(1, BIAS),
    "above": Above(BIAS + 2),
    "above, shifted bias": Above(BIAS + 2.5),
    "batch": BatchTop(K, BIAS),
    "batch signed": BatchTop(K, BIAS, signed=True),
}


@every_build
@pytest.mark.parametrize("most", [60, 10**6])
@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "outliers",
        "shifted",
        "lengths",
        "copies",
        "tiny",
        "rows",
        "spikes",
        "aligned W",
        "aligned x",
        "rest decides",
        "every other",
    ],
)
def test_the_chosen_set_is_exact(build, name, most, monkeypatch) -> None:
    """With no limit to the candidates no row is computed in full, however useless the screen is."""
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "MOST", most)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    x, W = data(name)
    u = own_u(x, W)
    for what, selection in SELECTIONS.items():
        full = watched(monkeypatch)
        found = native.encode_select(x, W.t(), selection)
        full = sorted(set(full))
        mixed = u.clone()
        mixed[full] = x[full] @ W.t()
        row, latent = reference.chosen(mixed, selection).nonzero(as_tuple=True)
        exact = ~torch.isin(row, torch.tensor(full))
        assert most == 60 or not full, what
        assert torch.equal(found.row, row), what
        assert torch.equal(found.latent, latent), what
        assert torch.equal(found.value[exact], u[row, latent][exact]), "not merely close: the same arithmetic"


@every_build
@pytest.mark.parametrize("name", ["plain", "outliers", "shifted", "tiny"])
def test_on_such_data_nearly_no_row_is_computed_in_full(build, name, monkeypatch) -> None:
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    x, W = data(name)
    full = watched(monkeypatch)
    for what, selection in SELECTIONS.items():
        if not what.startswith("above"):  # thresholds that suit the plain data alone
            native.encode_select(x, W.t(), selection)
            assert len(full) <= 0.02 * B


def test_where_eight_bits_say_nothing_all_rows_are_computed_in_full(monkeypatch) -> None:
    monkeypatch.setattr(screening, "SCREEN_FROM", dict.fromkeys(screening.library.NEEDS, 1))
    x, W = data("plain")
    x[:, :30] *= 1e5  # more such dimensions than are kept apart, and W reads none of them
    W[:, :30] = 0
    full = watched(monkeypatch)
    found, expected = (kernel.encode_select(x, W.t(), Top(K)) for kernel in (native, reference))
    assert full == list(range(B))
    assert torch.equal(found.latent, expected.latent)


@every_build
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(build, value, monkeypatch) -> None:
    """Rows of x that are not finite are computed in full; a W_enc that is not finite is never screened."""
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    x, W = data("plain")
    x[7, 3] = value
    full = watched(monkeypatch)
    found, expected = (kernel.encode_select(x, W.t(), Top(K)) for kernel in (native, reference))
    assert full == [7]
    assert torch.equal(found.row, expected.row)
    assert torch.equal(found.latent, expected.latent)
    native.encode_select(data("plain")[0], torch.cat([W[:-1], W[-1:] * value]).t(), Top(K))
    assert full[1:] == list(range(B))


@every_build
@pytest.mark.parametrize("name", ["plain", "outliers", "shifted", "rows", "aligned W", "rest decides"])
def test_encoders_that_take_different_biases_off_one_batch_share_its_integers(build, name, monkeypatch) -> None:
    """Rounded once, whatever the bias, and every choice is exact all the same; also of some columns of the batch."""
    use(build, monkeypatch)
    monkeypatch.setattr(screening, "MOST", 10**6)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    times: list[int] = []
    made = screening.Rounded.of
    monkeypatch.setattr(screening.Rounded, "of", lambda y: times.append(1) or made(y))
    y, W = data(name)
    wide = Shared(torch.cat([draw(B, 5, seed=20), y, draw(B, 3, seed=21)], dim=1))
    for bias in (None, y.mean(0) + 0.1, 1e3 * draw(D, seed=23)):
        x = y if bias is None else y - bias
        u = own_u(x, W)
        for what, selection in SELECTIONS.items():
            full = watched(monkeypatch)
            found = native.encode_select(x, W.t(), selection, Origin(wide, slice(5, 5 + D), bias))
            row, latent = reference.chosen(u, selection).nonzero(as_tuple=True)
            assert not full, what
            assert torch.equal(found.row, row), what
            assert torch.equal(found.latent, latent), what
            assert torch.equal(found.value, u[row, latent]), what
    assert len(times) == 1
    native.encode_select(y[:, 2:], W[:, 2:].contiguous().t(), Top(K), Origin(wide, slice(7, 5 + D), None))
    assert len(times) == 2, "other columns are other rows"


def test_a_batch_that_is_not_what_x_comes_from_is_refused() -> None:
    x, W = data("plain")
    with pytest.raises(BadInput, match=r"The batch that x comes from has shape \(300, 70\); expected \(300, 72\)"):
        native.encode_select(x, W.t(), Top(K), Origin(Shared(x[:, 2:]), slice(0, D), None))
    with pytest.raises(BadInput, match=r"The bias of x has shape \(71,\); expected \(72,\)"):
        native.encode_select(x, W.t(), Top(K), Origin(Shared(x), slice(0, D), torch.zeros(D - 1)))


@every_build
def test_a_trained_encoder(build, monkeypatch) -> None:
    """Weights after training: biases, columns of unequal length, latents that fire often and never."""
    from assay.dictionaries import build as make
    from assay.dictionaries import config_class
    from assay.training.step import sparse, trainable

    use(build, monkeypatch)
    monkeypatch.setattr(screening, "SCREEN_FROM", {build: 1})
    directions = torch.nn.functional.normalize(draw(200, 40, seed=1), dim=1)
    codes = draw(256, 200, seed=2).relu() * (torch.rand(256, 200, generator=torch.Generator().manual_seed(3)) < 0.04)
    x = codes @ directions + 0.5
    made = make(config_class("topk")(d_in=40, d_sae=500, k=8), torch.Generator().manual_seed(0), x)
    params = trainable(made)
    moments = [{n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2)]
    with torch.no_grad():
        for t in range(1, 60):
            done = sparse(made, x, x, made.weights(1.0), 1.0, native)
            native.update(
                params,
                done.grads,
                *moments,
                step=t,
                lr=3e-3,
                beta1=0.9,
                beta2=0.99,
                eps=1e-8,
                clip=1.0,
                unit_rows=("W_dec",),
            )
        assert done.terms["recon"] < 0.3 * float((x - x.mean(0)).pow(2).sum(-1).mean()), "it has learned something"
        selection, rows = made.select(made.params_at(), True), made.centred(x)
        full = watched(monkeypatch)
        found = native.encode_select(rows, made.W_enc, selection)
        assert not full
        expected = reference.chosen(own_u(rows, made.W_enc.detach().t()), selection).nonzero(as_tuple=True)
    assert torch.equal(found.row, expected[0])
    assert torch.equal(found.latent, expected[1])
