"""adaptation: its claim on made-up verdicts, what it refuses, and the study at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_studies import TOY, outcome, results, verdict

from assay import activations, dictionaries, studies
from assay.core import shipped
from assay.core.artefact import read_json
from assay.core.errors import BadOption
from assay.core.outcome import Results
from assay.studies import adaptation

BOTH = ("adapted", "adapted-resampled")


def about(word: str, baseline: str, arm: str = "adapted", **more: Any) -> Any:
    return verdict(word, arm=arm, baseline=baseline, **more)


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ([("beats", "unadapted"), ("beats", "scratch"), ("ties", "scratch")], True),
        ([("ties", "scratch"), ("ties", "scratch"), ("no signal", "scratch")], True),
        ([("ties", "unadapted"), ("ties", "unadapted"), ("beats", "scratch")], False),
        ([("loses", "scratch"), ("beats", "scratch")], False),
        ([("beats", "scratch"), ("beats", "scratch"), ("loses", "scratch")], None),
        ([("beats", "scratch"), ("beats", "unadapted"), ("ties", "unadapted")], None),
        ([("no signal", "scratch"), ("no signal", "unadapted")], None),
        ([], None),
    ],
)
def test_worth_is_better_than_unadapted_and_no_worse_than_scratch(words: list, holds: bool | None) -> None:
    assert adaptation.worth([about(*pair) for pair in words], "adapted").holds is holds


@pytest.mark.parametrize(
    ("plain", "resampled", "word"),
    [
        ("beats", "beats", "reproduced"),
        ("beats", "loses", "not reproduced"),
        ("loses", "beats", "not reproduced"),
        ("beats", "no signal", "cannot be told here"),
    ],
)
def test_the_claim_needs_both_arms(plain: str, resampled: str, word: str) -> None:
    pairs = zip(BOTH, (plain, resampled), strict=True)
    others = [
        about("loses", "pca"),
        about("loses", "scratch", metric="gamma"),
        about("loses", "scratch", "scratch-long"),
    ]
    found = results(*(about(w, "unadapted", arm) for arm, w in pairs), *others)
    claim = adaptation.claim_about(found)
    assert claim.word == word and claim.n_seeds == 3
    assert f"adapted: {plain} unadapted 1 of 1 verdicts" in claim.sentence.replace("loses to", "loses")


def test_where_nothing_was_silent_resampling_did_nothing_and_that_is_said() -> None:
    def made(*subjects: str) -> list:
        return [outcome(arm, "fvu", 4, 0.3, seed=0, subject=s) for arm, s in zip(BOTH * 2, subjects, strict=False)]

    for subjects, n in ((("a", "a", "b", "c"), 1), (("a", "a", "b", "b"), 2), (("a", "b", "c", "d"), 0)):
        found = results(*made(*subjects), *(about("beats", "scratch", arm) for arm in BOTH))
        said = f"({n} of its 2 dictionaries are the adapted ones, since no latent was silent)"
        assert (said in adaptation.claim_about(found).sentence) == (n > 0)


def test_verdicts_are_counted_in_words() -> None:
    found = [
        about("ties", "scratch"),
        about("beats", "scratch"),
        about("loses", "unadapted"),
        about("beats", "scratch"),
    ]
    assert adaptation.counted(found) == ["beats scratch 2", "ties with scratch 1", "loses to unadapted 1"]


def test_baselines_span_the_adapted_dictionaries() -> None:
    assert adaptation.widened([4, 8]) == [2, 4, 8, 16]
    assert adaptation.widened([1, 8]) == [1, 8, 16]
    assert adaptation.widened([0.5, 2.0]) == [0.25, 0.5, 2.0, 4.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"archs": ("topk", "gated")}, "--archs"),
        ({"heldout": "x.jsonl"}, "--heldout"),
        ({"text": "storyworld", "other_text": "storyworld"}, "--other-text"),
        ({"start_tokens": 10}, "--start-tokens is 10; it must be at least one batch"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        adaptation.Options(**options)


def test_two_texts_are_needed_or_none() -> None:
    plain = adaptation.Options()
    assert (plain.first_text, plain.chosen_text) == (adaptation.FIRST, adaptation.OTHER)
    assert (given := adaptation.Options(text="a", other_text="b")).first_text == "a" and given.chosen_text == "b"
    with pytest.raises(BadOption, match="--other-text is missing"):
        _ = adaptation.Options(text="a.jsonl").chosen_text
    with pytest.raises(BadOption, match="--text is missing"):
        _ = adaptation.Options(model="other", other_text="b.jsonl").first_text


def test_the_default_texts_share_no_story() -> None:
    first, other = ({d.id for d in activations.documents(s)} for s in (adaptation.FIRST, adaptation.OTHER))
    every = list(shipped.stories())
    assert not first & other
    assert len(first) == sum(s["tense"] == "past" for s in every) and len(first) + len(other) == len(every)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "adaptation"
    studies.run("adaptation", toy(), out, quiet=True)
    return out


def toy() -> adaptation.Options:
    sizes = {"archs": ("topk",), "k": (4,), "n_tokens": 4096, "start_tokens": 12_288, "d_sae": 96}
    texts = {"text": f"{adaptation.FIRST}:400", "other_text": f"{adaptation.OTHER}:300"}
    return adaptation.Options(**(TOY | sizes | texts))


@pytest.mark.slow
def test_every_arm_is_measured_on_both_texts(adapted: Path) -> None:
    on_b, on_a = (Results.load(adapted / place / "results") for place in (".", "before"))
    learned = {"unadapted", "scratch", "adapted", "adapted-resampled", "scratch-long"}
    for found, baselines in ((on_b, {"unadapted", "scratch"}), (on_a, {"unadapted"})):
        roles = {o.arm: o.role for o in found.outcomes}
        assert learned <= set(roles) and {a for a, role in roles.items() if role == "baseline"} == baselines
        assert {a for a, role in roles.items() if role == "control"} == {"pca", "raw", "random"}
        spans = {arm: {o.options["k"] for o in found.outcomes if o.arm == arm} for arm in learned}
        assert spans["unadapted"] == spans["scratch"] == {2, 4, 8} and spans["adapted"] == {4}
    assert {v.split for v in on_b.verdicts} == {"test"}
    again = studies.run("adaptation", toy(), adapted, quiet=True)
    assert "these dictionaries only" in again.claim.sentence
    assert {row[0] for row in again.tables[0].rows} == {"A", "B"}


@pytest.mark.slow
def test_an_adapted_dictionary_goes_on_from_the_unadapted_one(adapted: Path) -> None:
    start = dictionaries.load(adapted / "before" / "dictionaries" / "unadapted_k-4_seed-0")
    scratch, plain = (
        dictionaries.load(adapted / "dictionaries" / f"{arm}_k-4_seed-0") for arm in ("scratch", "adapted")
    )
    near, far = (float((d.W_dec - start.W_dec).norm()) for d in (plain, scratch))  # a seed's rows start alike
    assert 0 < near < 0.6 * far, (near, far)
    members = read_json(adapted / "dictionaries" / "run.json")["members"]
    for arm, revive in (("scratch", False), ("adapted", False), ("adapted-resampled", True)):
        asked = members[f"{arm}_k-4_seed-0"]
        assert asked["train"]["init_resample"] is revive and asked["train"]["n_tokens"] == 4096
        assert (asked["init"] is None) == (arm == "scratch")
    before = read_json(adapted / "before" / "dictionaries" / "run.json")["members"]["unadapted_k-4_seed-0"]
    assert before["train"]["n_tokens"] == 12_288
    for folder, text in (
        ("before/dictionaries/unadapted", adaptation.FIRST),
        ("dictionaries/adapted", adaptation.OTHER),
    ):
        seen = set(read_json(adapted / f"{folder}_k-4_seed-0" / "documents.json"))
        assert seen and seen <= {d.id for d in activations.documents(text)}
    long = read_json(adapted / "dictionaries-long" / "run.json")["members"]["scratch-long_k-4_seed-0"]
    assert long["train"]["n_tokens"] == 4096 + 12_288 and long["init"] is None


@pytest.mark.slow
def test_the_cost_of_an_adapted_dictionary_includes_what_it_began_as(adapted: Path) -> None:
    found = Results.load(adapted / "results")
    costs = {cost.id: cost for cost in found.costs}
    start = {o.cost for o in found.outcomes if o.arm == "unadapted" and o.options["k"] == 4}
    for arm in BOTH:
        (mine,) = {o.cost for o in found.outcomes if o.arm == arm}
        assert start <= set(costs[mine].includes) <= set(costs)
    (scratch,) = {o.cost for o in found.outcomes if o.arm == "scratch" and o.options["k"] == 4}
    assert not start & set(costs[scratch].includes)
