"""The three ways to choose which pairs (row, latent) of u [B, F] may be on.

`Top` and `BatchTop` *are* the equation of an architecture, ties going to the lower index; `Above` may choose a superset of what
is on, the architecture's `pairs` decides. Unsigned keys are relu(u + key_bias), and a pair with key 0 is never chosen (its code
is 0 either way); signed keys are |u + key_bias|.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Above:
    """Pairs with u > threshold; threshold [F]."""

    threshold: Tensor


@dataclass(frozen=True)
class Top:
    """The k pairs of largest key in each row; scope: of all latents together, or of each block of a wiring."""

    k: int
    key_bias: Tensor | None = None
    signed: bool = False
    scope: Literal["all", "block"] = "all"


@dataclass(frozen=True)
class BatchTop:
    """The B * k pairs of largest key in the whole batch; ties go to the lower row, then the lower latent."""

    k: int
    key_bias: Tensor | None = None
    signed: bool = False
    scope: Literal["all", "block"] = "all"


Selection = Above | Top | BatchTop


def keys(u: Tensor, selection: Top | BatchTop) -> Tensor:
    """What `Top` and `BatchTop` rank, same shape as u: non-negative."""
    key = uncut(u, selection)
    return key if selection.signed else key.relu()


def uncut(u: Tensor, selection: Top | BatchTop) -> Tensor:
    """Keys that are not cut off at 0, for those who take none that is not positive: a pass over u less."""
    shifted = u if selection.key_bias is None else u + selection.key_bias
    return shifted.abs() if selection.signed else shifted
