"""Measure many dictionaries on one site with one reading of the evaluation documents.

1. One early-stopped reading of all documents for the mean of x on either split.
2. One more, in which every batch is run clean, zero-ablated, mean-ablated, and once with each dictionary's reconstruction in
   the place of the activations; each dictionary is encoded on the activations of the clean run. Sums are kept per document.
3. Intervals, verdicts and, from the few documents that hold them, the top activating contexts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact, provenance
from assay.core.errors import BadOption
from assay.core.intervals import summarise
from assay.core.outcome import Units
from assay.core.progress import progress
from assay.core.verdict import Comparison, compare
from assay.evaluation import checks, tables
from assay.evaluation.entry import Entry
from assay.evaluation.evaluation import Evaluation
from assay.evaluation.examples import Showing, examples, histogram, pieces
from assay.evaluation.losses import Speaker
from assay.evaluation.measurement import JUDGED, Measurement, declared
from assay.evaluation.readings import TEST, VALIDATION, Live, Reading, Readings, Stored, splitting
from assay.metrics.ratio import Mean

MASKS = (
    "Whole documents, never packed, cut at the context. Text tokens are spliced, ablated and measured; special tokens and "
    "padding pass untouched; losses are counted on text tokens that follow another token."
)
MEANS = (
    "FVU: per-dimension mean over the kept tokens of the same split. Mean ablation: per-dimension mean over the kept tokens "
    "of the validation documents, for both splits."
)


def evaluate(
    entries: Sequence[Entry],
    *,
    model: Any | None = None,
    site: str | None = None,
    documents: Iterable[Any] | None = None,
    store: Any | None = None,
    split: str = "halves",
    study: str = "evaluate",
    seed: int = 0,
    context: int | None = None,
    batch_tokens: int = 4096,
    allow_train: bool = False,
    alone: bool = False,
    language: bool = True,
    showing: Showing = Showing(),
    resamples: int = 10_000,
    quiet: bool = False,
    out: Path | str | None = None,
) -> Evaluation:
    """Measure the dictionaries of `entries` on one site. Give `model` with `documents` (records with .id and .text), or
    `store` (activations on disk; a model beside it only lends its tokenizer).

    site: canonical name or alias; None: the site in the dictionaries' provenance.
    split: "halves" (text for evaluation alone: half validation, half test), "hash" (the 5 % + 5 % of a text of which the
        other 90 % is for training and left out), or "shift:NAME" (as halves; the test half is called shift:NAME).
    alone: allow entries without a baseline or control; there are no verdicts then.
    language: measure loss recovered and delta loss (needs a causal model; otherwise they are null, with the reason).
    out: a free folder for the files of `evaluation.files`; None writes nothing.

    Raises `BadInput` for a width or site that does not fit, for documents that a dictionary was trained on (unless
    `allow_train`), for too few documents, for NaN; `BadOption` for contradictory arguments; `AssertionError` when putting
    x̂ + (x − x̂) in the place of x changes the model's loss, which would be our own fault.
    """
    roles = checks.arms(entries)
    rivals = checks.rivals(roles, alone)
    if out is not None:
        artefact.refuse_existing(Path(out))
    rule = splitting(split)
    readings: Readings
    if store is None:
        if model is None or documents is None:
            raise BadOption(
                "evaluate needs a model with documents, or a store of activations; neither was given whole."
            )
        site = checks.site_of(entries, site, model.canonical)
        readings = Live(model, site, documents, rule, context=context, batch_tokens=batch_tokens)
    else:
        if documents is not None:
            raise BadOption("evaluate was given both documents and a store; the store holds its own documents.")
        site = checks.site_of(entries, site, str)
        readings = Stored(store, site, rule, batch_tokens=batch_tokens)
    name = readings.model_name if model is None else str(model.name)
    place = f"{site} of {name}" if name else site
    checks.width(entries, readings, place)
    readings.require_both_sides()
    alarms = [*checks.fresh(entries, readings, allow_train), *checks.models(entries, model), *readings.alarms()]

    no_language = checks.no_language(model, store, language)
    means = _means(readings, quiet)
    run = _Run(entries, readings, means, None if no_language else Speaker(model, site, means[VALIDATION]), showing)
    run.all(quiet)
    alarms += run.alarms(place)

    task = " ".join(part for part in (name, site) if part)
    metrics = declared(no_language)
    units = tables.units(run.measurements, readings, study, task)
    costs = [tables.cost(m, readings) for m in run.measurements]
    arms = [tables.arm(m, readings, c) for m, c in zip(run.measurements, costs)]
    outcomes = summarise(units, arms, metrics, seed=seed, resamples=resamples)
    for m, arm in zip(run.measurements, arms):
        outcomes += tables.shares(m, readings, study, task, arm, tables.point_of(m, readings))
    judged = [metric for metric in metrics if metric.name in JUDGED and metric.why_null is None]
    found = (
        compare(units, arms, judged, costs, seed=seed, resamples=resamples, rivals=rivals) if rivals else Comparison()
    )

    piece = pieces(getattr(model, "tokenizer", None))
    result = Evaluation(
        units=units,
        outcomes=outcomes,
        costs=costs,
        verdicts=found.verdicts,
        notes=found.notes,
        examples=examples(run.measurements, readings, showing, piece),
        histogram=histogram(run.measurements),
        run={
            "study": study,
            "task": task,
            "model": name or None,
            "model_hash": model.weights_hash() if model is not None and store is None else None,
            "site": site,
            "context": readings.context,
            "seed": seed,
            "splits": readings.described(),
            "masks": MASKS,
            "means": MEANS,
            "splice_check": run.splice_check,
            "losses_nats": run.model_losses(),
            "no_language": no_language,
            "dictionaries": [tables.described(m, readings, c) for m, c in zip(run.measurements, costs)],
            "alarms": alarms,
            "notes": readings.notes(),
            "provenance": provenance.collect(seed=seed),
        },
    )
    with progress(1, "write", "files", quiet=quiet) as bar:
        for alarm in alarms:
            bar.note(f"Warning: {alarm}")
    if out is not None:
        with artefact.new_folder(Path(out)) as folder:
            result.save(folder)
    return result


def _means(readings: Readings, quiet: bool) -> Tensor:
    """The mean of x over the kept tokens of either split, float64 [2, d]; checks that they are finite and vary."""
    sums = (Mean(), Mean())
    with progress(len(readings.chosen), "means", "documents", quiet=quiet) as bar:
        for reading in readings.batches():
            checks.finite(reading, readings)
            side = torch.from_numpy(readings.side)[reading.document]
            for which in (VALIDATION, TEST):
                sums[which].add(reading.x[(side == which).to(reading.x.device)])
            bar.advance(reading.document.unique().numel())
    for which in (VALIDATION, TEST):
        checks.varied(sums[which].spread, readings)
    return torch.stack([sums[VALIDATION].value, sums[TEST].value])


class _Run:
    """The main reading: every dictionary measured on every batch."""

    def __init__(
        self, entries: Sequence[Entry], readings: Readings, means: Tensor, speaker: Speaker | None, showing: Showing
    ) -> None:
        self.readings, self.means, self.speaker = readings, means, speaker
        n_contexts = showing.n_contexts if showing.n_latents else 0
        self.measurements = [
            Measurement(entry, checks.subject_of(entry), readings.n_documents, n_contexts) for entry in entries
        ]
        self.splice_check: dict[str, Any] | None = None
        self._losses = torch.zeros(2, 3, dtype=torch.float64)  # side x (clean, zero, mean), summed
        self._n_losses = torch.zeros(2, dtype=torch.int64)

    def all(self, quiet: bool) -> None:
        chosen = self.readings.chosen
        with progress(len(chosen), f"evaluate {len(self.measurements)}", "documents", quiet=quiet) as bar:
            batches = self.readings.batches() if self.speaker is None else self.readings.sequences()
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
        change, tolerance = speaker.largest_change(reading, x_hat, clean), speaker.tolerance(reading.x, x_hat)
        if not change <= tolerance:
            raise AssertionError(
                f"Putting x̂ + (x − x̂) in the place of x at {speaker.site} changes a token's loss by {change:.3g} nats "
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
