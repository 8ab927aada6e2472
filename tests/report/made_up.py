"""Made-up but realistic results, saved as an evaluation saves them: three learned arms, two controls, several sparsities."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.core.outcome import Cost, Note, Outcome, Results, Units, Verdict

NO_MODEL = "The model is an encoder without a next-token loss, so loss metrics do not apply."
TOKENS = [" Once", " upon", " a", " time", "\n", " there", " was", " a", " <script>alert(1)</script>", " fox", "  ", ".",
          "\t", " it", " said", ' "', "hello", "&amp;", " x", "<b>", " end", "", "\x00", " ran", " away"]  # fmt: skip
BETTER = {"l0": "none", "fvu": "lower", "loss_recovered_zero": "higher", "loss_recovered_mean": "higher",
          "delta_loss": "lower", "gamma": "one", "cosine": "higher", "dead": "none", "dense_1": "none", "dense_10": "none"}  # fmt: skip


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
        "l0": l0 * (1 + jitter / 4), "fvu": fvu, "loss_recovered_zero": 1 - 0.42 * fvu**1.25, "loss_recovered_mean": 1 - 0.8 * fvu**1.2,
        "delta_loss": 3.1 * fvu**1.3, "gamma": arm.gamma - (0.06 / l0 if arm.name == "relu" else 0) + jitter / 20,
        "cosine": math.sqrt(max(0.0, 1 - fvu)), "dead": 0.11 + jitter if learned else 0.0, "dense_1": 0.08, "dense_10": 0.004 * l0 / 4,
    }  # fmt: skip


def results(
    *, seeds: int = 1, task: str = "storyworld resid_post.2", study: str = "demo", split: str = "test", language: bool = True,
    arms: Sequence[MadeUp] = ARMS, judged: bool = True,
) -> Results:  # fmt: skip
    rng = np.random.default_rng(len(task) + seeds)
    outcomes: list[Outcome] = []
    costs: list[Cost] = []
    for arm in arms:
        for index, l0 in enumerate(arm.points):
            cost = f"{arm.name}-{index}"
            costs.append(Cost(id=cost, access="activations", upfront_tokens=400_000, upfront_seconds=11.5 + index,
                              params_trained=131_712 if arm.role != "control" else 0, marginal_seconds=0.0021, disk_bytes=528_000))  # fmt: skip
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
                    outcomes.append(Outcome(
                        study=study, task=task, arm=arm.name, metric=name, role=arm.role, better=BETTER[name], split=split,
                        value=None if null else value, lo=None if null or plain else value - half,
                        hi=None if null or plain else value + half,
                        why_null=null or ("A share of latents has no interval over documents." if plain else None),
                        over="none" if plain or null else "seeds+documents" if seed is None else "documents",
                        how="none" if null or plain else "bootstrap", n_units=240, n_obs=41_260, n_seeds=seeds if seed is None else 1,
                        seed=seed, point_name="l0", point=pooled["l0"], options={"k": index, "d_sae": 512},
                        subject=",".join(f"{arm.name}{index}s{s}" for s in range(seeds)) if seed is None else f"{arm.name}{index}s{seed}",
                        cost=cost,
                    ))  # fmt: skip
    found = verdicts(outcomes, seeds, language) if judged else []
    notes = [Note(study=study, task=task, metric=m, split=split, arm="gated", baseline="topk", point=3.1,
                  reason="its L0 lies outside the baseline's, and nothing is extrapolated.") for m in ("fvu", "gamma")] if judged else []  # fmt: skip
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
            found.append(Verdict(
                study=o.study, task=o.task, metric=name, split=o.split, arm="gated", baseline="topk", n_candidates=2,
                point_name="l0", point=o.point, arm_value=o.value, baseline_value=o.value + (gain if o.better == "lower" else -gain), gain=gain, lo=gain - half,
                hi=gain + half, p=0.0004 if word in ("beats", "loses") else 0.31, p_holm=0.0031 if word in ("beats", "loses") else 0.62,
                family=f"{o.study}:{name}", family_size=3, n_units=240, unit_kind="document", n_seeds=seeds,
                margin=0.02 if name == "gamma" else 0.005, word=word, sentence=f"{word} <at> L0", costs=("gated-1", "topk-1"),
            ))  # fmt: skip
    return found


def run_json(task: str, arms: Sequence[MadeUp], language: bool) -> dict[str, Any]:
    model, site = task.split(" ")
    return {
        "study": "demo", "task": task, "model": model, "model_hash": "9f2c" * 16, "site": site, "context": 128, "seed": 0,
        "splits": {"validation": {"documents": 241, "tokens": 41_000, "how": "half of the text, by hash"},
                   "test": {"documents": 240, "tokens": 41_260, "how": "half of the text, by hash"}},
        "masks": "Spliced everywhere except special tokens; CE is counted on kept target tokens.",
        "means": "The mean over the test split.",
        "splice_check": {"documents": 32, "max_abs_loss_change_nats": 3.1e-7, "tolerance_nats": 1e-5, "passed": True} if language else None,
        "losses_nats": {"test": {"clean": 1.912, "zero": 6.04, "mean": 4.73}} if language else None,
        "no_language": None if language else NO_MODEL,
        "dictionaries": [{"subject": f"{a.name}{i}s0", "arm": a.name, "role": a.role, "arch": a.name, "seed": 0, "point": p, "d_in": 64,
                          "d_sae": 512 if a.role != "control" else 64, "options": {"k": i}, "trained_on_known": True,
                          "cost_id": f"{a.name}-{i}", "path": f"{a.name}-{i}"} for a in arms for i, p in enumerate(a.points)],
        "alarms": [], "notes": ["L0 is measured in inference mode."],
        "provenance": {"command": ["assay", "demo", "--out", "runs/<demo>"], "written": "2025-11-22T14:00:00+00:00",
                       "versions": {"python": "3.11.9", "assay": "0.1.0", "torch": "2.13.0"},
                       "machine": {"system": "Linux", "processor": "x86_64"}},
    }  # fmt: skip


def example_rows(arm: MadeUp, index: int, n_latents: int = 12) -> list[dict[str, Any]]:
    rng = np.random.default_rng(index + len(arm.name))
    rows: list[dict[str, Any]] = []
    for latent in range(n_latents):
        for rank in range(5):
            tokens = [TOKENS[i] for i in rng.permutation(len(TOKENS))]
            shown = np.where(rng.random(len(tokens)) < 0.15, rng.random(len(tokens)) * (5 - rank), 0.0)
            shown[12] = 6.0 - rank
            if arm.role == "control":
                shown *= np.sign(rng.normal(size=len(tokens)))
            rows.append({"subject": f"{arm.name}{index}s0", "arm": arm.name, "latent": latent * 7, "frequency": 0.2 / (latent + 1),
                         "rank": rank, "document": "ab" * 8, "position": 20, "peak": 12, "tokens": tokens, "values": shown.tolist()})  # fmt: skip
    return rows


def save(
    folder: Path, *, seeds: int = 1, task: str = "storyworld resid_post.2", split: str = "test", language: bool = True,
    arms: Sequence[MadeUp] = ARMS, judged: bool = True, bare: bool = False,
) -> Results:  # fmt: skip
    """Write a result folder and return what it holds. `bare`: only the four tables, as another study would write."""
    folder.mkdir(parents=True)
    found = results(seeds=seeds, task=task, split=split, language=language, arms=arms, judged=judged)
    found.save(folder)
    if bare:
        return found
    rng = np.random.default_rng(0)
    (folder / "run.json").write_text(json.dumps(run_json(task, arms, language)))
    rows = [row for arm in arms for index in range(len(arm.points)) for row in example_rows(arm, index)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    bars = []
    for arm in arms:
        for index, l0 in enumerate(arm.points):
            size = 512 if arm.role != "control" else 64
            frequency = np.minimum(1.0, 10 ** rng.normal(math.log10(l0 / size) - 0.6, 0.6, size))
            frequency[: size // 9] = 0.0 if arm.role != "control" else frequency[: size // 9]
            bars += [
                {"subject": f"{arm.name}{index}s0", "arm": arm.name, "latent": i, "frequency": f}
                for i, f in enumerate(frequency)
            ]
    pq.write_table(pa.Table.from_pylist(bars), folder / "histogram.parquet")
    for arm in arms:
        for index, l0 in enumerate(arm.points):
            if arm.role != "control":
                log(folder / f"{arm.name}-{index}", arm, l0)
    return found


def log(folder: Path, arm: MadeUp, l0: float) -> None:
    """A training log as a run leaves it, its last line torn by a kill."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"schema": 1, "arch": arm.name}))
    final = values(arm, l0, 0.0)
    lines = [
        json.dumps({"step": step, "tokens": step * 2048, "l0": l0 * (1 + 9 * math.exp(-step / 20)), "dead_frac": 0.1,
                    "fvu": final["fvu"] + 0.8 * math.exp(-step / 25), "gamma": final["gamma"] - 0.4 * math.exp(-step / 30),
                    "tokens_per_second": 51_000.0}) for step in range(5, 205, 5)
    ]  # fmt: skip
    (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 205, "tok')
