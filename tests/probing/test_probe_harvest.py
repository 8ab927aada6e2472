"""The harvest of a task: pooled vectors and codes are those of the text's own tokens, in the task's order, and come from the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import dictionaries, models
from assay.core import shipped
from assay.probing.features import Sparse
from assay.probing.harvest import Harvester, Named, pool_codes
from assay.probing.measure import reconstruction
from assay.probing.protocol import Material

SITE = "resid_post.0"
CONTEXT = 24


@pytest.fixture(scope="module")
def harvester(tmp_path_factory: pytest.TempPathFactory) -> Harvester:
    model = models.load("storyworld")
    rng = torch.Generator().manual_seed(1)
    d = model.width(SITE)
    made = []
    for arch, options in (("topk", {"d_sae": 70, "k": 5}), ("abstopk", {"d_sae": 70, "k": 5})):
        one = dictionaries.build(
            dictionaries.config_class(arch)(d_in=d, **options), rng, torch.randn(99, d, generator=rng)
        )
        with torch.no_grad():
            one.b_dec.add_(0.3)
        made.append(Named(arch, one.requires_grad_(False), f"{arch}-hash"))
    return Harvester(model, SITE, made, tmp_path_factory.mktemp("cache"), CONTEXT, keep_tokens=True)


def texts() -> list[str]:
    whole = [story["text"] for story in shipped.stories(limit=6)]
    return [whole[0], whole[1][:30], "Zoe", whole[2][:60], whole[3]]


def tokens_of(harvester: Harvester, text: str) -> torch.Tensor:
    """The activations of a text's own tokens [t, d], by the plain way: one text, no padding."""
    model = harvester.model
    own = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = [] if model.bos_id is None else [model.bos_id]
    ids = torch.tensor([[*bos, *own][:CONTEXT]])
    with torch.no_grad():
        return models.read(model, ids, None, [SITE])[SITE][0, len(bos) :]


def test_vectors_codes_and_tokens_are_those_of_each_text(harvester: Harvester) -> None:
    found = harvester.get(texts())
    assert found.n_cut == 2 and found.tokens is not None
    x_all, pointer = found.tokens
    for i, text in enumerate(texts()):
        x = tokens_of(harvester, text)
        assert int(found.n_tokens[i]) == len(x)
        assert torch.allclose(found.vectors["mean"][i], x.mean(0), atol=1e-4)
        assert torch.allclose(found.vectors["max"][i], x.amax(0), atol=1e-4)
        assert torch.allclose(found.vectors["last"][i], x[-1], atol=1e-4)
        assert torch.allclose(x_all[pointer[i] : pointer[i + 1]].float(), x, atol=2e-2)
        for named in harvester.dictionaries:
            f = named.dictionary.encode(x)
            rows = {
                pool: torch.from_numpy(codes.by_row[i].toarray())[0] for pool, codes in found.codes[named.name].items()
            }
            assert torch.allclose(rows["mean"], f.mean(0), atol=1e-4)
            assert torch.allclose(rows["last"], f[-1], atol=1e-4)
            largest = f.gather(0, f.abs().argmax(0, keepdim=True))[0]
            assert torch.allclose(rows["max"].abs(), largest.abs(), atol=1e-4)
    signed = found.codes["abstopk"]["max"].by_row.data
    assert (signed < 0).any()


def test_the_reconstruction_of_pooled_codes_is_the_pooled_reconstruction(harvester: Harvester) -> None:
    found = harvester.get(texts())
    for pool in ("mean", "last"):
        material = Material("t", texts(), found, pool)
        x_hat = reconstruction(harvester.dictionaries[0], material)
        for i, text in enumerate(texts()):
            per_token = harvester.dictionaries[0].dictionary(tokens_of(harvester, text))
            expected = per_token.mean(0) if pool == "mean" else per_token[-1]
            assert torch.allclose(x_hat[i], expected, atol=1e-4)


def test_the_cache_serves_the_same_texts_and_no_others(harvester: Harvester, monkeypatch: pytest.MonkeyPatch) -> None:
    before = harvester.get(texts())
    other = harvester.key([*texts()[:-1], "another"])
    assert other != harvester.key(texts())
    monkeypatch.setattr(Harvester, "_fill", lambda *a: pytest.fail("the model was run again"))
    again = harvester.get(texts())
    assert torch.equal(before.vectors["mean"], again.vectors["mean"])


def test_pooled_codes_do_not_depend_on_how_texts_are_batched() -> None:
    rng = np.random.default_rng(0)
    d = 6
    made = dictionaries.build(
        dictionaries.config_class("topk")(d_in=d, d_sae=20, k=3), torch.Generator().manual_seed(0), torch.randn(50, d)
    )
    made.requires_grad_(False)
    x = torch.from_numpy(rng.normal(size=(9, d))).float()
    count = torch.tensor([4, 1, 4])
    which = torch.repeat_interleave(torch.arange(3), count)
    whole = pool_codes(made, x, which, count, torch.tensor([7, 3, 5]))
    parts = [
        pool_codes(
            made, x[which == i], torch.zeros(int(count[i]), dtype=torch.int64), count[i : i + 1], torch.tensor([row])
        )
        for i, row in enumerate((7, 3, 5))
    ]
    joined = [torch.cat([part[n] for part in parts]) for n in range(5)]
    order_a, order_b = (t[0] * 100 + t[1] for t in (whole, joined))
    for a, b in zip(whole, joined, strict=True):
        assert torch.allclose(a[order_a.argsort()].float(), b[order_b.argsort()].float())


def test_sparse_sums_are_those_of_the_dense_matrix() -> None:
    rng = np.random.default_rng(1)
    dense = np.where(rng.random((30, 12)) < 0.3, rng.normal(size=(30, 12)), 0)
    row, latent = dense.nonzero()
    pointer = torch.from_numpy(np.concatenate([[0], np.bincount(row, minlength=30).cumsum()]))
    codes = Sparse.of(pointer, torch.from_numpy(latent), torch.from_numpy(dense[row, latent]).float(), (30, 12))
    rows = rng.permutation(30)[:20]
    masks = torch.from_numpy(rng.integers(0, 2, size=(3, 20))).float()
    first, second = codes.sums(rows, masks)
    assert np.allclose(first.numpy(), masks.numpy() @ dense[rows], atol=1e-5)
    assert np.allclose(second.numpy(), masks.numpy() @ dense[rows] ** 2, atol=1e-5)
    assert np.allclose(codes.columns(torch.tensor([4, 1])).numpy(), dense[:, [4, 1]], atol=1e-6)
    assert np.allclose(codes.sums(rows, masks)[0].numpy(), first.numpy())  # asked twice, the codes are unchanged
