"""A corpus without labels, read once by the logistic probe and by the best single latent of each dictionary, side by side.

1. `leads` fits both on each task.
2. Texts stream through the model in chunks that are dropped at once. Texts of the tasks themselves are left out, repeats within a chunk too.
3. Of each finder the first KEPT * top texts are held, and of all texts a uniform sample of SAMPLE scores, so memory does not grow with the
   corpus.
4. Rank correlation over the sample and overlap of the first `top`, each with an interval over texts; the first texts of both, with both ranks
   and with who had the text higher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.activations import document_id, readers
from assay.core import artefact
from assay.core.errors import BadInput, BadOption
from assay.core.outcome import Cost, Outcome, Results
from assay.core.progress import progress
from assay.core.provenance import seconds
from assay.core.randomness import numpy_rng
from assay.probing.agreement import overlap, rank_correlation
from assay.probing.data import mended
from assay.probing.harvest import Harvester
from assay.probing.leads import Lead, leads
from assay.probing.protocol import Material
from assay.probing.run import Run

CHUNK = 1024  # texts in memory at a time
SAMPLE = 10_000  # texts whose scores are kept for the rank correlation
KEPT = 4  # times the texts that are compared, so that resamples never run out
RESAMPLES = 1000
SHOWN = 8  # texts of each finder that are shown
TEXT, NAME = 220, 16  # characters of a text that are shown, and of the hash before them, by which texts are told apart
NEEDED = 40  # texts of a corpus, at the least
FILE = "scan.json"
STUDY = "probe, scan"


@dataclass
class First:
    """The texts of the highest scores so far, each once, the highest first; of a text its hash and its beginning are held."""

    size: int
    score: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    texts: list[str] = field(default_factory=list[str])

    def add(self, score: NDArray[np.float32], texts: Sequence[str]) -> None:
        best = np.argsort(-score, kind="stable")[: self.size]
        if len(self.score) == self.size:
            best = best[score[best] > self.score[-1]]
        known = set(self.texts)
        best = np.array([i for i in best if texts[i] not in known], dtype=np.int64)
        if not len(best):
            return
        every = np.concatenate([self.score, score[best]])
        names = [*self.texts, *(texts[i] for i in best)]
        order = np.argsort(-every, kind="stable")[: self.size]
        self.score, self.texts = every[order], [names[i] for i in order]


@dataclass
class Sample:
    """A uniform sample of all rows seen so far [at most size, width]."""

    size: int
    rng: np.random.Generator
    seen: int = 0
    rows: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def add(self, rows: NDArray[np.float32]) -> None:
        room = max(self.size - self.seen, 0)
        self.rows = np.concatenate([self.rows, rows[:room]]) if len(self.rows) else rows[:room].copy()
        rest = rows[room:]
        at = self.rng.integers(0, np.arange(self.seen + room, self.seen + len(rows)) + 1) if len(rest) else []
        for row, slot in zip(rest, at, strict=True):
            if slot < self.size:
                self.rows[slot] = row
        self.seen += len(rows)


def refuse(run: Run) -> None:
    """Refuse what cannot be scanned before anything is computed."""
    assert run.options.scan is not None
    readers.parse(run.options.scan)
    if not run.saes:
        raise BadOption("--scan sets the logistic probe beside the best latent of a dictionary; name one with --dict.")
    known, (chunks, _) = {text for task in run.tasks for text in task.texts}, _chunks(run)
    n = 0
    for texts in chunks:  # as far as it takes
        n += sum(bool(text) and not text.isspace() and text not in known for text in texts)
        if n >= NEEDED:
            return
    raise BadInput(f"--scan {run.options.scan} holds {n} texts that are not in the tasks; {NEEDED} or more are needed.")


def scanned(run: Run) -> dict[str, Any]:
    """The scan of a run, from OUT/scan.json where it was finished before."""
    path = run.out / FILE
    if not path.exists():
        artefact.write_json(path, scan(run))
    return artefact.read_json(path)


def scan(run: Run) -> dict[str, Any]:
    """Fit the leads of every task and stream the corpus. Raises `BadInput` where it has fewer than NEEDED texts of its own."""
    found = [lead for task in run.tasks for lead in _of_task(run, run.limited(task))]
    known = {text for task in run.tasks for text in task.texts}
    options = run.options
    top, (chunks, total) = options.scan_top, _chunks(run)
    firsts = [[First(KEPT * top), First(KEPT * top)] for _ in found]
    sample = Sample(SAMPLE, numpy_rng(options.seed, "probing", "scan", "sample"))
    fired = np.zeros(len(found), np.int64)
    counts: dict[str, int] = dict.fromkeys(
        ("read", "scored", "known", "repeated", "without_tokens", "tokens", "cut"), 0
    )
    started = seconds()
    with progress(total, "scan", "texts", quiet=run.quiet) as bar:
        for texts in chunks:
            counts["read"] += len(texts)
            fresh = list(dict.fromkeys(t for text in texts if (t := mended(text)) and not t.isspace()))
            counts["repeated"] += sum(bool(t) and not t.isspace() for t in texts) - len(fresh)
            mine = [text for text in fresh if text not in known]
            counts["known"] += len(fresh) - len(mine)
            if not mine:
                continue
            scores, kept = _scores(run, found, mine, counts)
            counts["scored"] += len(kept)
            entries = [document_id(text) + text[:TEXT] for text in kept]
            fired += (scores[:, 1] != 0).sum(1)
            for one, pair in zip(scores, firsts, strict=True):
                for values, first in zip(one, pair, strict=True):
                    first.add(values, entries)
            sample.add(scores.reshape(2 * len(found), -1).T)
            bar.advance(len(texts))
    if counts["scored"] < NEEDED:
        raise BadInput(
            f"--scan {options.scan} holds {counts['scored']} texts of its own with tokens; {NEEDED} or more are needed."
        )
    counts["without_tokens"] = counts["read"] - counts["repeated"] - counts["known"] - counts["scored"]
    told = [
        _told(lead, pair, sample.rows[:, 2 * i : 2 * i + 2], int(fired[i]), counts["scored"], run)
        for i, (lead, pair) in enumerate(zip(found, firsts, strict=True))
    ]
    return {
        "corpus": Path(str(options.scan)).name,
        "top": top,
        "counts": counts,
        "seconds": seconds() - started,
        "leads": told,
    }


def _of_task(run: Run, task: Any) -> list[Lead]:
    harvested = run.harvester.get(list(task.texts))
    material = Material(task.name, task.texts, harvested, run.pool, {"model": run.model, "task": task})
    return leads(material, task, run.bench.families(material), run.saes, run.options.folds)


def _chunks(run: Run) -> tuple[Iterator[list[str]], int | None]:
    """The corpus in lists of CHUNK texts, and how many texts there are where that is known."""
    assert run.options.scan is not None
    source, count = readers.parse(run.options.scan)
    texts = islice(readers.texts(source, run.options.text_column), count)
    return iter(lambda: list(islice(texts, CHUNK)), []), count


def _scores(
    run: Run, found: Sequence[Lead], texts: list[str], counts: dict[str, int]
) -> tuple[NDArray[np.float32], list[str]]:
    """[leads, 2, n] of the texts that have tokens, and those texts. What the model says of them is dropped again."""
    with TemporaryDirectory() as place:
        reader = Harvester(run.model, run.site, run.saes, Path(place), run.options.context)
        harvested = reader.get(texts)
    good = harvested.n_tokens > 0
    counts["tokens"] += int(harvested.n_tokens.sum())
    counts["cut"] += harvested.n_cut
    scores = torch.stack([lead.scores(harvested) for lead in found])[..., good].numpy()
    return scores, [text for text, has in zip(texts, good.tolist(), strict=True) if has]


def _told(
    lead: Lead, pair: Sequence[First], sample: NDArray[np.float32], fired: int, n_texts: int, run: Run
) -> dict[str, Any]:
    """What is said of one lead: agreement with intervals, and the first texts of both."""
    rng = numpy_rng(run.options.seed, "probing", "scan", lead.task, lead.dictionary)
    lr, latent = pair
    alive = int((latent.score > 0).sum())  # texts on which the latent is silent have no order
    top = min(run.options.scan_top, alive, n_texts // KEPT)
    correlation = rank_correlation(sample[:, 0].astype(float), sample[:, 1].astype(float), rng, RESAMPLES)
    ids = {text: i for i, text in enumerate(dict.fromkeys([*lr.texts, *latent.texts[:alive]]))}
    by_lr, by_latent = (np.array([ids[text] for text in texts], np.int64) for texts in (lr.texts, latent.texts[:alive]))
    shared = overlap(by_lr, by_latent, top, rng, RESAMPLES) if top else None
    return {
        "task": lead.task, "side": lead.side, "dictionary": lead.dictionary, "subject": lead.subject, "latent": lead.latent,
        "pool": lead.pool, "lr_validation": lead.lr_validation, "latent_validation": lead.latent_validation, "fired": fired,
        "n": n_texts, "n_sample": len(sample), "correlation": list(correlation) if isfinite(correlation[0]) else None,
        "top": top, "overlap": None if shared is None else list(shared), "chance": top / n_texts,
        "rows": _rows(lr, latent, alive),
    }  # fmt: skip


def _rows(lr: First, latent: First, alive: int) -> list[dict[str, Any]]:
    """The first SHOWN texts of each, with both ranks (None: not among those held) and who had the text higher."""
    ranks = [{text: i + 1 for i, text in enumerate(one.texts[:n])} for one, n in ((lr, None), (latent, alive))]
    chosen = dict.fromkeys([*lr.texts[:SHOWN], *latent.texts[: min(SHOWN, alive)]])
    rows: list[dict[str, Any]] = []
    for text in chosen:
        by_lr, by_latent = (held.get(text) for held in ranks)
        far = 1 + max(map(len, ranks))
        a, b = by_lr or far, by_latent or far
        first = "both" if a == b else "lr" if a < b else "the latent"
        rows.append({"text": text[NAME:], "lr": by_lr, "latent": by_latent, "first": first})
    return rows


def results(told: dict[str, Any], setting: str) -> Results:
    """The agreement of each task and dictionary as outcomes, and what the scan cost."""
    cost = Cost(
        id="scan", access="activations", upfront_tokens=told["counts"]["tokens"], upfront_seconds=told["seconds"],
        includes=("harvest",),
    )  # fmt: skip
    outcomes: list[Outcome] = []
    for lead in told["leads"]:
        for metric, found, n in (
            ("rank correlation", lead["correlation"], lead["n_sample"]),
            ("overlap", lead["overlap"], lead["n"]),
        ):
            value, lo, hi = found or (None, None, None)
            outcomes.append(
                Outcome(
                    study=STUDY, task=f"{setting}: {lead['task']}", arm=lead["dictionary"], metric=metric, role="method", better="none",
                    value=value, lo=lo, hi=hi, why_null=None if found else "the latent is silent on the whole corpus", over="documents",
                    how="bootstrap" if found else "none", n_units=n, n_obs=n, n_seeds=1, seed=0, split="test",
                    subject=lead["subject"], options={"latent": lead["latent"], "top": lead["top"]}, cost=cost.id,
                )
            )  # fmt: skip
    return Results(outcomes=outcomes, costs=[cost])


def sentence(told: dict[str, Any]) -> str:
    """How far the two agree, over tasks and dictionaries."""
    shared = [lead["overlap"][0] for lead in told["leads"] if lead["overlap"]]
    ranked = [lead["correlation"][0] for lead in told["leads"] if lead["correlation"]]
    if not shared or not ranked:
        return "Scan: the best latents are silent on this corpus."
    return (
        f"Scan of {told['counts']['scored']:,} texts: the best latent's first texts are among those of lr for {median(shared):.0%} of them in "
        f"the median over {len(told['leads'])} pairs of task and dictionary, and the rank correlation is {median(ranked):.2f}."
    )
