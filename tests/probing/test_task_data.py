"""Tasks: what is removed from the data and counted, which label is class 1, what is refused, and who is trained on."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import AssayError, BadInput, BadOption, Corrupt, NotFound
from assay.probing import flags, presets, tables, wheel
from assay.probing.data import make_task
from assay.probing.splits import folds, n_train_of, split
from assay.probing.tables import Columns


def test_duplicates_and_conflicts_go_before_anything_else_and_are_counted() -> None:
    texts = ["a", "b", "a", "c", "b", "", "d", "b", " "]
    task = make_task("t", texts, [1, 0, 1, 1, 1, 0, 0, 0, 1], "here")
    assert task.texts == ("a", "c", "d")
    assert task.labels.tolist() == [1, 1, 0]
    counts = task.counts
    assert (counts.n_read, counts.n_duplicates, counts.n_conflicts, counts.n_empty) == (9, 1, 3, 2)


@pytest.mark.parametrize(
    ("targets", "positive"),
    [
        (["bigram", "not_bigram"], "bigram"),
        ([True, False], "1"),
        ([0.0, 1.0], "1"),
        (["incorrect", "correct"], "correct"),
        (["No", "Yes"], "Yes"),
    ],
)
def test_class_1_is_named_never_sorted(targets: list, positive: str) -> None:
    task = make_task("t", ["x", "y"], targets, "here")
    assert task.positive == positive
    assert task.labels[[str(t) in (positive, "True", "1.0") for t in targets].index(True)] == 1


@pytest.mark.parametrize(
    ("targets", "options", "error", "says"),
    [
        ([1, 1], {}, BadInput, "one class only"),
        (["cat", "dog"], {}, BadInput, "--positive"),
        ([0, 1, 2], {}, BadInput, "3 labels"),
        (["cat", "dog"], {"positive": "cow"}, BadOption, "cow"),
        ([1, None], {}, BadInput, "no label"),
    ],
)
def test_labels_that_are_not_two_are_refused_in_a_sentence(targets, options, error, says) -> None:
    with pytest.raises(error, match=says):
        make_task("t", [f"text {i}" for i in range(len(targets))], targets, "here", **options)


def test_splits_follow_the_text_and_not_its_place() -> None:
    texts = [f"text {i}" for i in range(300)]
    labels = np.arange(300) % 2
    one, again = split(texts, labels, 0), split(texts[::-1], labels[::-1], 0)
    assert {texts[i] for i in one.train} == {texts[::-1][i] for i in again.train}
    assert set(one.train) | set(one.test) == set(range(300)) and not set(one.train) & set(one.test)
    assert set(one.train) != set(split(texts, labels, 1).train)
    assert (n_train_of(5000), n_train_of(700), n_train_of(150)) == (1024, 600, 75)
    for f in range(3):
        assert labels[one.train][one.fold == f].sum() == pytest.approx(labels[one.train].sum() / 3, abs=1)


def test_fewer_rows_than_folds_are_refused() -> None:
    with pytest.raises(BadInput, match="fewer than the 5 folds"):
        folds(np.array([0] * 20 + [1] * 4), 5)
    with pytest.raises(BadInput, match="all of one class"):
        split([f"t{i}" for i in range(30)], np.array([1] + [0] * 29), 0)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "csv", "parquet"])
def test_a_users_file_is_read_in_every_format(tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    rows = [{"text": f'line "{i}"\nnext, é', "label": "ab"[i % 2]} for i in range(10)]
    path = tmp_path / f"mine.{suffix}"
    if suffix.startswith("jsonl"):
        text = "\n".join(json.dumps(row) for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    elif suffix == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        pd.DataFrame(rows).to_parquet(path)
    (task,) = tables.read(path, Columns(positive="b"))
    assert task.texts == tuple(row["text"] for row in rows)
    assert task.labels.tolist() == [0, 1] * 5 and task.name == "mine"


def test_a_few_labels_are_one_task_each(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"t{i}", "label": i % 3}) for i in range(30)))
    assert [task.name for task in tables.read(path, Columns())] == ["news-0", "news-1", "news-2"]
    (only,) = tables.read(path, Columns(positive="2"))
    assert only.positive_frac == pytest.approx(1 / 3) and only.negative == "not 2"


def test_a_test_file_that_shares_texts_is_refused_unless_allowed(tmp_path: Path) -> None:
    for name, texts in (("a", range(12)), ("b", range(10, 20))):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": f"t{i}", "label": i % 2}) for i in texts))
    tasks = tables.read(tmp_path / "a.jsonl", Columns())
    with pytest.raises(BadInput, match=r"2 texts of b\.jsonl are also in"):
        tables.with_test(tasks, tmp_path / "b.jsonl", Columns(), allow_shared=False)
    (task,) = tables.with_test(tasks, tmp_path / "b.jsonl", Columns(), allow_shared=True)
    assert task.shift is not None and not set(task.texts) & set(task.shift.texts) and len(task) == 10


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.jsonl", '{"text": "a"}', "label"),
        ("x.jsonl", "no json", "Line 1"),
        ("x.txt", "a", "known endings"),
        ("none.csv", None, "does not exist"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_a_sentence(
    tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(AssayError, match=says):
        tables.read(tmp_path / name, Columns())


def test_storyworld_and_its_variables_are_tasks() -> None:
    _, tasks = presets.chosen("storyworld:gender,tense", Path(), Columns())
    assert [task.name for task in tasks] == ["gender", "tense-future", "tense-past", "tense-present"]
    assert len(tasks[0]) == 6000
    with pytest.raises(NotFound, match="mood"):
        presets.chosen("storyworld:moood", Path(), Columns())


def test_the_labelled_folder_gives_tasks_with_their_shifts(shared_data: Path) -> None:
    found = {task.name: task for task in tables.folder(shared_data / "labelled", Columns())}
    assert found["living-room"].positive == "bigram" and len(found["living-room"]) == 2384
    assert found["living-room"].shift is not None and len(found["living-room"].shift) == 294
    assert {"agnews-0", "agnews-other", "yelp-stars-4"} <= found.keys()
    assert not any(name.endswith("-ood") for name in found)


def test_length_punctuation_and_duplicates_are_flagged() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) % 2).tolist()
    plain = [f"{i} " + " ".join(rng.choice(["aa", "bb", "cc"], 20)) for i in range(300)]
    longer = [text + " aa" * 9 * y for text, y in zip(plain, labels, strict=True)]
    ended = [text + (" ." if y else " ,") for text, y in zip(plain, labels, strict=True)]
    for texts, word in ((longer, "length"), (ended, "punctuation"), (plain + plain, "duplicates")):
        task = make_task("t", texts, labels * (len(texts) // 300), "here")
        assert word in " ".join(flags.sentences(flags.readings(task)))
    assert flags.sentences(flags.readings(make_task("t", plain, labels, "here"))) == ()


def test_a_wheel_that_is_not_the_wheel_or_leads_outside_is_not_unpacked(tmp_path: Path) -> None:
    bad = tmp_path / "bad.whl"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("sae_probes/data/../../../../evil.txt", "x")
    with pytest.raises(Corrupt, match="SHA-256"):
        wheel.fetch(tmp_path / "out", bad)
    with pytest.raises(Corrupt, match="leads outside"):
        wheel.unpack(bad, tmp_path / "in" / "out")
    assert not list(tmp_path.glob("**/evil.txt")) and not (tmp_path / "in" / "out").exists()
    good = tmp_path / "good.whl"
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("sae_probes/data/OOD data/a.csv.zst", "x")
        archive.writestr("sae_probes/code.py", "x")
    assert wheel.unpack(good, tmp_path / "out") == 1
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == ["a.csv.zst"]


def test_missing_tasks_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="--fetch-tasks"):
        presets.chosen("quick", tmp_path, Columns())


def test_the_wheels_tasks_are_what_the_sheet_says() -> None:
    """All 113, with the rows that carry both labels; needs the tasks to have been fetched."""
    folder = wheel.default_folder()
    if not folder.is_dir():
        pytest.skip(f"the wheel's tasks are not in {folder}; assay probe --fetch-tasks brings them")
    assert len(wheel.names(folder)) == 113
    assert (len(wheel.names(folder, "multiclass")), len(wheel.names(folder, "continuous"))) == (20, 22)
    name, tasks = presets.chosen("quick", folder, Columns())
    assert [len(task) for task in tasks] == [4389, 2384, 4828, 4338, 3816, 1837] and name == "quick"
    assert tasks[1].positive == "bigram" and tasks[0].counts.n_conflicts == 12
