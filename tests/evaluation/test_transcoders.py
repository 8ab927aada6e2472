"""Dictionaries that predict another site than they read, and several sites at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from known_dictionaries import D

from assay.activations import TensorSource, document_id, each
from assay.core.errors import BadInput
from assay.evaluation import Entry, evaluate
from assay.models import Model, read


class Mlps:
    """A perfect transcoder: the model's own MLPs, with their inputs as codes; `damp` scales what the layers write."""

    def __init__(self, model: Model, layers: tuple[int, ...], damp: tuple[float, ...] = (1.0, 1.0)) -> None:
        self.mlps = [model.hf.transformer.h[layer].mlp for layer in layers]
        self.damp = damp
        self.provenance = {
            "site": ",".join(f"mlp_in.{layer}" for layer in layers),
            "target": ",".join(f"mlp_out.{layer}" for layer in layers),
        }

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.no_grad()
    def decode(self, f: torch.Tensor) -> torch.Tensor:
        pieces = zip(self.mlps, f.split(D, dim=1), self.damp, strict=False)
        return torch.cat([damp * mlp(piece[None])[0] for mlp, piece, damp in pieces], dim=1)


def measured(model: Model, documents: list[Any], dictionary: Any, **more: Any) -> dict[str, float | None]:
    entries = [Entry("mlps", "method", dictionary, trained_on=frozenset())]
    result = evaluate(entries, model=model, documents=documents, alone=True, quiet=True, resamples=50, **more)
    return {o.metric: o.value for o in result.outcomes if o.split == "test"}


@pytest.mark.parametrize("layers", [(0,), (1,), (0, 1)])
def test_the_mlp_itself_is_a_perfect_transcoder(model, documents, layers) -> None:
    found = measured(model, documents, Mlps(model, layers))
    assert found["fvu"] == pytest.approx(0.0, abs=1e-9)
    assert found["gamma"] == pytest.approx(1.0, abs=1e-5)
    assert found["delta_loss"] == pytest.approx(0.0, abs=1e-5)
    assert found["loss_recovered_zero"] == pytest.approx(1.0, abs=1e-4)
    assert found["loss_recovered_mean"] == pytest.approx(1.0, abs=1e-4)


def test_each_target_has_an_fvu_of_its_own(model, documents) -> None:
    """Only layer 1 is damped, so only its FVU is off, and by what a plain loop over documents gives."""
    from assay.activations import half_of

    found = measured(model, documents, Mlps(model, (0, 1), damp=(1.0, 0.5)))
    assert found["fvu@mlp_out.0"] == pytest.approx(0.0, abs=1e-9)
    rows: list[torch.Tensor] = []
    for document in documents:
        if half_of(document.id) == "test":
            ids = torch.tensor([[0, *model.tokenizer(document.text)["input_ids"]]])
            with torch.no_grad():
                rows.append(read(model, ids, None, ["mlp_out.1"])["mlp_out.1"][0, ids[0] != 0])
    y = torch.cat(rows).double()
    expected = float((0.5 * y).pow(2).sum() / (y - y.mean(0)).pow(2).sum())
    assert found["fvu@mlp_out.1"] == pytest.approx(expected, rel=1e-5)
    assert 0 < found["fvu"] < found["fvu@mlp_out.1"]
    assert found["gamma"] < 1
    assert found["delta_loss"] != pytest.approx(0.0, abs=1e-4)


def test_targets_are_spliced_and_not_what_is_read(model, documents) -> None:
    """With zeros predicted, the loss is that of a model whose MLP writes nothing: zero ablation, recovered 0."""
    found = measured(model, documents, Mlps(model, (1,), damp=(0.0,)))
    assert found["loss_recovered_zero"] == pytest.approx(0.0, abs=1e-5)


def test_rows_without_a_model_know_targets_too(model) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, D, generator=rng)
    with torch.no_grad():
        y = model.hf.transformer.h[0].mlp(x[None])[0]
    names = [document_id(f"document {i // 10}") for i in range(200)]
    source = TensorSource({"mlp_in.0": x, "mlp_out.0": y}, documents=names)
    entries = [Entry("mlps", "method", Mlps(model, (0,)), trained_on=frozenset())]
    result = evaluate(entries, store=source, alone=True, quiet=True, resamples=50)
    fvu = next(o for o in result.outcomes if o.metric == "fvu" and o.split == "test")
    assert fvu.value == pytest.approx(0.0, abs=1e-9)


def test_different_targets_are_refused_in_one_sentence(model, documents) -> None:
    other = Mlps(model, (0,))
    other.provenance = {"site": "mlp_in.0", "target": "mlp_out.1"}
    entries = [Entry("one", "method", Mlps(model, (0,))), Entry("two", "baseline", other)]
    with pytest.raises(BadInput, match=r"predict different sites: mlp_out\.0 \(arm one\) and mlp_out\.1 \(arm two\)"):
        evaluate(entries, model=model, documents=documents, quiet=True)


def test_a_name_of_several_sites() -> None:
    assert each("mlp_in.0, mlp_in.1") == ("mlp_in.0", "mlp_in.1")
    assert each("resid_post.3") == ("resid_post.3",)
