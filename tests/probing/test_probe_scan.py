"""A corpus scanned by the logistic probe and by the best latent: what each finds, how far they agree, and that memory stays bounded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_material import made_job, made_material, made_task
from scipy.stats import spearmanr

from assay import dictionaries, models
from assay.cli.main import main
from assay.core import shipped
from assay.core.artefact import new_folder
from assay.core.outcome import Results
from assay.probing import agreement, scan
from assay.probing.arms import lr
from assay.probing.harvest import Named
from assay.probing.leads import direction, leads
from assay.probing.protocol import Job
from assay.probing.scan import First, Sample

SITE = "resid_post.1"


def test_the_direction_of_the_probe_is_the_probe_itself() -> None:
    task = made_task(200)
    material = made_material(task)
    x = material.x * torch.linspace(0.1, 30, material.x.shape[1]) + 5  # scales and means that a slip would show
    job = made_job(task)
    made = type(material)(
        material.name, material.texts, type(material.harvested)({"mean": x}, torch.ones(200), 0, {}), "mean"
    )
    (scored,) = lr.run(made, [job])
    own = Job(0, np.arange(len(job.train)), np.arange(1), job.y, job.fold, job.n_folds)
    weight, validation = direction(x[torch.from_numpy(job.train)], own)
    assert torch.allclose(
        x[torch.from_numpy(job.test)] @ weight - scored.test,
        (x[job.test[0]] @ weight - scored.test[0]).expand(len(job.test)),
        atol=2e-3,
    )
    assert validation == pytest.approx(scored.choice.validation, abs=1e-3)


@pytest.mark.parametrize("lean", [1.5, -1.5])
def test_a_lead_speaks_for_the_class_in_which_its_latent_is_larger(lean: float) -> None:
    task = made_task(240)
    material = made_material(task, signal=lean)
    dictionary = dictionaries.build(
        dictionaries.config_class("topk")(d_in=12, d_sae=40, k=3), torch.Generator().manual_seed(0), torch.randn(50, 12)
    )
    codes = material.harvested.codes["sae"]["mean"]
    (lead,) = leads(material, task, {"sae": codes}, [Named("sae", dictionary, "hash")], 3)
    assert (lead.latent, lead.turn) == (3, 1.0)
    assert lead.side == (task.positive if lean > 0 else task.negative)
    scores = lead.scores(material.harvested)
    mine = torch.from_numpy(task.labels == int(lean > 0))
    for one in scores:
        assert one[mine].mean() > one[~mine].mean() + 0.3
    assert torch.equal(scores[1], codes.columns(torch.tensor([3]))[:, 0])
    assert lead.lr_validation > 0.9 and lead.latent_validation > 0.8


def test_the_first_texts_are_those_of_the_whole_corpus_each_once() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=500).astype(np.float32)
    texts = [f"t{i}" for i in range(500)]
    held, best = First(20), np.argsort(-score)[:20]
    for start in range(0, 500, 37):
        held.add(score[start : start + 37], texts[start : start + 37])
        held.add(score[best[:5]], [texts[i] for i in best[:5]])  # again and again
    assert held.texts == [texts[i] for i in best] and np.array_equal(held.score, score[best])


def test_the_sample_is_uniform_and_bounded() -> None:
    times = np.zeros(90)
    for seed in range(400):
        sample = Sample(15, np.random.default_rng(seed))
        for start in range(0, 90, 13):
            sample.add(np.arange(start, min(start + 13, 90), dtype=np.float32)[:, None])
        assert sample.rows.shape == (15, 1) and sample.seen == 90 and len(set(sample.rows[:, 0])) == 15
        times[sample.rows[:, 0].astype(int)] += 1
    expected = 400 * 15 / 90
    assert abs(times[:15].mean() - expected) < 8 and abs(times[-15:].mean() - expected) < 8  # 4 standard errors
    few = Sample(15, np.random.default_rng(0))
    few.add(np.ones((4, 2), np.float32))
    assert few.rows.shape == (4, 2)


def test_rank_correlation_is_spearmans_with_ties_and_its_interval_is_right() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=800)
    b = np.maximum(a + 2 * rng.normal(size=800), 0)  # as a latent: zero on half
    value, low, high = agreement.rank_correlation(a, b, rng, 1000)
    assert value == pytest.approx(np.asarray(spearmanr(a, b)).flat[0], abs=1e-9)
    assert low < value < high and (high - low) == pytest.approx(2 * 1.96 * (1 - value**2) / np.sqrt(800), rel=0.25)
    assert np.isnan(agreement.rank_correlation(a, np.zeros(800), rng, 10)[0])


def test_overlap_is_counted_by_hand_and_its_interval_is_that_of_resampled_corpora() -> None:
    rng = np.random.default_rng(2)
    a, b = np.array([1, 2, 3, 4, 5, 6]), np.array([9, 3, 1, 8, 2, 7])
    assert agreement.overlap(a, b, 3, rng, 10)[0] == pytest.approx(2 / 3)
    assert agreement.overlap(a, b, 2, rng, 10)[0] == 0
    n, top = 600, 30
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    first, second = np.argsort(-x), np.argsort(-y)
    _, low, high = agreement.overlap(first[: 4 * top], second[: 4 * top], top, rng, 2000)
    drawn = []
    for _ in range(1000):
        rows = rng.integers(0, n, n)
        one, two = np.argsort(-x[rows], kind="stable")[:top], np.argsort(-y[rows], kind="stable")[:top]
        drawn.append(len(set(one) & set(two)) / top)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.07)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    stories = [story for story in shipped.stories(limit=220)]
    rows = [{"text": s["text"][:90], "label": int(s["tense"] == "past")} for s in stories[:100]]
    (folder / "tense.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = [
        *(s["text"][:90] for s in stories[100:200]),
        *(row["text"] for row in rows[:7]),
        "",
        "<script>alert(1)</script> ran",
        stories[150]["text"][:90],
    ]
    lines = "\n".join(json.dumps({"text": text}) for text in corpus)
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "few.jsonl").write_text("\n".join(lines.splitlines()[:9]))
    width = models.load("storyworld").width(SITE)
    sample = torch.randn(64, width, generator=torch.Generator().manual_seed(0))
    made = dictionaries.build(
        dictionaries.config_class("topk")(d_in=width, d_sae=96, k=8), torch.Generator().manual_seed(1), sample
    )
    with new_folder(folder / "sae") as target:
        dictionaries.save(made, target, golden=sample, provenance={"site": SITE, "model": "storyworld"})
    return folder


def run(place: Path, out: str, *more: str, corpus: str = "corpus.jsonl.gz", dictionary: bool = True) -> int:
    given = ["--dict", str(place / "sae")] if dictionary else ["--site", SITE]
    return main(
        ["probe", *given, "--tasks", str(place / "tense.jsonl"), "--out", str(place / out), "--cache", str(place / "cache"), "--pool", "mean",
         "--seeds", "1", "--k", "1", "--arms", "length", "--comparators", "neurons", "--permutations", "2", "--resamples", "50", "--quiet",
         "--scan", str(place / corpus), "--scan-top", "20", *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    """A scan in chunks of 16 texts, with every text shown."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scan, "CHUNK", 16)
    patch.setattr(scan, "SHOWN", 80)
    assert run(place, "out") == 0
    patch.undo()
    return json.loads((place / "out" / "results" / "probing.json").read_text())


def test_a_scan_counts_what_it_left_out_and_says_how_far_the_two_agree(place: Path, told: dict[str, Any]) -> None:
    counts = told["scan"]["counts"]
    assert (counts["read"], counts["scored"], counts["known"], counts["without_tokens"]) == (110, 102, 7, 1)
    (lead,) = told["scan"]["leads"]
    assert lead["top"] == 20 and lead["chance"] == pytest.approx(20 / 102) and lead["n_sample"] == 102
    for value, low, high in (lead["correlation"], lead["overlap"]):
        assert low <= value <= high
    for row in lead["rows"]:
        ranks = {name: row[name] or 10**6 for name in ("lr", "latent")}
        assert row["first"] == (
            "both" if ranks["lr"] == ranks["latent"] else "lr" if ranks["lr"] < ranks["latent"] else "the latent"
        )
    top = {name: {row["text"] for row in lead["rows"] if (row[name] or 999) <= 20} for name in ("lr", "latent")}
    assert all(len(texts) == 20 for texts in top.values())
    assert len(top["lr"] & top["latent"]) / 20 == pytest.approx(lead["overlap"][0])
    outcomes = {o.metric: o for o in Results.load(place / "out" / "results").outcomes if o.study == scan.STUDY}
    assert outcomes["overlap"].value == lead["overlap"][0] and outcomes["rank correlation"].n_units == 102
    assert any("Scan of 102 texts" in sentence for sentence in told["sentences"])


def test_what_texts_say_is_escaped_in_the_page(place: Path, told: dict[str, Any]) -> None:
    page = (place / "out" / "report.html").read_text()
    assert any("<script>" in row["text"] for row in told["scan"]["leads"][0]["rows"])
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page


def test_the_size_of_the_chunks_changes_nothing_and_nothing_is_left_on_disk(
    place: Path, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(scan, "SHOWN", 80)
    assert run(place, "whole") == 0
    whole = json.loads((place / "whole" / "results" / "probing.json").read_text())["scan"]
    assert {k: whole["counts"][k] for k in ("known", "scored", "repeated")} == {
        "known": 7,
        "scored": 101,
        "repeated": 1,
    }
    before, after = ({row["text"]: row["lr"] for row in held["leads"][0]["rows"]} for held in (told["scan"], whole))
    assert before == after
    assert not list(tmp_path.iterdir())
    assert len([p for p in (place / "cache").iterdir() if p.is_dir() and "rivals" not in p.name]) == 1  # the task's own


@pytest.mark.parametrize(
    ("more", "options", "says"),
    [
        ((), {"dictionary": False}, "--dict"),
        (("--regime", "noise"), {}, "--regime standard"),
        ((), {"corpus": "none.jsonl"}, "does not exist"),
        ((), {"corpus": "few.jsonl"}, "40 or more"),
        (("--text-column", "words"), {}, "words"),
    ],
)
def test_what_cannot_be_scanned_is_refused_in_a_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], options: dict[str, Any], says: str
) -> None:
    assert run(place, "refused", *more, **options) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in said and said.startswith("assay: ")
    assert not (place / "refused" / "results").exists()
