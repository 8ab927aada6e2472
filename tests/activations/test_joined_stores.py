"""Stores of several models side by side: the same rows, or a refusal that says where they part."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import models
from assay.activations import Joined, Stream, documents, harvest, of_split, pack
from assay.core.errors import BadInput, NotFound

SITE = "resid_post.0"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory):
    """The shipped model, the same with other weights, and the first one on other text."""
    folder = tmp_path_factory.mktemp("stores")
    one, two = models.load("storyworld"), models.load("storyworld")
    with torch.no_grad():
        for parameter in two.hf.parameters():
            parameter.mul_(1.1)
    for name, model, text in (
        ("base", one, "storyworld:12"),
        ("tuned", two, "storyworld:12"),
        ("other", one, "storyworld:11"),
    ):
        blocks = pack(of_split(documents(text), "train"), model, context=64, quiet=True)
        harvest(model, [SITE, "mlp_out.0"], blocks, folder / name, quiet=True)
    return folder


def test_rows_of_both_models_side_by_side(stores) -> None:
    both = Joined.open(stores / "base", stores / "tuned")
    assert isinstance(both, Joined)
    assert both.sites == [f"{n}:{s}" for n in ("base", "tuned") for s in (SITE, "mlp_out.0")]
    rows = np.array([3, 5, 40])
    got = both.fetch(rows, [f"tuned:{SITE}", f"base:{SITE}"])
    for name in ("base", "tuned"):
        own = Joined.open(stores / name).fetch(rows, [SITE])[SITE]
        assert torch.equal(got[f"{name}:{SITE}"], own)
    assert not torch.equal(got[f"base:{SITE}"], got[f"tuned:{SITE}"])
    stream = Stream(both, both.sites[::2], batch_size=16)
    batch = stream.batch(0)
    assert {site: tuple(x.shape) for site, x in batch.items()} == {s: (16, 96) for s in both.sites[::2]}


def test_other_tokens_are_refused_with_the_row_where_they_part(stores) -> None:
    with pytest.raises(
        BadInput, match=r"do not hold the same tokens: they have [\d,]+ and [\d,]+ rows and differ in token_id"
    ):
        Joined.open(stores / "base", stores / "other")
    with pytest.raises(BadInput, match="same folder name"):
        Joined.open(stores / "base", stores / "base")
    with pytest.raises(NotFound, match=r'no site "resid_post\.0"'):
        Joined.open(stores / "base", stores / "tuned").width(SITE)
