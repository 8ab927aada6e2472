"""Measure many dictionaries on one site with one reading of the evaluation documents.

1. One early-stopped reading of all documents for the mean of x on either split.
2. One more, in which every batch is run clean, zero-ablated, mean-ablated, and once with each dictionary's
   reconstruction in the place of the activations of the clean run. Sums are kept per document.
3. Intervals, verdicts and, from the few documents that hold them, the top activating contexts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact, provenance
from assay.core.errors import BadOption
from assay.core.intervals import summarise
from assay.core.outcome import Metric, Units
from assay.core.progress import progress
from assay.core.verdict import Comparison, compare
from assay.evaluation import checks, site_fit, tables
from assay.evaluation.entry import Entry
from assay.evaluation.evaluation import Evaluation
from assay.evaluation.examples import DEFAULT_SHOWING, Showing, examples, histogram, pieces
from assay.evaluation.losses import Speaker
from assay.evaluation.measurement import JUDGED, Measurement, declared
from assay.evaluation.passing import Pass
from assay.evaluation.readings import TEST, VALIDATION, Live, Readings, Splitting, Stored, named, splitting
from assay.metrics.ratio import Mean

MASKS = (
    "Whole documents, never packed, cut at the context. Text tokens are spliced, ablated and measured; special tokens "
    "and padding pass untouched; losses are counted on text tokens that follow another token."
)
MEANS = (
    "FVU: per-dimension mean over the kept tokens of the same split. Mean ablation: per-dimension mean over the kept "
    "tokens of the validation documents, for both splits."
)


def evaluate(
    entries: Sequence[Entry],
    *,
    model: Any | None = None,
    site: str | None = None,
    target: str | None = None,
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
    showing: Showing = DEFAULT_SHOWING,
    resamples: int = 10_000,
    quiet: bool = False,
    text: str | None = None,
    out: Path | str | None = None,
) -> Evaluation:
    """Measure the dictionaries of `entries` on one site. Give `model` with `documents` (records with .id and .text), or
    `store` (activations on disk; a model beside it only lends its tokenizer).

    site: canonical name or alias; None: the site in the dictionaries' provenance. target: the site that transcoders of other tools
        predict, where their files do not say it, or say it wrong.
    split: "halves" (text for evaluation alone: half validation, half test), "hash" (the 5 % + 5 % of a text of which
        the other 90 % is for training and left out), or "shift:NAME" (as halves; the test half is called shift:NAME).
    alone: allow entries without a baseline or control; there are no verdicts then.
    language: measure loss recovered and delta loss (needs a causal model; otherwise they are null, with the reason).
    text: the name of the text, for the record.
    out: a free folder for the files of `evaluation.files`; None writes nothing.

    Raises `BadInput` for a width or site that does not fit, for documents that a dictionary was trained on (unless
    `allow_train`), for too few documents, for NaN; `BadOption` for contradictory arguments; `AssertionError` when
    putting x̂ + (x − x̂) in the place of x changes the model's loss, which would be our own fault.
    """
    roles = checks.arms(entries)
    judging = checks.judged(roles, alone)
    if out is not None:
        artefact.refuse_existing(Path(out))
    asked = site is not None or target is not None
    readings = _open(entries, model, site, target, documents, store, splitting(split), context, batch_tokens)
    name = readings.model_name or str(getattr(model, "name", ""))
    where = readings.site if readings.target == readings.site else f"{readings.site} -> {readings.target}"
    place = f"{where} of {name}" if name else where
    checks.width(entries, readings, place)
    readings.require_both_sides()
    alarms = [
        *checks.unjudged(roles),
        *checks.fresh(entries, readings, allow_train),
        *checks.models(entries, readings.model_hash),
        *readings.alarms(),
        *(checks.overruled(entries, readings.site, readings.target, _canonical(model, store)) if asked else []),
    ]
    no_language = checks.no_language(model, store, language)

    means = _means(readings, quiet)
    speaker = None if no_language else Speaker(model, readings.site, readings.target, means[VALIDATION])
    measured = Pass(entries, readings, means, speaker, showing)
    measured.all(quiet)
    alarms += measured.alarms(place)
    alarms += site_fit.alarms(measured.measurements, readings)

    task = " ".join(part for part in (name, where) if part)
    result = _judge(
        measured.measurements,
        readings,
        declared(no_language, list(readings.target_columns())),
        study,
        task,
        seed,
        resamples,
        judging,
    )
    result.examples = examples(measured.measurements, readings, showing, pieces(getattr(model, "tokenizer", None)))
    result.histogram = histogram(measured.measurements)
    result.run = {
        "study": study,
        "task": task,
        "model": name or None,
        "model_hash": readings.model_hash,
        "site": where,
        "text": text,
        "context": readings.context,
        "seed": seed,
        "splits": readings.described(),
        "masks": MASKS,
        "means": MEANS,
        "splice_check": measured.splice_check,
        "losses_nats": measured.model_losses(),
        "no_language": no_language,
        "dictionaries": [tables.described(m, readings, cost) for m, cost in zip(measured.measurements, result.costs)],
        "alarms": alarms,
        "notes": readings.notes(),
        "provenance": provenance.collect(seed=seed),
    }
    with progress(1, "evaluated", "", quiet=quiet) as bar:
        for alarm in alarms:
            bar.note(f"Warning: {alarm}")
    if out is not None:
        with artefact.new_folder(Path(out)) as folder:
            result.save(folder)
    return result


def _open(
    entries: Sequence[Entry],
    model: Any | None,
    site: str | None,
    target: str | None,
    documents: Iterable[Any] | None,
    store: Any | None,
    rule: Splitting,
    context: int | None,
    batch_tokens: int,
) -> Readings:
    """The documents as a model reads them, or as a store holds them."""
    if batch_tokens < 1:
        raise BadOption(f"--batch-tokens is {batch_tokens}; it must be at least 1.")
    if store is None:
        if model is None or documents is None:
            raise BadOption("evaluate needs a model with documents, or a store of activations; neither is complete.")
        canonical = _canonical(model, store)
        site = checks.site_of(entries, site, canonical)
        target = checks.target_of(entries, site, canonical, target)
        return Live(model, site, documents, rule, target=target, context=context, batch_tokens=batch_tokens)
    if documents is not None:
        raise BadOption("evaluate was given both documents and a store; the store holds its own documents.")
    site = checks.site_of(entries, site, str)
    return Stored(store, site, rule, target=checks.target_of(entries, site, str, target), batch_tokens=batch_tokens)


def _canonical(model: Any | None, store: Any | None) -> Any:
    """From a site's name to the canonical one; a store has only the names that it was harvested under."""
    return str if store is not None else partial(named, model)


def _judge(
    measurements: Sequence[Measurement],
    readings: Readings,
    metrics: Sequence[Metric],
    study: str,
    task: str,
    seed: int,
    resamples: int,
    judging: bool,
) -> Evaluation:
    """Sums into the four tables."""
    units = tables.units(measurements, readings, study, task)
    costs = [tables.cost(m, readings) for m in measurements]
    arms = [
        tables.standing(m.entry, m.subject, tables.point_of(m, readings), cost) for m, cost in zip(measurements, costs)
    ]
    costs += tables.shared_costs([m.entry for m in measurements], costs)
    outcomes = summarise(units, arms, metrics, seed=seed, resamples=resamples)
    for measurement, arm in zip(measurements, arms):
        outcomes += tables.shares(measurement, readings, study, task, arm)
    found = Comparison()
    if judging:
        for against in sorted(set(JUDGED.values())):
            judged = [m for m in metrics if JUDGED.get(m.name) == against and m.why_null is None]
            theirs = Units.concat([units.where(metric=metric.name) for metric in judged])
            made = compare(theirs, arms, judged, costs, seed=seed, resamples=resamples, against=against)
            found = Comparison([*found.verdicts, *made.verdicts], [*found.notes, *made.notes])
    return Evaluation(units=units, outcomes=outcomes, costs=costs, verdicts=found.verdicts, notes=found.notes)


def _means(readings: Readings, quiet: bool) -> Tensor:
    """The mean of y over the kept tokens of either split, float64 [2, d_out]; checks that they are finite and vary."""
    sums = (Mean(), Mean())
    with progress(len(readings.chosen), "means", "documents", quiet=quiet) as bar:
        for reading in readings.batches():
            checks.finite(reading, readings)
            side = torch.from_numpy(readings.side)[reading.document]
            for which in (VALIDATION, TEST):
                sums[which].add(reading.y[(side == which).to(reading.y.device)])
            bar.advance(reading.document.unique().numel())
    for which in (VALIDATION, TEST):
        checks.varied(sums[which].spread, readings)
    return torch.stack([sums[VALIDATION].value, sums[TEST].value])
