"""Nothing leaks: permuted labels give .5 for every arm, and leaks that are planted on purpose are caught."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_material import made_job, made_material, made_task

from assay.metrics.auc import auc_by_group
from assay.probing import arms, honesty, sparse
from assay.probing.data import Task, make_task
from assay.probing.harvest import Harvested
from assay.probing.measure import Bench, Cell
from assay.probing.pool import POOL, WITH_SAE, of, pools
from assay.probing.protocol import Job, Material, Scored, choose, judge, own_fold
from assay.probing.sparse import probes
from assay.probing.splits import folds

N = 24  # permutations
FAST = [name for name in arms.names() if not arms.arm(name).SLOW]


def with_tokens(material: Material, task: Task) -> Material:
    """The same with tokens: each text's vector and two that are noise."""
    x = material.harvested.vectors["mean"]
    noise = torch.from_numpy(np.random.default_rng(5).normal(size=(len(x), 2, x.shape[1]))).float()
    tokens = torch.cat([x[:, None], noise], 1).flatten(0, 1).half()
    kept = replace(material.harvested, tokens=(tokens, torch.arange(0, 3 * len(x) + 1, 3)))
    return replace(material, harvested=kept, extra={"task": task})


def permuted(names: list[str], n: int, ks: tuple[int, ...] = (1, 5)) -> list[honesty.Line]:
    """The honesty lines of dense arms and of sparse ones with 40 columns."""
    found = []
    for seed in range(4):
        task = made_task(300, seed, f"task {seed}")
        material = with_tokens(made_material(task, signal=0.7, seed=seed), task)
        bench = Bench(names, ks, [], [], neurons=True)
        bench.families = lambda m: {"sae": m.harvested.codes["sae"]["mean"]}  # type: ignore[method-assign]
        found.append(bench.permuted(material, made_job(task), -(-n // 4), 0))
    return honesty.lines(found)


def test_permuted_labels_give_one_half_for_every_fast_arm_and_for_sparse_ones() -> None:
    lines = {line.arm: line for line in permuted(FAST, N)}
    assert {"lr", "lr_unscaled", "pca_lr", "knn", "tfidf", "mean_difference", "sae", "sae best k"} <= lines.keys()
    for line in lines.values():
        assert line.n >= 20 and line.honest, line.sentence
        assert abs(line.mean - 0.5) < 0.04


@pytest.mark.parametrize(
    "name", [name for name in arms.names() if arms.arm(name).SLOW and not name.startswith("loglik")]
)
def test_permuted_labels_give_one_half_for_slow_arms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = arms.arm(name)
    for option, small in (("DRAWS", 2), ("EPOCHS", 4)):
        if hasattr(module, option):
            monkeypatch.setattr(module, option, small)
    if name == "boosting":
        few = {"max_iter": 8, "learning_rate": 0.2, "max_depth": 2, "l2": 1.0, "least": 10}
        monkeypatch.setattr(module, "candidates", lambda seed: [few, {**few, "max_depth": 1}])
    (line,) = [line for line in permuted([name], N) if line.arm == name]
    assert line.honest and abs(line.mean - 0.5) < 0.05, line.sentence


def test_a_selector_that_looks_outside_the_fold_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns chosen on all training rows, as published: the held-out fold was seen, and noise looks like signal."""
    honest_select = sparse.select

    def leaky(features: sparse.Features, job: Job, k: int) -> sparse.Selected:
        whole = honest_select(features, replace(job, fold=np.full(len(job.y), -1)), k)
        return sparse.Selected(
            *(part[:1].expand(job.parts, -1).contiguous() for part in (whole.columns, whole.mean, whole.spread))
        )

    monkeypatch.setattr(sparse, "select", leaky)
    line = next(line for line in permuted(["lr"], N) if line.arm == "sae")
    assert not line.honest and line.mean > 0.53
    assert "labels leak" in line.sentence


def test_a_planted_duplicate_is_caught_and_removed() -> None:
    """Noise labels, every text twice: a neighbour gives the label away unless duplicates go before the split."""
    rng = np.random.default_rng(3)
    texts = [f"text {i}" for i in range(300)] * 2
    labels = rng.permutation(np.arange(300) % 2)
    x = torch.from_numpy(rng.normal(size=(300, 8))).float()

    def neighbour(task: Task) -> float:
        rows = torch.tensor([int(text.split()[1]) for text in task.texts])
        held = Harvested({"mean": x[rows]}, torch.ones(len(task)), 0, {})
        job = made_job(task)
        (scored,) = arms.arm("knn").run(Material("t", task.texts, held, "mean"), [job])
        return judge(scored, task.labels[job.test])

    clean = make_task("t", texts, [int(v) for v in labels] * 2, "here")
    assert clean.counts.n_duplicates == 300 and abs(neighbour(clean) - 0.5) < 0.12
    order = rng.permutation(600)  # rows put back, as a pipeline does that splits before it looks for duplicates
    planted = replace(
        clean, texts=tuple(texts[i] + " " * int(i >= 300) for i in order), labels=np.tile(labels, 2)[order]
    )
    assert neighbour(planted) > 0.7


def test_no_arm_is_given_the_labels_of_test_rows() -> None:
    task = made_task(200)
    job = made_job(task)
    assert len(job.y) == len(job.train) and not set(job.train) & set(job.test)
    assert not any("label" in name for name in vars(made_material(task)))


def test_validation_is_nested_and_not_the_best_of_a_grid() -> None:
    """100 candidates of pure noise: the best has a validation AUC well above .5, the nested one has not."""
    task = made_task(300)
    job = made_job(task)
    means, best = [], []
    for seed in range(30):
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(job.parts - 1, 100, len(job.y))))
        choice = choose(noise, job)
        means.append(choice.validation)
        own = auc_by_group(own_fold(noise, job).float(), torch.from_numpy(job.y), torch.from_numpy(job.fold), 3)
        best.append(float(own.mean(1).max()))
        assert choice.index == int(own.mean(1).argmax())
    assert np.mean(best) > 0.56
    assert abs(np.mean(means) - 0.5) < 4 * np.std(means) / np.sqrt(30)


def test_fits_to_permuted_labels_validate_at_one_half_though_folds_share_their_rows() -> None:
    """Candidates that differ (numbers of components) and are fitted: choosing by the other folds' AUCs gives .53 here."""
    task = made_task(300)
    material, job = made_material(task), made_job(task)
    jobs = []
    for seed in range(150):
        y = np.random.default_rng(seed).permutation(job.y)
        jobs.append(replace(job, y=y, fold=folds(y, 3)))
    nested = []
    for one, scored in zip(jobs, arms.arm("pca_lr").run(material, jobs), strict=True):
        nested.append(scored.choice.validation)
        assert len(scored.choice.inner_auc) == one.n_folds
    assert abs(np.mean(nested) - 0.5) < 4 * np.std(nested) / np.sqrt(len(nested))
    assert np.std(nested) / np.sqrt(len(nested)) < 0.006  # tight enough to see .53


def test_the_choice_for_a_fold_is_made_by_fits_that_did_not_see_it() -> None:
    """Two candidates; the second is perfect wherever a fit has seen the first fold, and wrong elsewhere."""
    job = made_job(made_task(300))
    y = torch.from_numpy(job.y).float()
    right, wrong, none = y, -y, torch.zeros_like(y)
    inside = torch.stack([torch.stack([none, wrong if 0 in out else right]) for out in job.held_out[1:]])
    choice = choose(inside, job)
    assert choice.index == 1  # of the plain means it has the better one
    assert choice.fold_auc[0] == choice.inner_auc[0] == 0.5  # but the fits without fold 0 say that it is wrong


def test_each_row_is_scored_by_the_fit_that_did_not_see_its_fold() -> None:
    job = made_job(made_task(120))
    scores = torch.stack([torch.full((2, len(job.y)), float(f)) for f in range(3)])
    assert torch.equal(own_fold(scores, job)[0], torch.from_numpy(job.fold).float())


def test_sparse_probes_find_the_column_that_knows_and_choose_it_in_every_fold() -> None:
    task = made_task(500)
    material = made_material(task, signal=1.5)
    jobs = [made_job(task, seed) for seed in range(3)]
    found = probes(material.harvested.codes["sae"]["mean"], jobs, (1, 5, 128))
    assert sorted(found) == [1, 5]  # 40 columns hold no 128
    for job, scored in zip(jobs, found[1], strict=True):
        assert scored.options["columns"] == [3]
        assert judge(scored, task.labels[job.test]) > 0.85 and scored.choice.validation > 0.85


def test_sparse_codes_and_their_dense_form_give_the_same_probe() -> None:
    from assay.probing.features import Dense

    task = made_task(300)
    codes = made_material(task, signal=0.8).harvested.codes["sae"]["mean"]
    dense = Dense(torch.from_numpy(codes.by_row.toarray()))
    job = made_job(task)
    for one, other in zip(probes(codes, [job], (1, 5)).values(), probes(dense, [job], (1, 5)).values(), strict=True):
        assert torch.allclose(one[0].test, other[0].test, atol=1e-4)


def cell(arm: str, validation: float, test: float, k: int | None = None) -> Cell:
    return Cell(arm, "t", 0, k, None, validation, [validation] * 3, [validation] * 3, test, 10, 10, 1.0)


def test_the_pool_takes_the_best_validation_and_ties_go_against_the_sae() -> None:
    cells = [cell("lr", 0.8, 0.70), cell("knn", 0.8, 0.9), cell("sae", 0.8, 0.95, 16), cell("ica", 0.7, 0.1, 16)]
    made = {c.arm: c for c in pools(cells, ["lr", "knn"], ["ica"], ["sae"])}
    assert made[POOL].test == made[WITH_SAE].test == 0.70
    assert made[WITH_SAE].options["chose"] == "lr"
    better = [*cells, cell("sae", 0.81, 0.6, 1)]
    assert {c.arm: c for c in pools(better, ["lr", "knn"], ["ica"], ["sae"])}[WITH_SAE].test == 0.6
    assert of("p", [cell("a", 0.6, 0.1), cell("b", 0.9, 0.2)]).validation == pytest.approx(0.9)


def test_without_folds_nothing_is_chosen() -> None:
    task = made_task(120)
    job = made_job(task)
    two = replace(job, train=job.train[:2], y=np.array([0, 1]), fold=np.zeros(2, np.int64), n_folds=0)
    material = with_tokens(made_material(task), task)
    for name in arms.names():
        if name.startswith("loglik"):
            continue
        (scored,) = arms.arm(name).run(material, [two])
        assert isinstance(scored, Scored) and scored.choice.validation == 0.5
        assert bool(torch.isfinite(scored.test).all()), name
