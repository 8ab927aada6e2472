"""The main reading: every dictionary measured on every batch, and the model's own losses beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.core.progress import progress
from assay.evaluation import checks
from assay.evaluation.entry import Entry
from assay.evaluation.examples import Showing
from assay.evaluation.losses import Speaker
from assay.evaluation.measurement import Measurement
from assay.evaluation.readings import TEST, Live, Reading, Readings


class Pass:
    """The main reading: every dictionary measured on every batch."""

    def __init__(
        self, entries: Sequence[Entry], readings: Readings, means: Tensor, speaker: Speaker | None, showing: Showing
    ) -> None:
        self.readings, self.means, self.speaker = readings, means, speaker
        n_contexts = showing.n_contexts if showing.n_latents else 0
        self.measurements = [
            Measurement(entry, checks.subject_of(entry), readings.n_documents, n_contexts, readings.target_columns())
            for entry in entries
        ]
        self.splice_check: dict[str, Any] | None = None
        self._losses = torch.zeros(2, 3, dtype=torch.float64)  # side x (clean, zero, mean), summed
        self._n_losses = torch.zeros(2, dtype=torch.int64)

    def all(self, quiet: bool) -> None:
        chosen = self.readings.chosen
        with progress(len(chosen), f"evaluate {len(self.measurements)}", "documents", quiet=quiet) as bar:
            readings = self.readings
            if self.speaker is not None and isinstance(readings, Live):
                batches = readings.sequences()  # the speaker runs the model itself
            else:
                batches = readings.batches()
            for reading in batches:
                if self.speaker is None:
                    for m in self.measurements:
                        m.reconstruct(reading, self.readings.side, self.means)
                else:
                    self._with_losses(reading, self.speaker)
                bar.advance(reading.document.unique().numel())

    def _with_losses(self, reading: Reading, speaker: Speaker) -> None:
        reading, losses = speaker.listen(reading)
        side = torch.from_numpy(self.readings.side)[losses.document].long()
        three = torch.stack([losses.clean, losses.zero, losses.mean], dim=1)
        self._losses.index_add_(0, side, three)
        self._n_losses += torch.bincount(side, minlength=2)
        for m in self.measurements:
            x_hat = m.reconstruct(reading, self.readings.side, self.means)
            if self.splice_check is None:
                self.splice_check = self._check(reading, speaker, x_hat, losses.clean)
            m.losses(losses.document, losses.clean, losses.zero, losses.mean, speaker.spliced(reading, x_hat))

    def _check(self, reading: Reading, speaker: Speaker, x_hat: Tensor, clean: Tensor) -> dict[str, Any] | None:
        """Before any splice is believed: x̂ + (x − x̂) must leave the loss unchanged."""
        if not len(clean):
            return None
        change, tolerance = speaker.largest_change(reading, x_hat, clean), speaker.tolerance(reading.y, x_hat)
        if not change <= tolerance:
            raise AssertionError(
                f"Putting x̂ + (x − x̂) in the place of x at {speaker.target} changes a token's loss by {change:.3g} nats "
                f"(rounding explains {tolerance:.3g}); splicing is broken here, and no loss would mean anything."
            )
        n = int(reading.document.unique().numel())
        return {
            "documents": n,
            "max_abs_loss_change_nats": change,
            "tolerance_nats": tolerance,
            "passed": True,
        }

    def model_losses(self) -> dict[str, dict[str, float]] | None:
        """Mean loss per counted token of either split: clean, zero-ablated, mean-ablated."""
        if self.speaker is None:
            return None
        means = self._losses / self._n_losses.clamp(min=1).unsqueeze(1)
        return {
            name: dict(zip(("clean", "zero", "mean"), means[side].tolist()))
            for side, name in enumerate(self.readings.rule.names)
        }

    def alarms(self, place: str) -> list[str]:
        found: list[str] = []
        for m in self.measurements:
            if alarm := checks.fit_alarm(m.entry, m.ratio("fvu").value(self.readings.members(TEST)), place):
                found.append(alarm)
        if (losses := self.model_losses()) is not None:
            found += checks.ablation_alarms(losses[self.readings.rule.test], place)
        return list(dict.fromkeys(found))
