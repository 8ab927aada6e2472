"""Sparse and dense probes against scikit-learn one fit at a time, by their scores of the rows that each fit did not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_up_material import made_job, made_material, made_task
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from assay.probing import linear, sparse
from assay.probing.features import Dense, Features
from assay.probing.linear import C_GRID, probe, rows_of, standardised
from assay.probing.protocol import Job, Material, Scored
from assay.probing.sparse import probes, select

N, KS = 202, (1, 5, 30)  # folds of 34, 33 and 33 rows: one part has rows that only fill up


def material_and_jobs(seed: int = 0) -> tuple[Material, list[Job], np.ndarray]:
    task = made_task(N, seed)
    return made_material(task, d=40, signal=0.4, f=60), [made_job(task, s) for s in range(2)], task.labels


def by_hand(x: np.ndarray, job: Job, columns: list[np.ndarray], c: float) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's scores of the held-out training rows and of the test rows, with the columns of each part."""
    held = np.zeros(len(job.y))
    test = np.zeros(len(job.test))
    for part, mask in enumerate(job.masks()[: job.n_folds + 1].numpy() > 0):
        seen = x[job.train][mask][:, columns[part]]
        scaler = StandardScaler().fit(seen)
        model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12, max_iter=200)
        model.fit(scaler.transform(seen), job.y[mask])
        if part:
            rows = x[job.train][~mask][:, columns[part]]
            held[~mask] = model.decision_function(scaler.transform(rows))
        else:
            test = model.decision_function(scaler.transform(x[job.test][:, columns[part]]))
    return held, test


@pytest.mark.parametrize("kind", ["codes", "dense"])
def test_sparse_probes_are_scikit_learns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "TOL", 1e-6)
    material, jobs, _ = material_and_jobs()
    features: Features = material.harvested.codes["sae"]["mean"] if kind == "codes" else Dense(material.x)
    every = features.columns(torch.arange(features.shape[1])).double().numpy()
    for k, scored in probes(features, jobs, KS).items():
        for job, one in zip(jobs, scored, strict=True):
            columns = select(features, job, k).columns.numpy()
            held, test = by_hand(every, job, list(columns), one.options["C"])
            assert one.held is not None
            assert np.abs(one.held.numpy() - held).max() < 1e-3
            assert np.abs(one.test.numpy() - test).max() < 1e-3


def test_dense_probes_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "TOL", 1e-6)
    material, jobs, _ = material_and_jobs()
    designs = [standardised(material.x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs]
    for job, one, design in zip(jobs, probe(designs, jobs), designs, strict=True):
        x = np.zeros(material.x.shape)
        x[np.concatenate([job.train, job.test])] = design.double().numpy()  # scaled once by all training rows
        assert one.held is not None
        for part, mask in enumerate(job.masks()[: job.n_folds + 1].numpy() > 0):
            model = LogisticRegression(C=one.options["C"], solver="newton-cholesky", tol=1e-12, max_iter=200)
            model.fit(x[job.train][mask], job.y[mask])
            mine, rows = (one.held.numpy()[~mask], job.train[~mask]) if part else (one.test.numpy(), job.test)
            assert np.abs(mine - model.decision_function(x[rows])).max() < 1e-3


@pytest.mark.parametrize("kind", ["sparse", "dense"])
def test_fits_without_two_folds_are_scikit_learns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One C and one k: the inner AUC of a fold is that of fits without it and another fold, judged on the other."""
    for module in (sparse, linear):
        monkeypatch.setattr(module, "TOL", 1e-6)
    monkeypatch.setattr(sparse, "C_GRID", (0.01,))
    material, jobs, _ = material_and_jobs()
    features = Dense(material.x)
    designs = [standardised(material.x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs]
    found = probes(features, jobs, (5,))[5] if kind == "sparse" else probe(designs, jobs, (0.01,))
    for job, one, design in zip(jobs, found, designs, strict=True):
        inner = np.zeros(job.n_folds)
        columns = select(features, job, 5).columns.numpy()
        for part, out in enumerate(job.held_out):
            seen = ~np.isin(job.fold, out)
            x = material.x.double().numpy()[job.train][:, columns[part]]
            x = StandardScaler().fit(x[seen]).transform(x)
            x = x if kind == "sparse" else design[: len(job.y)].double().numpy()
            model = LogisticRegression(C=0.01, solver="newton-cholesky", tol=1e-12, max_iter=200).fit(
                x[seen], job.y[seen]
            )
            for f, g in (out, out[::-1]) if len(out) == 2 else ():
                rows = job.fold == g
                inner[f] += roc_auc_score(job.y[rows], model.decision_function(x[rows])) / (job.n_folds - 1)
        assert np.abs(inner - one.choice.inner_auc).max() < 1e-3
        assert np.ptp(inner) > 1e-3


def aucs(made: dict[int, list[Scored]], jobs: list[Job], labels: np.ndarray) -> np.ndarray:
    found = []
    for scored in made.values():
        for job, one in zip(jobs, scored, strict=True):
            assert one.held is not None
            found.append(roc_auc_score(labels[job.test], one.test.numpy()))
            found += [roc_auc_score(job.y[job.fold == f], one.held.numpy()[job.fold == f]) for f in range(job.n_folds)]
    return np.array(found)


@pytest.mark.parametrize("c", C_GRID)
def test_aucs_at_the_working_tolerance_are_those_of_exact_fits(c: float, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made_task(2500, 1)
    material, jobs = made_material(task, d=160, signal=0.3, f=200), [made_job(task)]
    features = (material.harvested.codes["sae"]["mean"], Dense(material.x))

    def all_aucs() -> np.ndarray:
        designs = [standardised(material.x, torch.from_numpy(job.train))[rows_of(job)] for job in jobs]
        made = [probes(some, jobs, (1, 5, 128)) for some in features] + [{0: probe(designs, jobs, (c,))}]
        return np.concatenate([aucs(some, jobs, task.labels) for some in made])

    monkeypatch.setattr(sparse, "C_GRID", (c,))
    working = all_aucs()
    monkeypatch.setattr(sparse, "TOL", 1e-6)
    monkeypatch.setattr(linear, "TOL", 1e-6)
    exact = all_aucs()
    assert np.abs(working - exact).max() < 1e-3
    assert (working != exact).any()  # the tolerance is really another


def test_rows_of_equal_columns_get_equal_scores() -> None:
    material, jobs, _ = material_and_jobs(3)
    features = material.harvested.codes["sae"]["mean"]
    every = features.columns(torch.arange(features.shape[1]))
    n_equal = 0
    for k, scored in probes(features, jobs, (2, 5)).items():
        for job, one in zip(jobs, scored, strict=True):
            chosen = select(features, job, k).columns[0]
            off = (every[torch.from_numpy(job.test)][:, chosen] == 0).all(1)
            n_equal += int(off.sum())
            assert len(one.test[off].unique()) <= 1
    assert n_equal > 20


def test_narrow_probes_on_fewer_rows_than_columns_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One solve at several k, whose width of 16 columns is above the number of rows, and one at k = 30."""
    monkeypatch.setattr(sparse, "TOL", 1e-6)
    material, jobs, _ = material_and_jobs(1)
    few = [Job(job.seed, job.train[:14], job.test, job.y[:14], np.zeros(14, np.int64), 0) for job in jobs]
    features = Dense(material.x)
    for k, scored in probes(features, few, (2, 5, 16, 30)).items():
        for job, one in zip(few, scored, strict=True):
            _, test = by_hand(material.x.double().numpy(), job, list(select(features, job, k).columns.numpy()), 0.01)
            assert np.abs(one.test.numpy() - test).max() < 1e-3
            assert np.ptp(test) > 0.1


def test_without_folds_the_middle_strength_is_used() -> None:
    material, jobs, _ = material_and_jobs()
    few = [Job(job.seed, job.train[:40], job.test, job.y[:40], np.zeros(40, np.int64), 0) for job in jobs]
    for one in probes(material.harvested.codes["sae"]["mean"], few, (3,))[3]:
        assert one.held is None and one.options["C"] == C_GRID[len(C_GRID) // 2] and one.choice.validation == 0.5
