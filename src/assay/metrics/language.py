"""What a reconstruction costs the language model that it is put back into. Losses are nats a token, tensors [n].

    loss recovered  1 − (CE_spliced − CE_clean) / (CE_ablated − CE_clean)
                    = Σ(CE_ablated − CE_spliced) / Σ(CE_ablated − CE_clean)
    delta loss      mean of CE_spliced − CE_clean

The ablation, "zero" or "mean", must be said. Where zero ablation destroys the model (residual streams) loss recovered
is always high, which is why delta loss stands beside it. It may exceed 1, and its denominator is negative where
ablating helps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.metrics.ratio import Terms, pooled


def loss_recovered_terms(clean: Tensor, spliced: Tensor, ablated: Tensor) -> Terms:
    ablated = ablated.double()
    return ablated - spliced.double(), ablated - clean.double()


def loss_recovered(clean: Tensor, spliced: Tensor, ablated: Tensor) -> float:
    """Share of the loss between ablated and clean that the splice wins back; losses of the same tokens [n].

    >>> import torch
    >>> loss_recovered(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.5]), torch.tensor([3.0, 4.0]))
    0.75
    """
    return pooled(loss_recovered_terms(clean, spliced, ablated))


def delta_loss_terms(clean: Tensor, spliced: Tensor) -> Terms:
    return spliced.double() - clean.double(), torch.ones_like(clean, dtype=torch.float64)


def delta_loss_nats(clean: Tensor, spliced: Tensor) -> float:
    return pooled(delta_loss_terms(clean, spliced))
