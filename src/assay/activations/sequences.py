"""What evaluation reads: whole documents, unpacked, with the mask of what counts; and rows of a source by document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.activations.source import Source, check_finite, chosen_sites
from assay.activations.stream import kept_rows
from assay.activations.table import TEXT, Blocks, IntArray
from assay.activations.text import split_of
from assay.core.errors import BadInput, BadOption


class SequenceBatch(NamedTuple):
    """Blocks as a model reads them. All tensors are [batch, pos]; padding is at the right."""

    ids: Tensor  # int64
    mask: Tensor  # int64, 1 token, 0 padding
    keep: Tensor  # bool, text tokens: spliced and counted; special tokens and padding pass untouched
    position: Tensor  # int64, place among the document's own tokens, -1 for special tokens and padding
    documents: list[str]  # one id a row of the batch


class RowBatch(NamedTuple):
    """Text rows in table order."""

    activations: dict[str, Tensor]  # {site: float32 [n, width]}
    documents: IntArray  # int32 [n], index into `source.table.documents`, -1 for none
    rows: IntArray  # int64 [n], table rows


def evaluation_batches(blocks: Blocks, batch_size: int = 16) -> Iterator[SequenceBatch]:
    """The blocks of `unpacked(...)`, in their order, padded to the longest of each batch."""
    if blocks.packed:
        raise BadInput("These blocks are packed; evaluation keeps documents apart: make them with `unpacked`.")
    if batch_size < 1:
        raise BadOption(f"--batch-size is {batch_size}; it must be at least 1.")
    table = blocks.table
    for first in range(0, len(blocks), batch_size):
        chosen = np.arange(first, min(first + batch_size, len(blocks)))
        ids, mask, rows = blocks.batch(chosen)
        held = mask.bool()
        keep = torch.zeros_like(held)
        keep[held] = torch.from_numpy(table.role[rows] == TEXT)
        position = torch.full_like(ids, -1)
        position[held] = torch.from_numpy(table.position[rows].astype(np.int64))
        documents = [table.documents[i] for i in table.document[table.starts[chosen]]]
        yield SequenceBatch(ids, mask, keep, position, documents)


def evaluation_rows(
    source: Source,
    sites: Sequence[str] | None = None,
    *,
    splits: Sequence[str] | None = ("validation", "test"),
    rule: Callable[[str], str] = split_of,
    batch_rows: int = 8192,
) -> Iterator[RowBatch]:
    """Text rows of the given splits, in document order; all of them when `splits` is None or no row has a document.

    `rule` is `split_of`, or `half_of` for text that serves evaluation alone. Raises `BadInput` when no row qualifies.
    """
    chosen, table = chosen_sites(source, sites), source.table
    rows = np.flatnonzero(kept_rows(table, splits, rule))
    if not len(rows):
        raise BadInput(f"No text row belongs to {' or '.join(splits or ('any split',))}; more documents are needed.")
    for first in range(0, len(rows), batch_rows):
        part = rows[first : first + batch_rows]
        got = {site: x.float() for site, x in source.fetch(part, chosen).items()}
        for site, x in got.items():
            check_finite(site, x, part, table)
        yield RowBatch(got, table.document[part], part)
