"""Documents to token blocks: packed for training, one document a block for evaluation.

A block is what the model reads at once. Models with a beginning-of-sequence token (id 0 counts) get it before every
document **and** at the start of every block, since models treat their first token as an anchor whose activation is an
outlier; a document that runs on into the next block is resumed after that block's own BOS. Models without one get
none. Encoders (BERT) get what their tokenizer puts around a text, and are never given two documents at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from assay.activations.table import SPECIAL, TEXT, Blocks, IntArray, Table
from assay.activations.text import Document
from assay.core.errors import BadInput, BadOption
from assay.core.progress import progress

DEFAULT_CONTEXT = 512  # tokens; less where the model holds less
DOCUMENTS_AT_ONCE = 512  # texts given to the tokenizer together


@dataclass(frozen=True)
class Frame:
    """What a model wants around text.

    prefix: (BOS,), ([CLS],) or (); suffix: ([SEP],) or (); special_ids: ids that are never trained on or spliced;
    pad_id: fills the right of short blocks, under the mask; packs: several documents may share a block.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    special_ids: frozenset[int]
    pad_id: int
    packs: bool

    @classmethod
    def of(cls, model: Any) -> Frame:
        """The frame of a model: its BOS for causal models, its tokenizer's own template for encoders."""
        if model.tokenizer is None:
            raise BadInput(f"{model.name} has no tokenizer; give a model folder that holds one.")
        prefix, suffix = ((), ()) if model.bos_id is None else ((int(model.bos_id),), ())
        if not model.is_causal_lm:
            prefix, suffix = _template(model.tokenizer)
        special = frozenset(model.special_ids) | set(prefix + suffix)
        return cls(prefix, suffix, special, int(model.pad_id), bool(model.is_causal_lm))

    def record(self) -> dict[str, Any]:
        """For provenance: what was put around the text and what is masked."""
        return {
            "prefix": list(self.prefix),
            "suffix": list(self.suffix),
            "special_ids": sorted(self.special_ids),
            "packs": self.packs,
        }


def _template(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer itself puts before and after a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = list(tokenizer("a", add_special_tokens=True)["input_ids"])
    for at in range(len(full) - len(bare) + 1):
        if bare and full[at : at + len(bare)] == bare:
            return tuple(full[:at]), tuple(full[at + len(bare) :])
    raise BadInput(
        'The tokenizer does not put special tokens around the plain tokens of "a"; such a frame is not supported.'
    )


def pack(
    documents: Iterable[Document],
    model: Any,
    *,
    context: int | None = None,
    max_tokens: int | None = None,
    quiet: bool = False,
) -> Blocks:
    """Blocks for training: every block is full (`context` tokens) but the last.

    Documents follow each other in their order and run on from block to block. Encoders get one piece of one document
    a block. No further document is begun once `max_tokens` text tokens are held.
    """
    building = _Building(frame := Frame.of(model), context := context_of(model, context))
    for document, ids in _tokenized(documents, model, quiet):
        if max_tokens is not None and building.n_text >= max_tokens:
            break
        index = building.enter(document)
        place = 0
        while place < len(ids):
            if not frame.packs or building.room == 0:
                building.close()
            if building.n_in_block == 0 or place == 0:
                building.special(frame.prefix, index)
            n = min(building.room - len(frame.suffix), len(ids) - place)
            building.text(ids[place : place + n], index, place)
            place += n
            building.special(frame.suffix, index)
    return building.blocks(packed=True)


def unpacked(documents: Iterable[Document], model: Any, *, context: int | None = None, quiet: bool = False) -> Blocks:
    """Blocks for evaluation: one document a block, cut at `context`; `n_truncated` counts those that were cut."""
    building = _Building(frame := Frame.of(model), context := context_of(model, context))
    n_truncated, room = 0, context - len(frame.prefix) - len(frame.suffix)
    for document, ids in _tokenized(documents, model, quiet):
        index = building.enter(document)
        n_truncated += len(ids) > room
        building.special(frame.prefix, index)
        building.text(ids[:room], index, 0)
        building.special(frame.suffix, index)
        building.close()
    return building.blocks(packed=False, n_truncated=n_truncated)


def context_of(model: Any, context: int | None) -> int:
    """The context to use: as asked, checked against the model's; by default the model's, 512 at most."""
    if context is None:
        return min(int(model.context), DEFAULT_CONTEXT)
    if not 4 <= context <= model.context:
        raise BadOption(f"--context is {context}; {model.name} reads between 4 and {model.context} tokens at once.")
    return context


class _Building:
    """Rows as they are laid down; one list entry per run of tokens, joined at the end."""

    def __init__(self, frame: Frame, context: int) -> None:
        self.frame, self.context = frame, context
        self.n_in_block = self.n_text = 0
        self._ids: list[IntArray] = []
        self._runs: list[tuple[int, int, int]] = []  # document, first position (-1 for framing), length
        self._block_rows: list[int] = []
        self._documents: list[str] = []

    @property
    def room(self) -> int:
        return self.context - self.n_in_block

    def enter(self, document: Document) -> int:
        self._documents.append(document.id)
        return len(self._documents) - 1

    def special(self, ids: tuple[int, ...], document: int) -> None:
        if ids:
            self._lay(np.asarray(ids[: self.room], dtype=np.int32), document, -1)

    def text(self, ids: IntArray, document: int, position: int) -> None:
        if len(ids):
            self._lay(ids, document, position)
            self.n_text += len(ids)

    def _lay(self, ids: IntArray, document: int, position: int) -> None:
        self._ids.append(ids)
        self._runs.append((document, position, len(ids)))
        self.n_in_block += len(ids)

    def close(self) -> None:
        if self.n_in_block:
            self._block_rows.append(self.n_in_block)
            self.n_in_block = 0

    def blocks(self, *, packed: bool, n_truncated: int = 0) -> Blocks:
        self.close()
        if not self.n_text:
            raise BadInput("The text has no tokens; give documents with at least one word.")
        token_id = np.concatenate(self._ids)
        document, first, n = np.array(self._runs, dtype=np.int64).T
        within = np.arange(len(token_id)) - np.repeat(np.cumsum(n) - n, n)
        first = np.repeat(first, n)
        is_special = (first < 0) | np.isin(token_id, np.fromiter(self.frame.special_ids, np.int32))
        table = Table(
            token_id=token_id,
            document=np.repeat(document, n).astype(np.int32),
            position=np.where(first < 0, -1, first + within).astype(np.int32),
            role=np.where(is_special, SPECIAL, TEXT).astype(np.uint8),
            block_rows=np.array(self._block_rows, dtype=np.int32),
            documents=tuple(self._documents),
        )
        return Blocks(table, self.frame, self.context, packed, n_truncated)


def _tokenized(documents: Iterable[Document], model: Any, quiet: bool) -> Iterator[tuple[Document, IntArray]]:
    """Documents with their own tokens, without what frames them; a leading BOS in the text itself is dropped."""
    tokenizer = model.tokenizer
    leading = model.bos_id if model.is_causal_lm else None
    given = iter(documents)
    total = getattr(documents, "limit", None) or 0
    with progress(total, "tokens", "documents", quiet=quiet) as bar:
        while chunk := list(islice(given, DOCUMENTS_AT_ONCE)):
            encoded = tokenizer(
                [d.text for d in chunk], add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            for document, ids in zip(chunk, encoded):
                ids = np.asarray(ids, dtype=np.int32)
                if leading is not None and len(ids) and ids[0] == leading:
                    ids = ids[1:]
                if len(ids):
                    yield document, ids
            bar.advance(len(chunk))
