"""Made-up but realistic results: three learned arms and two controls at several sparsities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.outcome import Cost, Note, Outcome, Results, Units, Verdict

NO_MODEL = "The model is an encoder without a next-token loss, so loss metrics do not apply."
BETTER = {
    "l0": "none",
    "fvu": "lower",
    "loss_recovered_zero": "higher",
    "loss_recovered_mean": "higher",
    "delta_loss": "lower",
    "gamma": "one",
    "cosine": "higher",
    "dead": "none",
    "dense_1": "none",
    "dense_10": "none",
}


@dataclass(frozen=True)
class MadeUp:
    """The shape of an arm: FVU = scale · L0^-slope."""

    name: str
    role: str
    scale: float
    slope: float
    gamma: float
    points: tuple[float, ...]


ARMS = (
    MadeUp("gated", "method", 0.34, 0.52, 0.995, (3.1, 7.4, 14.2, 30.5)),
    MadeUp("topk", "baseline", 0.37, 0.55, 0.985, (4.0, 8.0, 16.0, 32.0)),
    MadeUp("relu", "baseline", 0.62, 0.56, 0.84, (4.4, 9.1, 18.3, 36.8)),
    MadeUp("pca", "control", 0.93, 0.16, 1.0, (4.0, 8.0, 16.0, 32.0)),
    MadeUp("raw", "control", 0.98, 0.08, 1.0, (4.0, 8.0, 16.0, 32.0)),
)


def values(arm: MadeUp, l0: float, jitter: float) -> dict[str, float]:
    fvu = min(1.2, arm.scale * l0**-arm.slope * (1 + jitter))
    learned = arm.role in ("method", "baseline")
    return {
        "l0": l0 * (1 + jitter / 4),
        "fvu": fvu,
        "loss_recovered_zero": 1 - 0.42 * fvu**1.25,
        "loss_recovered_mean": 1 - 0.8 * fvu**1.2,
        "delta_loss": 3.1 * fvu**1.3,
        "gamma": arm.gamma - (0.06 / l0 if arm.name == "relu" else 0) + jitter / 20,
        "cosine": math.sqrt(max(0.0, 1 - fvu)),
        "dead": 0.11 + jitter if learned else 0.0,
        "dense_1": 0.08,
        "dense_10": 0.004 * l0 / 4,
    }


def results(
    *,
    seeds: int = 1,
    task: str = "storyworld resid_post.2",
    study: str = "demo",
    split: str = "test",
    language: bool = True,
    arms: Sequence[MadeUp] = ARMS,
    judged: bool = True,
) -> Results:
    rng = np.random.default_rng(len(task) + seeds)
    outcomes: list[Outcome] = []
    costs: list[Cost] = []
    for arm in arms:
        for index, l0 in enumerate(arm.points):
            cost = f"{arm.name}-{index}"
            costs.append(
                Cost(
                    id=cost,
                    access="activations",
                    upfront_tokens=400_000,
                    upfront_seconds=11.5 + index,
                    params_trained=131_712 if arm.role != "control" else 0,
                    marginal_seconds=0.0021,
                    disk_bytes=528_000,
                )
            )
            jitters = rng.normal(0, 0.02, seeds)
            per_seed = [values(arm, l0, jitter) for jitter in jitters]
            rows: list[tuple[int | None, dict[str, float]]] = list(enumerate(per_seed)) if seeds > 1 else []
            pooled = {name: float(np.mean([v[name] for v in per_seed])) for name in per_seed[0]}
            rows.append((None if seeds > 1 else 0, pooled))
            for seed, found in rows:
                for name, value in found.items():
                    half = 0.015 * abs(value) + 1e-4
                    null = NO_MODEL if not language and ("loss" in name) else None
                    plain = name in ("dead", "dense_1", "dense_10")
                    if (plain or null) and seed is None:  # an evaluation states these of single dictionaries only
                        continue
                    outcomes.append(
                        Outcome(
                            study=study,
                            task=task,
                            arm=arm.name,
                            metric=name,
                            role=arm.role,
                            better=BETTER[name],
                            split=split,
                            value=None if null else value,
                            lo=None if null or plain else value - half,
                            hi=None if null or plain else value + half,
                            why_null=null or ("A share of latents has no interval over documents." if plain else None),
                            over="none" if plain or null else "seeds+documents" if seed is None else "documents",
                            how="none" if null or plain else "bootstrap",
                            n_units=240,
                            n_obs=41_260,
                            n_seeds=seeds if seed is None else 1,
                            seed=seed,
                            point_name="l0",
                            point=pooled["l0"],
                            options={"k": index, "d_sae": 512},
                            subject=",".join(f"{arm.name}{index}s{s}" for s in range(seeds))
                            if seed is None
                            else f"{arm.name}{index}s{seed}",
                            cost=cost,
                        )
                    )
    found = verdicts(outcomes, seeds, language) if judged else []
    notes = (
        [
            Note(
                study=study,
                task=task,
                metric=m,
                split=split,
                arm="gated",
                baseline="topk",
                point=3.1,
                reason="its L0 lies outside the baseline's, and nothing is extrapolated.",
            )
            for m in ("fvu", "gamma")
        ]
        if judged
        else []
    )
    return Results(units=Units.empty(), outcomes=outcomes, costs=costs, verdicts=found, notes=notes)


def verdicts(outcomes: Sequence[Outcome], seeds: int, language: bool) -> list[Verdict]:
    """gated against topk at its three upper sparsities; the words differ so that all of them appear."""
    words = {
        "fvu": ("beats", "beats", "ties"),
        "loss_recovered_zero": ("beats", "ties", "no signal"),
        "gamma": ("loses", "ties", "ties"),
    }
    found: list[Verdict] = []
    for name, said in words.items():
        if not language and "loss" in name:
            continue
        sparsities = [o for o in outcomes if o.arm == "gated" and o.metric == name and (o.seed is None or seeds == 1)][
            1:
        ]
        for o, word in zip(sparsities, said, strict=True):
            assert o.value is not None
            gain = {"beats": 0.017, "ties": 0.0012, "loses": -0.031, "no signal": 0.004}[word]
            half = {"beats": 0.004, "ties": 0.0021, "loses": 0.011, "no signal": 0.012}[word]
            found.append(
                Verdict(
                    study=o.study,
                    task=o.task,
                    metric=name,
                    split=o.split,
                    arm="gated",
                    baseline="topk",
                    n_candidates=2,
                    point_name="l0",
                    point=o.point,
                    arm_value=o.value,
                    baseline_value=o.value + (gain if o.better == "lower" else -gain),
                    gain=gain,
                    lo=gain - half,
                    hi=gain + half,
                    p=0.0004 if word in ("beats", "loses") else 0.31,
                    p_holm=0.0031 if word in ("beats", "loses") else 0.62,
                    family=f"{o.study}:{name}",
                    family_size=3,
                    n_units=240,
                    unit_kind="document",
                    n_seeds=seeds,
                    margin=0.02 if name == "gamma" else 0.005,
                    word=word,
                    sentence=f"{word} <at> L0",
                    costs=("gated-1", "topk-1"),
                )
            )
    return found
