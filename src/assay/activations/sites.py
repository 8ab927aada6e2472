"""Several sites under one name: "mlp_in.0,mlp_in.1" is what a dictionary reads when it reads both, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def each(site: str) -> tuple[str, ...]:
    """The single sites of a name: "mlp_in.0,mlp_in.1" -> ("mlp_in.0", "mlp_in.1")."""
    return tuple(part.strip() for part in site.split(",") if part.strip())


def together(values: Mapping[str, Tensor], site: str) -> Tensor:
    """The activations of every single site, concatenated on the last axis: [..., sum of widths]."""
    parts = [values[single] for single in each(site)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
