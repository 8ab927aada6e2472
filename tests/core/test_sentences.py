"""What people read."""

from __future__ import annotations

import dataclasses

import pytest
from made_up_units import COSTS, RECOVERED
from test_records import VERDICT

from assay.core.outcome import Verdict
from assay.core.sentence import Setting, gain_text, p_text, sentence, verdict_table

SETTING = Setting(RECOVERED, ("dictionaries", "architectures"), COSTS, many_tasks=False)
BEATS = Verdict(
    **{
        **VERDICT, "metric": "loss_recovered_zero", "gain": 0.021, "lo": 0.012, "hi": 0.030, "p_holm": 0.0004,
        "costs": ("dear", "cheap"),
    }
)  # fmt: skip


def test_the_sentence_of_a_win() -> None:
    assert sentence(BEATS, SETTING) == (
        "gated beats topk on loss recovered zero at L0 8.1 by +0.021 [0.012, 0.030] (300 documents, these two "
        "dictionaries; Holm p = .0004; 3.1 s vs 2.2 s of training)."
    )


def test_the_sentence_says_what_it_speaks_of() -> None:
    def changed(**change: object) -> str:
        return sentence(dataclasses.replace(BEATS, **change), SETTING)  # type: ignore[arg-type]

    assert "(300 documents × 3 seeds, these two architectures;" in changed(n_seeds=3)
    assert "(300 documents, these dictionaries of 2 seeds;" in changed(n_seeds=2)
    assert "(7 seeds, these two architectures;" in changed(n_seeds=7, n_units=7, unit_kind="seed")
    assert "gated loses to topk on loss recovered zero at L0 8.1 by −0.021 [−0.030, −0.012]" in changed(
        word="loses", gain=-0.021, lo=-0.030, hi=-0.012
    )
    assert changed(word="ties", gain=0.001, lo=-0.002, hi=0.004).startswith(
        "gated ties with topk on loss recovered zero at L0 8.1: gain +0.001 [−0.002, 0.004], within ±0.005 ("
    )
    assert changed(word="no signal").startswith("no signal between gated and topk on loss recovered zero at L0 8.1:")
    assert "(shift:news)" in changed(split="shift:news")
    assert "at L0" not in changed(point=None, point_name=None)


@pytest.mark.parametrize(
    ("p", "text"), [(0.00001, "< .0001"), (0.0004, "= .0004"), (0.046, "= .046"), (0.2, "= .20"), (1.0, "= 1.00")]
)
def test_p_in_words(p: float, text: str) -> None:
    assert p_text(p) == text


def test_decimals_follow_the_interval() -> None:
    assert gain_text(dataclasses.replace(BEATS, gain=0.00012, lo=0.00006, hi=0.00018)) == "+0.00012 [0.00006, 0.00018]"
    assert gain_text(dataclasses.replace(BEATS, gain=12.0, lo=8.0, hi=16.0)) == "+12.0 [8.0, 16.0]"


def test_the_table_has_a_header_and_a_row_per_verdict() -> None:
    header, row = verdict_table([BEATS], COSTS)
    assert len(header) == len(row)
    cells = dict(zip(header, row))
    assert cells["verdict"] == "beats"
    assert cells["gain"] == "+0.021 [0.012, 0.030]"
    assert cells["seconds"] == "3.1 vs 2.2"
    assert cells["at"] == "L0 8.1"
