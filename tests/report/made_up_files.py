"""Made-up result folders: the files an evaluation leaves behind, training logs beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_up import ARMS, NO_MODEL, MadeUp, results, values

from assay.core.outcome import Results

TOKENS = [
    " Once",
    " upon",
    " a",
    " time",
    "\n",
    " there",
    " was",
    " a",
    " <script>alert(1)</script>",
    " fox",
    "  ",
    ".",
    "\t",
    " it",
    " said",
    ' "',
    "hello",
    "&amp;",
    " x",
    "<b>",
    " end",
    "",
    "\x00",
    " ran",
    " away",
]


def run_json(task: str, arms: Sequence[MadeUp], language: bool) -> dict[str, Any]:
    model, site = task.split(" ")
    return {
        "study": "demo",
        "task": task,
        "model": model,
        "model_hash": "9f2c" * 16,
        "site": site,
        "context": 128,
        "seed": 0,
        "splits": {
            "validation": {"documents": 241, "tokens": 41_000, "how": "half of the text, by hash"},
            "test": {"documents": 240, "tokens": 41_260, "how": "half of the text, by hash"},
        },
        "masks": "Spliced everywhere except special tokens; CE is counted on kept target tokens.",
        "means": "The mean over the test split.",
        "splice_check": {"documents": 32, "max_abs_loss_change_nats": 3.1e-7, "tolerance_nats": 1e-5, "passed": True}
        if language
        else None,
        "losses_nats": {"test": {"clean": 1.912, "zero": 6.04, "mean": 4.73}} if language else None,
        "no_language": None if language else NO_MODEL,
        "dictionaries": [
            {
                "subject": f"{a.name}{i}s0",
                "arm": a.name,
                "role": a.role,
                "arch": a.name,
                "seed": 0,
                "point": p,
                "d_in": 64,
                "d_sae": 512 if a.role != "control" else 64,
                "options": {"k": i},
                "trained_on_known": True,
                "cost_id": f"{a.name}-{i}",
                "path": f"{a.name}-{i}",
            }
            for a in arms
            for i, p in enumerate(a.points)
        ],
        "alarms": [],
        "notes": ["L0 is measured in inference mode."],
        "provenance": {
            "command": ["assay", "demo", "--out", "runs/<demo>"],
            "written": "2025-11-22T14:00:00+00:00",
            "versions": {"python": "3.11.9", "assay": "0.1.0", "torch": "2.13.0"},
            "machine": {"system": "Linux", "processor": "x86_64"},
        },
    }


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
            rows.append(
                {
                    "subject": f"{arm.name}{index}s0",
                    "arm": arm.name,
                    "latent": latent * 7,
                    "frequency": 0.2 / (latent + 1),
                    "rank": rank,
                    "document": "ab" * 8,
                    "position": 20,
                    "peak": 12,
                    "tokens": tokens,
                    "values": shown.tolist(),
                }
            )
    return rows


def save(
    folder: Path,
    *,
    seeds: int = 1,
    task: str = "storyworld resid_post.2",
    split: str = "test",
    language: bool = True,
    arms: Sequence[MadeUp] = ARMS,
    judged: bool = True,
    bare: bool = False,
) -> Results:
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
        json.dumps(
            {
                "step": step,
                "tokens": step * 2048,
                "l0": l0 * (1 + 9 * math.exp(-step / 20)),
                "dead_frac": 0.1,
                "fvu": final["fvu"] + 0.8 * math.exp(-step / 25),
                "gamma": final["gamma"] - 0.4 * math.exp(-step / 30),
                "tokens_per_second": 51_000.0,
            }
        )
        for step in range(5, 205, 5)
    ]
    (folder / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 205, "tok')
