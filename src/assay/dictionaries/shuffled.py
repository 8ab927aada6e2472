r"""Control: TopK trained on activations whose coordinates were shuffled independently over the rows of each batch.

    x~_bj = x_(s_j(b)) j,   s_j(b) = p((b + o_j) mod B),   p a random permutation of the B rows, o_j random offsets, different where d <= B

Every coordinate keeps its values, and what they do together is gone: no direction is there to be found. Measured on true activations.
Source: the sheets of this project ask for it beside the controls of arXiv 2602.14111; the permutation within each dimension is the
usual null of a factor analysis (Horn 1965, parallel analysis).
Differs from the paper: s_j are shifts of one permutation, which costs one look-up, and never pair two coordinates of one row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.config import config
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk


@config
class Config(TopkConfig):
    """Options of the shuffled control: those of topk."""


class Shuffled(Topk):
    Config = Config
    role = "control"

    def training_batch(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        mixed = shuffled(x, rng)
        return mixed, (mixed if y is x else shuffled(y, rng))


def shuffled(x: Tensor, rng: torch.Generator) -> Tensor:
    """x [n, d] with every column permuted over the rows."""
    n, d = x.shape
    order = torch.randperm(n, generator=rng)
    offsets = torch.cat([torch.randperm(n, generator=rng) for _ in range(-(-d // n))])[:d]
    index = order[(torch.arange(n)[:, None] + offsets) % n]
    return x.gather(0, index.to(x.device))
