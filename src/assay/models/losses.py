"""How well a model predicts each token."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from assay.models.model import Model


def token_losses(model: Model, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats [batch, pos - 1], float32: entry t is that of token t + 1 given those up to t.

    0 where either of the two is padding: divide by `mask[:, 1:] & mask[:, :-1]`, not by the size. Raises `BadInput` for
    encoders.
    """
    model.require_causal("cross-entropy; reconstruction metrics still apply")
    ids, mask = model.checked(input_ids, attention_mask)
    logits = model.logits(ids, mask)[:, :-1]
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    losses = losses.view(logits.shape[:2])
    return losses if mask is None else losses.where(mask[:, 1:] & mask[:, :-1], 0.0)
