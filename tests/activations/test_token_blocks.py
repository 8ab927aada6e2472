"""Text to blocks: BOS of every kind of model, roles, positions, long documents; checked against a loop by hand."""

from __future__ import annotations

import numpy as np
import pytest

from assay.activations import Document, Frame, document_id, pack, unpacked
from assay.core.errors import BadInput, BadOption


def named(*texts: str) -> list[Document]:
    return [Document(document_id(t), t) for t in texts]


def rows_of(blocks) -> list[list[tuple[int, int, int, int]]]:
    """Per block: (token, document, position, role)."""
    t = blocks.table
    rows = list(zip(t.token_id.tolist(), t.document.tolist(), t.position.tolist(), t.role.tolist()))
    return [rows[a:b] for a, b in zip(t.starts, t.starts[1:])]


def by_hand(documents, model, context: int) -> list[list[tuple[int, int, int, int]]]:
    """One token at a time: BOS before a document and at the start of a block."""
    blocks, block = [], []
    for index, document in enumerate(documents):
        for place, word in enumerate(document.text.split()):
            token = model.tokenizer.convert_tokens_to_ids(word)
            if len(block) == context:
                blocks, block = [*blocks, block], []
            if model.bos_id is not None and (place == 0 or not block):
                block.append((model.bos_id, index, -1, 1))
                if len(block) == context:
                    blocks, block = [*blocks, block], [(model.bos_id, index, -1, 1)]
            block.append((token, index, place, int(token in model.special_ids)))
    return [*blocks, block]


@pytest.mark.parametrize("context", [4, 7, 16, 64])
@pytest.mark.parametrize("which", ["bos_zero", "no_bos"])
def test_packing_equals_a_loop_over_tokens(which, context, stories, request):
    model = request.getfixturevalue(which)
    blocks = pack(stories, model, context=context)
    assert rows_of(blocks) == by_hand(stories, model, context)
    assert set(blocks.table.block_rows[:-1].tolist()) == {context}
    assert blocks.packed
    assert blocks.table.documents == tuple(d.id for d in stories)


def test_bos_id_zero_counts_and_is_not_doubled(bos_zero):
    assert bos_zero.bos_id == 0
    assert bos_zero.tokenizer("w1")["input_ids"][0] == 0  # the tokenizer would add one of its own
    for text in ("w1 w2", "<bos> w1 w2"):
        assert pack(named(text), bos_zero, context=8).table.token_id.tolist() == [0, 4, 5]
        assert unpacked(named(text), bos_zero, context=8).table.token_id.tolist() == [0, 4, 5]


def test_a_model_without_bos_gets_none_and_the_frame_says_so(no_bos):
    blocks = pack(named("w1 w2", "w3"), no_bos, context=8)
    assert blocks.table.token_id.tolist() == [4, 5, 6]
    assert not blocks.table.special.any()
    assert Frame.of(no_bos).record()["prefix"] == []


def test_special_tokens_inside_a_text_are_special_too(no_bos):
    blocks = pack(named("w1 <eos> w2 nonsense"), no_bos, context=8)
    assert blocks.table.role.tolist() == [0, 1, 0, 0]  # an unknown word is text
    assert blocks.table.position.tolist() == [0, 1, 2, 3]


def test_encoders_get_their_tokenizers_frame_and_one_document_a_block(encoder):
    long = " ".join(f"w{i}" for i in range(10))
    blocks = pack(named("w1 w2", long), encoder, context=8)
    assert rows_of(blocks) == [
        [(1, 0, -1, 1), (6, 0, 0, 0), (7, 0, 1, 0), (2, 0, -1, 1)],
        [(1, 1, -1, 1), *((5 + i, 1, i, 0) for i in range(6)), (2, 1, -1, 1)],
        [(1, 1, -1, 1), *((5 + i, 1, i, 0) for i in range(6, 10)), (2, 1, -1, 1)],
    ]
    assert blocks.table.token_id[:4].tolist() == encoder.tokenizer("w1 w2")["input_ids"]
    ids, mask, rows = blocks.batch(np.array([0, 2]))
    assert ids.tolist() == [[1, 6, 7, 2, 0, 0], [1, 11, 12, 13, 14, 2]]
    assert mask.sum(1).tolist() == [4, 6]
    assert rows.tolist() == [0, 1, 2, 3, 12, 13, 14, 15, 16, 17]


def test_evaluation_keeps_documents_apart_and_counts_what_it_cuts(bos_zero, stories):
    blocks = unpacked(stories, bos_zero, context=32)
    lengths = [len(d.text.split()) for d in stories]
    assert blocks.table.block_rows.tolist() == [min(n + 1, 32) for n in lengths]
    assert blocks.n_truncated == sum(n > 31 for n in lengths)
    assert blocks.table.document.tolist() == [i for i, n in enumerate(lengths) for _ in range(min(n + 1, 32))]


def test_no_document_is_begun_past_max_tokens(bos_zero, stories):
    blocks = pack(stories, bos_zero, context=16, max_tokens=100)
    lengths = np.cumsum([len(d.text.split()) for d in stories])
    assert len(blocks.table.documents) == int(np.argmax(lengths >= 100)) + 1


def test_bad_contexts_and_empty_text_are_refused(bos_zero):
    with pytest.raises(BadOption, match="--context is 65; bos-zero reads between 4 and 64"):
        pack(named("w1"), bos_zero, context=65)
    with pytest.raises(BadInput, match="no tokens"):
        pack([], bos_zero)
    assert pack(named("w1"), bos_zero).context == 64


def test_digest_tells_texts_and_contexts_apart(bos_zero, stories):
    digests = {pack(s, bos_zero, context=c).digest for s in (stories, stories[1:]) for c in (16, 32)}
    assert len(digests) == 4
    assert pack(stories, bos_zero, context=16).digest in digests
