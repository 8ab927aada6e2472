"""The table of units: built from columns, filtered, joined, and equal to its records."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.outcome import Unit, Units


def small(**change: object) -> Units:
    given = dict(
        study="s", task="t", arm=["a", "a", "b"], metric="fvu", split="test", unit=["d1", "d2", "d1"],
        num=[1, 2, 3], den=4.0, n_obs=np.array([5, 6, 7]), seed=0, point=[8.0, np.nan, 2.0], subject="h",
    )  # fmt: skip
    return Units.of(**{**given, **change})  # type: ignore[arg-type]


def test_columns_and_records_are_the_same_table() -> None:
    table = small()
    records = list(table)
    assert len(table) == 3
    assert records[1] == Unit(
        study="s", task="t", arm="a", metric="fvu", split="test", seed=0, point=None, subject="h", unit_kind="document",
        unit="d2", num=2.0, den=4.0, n_obs=6,
    )  # fmt: skip
    assert Units.from_records(records).plain().equals(table.plain())
    assert table.to_pandas()["arm"].tolist() == ["a", "a", "b"]


def test_filter_and_concat_keep_rows_and_codes() -> None:
    table = small()
    both = Units.concat([table.where(arm="b"), table.where(arm="a", unit="d2"), Units.empty()])
    index, names = both.codes("arm")
    assert [names[i] for i in index] == ["b", "a"]
    assert both["num"].tolist() == [3.0, 2.0]
    assert len(table.where(arm="c")) == 0
    assert len(table.where(seed=0)) == 3
    with pytest.raises(BadInput, match=r'"metrics" is not a column.*Did you mean "metric"'):
        table.where(metrics="fvu")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num": [1, 2]}, "differ in length"),
        ({"num": [1, np.nan, 2]}, r"num is nan .*metric fvu, arm a, document d2"),
        ({"den": np.inf}, "finite"),
        ({"split": "tset"}, "shift:NAME"),
        ({"unit_kind": "documents"}, 'Did you mean "document"'),
        ({"n_obs": -1}, "0 or more"),
        ({"n_obs": [1.5, 2, 3]}, "whole numbers"),
        ({"unit": ["d1", None, "d2"]}, "present in every row"),
        ({"unit": [1, 2, 3]}, "texts only"),
        ({"point": [8.0, np.inf, 2.0]}, "finite"),
    ],
)
def test_wrong_columns_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        small(**change)
