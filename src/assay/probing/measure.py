"""One task through every arm: from jobs to cells, which are all that verdicts and pages are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.core.provenance import seconds
from assay.core.randomness import numpy_rng
from assay.dictionaries import Dictionary
from assay.probing import arms
from assay.probing.comparators import LINEAR, NEURONS, Comparator
from assay.probing.features import Dense, Features, Sparse
from assay.probing.harvest import Named
from assay.probing.linear import probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored, judge
from assay.probing.sparse import best_k, probes

Ints = NDArray[np.int64]
MAX = "max"
BEST_K = "best k"
RECONSTRUCTED = "reconstruction"
PERMUTED_ROWS = 256


@dataclass(frozen=True)
class Cell:
    """One arm (at one k) on one job: validation (nested) and test AUC, and what was chosen."""

    arm: str
    task: str
    seed: int
    k: int | None
    point: float | None
    validation: float
    fold_auc: list[float]
    inner_auc: list[float]
    test: float
    n_train: int
    n_test: int
    seconds: float
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Bench:
    """The arms that run on every task."""

    dense: Sequence[str]
    ks: Sequence[int]
    dictionaries: Sequence[Named]
    comparators: Sequence[Comparator] = ()
    neurons: bool = True
    missing: dict[str, str] = field(default_factory=dict[str, str])  # arm -> why it did not run on some task

    def families(self, material: Material) -> dict[str, Features]:
        """Every kind of column of a task, by the name of its arm: pooled as the material is, and by the maximum over a text's tokens.
        Rivals get the maximum too, or an SAE would be the only one to read all tokens; linear ones read it off the largest coordinates."""
        codes, vectors = material.harvested.codes, material.harvested.vectors
        pools = {"": material.pool} | ({f" {MAX}": MAX} if material.pool != MAX else {})
        found: dict[str, Features] = {}
        for named in self.dictionaries:
            found |= {named.name + label: codes[named.name][pool] for label, pool in pools.items()}
        if self.neurons:
            found |= {NEURONS + label: Dense(vectors[pool]) for label, pool in pools.items()}
        for c in self.comparators:
            name = c.named.name
            for label, pool in pools.items():
                found[name + label] = Dense(c.codes(vectors[pool])) if name in LINEAR else codes[name][pool]
        return found

    def scored(
        self, material: Material, jobs: Sequence[Job]
    ) -> dict[tuple[str, int | None], tuple[list[Scored], float]]:
        """(arm, k) -> what it says of each job, and the seconds that a job took."""
        found: dict[tuple[str, int | None], tuple[list[Scored], float]] = {}
        for name in self.dense:
            reason = arms.missing(name, material)
            if reason is not None:
                self.missing[name] = reason
                continue
            started = seconds()
            made = arms.arm(name).run(material, jobs)
            found[name, None] = made, (seconds() - started) / len(jobs)
        for name, features in self.families(material).items():
            started = seconds()
            by_k = probes(features, jobs, self.ks)
            spent = (seconds() - started) / len(jobs)
            for k, made in by_k.items():
                found[name, k] = made, spent / len(by_k)
            found[f"{name} {BEST_K}", None] = best_k(by_k), spent
        for named in self.dictionaries:
            reason = not_reconstructed(named.dictionary, material)
            if reason is not None:
                self.missing[f"{named.name} {RECONSTRUCTED}"] = reason
                continue
            started = seconds()
            x = reconstruction(named, material)
            designs = [standardised(x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs]
            found[f"{named.name} {RECONSTRUCTED}", None] = probe(designs, jobs), (seconds() - started) / len(jobs)
        return found

    def cells(self, material: Material, jobs: Sequence[Job], labels: Ints) -> list[Cell]:
        """Every arm on every job, judged by `labels` of all rows of the material."""
        return [
            Cell(
                arm, material.name, job.seed, k, job.point, one.choice.validation, list(one.choice.fold_auc),
                list(one.choice.inner_auc),
                judge(one, labels[job.test]), len(job.train), len(job.test), spent, one.options,
            )
            for (arm, k), (made, spent) in self.scored(material, jobs).items()
            for job, one in zip(jobs, made, strict=True)
        ]  # fmt: skip

    def permuted(self, material: Material, job: Job, n: int, seed: int) -> dict[str, list[float]]:
        """arm -> nested validation AUC of n fits on permuted labels; .5 on average, or something leaks."""
        rows = np.sort(
            numpy_rng(seed, "probing", "permuted rows", material.name).permutation(len(job.train))[:PERMUTED_ROWS]
        )
        small = []
        for i in range(n):
            y = numpy_rng(seed, "probing", "permuted", material.name, i).permutation(job.y[rows])
            fold = np.empty(len(y), np.int64)
            for label in (0, 1):
                fold[y == label] = np.arange(int((y == label).sum())) % job.n_folds
            small.append(replace(job, train=job.train[rows], test=job.test[:2], y=y, fold=fold))
        found: dict[str, list[list[float]]] = {}
        for (arm, _), (made, _) in self.scored(material, small).items():
            found.setdefault(arm, []).append([one.choice.validation for one in made])
        return {
            arm: np.mean(several, axis=0).tolist() for arm, several in found.items()
        }  # over k: one value a permutation


def not_reconstructed(dictionary: Dictionary, material: Material) -> str | None:
    """Why a pooled reconstruction cannot be made from pooled codes, or None."""
    if material.pool == MAX:
        return "the maximum over tokens of a reconstruction is not the reconstruction of the maximum"
    if len(dictionary.blocks) > 1 or dictionary.skip or dictionary.d_out != dictionary.d_in:
        return "it predicts another site than it reads, so it has no reconstruction of the probed vectors"
    return None


def reconstruction(named: Named, material: Material) -> torch.Tensor:
    """x_hat pooled over tokens [n, d]: decoding is linear, so it is the decoding of the pooled codes."""
    codes: Sparse = material.harvested.codes[named.name][material.pool]
    return codes.decoded(named.dictionary.W_dec, named.dictionary.b_dec)
