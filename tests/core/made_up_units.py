"""Made-up studies for the tests of core: arms whose values per document are given as arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from assay.core.outcome import Arm, Cost, Metric, Units

Array = NDArray[np.float64]

FVU = Metric(name="fvu", better="lower")
RECOVERED = Metric(name="loss_recovered_zero", better="higher")
GAMMA = Metric(name="gamma", better="one")

COSTS = [
    Cost(id="cheap", access="activations", upfront_seconds=2.2, params_trained=10),
    Cost(id="dear", access="activations", upfront_seconds=3.1, params_trained=10),
]


def arm(name: str, role: str = "baseline", **more: object) -> Arm:
    return Arm(name=name, role=role, cost="dear" if role == "method" else "cheap", **more)  # type: ignore[arg-type]


def table(
    name: str,
    num: Array,
    den: Array | float = 1.0,
    *,
    metric: str = "fvu",
    split: str = "test",
    seed: int = 0,
    subject: str = "",
    point: float | None = None,
    **more: object,
) -> Units:
    """Units d0, d1, ... of one subject."""
    names = [f"d{i}" for i in range(len(num))]
    return Units.of(
        study="s", task="t", arm=name, metric=metric, split=split, unit=names, num=num,
        den=np.broadcast_to(den, len(num)), n_obs=1, seed=seed, subject=subject, point=point, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def curve(
    name: str, role: str, points: Mapping[float, Array], *, metric: str = "fvu", seed: int = 0, split: str = "test"
) -> tuple[list[Arm], Units]:
    """An arm known at several L0: {L0: values per document}."""
    arms: list[Arm] = []
    tables: list[Units] = []
    for i, (point, num) in enumerate(points.items()):
        subject = f"{name}-{i}-{seed}"
        arms.append(arm(name, role, subject=subject, seed=seed, point_name="l0", options={"k": i, "seed": seed}))
        tables.append(table(name, num, metric=metric, seed=seed, subject=subject, point=point, split=split))
    return arms, Units.concat(tables)
