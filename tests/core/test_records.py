"""Records refuse what the contract does not allow, and have exactly its fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.core.errors import AssayError, BadInput
from assay.core.outcome import Arm, Cost, Metric, Outcome, Unit, Verdict, upfront_seconds
from assay.core.record import kinds

UNIT: dict[str, Any] = {
    "study": "s", "task": "t", "arm": "topk", "metric": "fvu", "split": "test", "seed": 0, "point": 8.0,
    "subject": "ab",     "unit_kind": "document", "unit": "d1", "num": 1.0, "den": 4.0, "n_obs": 12,
}  # fmt: skip
OUTCOME: dict[str, Any] = {
    "study": "s", "task": "t", "arm": "topk", "metric": "fvu", "role": "baseline", "better": "lower", "value": 0.3,
    "lo": 0.2, "hi": 0.4, "over": "documents", "how": "bootstrap", "n_units": 30, "n_obs": 300, "n_seeds": 1, "seed": 0,
    "split": "test", "subject": "ab", "options": {"k": 8}, "cost": "c",
}  # fmt: skip
VERDICT: dict[str, Any] = {
    "study": "s", "task": "t", "metric": "fvu", "split": "test", "arm": "gated", "baseline": "topk", "n_candidates": 2,
    "point_name": "l0", "point": 8.1, "arm_value": 0.2, "baseline_value": 0.3, "gain": 0.1, "lo": 0.05, "hi": 0.15,
    "p": 0.01, "p_holm": 0.04, "family": "s/fvu", "family_size": 4, "n_units": 300, "unit_kind": "document",
    "n_seeds": 1, "margin": 0.005, "word": "beats", "sentence": "x", "costs": ("a", "b"),
}  # fmt: skip


def test_fields_are_those_of_the_design() -> None:
    assert " ".join(kinds(Unit)) == "study task arm metric split seed point subject unit_kind unit num den n_obs"
    assert " ".join(kinds(Outcome)) == (
        "schema study task arm metric role better value why_null lo hi level over how n_units n_obs n_seeds seed split "
        "point_name point subject options cost"
    )
    assert " ".join(kinds(Cost)) == (
        "id access upfront_tokens upfront_labels upfront_calls params_trained upfront_seconds upfront_flops includes "
        "marginal_per marginal_seconds marginal_tokens marginal_calls peak_bytes disk_bytes device n_threads"
    )
    assert " ".join(kinds(Verdict)) == (
        "study task metric split arm baseline chosen_on n_candidates point_name point arm_value baseline_value gain lo "
        "hi p p_holm family family_size n_units unit_kind n_seeds margin word sentence costs"
    )
    assert Outcome(**OUTCOME).level == 0.95
    assert Outcome(**OUTCOME).schema == 1
    assert Verdict(**VERDICT).chosen_on == "validation"


@pytest.mark.parametrize(
    ("cls", "good", "change", "said"),
    [
        (Unit, UNIT, {"unit_kind": "docment"}, 'Did you mean "document"'),
        (Unit, UNIT, {"split": "dev"}, "shift:NAME"),
        (Unit, UNIT, {"split": "shift:"}, "shift:NAME"),
        (Unit, UNIT, {"num": float("nan")}, "finite"),
        (Unit, UNIT, {"point": float("inf")}, "finite"),
        (Unit, UNIT, {"n_obs": -1}, "0 or more"),
        (Unit, UNIT, {"seed": 1.5}, "whole number"),
        (Unit, UNIT, {"seed": True}, "whole number"),
        (Unit, UNIT, {"arm": None}, "text"),
        (Outcome, OUTCOME, {"role": "rival"}, "method, baseline, control, floor"),
        (Outcome, OUTCOME, {"better": "more"}, "higher, lower, one, none"),
        (Outcome, OUTCOME, {"over": "worlds"}, "latents, none"),
        (Outcome, OUTCOME, {"how": "bayes"}, "bootstrap, t, none"),
        (Outcome, OUTCOME, {"value": None}, "why_null"),
        (Outcome, OUTCOME, {"lo": None, "hi": None, "how": "none"}, "why_null"),
        (Outcome, OUTCOME, {"lo": 0.5}, "in order"),
        (Outcome, OUTCOME, {"hi": None}, "both"),
        (Outcome, OUTCOME, {"how": "none"}, "exactly when"),
        (Outcome, OUTCOME, {"options": {"k": {1, 2}}}, "JSON"),
        (Outcome, OUTCOME, {"level": 95.0}, "between 0 and 1"),
        (Cost, {"id": "c", "access": "text"}, {"access": "logits"}, "text, activations, gradients, weights"),
        (Cost, {"id": "c", "access": "text"}, {"upfront_seconds": -1.0}, "0 or more"),
        (Cost, {"id": "c", "access": "text"}, {"includes": "c2"}, "tuple of texts"),
        (Verdict, VERDICT, {"word": "wins"}, "beats, ties, loses, no signal"),
        (Verdict, VERDICT, {"costs": ("a",)}, "2 texts"),
        (Verdict, VERDICT, {"p": 1.5}, "between 0 and 1"),
    ],
)
def test_wrong_values_are_refused_in_words(cls: Any, good: dict[str, Any], change: dict[str, Any], said: str) -> None:
    cls(**good)
    with pytest.raises(BadInput, match=said):
        cls(**{**good, **change})


def test_numpy_values_become_plain() -> None:
    unit = Unit(**{**UNIT, "num": np.float32(0.5), "n_obs": np.int64(3), "point": None})
    assert type(unit.num) is float
    assert type(unit.n_obs) is int
    assert unit.point is None


def test_a_shared_cost_is_counted_once() -> None:
    def cost(name: str, seconds: float, *includes: str) -> Cost:
        return Cost(id=name, access="activations", upfront_seconds=seconds, includes=includes)

    costs = [cost("dictionary", 100.0), cost("probe1", 1.0, "dictionary"), cost("probe2", 2.0, "dictionary", "probe1")]
    assert upfront_seconds(costs, "probe2") == 103.0
    assert upfront_seconds(costs, "probe1", "probe2") == 103.0
    with pytest.raises(AssayError, match="prob1"):
        upfront_seconds(costs, "prob1")


def test_margins_are_known_by_name_and_labels_forget_the_seed() -> None:
    assert Metric(name="loss_recovered_mean", better="higher").margin == 0.005
    assert Metric(name="gamma", better="one").margin == 0.02
    assert Metric(name="fvuish", better="lower").margin == 0.0
    assert Metric(name="fvu", better="lower", margin=0.1).margin == 0.1
    first, second = (Arm(name="a", role="method", cost="c", seed=s, options={"k": 8, "seed": s}) for s in (0, 1))
    assert first.label == second.label
