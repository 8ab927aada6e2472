"""Where in a text a value stands: what an edit may look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

#: Names of the codes in `Where.role`.
ROLES = ("padding", "special", "text")


@dataclass(frozen=True)
class Where:
    """Facts about each [batch, pos] of a forward pass.

    All are [batch, pos]. They do not depend on the side of the padding nor on a key-value cache; with a cache `pos`
    runs over the columns of this step alone.
    """

    token_ids: Tensor
    """int64: the token whose column this is."""
    attention_mask: Tensor
    """bool: true at real tokens, false at padding."""
    positions: Tensor
    """int64: how many real tokens stand before this one; -1 at padding."""
    generated: Tensor
    """bool: true at tokens that the model wrote itself, false in the prompt."""
    special_ids: frozenset[int]
    """Ids of BOS, EOS, separators and the like."""

    @cached_property
    def special(self) -> Tensor:
        """bool: true at special tokens that are not padding."""
        known = torch.tensor(sorted(self.special_ids), dtype=self.token_ids.dtype, device=self.token_ids.device)
        return torch.isin(self.token_ids, known) & self.attention_mask

    @cached_property
    def role(self) -> Tensor:
        """int64: index into `ROLES`."""
        return torch.where(self.attention_mask, torch.where(self.special, 1, 2), 0)

    @classmethod
    def of(
        cls, token_ids: Tensor, attention_mask: Tensor, special_ids: frozenset[int], n_prompt: int | None = None
    ) -> Where:
        """From this step's ids [batch, pos] and the mask of all columns so far [batch, past + pos].

        Columns from `n_prompt` on were generated; None: none were.
        """
        n_columns, n_new = attention_mask.shape[1], token_ids.shape[1]
        mask = attention_mask.bool()
        columns = torch.arange(n_columns, device=mask.device)[n_columns - n_new :]
        generated = columns >= (n_columns if n_prompt is None else n_prompt)
        return cls(
            token_ids=token_ids,
            attention_mask=mask[:, n_columns - n_new :],
            positions=torch.where(mask, mask.cumsum(1) - 1, -1)[:, n_columns - n_new :],
            generated=generated.expand(token_ids.shape) & mask[:, n_columns - n_new :],
            special_ids=special_ids,
        )
