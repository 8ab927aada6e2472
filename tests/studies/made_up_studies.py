"""A toy size that any study runs at, and made-up results whose words are known."""

from __future__ import annotations

from typing import Any

from assay.core.outcome import Outcome, Results, Verdict

TOY: dict[str, Any] = {
    "text": "storyworld:300", "context": 64, "n_tokens": 8192, "batch_size": 256, "d_sae": 48, "max_documents": 24,
    "resamples": 200, "seeds": 1, "k": (4, 8), "l1_coef": (2.0, 6.0), "archs": ("gated", "topk"),
}  # fmt: skip


def outcome(arm: str, metric: str, point: float, value: float, half: float = 0.01, **more: Any) -> Outcome:
    given: dict[str, Any] = {
        "study": "s", "task": "t", "arm": arm, "metric": metric, "role": "method", "better": "one", "value": value,
        "lo": value - half, "hi": value + half, "over": "seeds+documents", "how": "bootstrap", "n_units": 30, "n_obs": 300,
        "n_seeds": 3, "seed": None, "split": "test", "point_name": "l0", "point": point, "subject": f"{arm}{point}",
        "options": {}, "cost": "c",
    }  # fmt: skip
    return Outcome(**(given | more))


def verdict(word: str, arm: str = "gated", metric: str = "fvu", baseline: str = "relu", **more: Any) -> Verdict:
    given: dict[str, Any] = {
        "study": "s", "task": "t", "metric": metric, "split": "test", "arm": arm, "baseline": baseline, "n_candidates": 1,
        "point_name": "l0", "point": 8.0, "arm_value": 0.2, "baseline_value": 0.3, "gain": 0.1, "lo": 0.05, "hi": 0.15,
        "p": 0.01, "p_holm": 0.02, "family": "s/fvu", "family_size": 1, "n_units": 30, "unit_kind": "document",
        "n_seeds": 3, "margin": 0.005, "word": word, "sentence": ".", "costs": ("a", "b"),
    }  # fmt: skip
    return Verdict(**(given | more))


def results(*records: Any) -> Results:
    return Results(
        outcomes=[r for r in records if isinstance(r, Outcome)], verdicts=[r for r in records if isinstance(r, Verdict)]
    )
