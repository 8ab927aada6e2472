"""assay probe from texts to the page, on the model that ships: small, but every part of it; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from assay import dictionaries, models
from assay.cli.main import main
from assay.core import shipped
from assay.core.artefact import new_folder
from assay.core.outcome import Results
from assay.probing import regimes

SITE = "resid_post.1"
VARIABLES = ("gender", "species", "tense", "moral", "ending")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five small tasks, and a dictionary of random directions that says it is of this site."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "tasks").mkdir()
    stories = list(shipped.stories(limit=90))
    for variable in VARIABLES:
        values = sorted({story[variable] for story in stories})
        rows = [{"text": s["text"][:110], "label": int(s[variable] == values[0])} for s in stories]
        (folder / "tasks" / f"{variable}.jsonl").write_text("\n".join(map(json.dumps, [*rows, rows[0]])))
    width = models.load("storyworld").width(SITE)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(64, width, generator=rng)
    for name, d in (("sae", width), ("wide", width + 1)):
        sample = torch.randn(64, d, generator=rng)
        made = dictionaries.build(dictionaries.config_class("topk")(d_in=d, d_sae=96, k=8), rng, sample)
        with new_folder(folder / name) as target:
            dictionaries.save(made, target, golden=sample, provenance={"site": SITE, "model": "storyworld"})
    assert len(x)
    return folder


ARMS = ("tfidf", "mean_difference", "attention", "loglik")
RIVALS = ("neurons", "pca", "random")


def run(
    place: Path, out: str, *more: str, dictionary: str = "sae", tasks: str = "tasks", seeds: str = "2", arms: tuple[str, ...] = ARMS,
    rivals: tuple[str, ...] = RIVALS,
) -> int:  # fmt: skip
    return main(
        ["probe", "--model", "storyworld", "--dict", str(place / dictionary), "--tasks", str(place / tasks), "--out", str(place / out),
         "--cache", str(place / "cache"), "--pool", "mean", "--seeds", seeds, "--k", "1", "5", "--arms", *arms, "--comparators", *rivals,
         "--permutations", "5", "--resamples", "200", "--quiet", *more]
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    assert run(place, "standard") == 0
    return json.loads((place / "standard" / "results" / "probing.json").read_text())


def test_every_arm_stands_in_the_report_with_its_cost_and_an_honesty_line(place: Path, told: dict[str, Any]) -> None:
    arms = {row["arm"] for row in told["rows"]}
    wanted = {"lr", "lr_max", "tfidf", "mean_difference", "attention", "loglik", "neurons", "neurons max", "pca", "pca max", "random", "random max", "topk", "topk max", "topk reconstruction",
              "topk best k", "pool", "pool + SAE", "pool + sparse"}  # fmt: skip
    assert wanted <= arms
    assert {line["arm"] for line in told["permuted"]} >= wanted - {"pool", "pool + SAE", "pool + sparse"}
    assert told["fits"] > 500 and told["not_converged"] == 0
    results = Results.load(place / "standard" / "results")
    assert {cost.id for cost in results.costs} >= {"harvest", "fit of pca", "lr on tasks", "topk k=5 on tasks"}
    assert {v.study for v in results.verdicts} >= {"probe", "probe, same k", "probe, pool", "probe, thrown away"}
    assert all(task["n_duplicates"] == 1 for task in told["tasks"])
    page = (place / "standard" / "report.html").read_text()
    for text in (*told["sentences"][:2], "Permuted labels", "Task by task", "mislabelled", "<svg"):
        assert text.replace("<", "&lt;") in page or text in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_interval_of_an_arm_is_that_of_its_own_mean(told: dict[str, Any]) -> None:
    """lr and tfidf also look for planted flips, where their AUC is another number."""
    assert {"lr", "tfidf"} <= {d["arm"] for d in told["detection"]}
    rows = [row for row in told["rows"] if row["lo"] is not None]
    assert {"lr", "tfidf", "topk", "pool"} <= {row["arm"] for row in rows}
    for row in rows:
        middle = (row["lo"] + row["hi"]) / 2
        assert abs(middle - row["mean"]) < 1e-9 + 0.3 * (row["hi"] - row["lo"]), row


def test_the_page_is_rebuilt_from_what_was_saved(place: Path, told: dict[str, Any]) -> None:
    page = place / "standard" / "report.html"
    before = page.read_text()
    page.unlink()
    assert main(["report", str(place / "standard")]) == 0
    assert page.read_text() == before


def test_what_the_model_knows_is_found(told: dict[str, Any]) -> None:
    held = told["per_task"]["tasks"]
    assert held["tense"]["lr"] > 0.8 and held["tense"]["topk best k"] > 0.6
    assert set(held) == set(VARIABLES)


def test_activations_are_harvested_once_and_a_finished_run_is_read_back(
    place: Path, told: dict[str, Any], monkeypatch
) -> None:
    from assay.models.model import Model

    monkeypatch.setattr(regimes, "FLIPS", (0.0, 0.2, 0.5))
    monkeypatch.setattr(Model, "forward", lambda *a, **k: pytest.fail("the model was run again"))
    assert run(place, "standard") == 0
    assert (
        run(
            place,
            "noise",
            "--regime",
            "noise",
            tasks="tasks/tense.jsonl",
            seeds="1",
            arms=("tfidf",),
            rivals=("neurons",),
        )
        == 0
    )
    told = json.loads((place / "noise" / "results" / "probing.json").read_text())
    points = sorted({row["point"] for row in told["rows"]})
    assert points[0] == 0.0 and points[-1] == 0.5 and len(points) == 3


@pytest.mark.parametrize(
    ("more", "options", "says"),
    [
        (["--regime", "drought"], {}, "scarcity"),
        ([], {"arms": ("lrr",)}, "lr"),
        ([], {"out": "standard", "seeds": "3"}, "begun with other options"),
        ([], {"dictionary": "wide"}, "reads"),
        (["--site", "resid_post.0"], {}, "trained on resid_post.1"),
        ([], {"tasks": "none.csv"}, "does not exist"),
        (["--label-column", "lable"], {"tasks": "tasks/gender.jsonl"}, "label"),
        (["--regime", "shift"], {}, "shifted"),
        (["--folds", "1"], {}, "folds"),
        (["--wheel", "x.whl"], {}, "--fetch-tasks"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    place: Path, told, capsys, more: list[str], options: dict[str, Any], says: str
) -> None:
    out = options.pop("out", "refused")
    before = sorted((place / "standard").rglob("*"))
    assert run(place, out, *more, **options) == 2
    said = capsys.readouterr().err.strip()
    assert says in said and said.startswith("assay: ") and "\n" not in said
    assert sorted((place / "standard").rglob("*")) == before
    assert not (place / "refused" / "results").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--arms", "tfdif"], ('"tfdif" is not an arm.', 'Did you mean "tfidf"?')),
        (["--comparators", "pcs"], ('--comparators has "pcs".', 'Did you mean "pca"?')),
    ],
    ids=["arm", "rival"],
)
def test_a_word_that_is_unknown_is_said_in_one_sentence(more, words, capsys) -> None:
    assert main(["probe", "--tasks", "storyworld", *more]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "ProbeConfig" not in said, said
    assert all(word in said for word in words)
