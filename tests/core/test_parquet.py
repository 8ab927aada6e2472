"""What was saved comes back exactly; what was torn, altered or of another kind is named and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_units import COSTS, FVU, arm, table

from assay.core.errors import BadInput, BadOption, Corrupt, NotFound
from assay.core.intervals import summarise
from assay.core.outcome import FILES, Cost, Note, Results, Units
from assay.core.record import arrow_schema
from assay.core.verdict import compare


@pytest.fixture(scope="module")
def found() -> Results:
    rng = np.random.default_rng(0)
    base = rng.random(40)
    arms = [arm("gated", "method", subject="h1"), arm("topk", subject="h2")]
    units = Units.concat(
        [
            table("gated", base, subject="h1"),
            table("topk", base + 0.1, subject="h2"),
            table("topk", base[:3], split="train", subject="h2"),
        ]
    )
    outcomes = summarise(units, arms, [FVU], seed=0, resamples=500)
    verdicts = compare(units, arms, [FVU], COSTS, seed=0, resamples=500).verdicts
    note = Note(study="s", task="t", metric="fvu", split="test", arm="gated", baseline="pca", point=None, reason="why")
    return Results(units, outcomes, COSTS, verdicts, [note])


def test_round_trip_is_exact(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path / "new")
    again = Results.load(tmp_path / "new")
    assert again.units.plain().equals(found.units.plain())
    assert again.outcomes == found.outcomes
    assert again.costs == found.costs
    assert again.verdicts == found.verdicts
    assert again.notes == found.notes
    assert any(outcome.lo is None and outcome.why_null for outcome in again.outcomes), "a null interval went through"
    with pytest.raises(BadOption, match="already holds a result"):
        found.save(tmp_path / "new")


def test_files_have_the_exact_schema_and_say_its_version(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path)
    schema = pq.read_schema(tmp_path / "units.parquet")
    assert schema.metadata[b"assay.schema"] == b"1"
    assert schema.metadata[b"assay.table"] == b"Unit"
    assert [(f.name, str(f.type), f.nullable) for f in schema] == [
        *((name, "string", False) for name in ("study", "task", "arm", "metric", "split")),
        ("seed", "int64", False), ("point", "double", True), ("subject", "string", False),
        ("unit_kind", "string", False), ("unit", "string", False), ("num", "double", False), ("den", "double", False),
        ("n_obs", "int64", False),
    ]  # fmt: skip
    nullable = {f.name for f in pq.read_schema(tmp_path / "outcomes.parquet") if f.nullable}
    assert nullable == {"value", "why_null", "lo", "hi", "seed", "point_name", "point"}


@pytest.mark.parametrize("name", sorted(FILES.values()))
def test_a_flipped_byte_anywhere_or_a_cut_is_named(found: Results, tmp_path: Path, name: str) -> None:
    found.save(tmp_path)
    path = tmp_path / name
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    named: list[bool] = []
    for place in rng.integers(4, len(good) - 8, 30):
        bad = bytearray(good)
        bad[place] ^= 0x40
        path.write_bytes(bytes(bad))
        try:
            changed = Results.load(tmp_path)
        except Corrupt as error:
            named.append(str(path) in str(error))
        else:  # a byte of statistics or padding: then nothing that is read may differ
            assert changed.outcomes == found.outcomes
            assert changed.verdicts == found.verdicts
            assert changed.units.plain().equals(found.units.plain())
    assert len(named) > 5
    assert all(named)
    for cut in (0, 3, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:cut])
        with pytest.raises(Corrupt, match=name):
            Results.load(tmp_path)
    path.unlink()
    with pytest.raises(NotFound, match=name):
        Results.load(tmp_path)


def test_other_tables_and_other_schemas_are_refused(found: Results, tmp_path: Path) -> None:
    found.save(tmp_path)
    path = tmp_path / "costs.parquet"
    good = pq.read_table(path)

    def refused(table: pa.Table, said: str) -> None:
        pq.write_table(table, path)
        with pytest.raises(Corrupt, match=said):
            Results.load(tmp_path)

    refused(pa.table({"a": [1]}), "not a table of Cost")
    refused(pq.read_table(tmp_path / "verdicts.parquet"), "not a table of Cost")
    refused(good.replace_schema_metadata({**good.schema.metadata, b"assay.schema": b"2"}), "schema 2.*reads schema 1")
    refused(good.drop_columns(["device"]), "does not have the columns")
    wrong_word = good.to_pylist()
    wrong_word[0]["access"] = "logits"
    refused(
        pa.Table.from_pylist(wrong_word, schema=arrow_schema(Cost)).replace_schema_metadata(good.schema.metadata),
        "break the schema.*logits",
    )


def test_join_counts_a_shared_unit_once_and_refuses_contradictions(found: Results) -> None:
    other = Results(
        Units.concat([table("topk", np.ones(3), split="shift:news", subject="h2"), found.units.where(arm="topk")]),
        found.outcomes[:1],
        [Cost(id="cheap", access="activations", upfront_seconds=2.2, params_trained=10, marginal_seconds=9.0)],
    )
    both = Results.join([found, other])
    assert len(both.units) == len(found.units) + 3
    assert both.outcomes == found.outcomes
    assert [cost.id for cost in both.costs] == ["cheap", "dear"]
    with pytest.raises(BadInput, match=r"disagree about fvu of arm topk .*document d0"):
        Results.join([found, Results(table("topk", np.full(40, 9.0), subject="h2"))])
    with pytest.raises(BadInput, match='cost "cheap" different upfront'):
        Results.join([found, Results(costs=[Cost(id="cheap", access="activations", upfront_seconds=5.0)])])
    assert Results.join([]).outcomes == []


def test_to_pandas_gives_every_table(found: Results) -> None:
    assert found.to_pandas()["metric"].tolist() == ["fvu"] * len(found.outcomes)
    assert found.to_pandas("verdicts")["word"].tolist() == ["beats"]
    assert len(found.to_pandas("units")) == len(found.units)
    with pytest.raises(BadOption, match="Known: outcomes"):
        found.to_pandas("scores")  # type: ignore[arg-type]
