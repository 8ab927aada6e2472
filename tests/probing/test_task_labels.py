"""Classes against the rest and numbers above their median: what is class 1, what is dropped, what is said, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from assay.core.errors import AssayError, BadInput, BadOption, NotFound
from assay.core.intervals import summarise
from assay.probing import labels, presets, tables, wheel
from assay.probing.labels import above_limit, against_rest, tasks_of
from assay.probing.measure import Cell
from assay.probing.options import ProbeConfig
from assay.probing.results import AUC, STUDY, ArmFacts, Tables
from assay.probing.tables import Columns


@pytest.fixture
def wheel_tasks() -> Path:
    """The wheel's tasks: $ASSAY_TASKS, or where `assay probe --fetch-tasks` puts them."""
    folder = Path(os.environ.get("ASSAY_TASKS", wheel.default_folder()))
    if not folder.is_dir():
        pytest.skip(f"the wheel's tasks are not in {folder}; assay probe --fetch-tasks brings them")
    return folder


def test_the_median_is_that_of_distinct_texts_and_ties_are_class_0() -> None:
    texts = ["a", "b", "c", "d", "e", "c", "c", "c", "f", "f", ""]
    values = [
        1.5,
        2.0,
        9.0,
        2.0,
        7.0,
        9.0,
        9.0,
        9.0,
        3.0,
        4.0,
        1.0,
    ]  # f carries two; c counts once, so the median is 2, not 9
    task = above_limit("t", texts, values, "here")
    assert task.texts == ("a", "b", "c", "d", "e") and task.limit == 2.0
    assert task.labels.tolist() == [0, 0, 1, 0, 1]
    assert (task.positive, task.negative) == ("above 2", "at most 2")
    assert (task.counts.n_duplicates, task.counts.n_conflicts, task.counts.n_empty) == (3, 2, 1)
    assert task.notes == ("class 1 is a label above 2, the median of 5 distinct texts; 2 texts at it are class 0",)


def test_a_limit_of_ones_own_takes_the_place_of_the_median() -> None:
    (task,) = tasks_of("t", list("abcd"), [1, 2, 3, 4], "here", above="3.5")
    assert task.labels.tolist() == [0, 0, 0, 1] and "--above" in task.notes[0]


@pytest.mark.parametrize(
    ("targets", "above", "says"),
    [
        (list(range(20)), None, "codes of classes"),
        (list(range(1, 21)), None, "--above median"),
        ([0.5] * 19 + [1.5], "2", "all 20 labels are at or below 2"),
        ([5.0] * 20, "median", "all 20 labels are at or below 5; give another limit"),
        (["x"] * 20, "median", 'row 0 is "x", not a number'),
        ([True, False] * 10, "median", "not a number"),
        ([None, *range(19)], "median", "row 0 has no label"),
        ([f"class {i}" for i in range(20)], None, "20 labels"),
    ],
)
def test_numbers_that_cannot_be_split_are_refused_in_a_sentence(targets: list, above: str | None, says: str) -> None:
    with pytest.raises(AssayError, match=says):
        tasks_of("t", [f"text {i}" for i in range(20)], targets, "here", above=above)


@pytest.mark.parametrize("above", ["tall", "nan", ""])
def test_above_is_a_number_or_the_median(above: str) -> None:
    with pytest.raises(BadOption, match="--above"):
        ProbeConfig(above=above)
    with pytest.raises(BadOption, match="--positive"):
        ProbeConfig(above="median", positive="1")


def test_amounts_are_told_from_codes() -> None:
    gaps = [i * 3 for i in range(20)]  # 0, 3, 6, ...: no codes
    (task,) = tasks_of("t", [f"text {i}" for i in range(20)], gaps, "here")
    assert task.labels.sum() == 10 and task.limit == 28.5
    (task,) = tasks_of("t", [f"text {i}" for i in range(20)], [i + 0.5 for i in range(20)], "here")
    assert task.limit == 10.0


def test_a_class_of_too_few_distinct_texts_has_no_task_and_that_is_said() -> None:
    texts = [f"text {i}" for i in range(60)] + ["again"] * 40
    targets = ["a"] * 30 + ["b"] * 27 + ["c"] * 3 + ["c"] * 40  # c: 43 rows, 4 distinct texts; half an even share is 10
    made = against_rest("news", texts, targets, "here")
    assert [task.name for task in made] == ["news-a", "news-b"]
    for task in made:
        assert task.set_name == "news" and len(task) == 61
        assert task.notes == (
            "one class against the 2 others of news",
            "no task for classes of fewer than 10 texts: c (4)",
        )
    assert (made[0].labels.sum(), made[1].labels.sum(), made[0].negative) == (30, 27, "not a")


def test_a_test_file_of_numbers_is_judged_by_the_limit_of_the_training_file(tmp_path: Path) -> None:
    for name, values in (("a", [i + 0.5 for i in range(20)]), ("b", [i + 9.5 for i in range(5)])):
        rows = [{"text": f"{name} {i}", "label": value} for i, value in enumerate(values)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = tables.read(tmp_path / "a.jsonl", Columns())
    (task,) = tables.with_test(made, tmp_path / "b.jsonl", Columns(), allow_shared=False)
    assert task.limit == 10.0 and task.shift is not None and task.shift.labels.tolist() == [0, 1, 1, 1, 1]


def test_the_classes_of_a_set_are_one_unit_and_the_mean_is_still_over_tasks() -> None:
    def cell(arm: str, task: str, value: float) -> Cell:
        return Cell(arm, task, 0, None, None, value, [], [], value, 9, 9, 0.1)

    values = {"news-a": 0.9, "news-b": 0.8, "other": 0.4}
    cells = [cell("lr", task, value) for task, value in values.items()]
    facts = {"lr": ArmFacts("dense", "activations", "")}
    for sets, n in (({}, 3), ({"news-a": "news", "news-b": "news"}, 2)):
        table = Tables("t", cells, facts, sets=sets)
        found = summarise(table.units(cells, STUDY), table.arms(cells, STUDY), [AUC], seed=0, resamples=100)
        (outcome,) = [o for o in found if o.split == "test"]
        assert outcome.n_units == n and outcome.value == pytest.approx(0.7)


def made_wheel(folder: Path) -> Path:
    """A small folder of the wheel's shape: one set of each kind."""
    from assay.core.untyped import pa

    rows = {
        "1_two": ["prompt,target"] + [f"two {i},{i % 2}" for i in range(40)],
        "2_news": ["prompt,target"] + [f'"news {i}, a",{"abc"[i % 3]}' for i in range(60)],
        "3_stars": ["prompt,target"] + [f"star {i},{i % 5}" for i in range(50)],
    }
    master = ["Dataset save name,Data type"]
    for name, kind in zip(rows, wheel.KINDS.values(), strict=True):
        master.append(f"{wheel.CLEANED}/{name}.csv,{kind}")
    for path, lines in {wheel.MASTER: master, **{f"{wheel.CLEANED}/{n}.csv.zst": r for n, r in rows.items()}}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(pa.compress("\n".join(lines).encode(), "zstd", asbytes=True))
    return folder


def test_presets_names_and_numbers_of_all_kinds(tmp_path: Path) -> None:
    folder = made_wheel(tmp_path)

    def named(what: str) -> list[str]:
        return [task.name for task in presets.chosen(what, folder, Columns())[1]]

    assert named("all") == ["1_two"]
    assert named("multiclass") == ["2_news-a", "2_news-b", "2_news-c"] == named("2") == named("2_news")
    assert named("continuous") == ["3_stars"] == named("3_stars")
    assert named("2_news-b,1") == ["2_news-b", "1_two"]
    (stars,) = presets.chosen("3", folder, Columns())[1]  # five values of a set of numbers are no classes
    assert (stars.positive, int(stars.labels.sum())) == ("above 2", 20)
    for bad, says in (("2_news-x", "2_news-"), ("2_new", "2_news"), ("9", "no preset")):
        with pytest.raises(NotFound, match=says):
            named(bad)
    with pytest.raises(BadInput, match="twice"):
        named("2,2_news")


def test_the_wheels_sets_of_classes_and_numbers(wheel_tasks: Path) -> None:
    _, classes = presets.chosen("multiclass", wheel_tasks, Columns())
    _, numbers = presets.chosen("continuous", wheel_tasks, Columns())
    assert len({task.set_name for task in classes}) == 19 and len(classes) == 85
    assert len(numbers) == 20
    by_name = {task.name: task for task in [*classes, *numbers]}
    borough = by_name["10_nyc_borough-Staten Island"]
    assert (borough.counts.n_read, borough.counts.n_conflicts, len(borough)) == (5000, 29, 4294)
    year = by_name["28_art_year"]
    assert (year.counts.n_conflicts, len(year)) == (288, 4290)
    assert all(0.3 < task.positive_frac <= 0.5 for task in numbers)
    for kept, other in ((b, a) for a, b in wheel.REPEATED.items()):
        assert wheel.columns(wheel_tasks, kept) == wheel.columns(wheel_tasks, other)
        assert f"rows and labels of {kept}" in wheel.tasks(wheel_tasks, other)[0].notes[-1]
    assert labels.MOST_CLASSES >= 10
