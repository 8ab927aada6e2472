"""auxiliary: its claim on made-up verdicts, its arms, and the study at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_studies import TOY, results, verdict

from assay import dictionaries, studies
from assay.core.errors import BadOption
from assay.core.outcome import Results
from assay.studies import auxiliary

ARMS = ("gated-straight_through", "gated-l0", "gated-own_decoder")


@pytest.mark.parametrize(
    ("words", "moving", "word"),
    [
        (("loses", "loses", "beats"), "", "reproduced"),
        (("loses", "loses", "beats"), "it still moved", "reproduced"),
        (("loses", "ties", "loses"), "", "not reproduced"),
        (("loses", "ties", "loses"), "it still moved", "cannot be told here"),
        (("loses", "no signal", "loses"), "", "cannot be told here"),
        (("loses", None, "loses"), "", "cannot be told here"),
        ((None, None, None), "", "cannot be told here"),
    ],
)
def test_one_better_task_suffices_and_all_must_fail(words: tuple, moving: str, word: str) -> None:
    tasks = [verdict(w, arm=arm, baseline="gated") for arm, w in zip(ARMS, words, strict=True) if w is not None]
    others = [
        verdict("beats", arm="gated-none", baseline="gated"),
        verdict("beats", arm="gated-l0", baseline="pca"),
        verdict("beats", arm="gated-l0", baseline="gated", metric="gamma"),
        verdict("beats", arm="relu", baseline="gated"),
    ]
    claim = auxiliary.claim_about(results(*tasks, *others), moving)
    assert claim.word == word
    assert claim.n_seeds == (3 if tasks else 0)


def test_a_task_that_wins_some_and_loses_some_decides_nothing() -> None:
    mixed = [verdict(w, arm="gated-l0", baseline="gated") for w in ("beats", "beats", "loses")]
    rest = [verdict("loses", arm=arm, baseline="gated") for arm in (ARMS[0], ARMS[2])]
    assert auxiliary.claim_about(results(*mixed, *rest)).word == "cannot be told here"


def test_arms_and_their_sparsities() -> None:
    options = auxiliary.Options(l1_coef=(1.0, 4.0), l0_coef=(0.5, 2.0), k=(4, 8), init_l0=6.0, bandwidth=0.3)
    by_arm = {recipe.arm: recipe for recipe in auxiliary.recipes(options)}
    paper = by_arm["gated"]
    assert paper.role == "baseline" and [r.arm for r in by_arm.values() if r.role == "baseline"] == ["gated"]
    assert paper.options["l1_coef"] == pytest.approx([0.5, 2**-0.5, 1, 2, 4, 32**0.5, 8])  # wider and finer
    assert "auxiliary" not in paper.options
    for task in auxiliary.TASKS:
        given = by_arm[f"gated-{task}"].options
        assert given["auxiliary"] == task and given["init_l0"] == 6.0
        assert given["l1_coef"] == ([0.5, 2.0] if task == "l0" else [1.0, 4.0])
        assert given.get("bandwidth") == (None if task == "own_decoder" else 0.3)
    assert by_arm["gated-none"].options == {"l1_coef": 0.0, "init_l0": [4.0, 8.0], "auxiliary": "none"}
    with pytest.raises(BadOption, match="--bandwidth"):
        auxiliary.Options(bandwidth=0)


@pytest.mark.slow
def test_auxiliary_at_toy_size(tmp_path: Path) -> None:
    asked = auxiliary.Options(
        **(TOY | {"archs": (), "n_tokens": 4096, "l1_coef": (2.0,), "l0_coef": (1.0,), "k": (4,)})
    )
    found = studies.run("auxiliary", asked, tmp_path / "a", quiet=True)
    roles = {o.arm: o.role for o in found.results.outcomes}
    methods = {*ARMS, "gated-none", "relu"}
    assert roles == {
        "gated": "baseline",
        **dict.fromkeys(methods, "method"),
        **dict.fromkeys(("pca", "raw", "random"), "control"),
    }
    folders = [p.parent for p in (tmp_path / "a" / "dictionaries").glob("gated*/config.json")]
    for folder in folders:
        made = dictionaries.load(folder)
        assert made.label == folder.name.split("_l1")[0].split("_init")[0]
        assert hasattr(made, "W_aux") == (made.label == "gated-own_decoder")
    assert {dictionaries.load(folder).label for folder in folders} == {"gated", *ARMS, "gated-none"}
    assert {row[0] for row in found.tables[0].rows} == methods
    assert Results.load(tmp_path / "a" / "results").verdicts == found.results.verdicts
    assert studies.run("auxiliary", asked, tmp_path / "a", quiet=True).claim == found.claim
