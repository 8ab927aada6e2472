"""The words that tell a task apart, and who found first what a latent found."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_material import made_task

from assay.probing import first, terms
from assay.probing.data import Task, make_task
from assay.probing.measure import Cell
from assay.report.probing_scan import found_first


def planted(share: float) -> Task:
    """Texts of noise, in which class 1 says "marzipan" with a share of its texts, and class 0 ends every text with a colon."""
    rng = np.random.default_rng(0)
    made: list[str] = []
    for i in range(300):
        words = " ".join(rng.choice(["red", "blue", "stone", "river", "cloud"], 8))
        made.append(f"{i} {words} marzipan" if i % 2 and rng.random() < share else f"{i} {words}")
    return make_task("t", made, [i % 2 for i in range(300)], "made up")


def test_the_word_that_tells_a_task_apart_is_found_with_its_share_in_each_class() -> None:
    found = terms.top(planted(0.8))
    best = found["terms"][0]
    assert "marzipan" in best["term"] and best["with_negative"] == 0 and 0.7 < best["with_positive"] < 0.9
    assert found["auc"] == pytest.approx((1 + best["with_positive"]) / 2, abs=0.02)


def test_noise_has_no_word_and_its_auc_is_not_the_best_of_many() -> None:
    mean = np.mean([terms.top(made_task(300, seed))["auc"] for seed in range(6)])
    assert abs(mean - 0.5) < 0.04
    assert (
        terms.top(make_task("t", [f"w{i}" for i in range(40)], [i % 2 for i in range(40)], "here")) == {}
    )  # each word once
    assert terms.top(made_task(8)) == {}


@pytest.mark.parametrize(
    ("auc", "latent", "says"),
    [
        ({"length": 0.9, "one word": 0.95, "tfidf": 1.0}, 0.903, "length"),
        ({"length": 0.9, "one word": 0.95, "tfidf": 1.0}, 0.92, "one word"),
        ({"length": 0.9, "one word": 0.95, "lr": 1.0}, 0.96, "the latent"),
        ({"length": 0.9}, 0.59, "no claim"),
    ],
)
def test_the_plainest_reader_that_does_as_well_found_it_first(auc: dict[str, float], latent: float, says: str) -> None:
    assert first.first(auc, latent) == says


def test_a_row_a_task_and_dictionary_with_the_better_pool() -> None:
    def cell(arm: str, k: int | None, seed: int, value: float, column: int = 0) -> Cell:
        return Cell(arm, "t", seed, k, None, value, [], [], 0.1, 9, 9, 0.1, {"columns": [column]})

    cells = [cell("sae", 1, 0, 0.7), cell("sae max", 1, 0, 0.8, 5), cell("sae max", 1, 1, 0.84, 6), cell("sae max", 5, 0, 0.99),
             cell("tfidf", None, 0, 0.6), cell("lr", None, 0, 0.9), cell("other", 1, 0, 0.5)]  # fmt: skip
    about = {
        "name": "t", "positive": "<b>", "audit": {"length": 0.55, "punctuation": 0.5, "duplicates": 0.1},
        "terms": {"auc": 0.83, "terms": [{"term": "<i>", "with_positive": 0.4, "with_negative": 0.1}]},
    }  # fmt: skip
    rows = first.table([(about, cells)], ["sae", "other"])
    assert [(row["dictionary"], row["columns"], row["first"]) for row in rows] == [
        ("sae max", [5, 6], "one word"),
        ("other", [0], "no claim"),
    ]
    assert rows[0]["latent"] == pytest.approx(0.82) and rows[0]["auc"]["tfidf"] == 0.6
    assert "plainer did as well first for 1 (one word 1)" in first.sentence(rows)
    assert "none of them makes a claim" in first.sentence(rows[1:])
    page = found_first({"first": rows, "tasks": [about]})
    assert "&lt;i&gt;" in page and "<i>" not in page and "one word" in page
