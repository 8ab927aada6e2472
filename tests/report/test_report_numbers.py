"""Every number on the page is the number that was saved; verdicts say what they speak of."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from made_up import ARMS, results
from matplotlib.figure import Figure
from reading import Element, read

from assay.core.outcome import Outcome, Results
from assay.report import verdict_table
from assay.report.canvas import Palette, Picture
from assay.report.pictures import histogram, spread
from assay.report.saved import load
from assay.report.sections import settled
from assay.report.words import duration, number, p_value, quantity, signed

Page = tuple[Results, str]
HEADINGS = {
    "L0": "l0",
    "FVU": "fvu",
    "loss recovered (zero ablation)": "loss_recovered_zero",
    "γ": "gamma",
    "cosine": "cosine",
    "loss recovered (mean ablation)": "loss_recovered_mean",
    "delta loss, nats": "delta_loss",
    "dead": "dead",
    "dense > 1 %": "dense_1",
    "dense > 10 %": "dense_10",
}


def numbers(cell: Element) -> list[float]:
    return [float(d.attributes["value"]) for d in cell.all("data")]


def rows_of(table: Element) -> list[dict[str, Element]]:
    """Each row as {heading: cell}."""
    head = [e.text for e in table.all("thead")[0].all("th")]
    found = []
    for row in table.all("tbody")[0].all("tr"):
        cells = [c for c in row.children if isinstance(c, Element) and c.name in ("th", "td")]
        found.append(dict(zip(head, cells, strict=True)))
    return found


def check_table(table: Element, outcomes: list[Outcome], by_seed: bool) -> int:
    """Compare every metric cell with its outcome; returns how many were compared."""
    at = {(o.arm, o.options["k"], o.metric, o.seed if by_seed else None): o for o in outcomes}
    compared = 0
    for row in rows_of(table):
        k = int(re.search(r"k (\d+)", row["options"].text).group(1))  # pyright: ignore
        seed = int(re.search(r"seed (\d+)", row["options"].text).group(1)) if by_seed else None  # pyright: ignore
        for heading in HEADINGS.keys() & row.keys():
            outcome = at.get((row["arm"].text, k, HEADINGS[heading], seed))
            if outcome is None:
                continue
            expected = [outcome.value] + ([outcome.lo, outcome.hi] if outcome.lo is not None else [])
            assert numbers(row[heading]) == expected, (row["arm"].text, k, heading)
            compared += 1
    return compared


def test_every_number_of_the_arms_is_its_outcome(one_seed: Page) -> None:
    found, text = one_seed
    outcomes = [Outcome(**{**vars(o), "seed": None}) for o in found.outcomes]
    compared = sum(check_table(table, outcomes, by_seed=False) for table in read(text)["arms"].all("table"))
    assert compared == len(outcomes) == sum(len(arm.points) for arm in ARMS) * len(HEADINGS)


def test_pooled_numbers_stand_above_and_single_ones_below(three_seeds: Page) -> None:
    found, text = three_seeds
    tables = read(text)["arms"].all("table")
    pooled = [o for o in found.outcomes if o.seed is None]
    single = [o for o in found.outcomes if o.seed is not None]
    assert sum(check_table(table, pooled, by_seed=False) for table in tables[:2]) == len(pooled)
    assert sum(check_table(table, single, by_seed=True) for table in tables[2:]) == len(single)


def test_a_pooled_arm_shows_the_range_of_what_only_its_seeds_have(three_seeds: Page) -> None:
    found, text = three_seeds
    row = rows_of(read(text)["arms"].all("table")[1])[0]
    dead = [o.value for o in found.outcomes if o.arm == "gated" and o.metric == "dead" and o.options["k"] == 0]
    assert numbers(row["dead"]) == [min(dead), max(dead)]  # pyright: ignore


def test_what_is_written_is_the_number_beside_it(one_seed: Page) -> None:
    """The visible text, read back, agrees with the exact value to the digits shown."""
    tree = read(one_seed[1])
    checked = 0
    for data in [*tree["arms"].all("table")[0].all("data"), *tree["verdicts"].all("data")]:
        exact, shown = float(data.attributes["value"]), data.text.replace("−", "-").replace(",", "")
        digits = len(shown.partition(".")[2])
        assert math.isclose(float(shown), exact, abs_tol=0.5000001 * 10**-digits), (shown, exact)
        checked += 1
    assert checked > 300 + 9 * 7


def test_the_verdict_table_holds_the_verdicts(one_seed: Page) -> None:
    found, text = one_seed
    section = read(text)["verdicts"]
    rows = [row for table in section.all("table") for row in rows_of(table)]
    assert len(rows) == len(found.verdicts) == 9
    for row in rows:
        point = numbers(row["L0"])[0]
        (verdict,) = [
            v
            for v in found.verdicts
            if v.point == point and v.gain == numbers(row["gain [95 %]"])[0] and v.arm_value == numbers(row["arm’s"])[0]
        ]
        assert row["verdict"].text == verdict.word
        assert row["against"].text == verdict.baseline
        assert numbers(row["baseline’s"]) == [verdict.baseline_value]
        assert numbers(row["gain [95 %]"]) == [verdict.gain, verdict.lo, verdict.hi]
        assert numbers(row["p (Holm)"]) == [verdict.p_holm]
    assert {e.text for e in section.all("span", "pill")} == {"beats", "ties", "loses", "no signal"}
    assert "gated against topk on FVU and γ at L0 3.10: its L0 lies outside" in section.text


def test_validation_is_shown_only_where_nothing_else_was_measured(tmp_path: Path) -> None:
    arms = ARMS[:2]
    both, only = results(arms=arms), results(arms=arms, split="validation", judged=False)
    both.outcomes += only.outcomes
    for name, found, splits in (("both", both, {"test"}), ("only", only, {"validation"})):
        found.save(tmp_path / name)
        assert {setting.split for setting in load([tmp_path / name]).settings} == splits


def test_the_headline_counts_words(one_seed: Page) -> None:
    (card,) = read(one_seed[1]).all("ul", "findings")[0].all("li")
    assert "gated against topk, the strongest baseline" in card.text
    said = dict(zip([e.text for e in card.all("dt")], [e.text for e in card.all("dd")], strict=True))
    assert "beats at 2 of 3 sparsities compared" in said["FVU"]
    assert "ties at 1 of 3 sparsities" in said["FVU"]
    assert "loses at 1 of 3 sparsities" in said["γ"]
    assert "Compared at 3 of its 4 sparsities." in card.text
    assert "no signal at 1 of 3 sparsities" in said["loss recovered (zero ablation)"]


@pytest.mark.parametrize(
    ("seeds", "said", "unsaid"),
    [
        (1, "these dictionaries", "the architectures"),
        (2, "these dictionaries", "the architectures"),
        (3, "the architectures", "these dictionaries"),
    ],
)
def test_scope_follows_the_number_of_seeds(seeds: int, said: str, unsaid: str) -> None:
    from assay.report.findings import Finding
    from assay.report.saved import Setting
    from assay.report.tables import scope

    found = results(seeds=seeds)
    assert {scope(v) for v in found.verdicts} == {said}
    finding = Finding(Setting("", "", "", "test", [], [], []), "gated", "method", "fvu", found.verdicts)
    assert said in finding.scope
    assert unsaid not in finding.scope
    assert said.removeprefix("the ") in verdict_table(found)


def test_the_page_says_its_scope(one_seed: Page, three_seeds: Page) -> None:
    assert "These verdicts speak of these dictionaries." in one_seed[1]
    assert "These verdicts speak of the architectures." in three_seeds[1]


def test_verdict_table_in_the_terminal_is_aligned_and_complete() -> None:
    found = results()
    lines = verdict_table(found).splitlines()
    assert sum(" gated " in line for line in lines) == 9
    assert len({line.index("topk") for line in lines if "topk" in line}) == 1
    assert "\x1b" not in verdict_table(found)
    assert "\x1b[32mbeats" in verdict_table(found, colour=True)
    assert verdict_table(results(judged=False)).startswith("No verdict")


def test_numbers_as_written() -> None:
    assert [number(x) for x in (0.05, -0.00001, None, math.nan, math.inf)] == ["0.0500", "0.0000", "—", "—", "∞"]
    assert [number(x, "count") for x in (0.0, 0.5, 7.4, 14.0, 99.96, 123.4, 12345.0)] == [
        "0",
        "0.500",
        "7.40",
        "14.0",
        "100",
        "123",
        "12,345",
    ]
    assert (number(0.1234, "percent"), number(-1.5, 2), signed(0.25, 2), signed(-0.25, 2)) == (
        "12.3 %",
        "−1.50",
        "+0.25",
        "−0.25",
    )
    assert [duration(x) for x in (0.0, 2e-5, 0.0021, 11.5, 180.0, 9000.0)] == [
        "0 s",
        "20 µs",
        "2.1 ms",
        "11.5 s",
        "3 min",
        "2.5 h",
    ]
    assert [quantity(x) for x in (512, 131_712, 2_500_000, None)] == ["512", "132k", "2.5M", "—"]
    assert [p_value(x) for x in (0.0001, 0.0031, 0.62, 1.0)] == ["< .001", ".003", ".620", "1"]


def test_numbers_in_the_text_of_a_picture_are_whole() -> None:
    def draw(figure: Figure, palette: Palette) -> None:
        figure.add_subplot().set_xticks([0.123456, 1.0], ["0.98765 %", "x=1.23456"])

    text = Picture("p", "from 0.12345 on", (2, 2), draw).inline()
    assert "0.98765 %" in text
    assert "x=1.23456" in text
    assert 'aria-label="from 0.12345 on"' in text
    assert not re.search(r" [xy]=\"-?\d+\.\d{3}", text), "coordinates are rounded"


def test_labels_are_pushed_apart_and_stay_in_order() -> None:
    assert spread([0.1, 0.5, 0.9], 0.06) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.50, 0.50, 0.51], 0.06) == pytest.approx([0.503333 - 0.06, 0.503333, 0.503333 + 0.06], abs=1e-4)
    assert spread([0.99, 1.0], 0.06) == pytest.approx([0.94, 1.0])


def test_the_histogram_counts_every_latent_once() -> None:
    values = np.array([0.0, 1e-6, 0.005, 0.05, 0.5, 1.0])
    shares = histogram(values, np.linspace(-4, 0, 5))
    assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 6, 2 / 6])  # the rarest counts in the first bin, the dead in none


def test_how_much_a_run_still_moved() -> None:
    run = [{"tokens": float(t), "fvu": 1.0 - t / 200} for t in range(0, 101, 10)]
    assert settled("gated", [run]) == "gated: over the last fifth of training the median run moved FVU −0.1000."
    assert settled("gated", [run[:3]]) == ""
