"""How large the first step's support will be, from a few of its rows: so that the choice between the dense and the sparse path is made
for it as for every later step, from |S|. Taking it for large costs a dense step, and with it several tensors of batch x d_sae floats:
the peak of a whole run's memory."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.dictionaries import DENSE, Dictionary

ROWS = 32  # looked at


@torch.no_grad()
def first_support(dictionary: Dictionary, x: Tensor, progress: float, kernel: ModuleType) -> int:
    """About how many pairs of the whole batch are on, of which x [rows, d_in] is this process's part; the same in all processes."""
    if dictionary.step == DENSE:
        return 0
    some = x[:ROWS]
    found = len(dictionary.support(some, training=True, progress=progress, kernel=kernel))
    in_all = distribution.total(latent_shards.summed(torch.tensor(found, device=x.device)))
    return int(in_all) * len(x) // len(some)
