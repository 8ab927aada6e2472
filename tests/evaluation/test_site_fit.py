"""A dictionary whose file names another site than it was trained on is caught, and the site that it fits is named."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from known_dictionaries import D
from torch import Tensor

from assay.activations import Document
from assay.core.errors import BadOption
from assay.evaluation import Entry, Evaluation, evaluate
from assay.models import Model, read

FOREIGN = {"read_from": {"format": "saelens"}}


class Principal:
    """The k principal directions of activations y around their mean, read from x by least squares."""

    def __init__(self, x: Tensor, y: Tensor, k: int, wiring: str = "sae", **provenance: Any) -> None:
        self.mean_in, self.mean = x.mean(0), y.mean(0)
        self.W_dec = torch.linalg.svd(y - self.mean, full_matrices=False).Vh[:k]
        self.W_enc = torch.linalg.lstsq(x - self.mean_in, (y - self.mean) @ self.W_dec.T).solution
        self.config = SimpleNamespace(d_in=x.shape[1], d_sae=k, wiring=wiring)
        self.provenance = provenance

    def encode(self, x: Tensor) -> Tensor:
        return (x - self.mean_in) @ self.W_enc

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W_dec + self.mean


@pytest.fixture
def rows(model: Model, documents: list[Document]) -> Callable[[str], Tensor]:
    def at(site: str) -> Tensor:
        found = []
        for document in documents:
            ids = torch.tensor([model.tokenizer.encode(document.text)])
            found.append(read(model, ids, torch.ones_like(ids), [site])[site][0])
        return torch.cat(found)

    return at


@pytest.fixture
def measured(model: Model, documents: list[Document]) -> Callable[..., Evaluation]:
    def run(dictionary: Any, **options: Any) -> Evaluation:
        return evaluate(
            [Entry("theirs", "method", dictionary)], model=model, documents=documents, alone=True, language=False,
            resamples=50, quiet=True, **options,
        )  # fmt: skip

    return run


def about_sites(result: Evaluation) -> list[str]:
    return [alarm for alarm in result.alarms if "reads like" in alarm or "fits none" in alarm]


def test_a_wrong_site_in_the_metadata_is_named_with_the_right_one(rows, measured) -> None:
    x = rows("mlp_out.0")
    wrong = Principal(x, x, 10, site="blocks.0.hook_resid_post", **FOREIGN)
    (said,) = about_sites(measured(wrong))
    assert "says that it reads resid_post.0" in said and "reads like one of mlp_out.0" in said
    assert "--site mlp_out.0" in said
    right = Principal(x, x, 10, site="mlp_out.0", **FOREIGN)
    result = measured(right)
    assert about_sites(result) == []
    assert measured(wrong, site="mlp_out.0").alarms[-1].endswith("it was measured at mlp_out.0, as asked.")


def test_the_same_values_under_another_name_are_no_alarm(rows, measured) -> None:
    x = rows("resid_post.0")
    assert torch.equal(x, rows("resid_pre.1"))
    assert about_sites(measured(Principal(x, x, 10, site="resid_post.0", **FOREIGN))) == []


class Sharp(Principal):
    """What lies outside its directions comes back six times as large: little at its own site, far too much at another."""

    def encode(self, x: Tensor) -> Tensor:
        inside = super().encode(x)
        return torch.cat([inside, 6 * (x - self.mean - inside @ self.W_dec)], dim=1)

    def decode(self, f: Tensor) -> Tensor:
        return super().decode(f[:, : len(self.W_dec)]) + f[:, len(self.W_dec) :]


def test_a_dictionary_of_our_own_is_asked_only_when_it_is_worse_than_the_mean(rows, measured) -> None:
    x = rows("mlp_out.0")
    assert about_sites(measured(Principal(x, x, 10, site="resid_post.0"))) == []
    result = measured(Sharp(x, x, 13, site="resid_post.0"))
    assert any("has FVU" in alarm for alarm in result.alarms)
    (said,) = about_sites(result)
    assert "reads like one of mlp_out.0" in said


def test_one_that_fits_nowhere_is_said_to_belong_to_another_model(rows, measured) -> None:
    x = rows("mlp_out.0")
    lost = Principal(x, x, 10, site="resid_post.0", **FOREIGN)
    lost.mean = lost.mean + 100 * x.std()
    result = measured(lost)
    (said,) = about_sites(result)
    assert "fits none of the" in said and any("has FVU" in alarm for alarm in result.alarms)


def test_a_transcoder_whose_target_is_wrong_is_told_so(rows, measured) -> None:
    x, y = rows("resid_mid.0"), rows("mlp_out.0")
    coder = Principal(x, y, 14, wiring="transcoder", site="resid_mid.0", target="attn_out.1", **FOREIGN)
    (said,) = about_sites(measured(coder))
    assert "says that it predicts attn_out.1" in said and "--target mlp_out.0" in said
    del coder.provenance["target"]
    with pytest.raises(BadOption, match="does not say which site it predicts; name it with --target"):
        measured(coder)
    assert about_sites(measured(coder, target="mlp_out.0")) == []


def test_a_store_is_asked_too(rows, model, documents, tmp_path) -> None:
    from assay.activations import Store, harvest, unpacked

    blocks = unpacked(documents, model, quiet=True)
    harvest(model, ["resid_post.0", "mlp_out.0"], blocks, tmp_path / "acts", quiet=True)
    x = rows("mlp_out.0")
    result = evaluate(
        [Entry("theirs", "method", Principal(x, x, 10, site="resid_post.0", **FOREIGN))],
        store=Store.open(tmp_path / "acts"), alone=True, resamples=50, quiet=True,
    )  # fmt: skip
    (said,) = about_sites(result)
    assert "reads like one of mlp_out.0" in said and x.shape[1] == D
