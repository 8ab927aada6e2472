"""Text in: every kind of file, splits by hash, and one sentence for everything that cannot be used."""

from __future__ import annotations

import gzip
import hashlib
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.activations import document_id, documents, half_of, of_split, split_of
from assay.core.errors import AssayError, BadInput, NotFound, Unreachable


def said(error: pytest.ExceptionInfo[AssayError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_document_name_is_the_hash_of_its_text():
    assert document_id("Ümit") == hashlib.sha256("Ümit".encode()).hexdigest()[:16]


@given(st.integers(0, 16**16 - 1))
@example(89)
@example(90)
@example(94)
@example(95)
@example(199)
def test_split_and_half_follow_the_number_of_the_id(n: int):
    name = f"{n:016x}"
    expected = "train" if n % 100 < 90 else "validation" if n % 100 < 95 else "test"
    assert split_of(name) == expected
    assert half_of(name) == ("validation" if (n // 100) % 2 == 0 else "test")


def test_splits_are_90_5_5_and_halves_are_even_and_independent():
    names = [document_id(f"story {i}") for i in range(40_000)]
    share = {s: sum(split_of(n) == s for n in names) / len(names) for s in ("train", "validation", "test")}
    assert share["train"] == pytest.approx(0.90, abs=0.006)  # 4 standard errors: .0060 and .0044
    assert share["validation"] == pytest.approx(0.05, abs=0.0044)
    assert share["test"] == pytest.approx(0.05, abs=0.0044)
    for split in share:
        halves = [half_of(n) == "test" for n in names if split_of(n) == split]
        assert sum(halves) / len(halves) == pytest.approx(0.5, abs=2 / len(halves) ** 0.5)


def test_every_kind_of_file_gives_the_same_documents(tmp_path, write):
    texts = ["One day, Łucja ran.", "Two\nlines here", "Three 🐢"]
    rows = [{"text": t, "id": i} for i, t in enumerate(texts)]
    plain = write("a.jsonl", rows)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\ufeff" + "\n".join(json.dumps(r) for r in rows))
    pq.write_table(pa.table({"story": texts}), tmp_path / "a.parquet")
    (tmp_path / "a.txt").write_text("\n\n" + "\n\n \n".join(texts) + "\n", encoding="utf-8")
    wanted = [(document_id(t), t) for t in texts]
    assert list(documents(plain)) == wanted
    assert list(documents(str(tmp_path / "a.jsonl.gz"))) == wanted
    assert list(documents(str(tmp_path / "a.parquet"), text_column="story")) == wanted
    assert list(documents(str(tmp_path / "a.txt"))) == wanted


def test_duplicates_and_empty_rows_are_left_out_and_counted(write):
    found = documents(write("a.jsonl", [{"text": t} for t in ("x y", "", "z", "x y", "  ", "x y")] + [{"text": None}]))
    assert [d.text for d in found] == ["x y", "z"]
    assert found.counts() == {"n_read": 7, "n_duplicates": 2, "n_empty": 3, "n_mended": 0}
    assert [d.text for d in found] == ["x y", "z"]  # a second reading counts anew
    assert found.n_duplicates == 2


def test_limit_counts_distinct_documents(write):
    path = write("a.jsonl", [{"text": t} for t in ("x", "x", "y", "z")])
    assert [d.text for d in documents(path, limit=2)] == ["x", "y"]


def test_a_lone_surrogate_is_mended(write):
    found = documents(write("a.jsonl", ['{"text": "bad \\ud800 end"}']))
    assert [d.text for d in found] == ["bad \ufffd end"]
    assert found.n_mended == 1


def test_of_split_takes_documents_by_their_hash(write):
    found = list(documents(write("a.jsonl", [{"text": f"t{i}"} for i in range(200)])))
    parts = [list(of_split(found, s)) for s in ("train", "validation", "test")]
    assert sorted(d for part in parts for d in part) == sorted(found)
    assert all(split_of(d.id) == "train" for d in parts[0])
    assert len(parts[0]) > 160


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.jsonl", b"", BadInput, "is empty"),
        ("a.jsonl", b'{"text": " "}\n{"text": ""}\n', BadInput, "no usable text (2 rows read"),
        ("a.jsonl", b'{"txet": "x"}\n', NotFound, 'Did you mean "txet"'),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', BadInput, "Line 2"),
        ("a.jsonl", b'["x"]\n', BadInput, "is not an object"),
        ("a.jsonl", b'{"text": 3}\n', BadInput, "holds a int, not text"),
        ("a.txt", b"good\n\n\xff\xfe bad\n", BadInput, "is not UTF-8: byte 0xff"),
        ("a.jsonl.gz", b"not gzip at all", BadInput, "is not a whole gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9000)[:-30], BadInput, "is not a whole gzip file"),
        ("a.parquet", b"PAR1 no", BadInput, "is not a whole parquet file"),
        ("a.csv", b"text\nx\n", BadInput, "is not a kind of text"),
    ],
)
def test_unusable_text_is_refused_in_one_sentence(tmp_path, name, content, kind, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind) as error:
        list(documents(str(tmp_path / name)))
    assert words in said(error)
    assert name in said(error)


def test_shipped_stories_are_taken_by_name_and_number(monkeypatch):
    from assay.core import shipped

    monkeypatch.setattr(shipped, "stories", lambda: iter([{"text": f"story {i}", "mood": "sad"} for i in range(9)]))
    assert [d.text for d in documents("storyworld:3")] == ["story 0", "story 1", "story 2"]
    assert len(list(documents("storyworld"))) == 9
    assert len(list(documents("storyworld:5", limit=4))) == 4


def test_shipped_stories_are_taken_by_a_variable_of_the_world(monkeypatch):
    from assay.core import shipped

    told = [{"text": f"story {i}", "mood": ("sad", "glad", "calm")[i % 3], "place": "forest"} for i in range(9)]
    monkeypatch.setattr(shipped, "stories", lambda: iter(told))
    assert [d.text for d in documents("storyworld:mood=sad")] == ["story 0", "story 3", "story 6"]
    assert [d.text for d in documents("storyworld:mood=sad,calm:3")] == ["story 0", "story 2", "story 3"]
    assert len(list(documents("storyworld:place=forest"))) == 9
    for source, message in (
        ("storyworld:moud=sad", 'Did you mean "mood"'),
        ("storyworld:text=story 0", '"text" is not a variable'),
        ("storyworld:mood=sed", 'has mood "sed".*Did you mean "sad"'),
        ("storyworld:mood=", 'has mood ""'),
    ):
        with pytest.raises(NotFound, match=message):
            documents(source)
    for source in ("storyworld:mood=sad:0", "storyworld:mood=sad:", "storyworld:mood=sad:2:3", "storyworld:3:mood=sad"):
        with pytest.raises(BadInput, match="storyworld:n"):
            documents(source)


def test_a_parquet_column_is_named_or_refused(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(NotFound, match="Known: body, n"):
        list(documents(str(tmp_path / "a.parquet")))
    with pytest.raises(BadInput, match="holds int64"):
        list(documents(str(tmp_path / "a.parquet"), text_column="n"))


def test_missing_things_are_named_before_any_reading(tmp_path):
    for source in (str(tmp_path / "gone.jsonl"), "gone.txt", "./gone", "a b c"):
        with pytest.raises(NotFound) as error:
            documents(source)
        assert source in said(error)
    with pytest.raises(BadInput, match="is a folder"):
        documents(str(tmp_path))
    for source in ("storyworld:", "storyworld:x", "storyworld:0"):
        with pytest.raises(BadInput, match="storyworld:n"):
            documents(source)
    with pytest.raises(BadInput, match="limited to 0"):
        documents("storyworld", limit=0)


def test_a_hub_name_without_a_network_is_one_line_and_quick(monkeypatch):
    import huggingface_hub

    def away(self, name, timeout):
        raise ConnectionError("Name or service not known\nmore")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", away)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    started = time.perf_counter()
    with pytest.raises(Unreachable) as error:
        list(documents("some/dataset:config:train"))
    assert "the hub does not answer (Name or service not known)" in said(error)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Unreachable, match="HF_HUB_OFFLINE") as error:
        list(documents("storywolrd"))
    assert 'Did you mean "storyworld"' in said(error)
    assert time.perf_counter() - started < 5


def test_a_hub_dataset_is_read_by_name_config_and_split(monkeypatch):
    import datasets
    import huggingface_hub

    asked = []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: None)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["raw", "clean"])
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train", "dev"])
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, config, split, streaming: asked.append((name, config, split, streaming)) or [{"text": "x"}],
    )
    for source in ("me/d", "me/d:dev", "me/d:raw", "me/d:clean:dev"):
        assert [d.text for d in documents(source)] == ["x"]
    assert asked == [
        ("me/d", None, "train", True),
        ("me/d", None, "dev", True),
        ("me/d", "raw", "train", True),
        ("me/d", "clean", "dev", True),
    ]
    with pytest.raises(NotFound, match=r'no configuration "claen".* Did you mean "clean"'):
        list(documents("me/d:claen:dev"))
    with pytest.raises(NotFound, match='no split "devv"'):
        list(documents("me/d:devv"))
