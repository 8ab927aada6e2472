"""The model's own losses: clean, with the site ablated, and with a reconstruction in its place.

Kept positions are changed; special tokens and padding pass untouched. A loss is counted where its target is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.evaluation.readings import Reading, with_activations
from assay.models import Edit, ablated, edited, token_losses

TOLERANCE_NATS = {torch.float32: 1e-3, torch.float64: 1e-6}  # of one token's loss in the splice check
HALF_TOLERANCE_NATS = 0.1  # bfloat16 and float16: x̂ + (x − x̂) is rounded to 8 or 11 bits


@dataclass(frozen=True)
class Losses:
    """Losses of the m counted target tokens of a reading, float64 [m] nats, and the document of each, int64 [m]."""

    document: Tensor
    clean: Tensor
    zero: Tensor
    mean: Tensor


class Speaker:
    """A model that is listened to at one site."""

    def __init__(self, model: Any, site: str, mean: Tensor) -> None:
        self.model, self.site, self.mean = model, site, mean

    @torch.no_grad()
    def listen(self, reading: Reading) -> tuple[Reading, Losses]:
        """Run the model over a reading clean and ablated; the reading comes back with its activations."""
        heard: list[Tensor] = []

        def see(h: Tensor, where: Any) -> Tensor:
            heard.append(h)
            return h

        with edited(self.model, [Edit(self.site, see)]):
            clean = self._counted(reading)
        with ablated(self.model, self.site, "zero", keep=reading.keep):
            zero = self._counted(reading)
        with ablated(self.model, self.site, self.mean, keep=reading.keep):
            mean = self._counted(reading)
        return with_activations(reading, heard[0]), Losses(documents_of_targets(reading), clean, zero, mean)

    @torch.no_grad()
    def spliced(self, reading: Reading, x_hat: Tensor) -> Tensor:
        """Losses [m] with x_hat [n, d] in the place of the kept activations."""
        assert reading.keep is not None
        kept = reading.keep

        def put(h: Tensor, where: Any) -> Tensor:
            return h.index_put((kept,), x_hat.to(h))

        with edited(self.model, [Edit(self.site, put)]):
            return self._counted(reading)

    def largest_change(self, reading: Reading, x_hat: Tensor, clean: Tensor) -> float:
        """The splice check: the largest change of a token's loss, in nats, when x̂ + (x − x̂) is put back."""
        return float((self.spliced(reading, x_hat + (reading.x - x_hat)) - clean).abs().max())

    def tolerance(self, x: Tensor, x_hat: Tensor) -> float:
        """What rounding alone may change; x̂ much longer than x costs digits of x."""
        longer = max(1.0, float(x_hat.abs().max()) / max(float(x.abs().max()), 1e-30))
        return TOLERANCE_NATS.get(self.model.dtype, HALF_TOLERANCE_NATS) * longer

    def _counted(self, reading: Reading) -> Tensor:
        assert reading.ids is not None
        losses = token_losses(self.model, reading.ids, reading.mask)
        return losses[targets(reading)].double().cpu()


def targets(reading: Reading) -> Tensor:
    """bool [batch, pos - 1]: losses that are counted, those of kept tokens that follow another token."""
    assert reading.keep is not None
    assert reading.mask is not None
    return reading.keep[:, 1:] & reading.mask[:, :-1].bool()


def documents_of_targets(reading: Reading) -> Tensor:
    """int64 [m]: the document of each counted target, in the order of `losses[targets]`."""
    assert reading.keep is not None
    keep = reading.keep.cpu()
    where = torch.zeros(keep.shape, dtype=torch.int64)
    where[keep] = reading.document
    return where[:, 1:][targets(reading).cpu()]
