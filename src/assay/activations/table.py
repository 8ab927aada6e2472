"""What every activation row knows about itself, and the blocks of tokens that rows come from.

Row r of a table is token r of the blocks laid end to end; padding has no row. Rows of block b are
`starts[b] .. starts[b+1]-1`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from assay.activations.tokens import Frame

TEXT, SPECIAL = 0, 1  # values of `role`
IntArray = np.ndarray


@dataclass(frozen=True)
class Table:
    """Columns of n_rows rows in n_blocks blocks.

    token_id int32 [n_rows] | document int32 [n_rows], index into `documents`, -1 for none | position int32 [n_rows],
    index of the token among the document's own tokens, -1 for tokens that frame it (BOS, [CLS], [SEP]) |
    role uint8 [n_rows], 0 text, 1 special | block_rows int32 [n_blocks] | documents: ids of 16 hex digits.
    """

    token_id: IntArray
    document: IntArray
    position: IntArray
    role: IntArray
    block_rows: IntArray
    documents: tuple[str, ...]

    @property
    def n_rows(self) -> int:
        return len(self.role)

    @property
    def n_blocks(self) -> int:
        return len(self.block_rows)

    @cached_property
    def starts(self) -> IntArray:
        """int64 [n_blocks + 1]: first row of each block."""
        return np.concatenate([[0], np.cumsum(self.block_rows, dtype=np.int64)])

    @property
    def special(self) -> IntArray:
        """bool [n_rows]: true for BOS, EOS and other special tokens, which are never trained on."""
        return self.role != TEXT

    def document_of(self, row: int) -> str | None:
        index = int(self.document[row])
        return None if index < 0 else self.documents[index]


@dataclass(frozen=True)
class Blocks:
    """Token blocks with their table: what a model reads, in the order in which a store keeps it.

    `packed`: for training, documents run on from block to block; otherwise one document a block, cut at `context`.
    `n_truncated`: documents that were cut.
    """

    table: Table
    frame: Frame
    context: int
    packed: bool
    n_truncated: int = 0

    def __len__(self) -> int:
        return self.table.n_blocks

    def batch(self, blocks: IntArray | range) -> tuple[Tensor, Tensor, IntArray]:
        """ids int64 [n, longest], mask int64 [n, longest] (1 = token, 0 = padding at the right), rows int64 [sum of
        tokens]: the table rows that `activations[mask.bool()]` are.
        """
        import torch

        chosen = np.asarray(blocks, dtype=np.int64)
        lengths = self.table.block_rows[chosen].astype(np.int64)
        mask = np.arange(lengths.max())[None, :] < lengths[:, None]
        rows = (self.table.starts[chosen][:, None] + np.arange(lengths.max())[None, :])[mask]
        ids = np.full(mask.shape, self.frame.pad_id, dtype=np.int64)
        ids[mask] = self.table.token_id[rows]
        return torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), rows

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides the rows; a resumed harvest compares it."""
        digest = hashlib.sha256(f"{self.context} {self.packed} {self.frame}".encode())
        table = self.table
        for column in (table.token_id, table.document, table.position, table.role, table.block_rows):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update("".join(table.documents).encode())
        return digest.hexdigest()
