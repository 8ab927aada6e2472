"""The model's own losses: clean, with the site ablated, and with a reconstruction in its place.

Kept positions are changed; special tokens and padding pass untouched. A loss is counted where its target is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.activations import each
from assay.evaluation.readings import Reading, singles, with_activations
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
    """A model that is listened to at the sites that are read, and changed at those that are predicted (`target`).

    Several targets are changed all at once, each by what was predicted from the clean run.
    """

    def __init__(self, model: Any, site: str, target: str, mean: Tensor) -> None:
        self.model, self.site, self.target, self.mean = model, site, target, mean
        self.targets = each(target)
        self.widths = [model.width(single) for single in self.targets]

    @torch.no_grad()
    def listen(self, reading: Reading) -> tuple[Reading, Losses]:
        """Run the model over a reading clean and ablated; the reading comes back with its activations."""
        heard: dict[str, Tensor] = {}

        def see(single: str) -> Edit:
            return Edit(single, lambda h, where: heard.setdefault(single, h))

        with edited(self.model, [see(single) for single in singles(self.site, self.target)]):
            clean = self._counted(reading)
        zero = self._ablated(reading, ["zero"] * len(self.targets))
        mean = self._ablated(reading, list(self.mean.split(self.widths)))
        full = with_activations(reading, heard, self.site, self.target)
        return full, Losses(documents_of_targets(reading), clean, zero, mean)

    def _ablated(self, reading: Reading, by: Sequence[Any]) -> Tensor:
        """Losses [m] with every target ablated, each in its own way."""
        with ExitStack() as stack:
            for single, what in zip(self.targets, by, strict=True):
                stack.enter_context(ablated(self.model, single, what, keep=reading.keep))
            return self._counted(reading)

    @torch.no_grad()
    def spliced(self, reading: Reading, x_hat: Tensor) -> Tensor:
        """Losses [m] with x_hat [n, d_out] in the place of the kept activations of the target."""
        assert reading.keep is not None
        kept = reading.keep

        def put(single: str, piece: Tensor) -> Edit:
            return Edit(single, lambda h, where: h.index_put((kept,), piece.to(h)))

        pieces = zip(self.targets, x_hat.split(self.widths, dim=1), strict=True)
        with edited(self.model, [put(single, piece) for single, piece in pieces]):
            return self._counted(reading)

    def largest_change(self, reading: Reading, x_hat: Tensor, clean: Tensor) -> float:
        """The splice check: the largest change of a token's loss, in nats, when x̂ + (x − x̂) is put back."""
        return float((self.spliced(reading, x_hat + (reading.y - x_hat)) - clean).abs().max())

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
