"""What evaluation reads: whole documents, masks that hold, rows by split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.activations import (
    LiveSource,
    TensorSource,
    document_id,
    evaluation_batches,
    evaluation_rows,
    half_of,
    pack,
    split_of,
    unpacked,
)
from assay.core.errors import BadInput, BadOption


def test_batches_hold_each_document_once_with_its_masks(bos_zero, stories):
    blocks = unpacked(stories, bos_zero, context=32)
    names = []
    for batch in evaluation_batches(blocks, batch_size=7):
        assert batch.ids.shape == batch.mask.shape == batch.keep.shape == batch.position.shape
        for ids, mask, keep, position, name in zip(*batch):
            words = dict(stories)[name].split()[:31]
            n = len(words) + 1
            assert ids[:n].tolist() == [0, *bos_zero.tokenizer.convert_tokens_to_ids(words)]
            assert mask.tolist() == [1] * n + [0] * (len(mask) - n)
            assert keep.tolist() == [False] + [True] * (n - 1) + [False] * (len(mask) - n)
            assert position.tolist() == [-1, *range(n - 1)] + [-1] * (len(mask) - n)
        names += batch.documents
        assert int(batch.mask.sum(1).max()) == batch.ids.shape[1]
    assert names == [d.id for d in stories]


def test_packed_blocks_are_refused(bos_zero, encoder, stories):
    for model in (bos_zero, encoder):
        with pytest.raises(BadInput, match="evaluation keeps documents apart"):
            next(evaluation_batches(pack(stories, model)))
    with pytest.raises(BadOption, match="--batch-size is 0"):
        next(evaluation_batches(unpacked(stories, bos_zero), 0))


def test_rows_by_split_equal_the_kept_positions_of_the_sequences(bos_zero, stories):
    blocks = unpacked(stories, bos_zero, context=32)
    source = LiveSource(bos_zero, blocks, ["resid_post.1"])
    for rule, splits in ((split_of, ("validation", "test")), (half_of, ("test",)), (split_of, None)):
        got = list(evaluation_rows(source, splits=splits, rule=rule, batch_rows=100))
        documents = np.concatenate([b.documents for b in got])
        rows = np.concatenate([b.rows for b in got])
        x = torch.cat([b.activations["resid_post.1"] for b in got])
        chosen = [i for i, d in enumerate(stories) if splits is None or rule(d.id) in splits]
        assert sorted(set(documents.tolist())) == chosen
        expected = sum(min(len(stories[i].text.split()), 31) for i in chosen)
        assert len(rows) == len(documents) == len(x) == expected
        assert (np.diff(rows) > 0).all()
        assert max(len(b.rows) for b in got) == min(100, expected)
        torch.testing.assert_close(x, source.fetch(rows, ["resid_post.1"])["resid_post.1"], rtol=1e-4, atol=1e-5)


def test_rows_without_documents_are_all_read_and_none_is_an_error():
    x = torch.randn(50, 3)
    assert sum(len(b.rows) for b in evaluation_rows(TensorSource(x))) == 50
    train = next(n for i in range(99) if split_of(n := document_id(str(i))) == "train")
    with pytest.raises(BadInput, match="No text row belongs to validation or test"):
        next(evaluation_rows(TensorSource(x, documents=[train] * 50)))
