"""The regimes: which rows are trained on, with which labels; and the search for mislabelled rows."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from made_up_material import made_material, made_task

from assay.core.errors import BadInput, BadOption
from assay.probing import audit, regimes
from assay.probing.regimes import FLIPS, REGIMES, SHARES, SIZES
from assay.probing.transforms import transformed

TASK = made_task(1500)


def test_there_are_as_many_points_as_published() -> None:
    assert (len(SIZES), len(SHARES), len(FLIPS)) == (20, 19, 11)
    assert (SIZES[0], SIZES[-1], SHARES[0], SHARES[-1], FLIPS[0], FLIPS[-1]) == (2, 1024, 0.05, 0.95, 0.0, 0.5)


def test_scarcity_grows_one_sample_and_judges_the_same_rows() -> None:
    jobs = regimes.scarcity(TASK, 0, 3)
    assert [len(job.y) for job in jobs] == [int(job.point or 0) for job in jobs]
    assert len(jobs) >= 18
    for small, large in itertools.pairwise(jobs):
        assert set(small.train) <= set(large.train) and np.array_equal(small.test, large.test)
        assert abs(int(large.y.sum()) * 2 - len(large.y)) <= 1
    assert [job.n_folds for job in jobs[:6]] == [0, 0, 2, 2, 3, 3]


def test_imbalance_has_the_share_in_training_and_test_rows() -> None:
    jobs = regimes.imbalance(TASK, 1, 3)
    assert len(jobs) == 19
    for job in jobs:
        assert job.point is not None
        for rows in (job.train, job.test):
            assert TASK.labels[rows].mean() == pytest.approx(job.point, abs=0.02)
        assert not set(job.train) & set(job.test)
    assert len(jobs[0].train) < len(jobs[9].train)


def test_noise_flips_training_labels_only_and_more_of_the_same() -> None:
    jobs = regimes.noise(TASK, 2, 3)
    wrong = [set(np.flatnonzero(job.y != TASK.labels[job.train])) for job in jobs]
    assert [len(rows) for rows in wrong] == [round(share * len(jobs[0].y)) for share in FLIPS]
    assert all(a <= b for a, b in itertools.pairwise(wrong))


def test_shift_is_judged_on_the_shifted_texts_alone() -> None:
    shifted = made_task(50, seed=9)
    (job,) = regimes.shift(replace(TASK, shift=shifted), 0, 3)
    assert job.test.tolist() == list(range(len(TASK), len(TASK) + 50)) and job.train.max() < len(TASK)
    assert regimes.shift(TASK, 0, 3) == []
    known = replace(shifted, texts=(TASK.texts[7], *shifted.texts[1:]))  # one shifted text is a plain one
    (job,) = regimes.shift(replace(TASK, shift=known), 0, 3)
    assert job.test.tolist() == list(range(len(TASK) + 1, len(TASK) + 50))


def test_a_transform_judges_changed_forms_of_rows_that_were_not_trained_on() -> None:
    task = transformed(TASK, "capitals")
    (job,) = regimes.shift(task, 0, 3)
    (plain,) = regimes.standard(task, 0, 3)
    assert (
        task.shift is not None
        and np.array_equal(job.test - len(task), plain.test)
        and np.array_equal(job.train, plain.train)
    )
    both = [*task.texts, *task.shift.texts]
    assert [both[i] for i in job.test] == [task.texts[i].upper() for i in plain.test]
    some = task.subset(np.array([5, 2]))
    assert some.shift is not None and some.shift.texts == (task.texts[5].upper(), task.texts[2].upper())
    assert transformed(TASK, lambda text: text[::-1]).shift.texts[0] == TASK.texts[0][::-1]
    with pytest.raises(BadOption, match="capitals"):
        transformed(TASK, "capital")
    with pytest.raises(BadInput, match="empty"):
        transformed(TASK, lambda text: "")


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_seeds_are_other_splits_and_one_seed_is_one_split(name: str) -> None:
    task = replace(TASK, shift=made_task(50, seed=9))
    one, again, other = (REGIMES[name](task, seed, 3) for seed in (0, 0, 1))
    assert all(np.array_equal(a.train, b.train) and np.array_equal(a.y, b.y) for a, b in zip(one, again, strict=True))
    assert set(one[-1].train) != set(other[-1].train)


def test_planted_flips_are_found_by_what_knows_the_label_and_not_by_what_does_not() -> None:
    task = made_task(300)
    material = made_material(task, signal=1.5)
    found = audit.audit(material, task, {"sae": material.harvested.codes["sae"]["mean"]}, [0])
    means = {name: np.mean(values) for name, values in found.detection["test"].items()}
    assert means["lr"] > 0.85 and means["sae k=1"] > 0.8
    assert abs(means["tfidf"] - 0.5) < 0.2  # the texts are noise
    for row in found.rows:
        assert row["ranks"][row["first"].split(", ")[0]] == min(row["ranks"].values())
        assert task.texts.index(row["text"]) >= 0
