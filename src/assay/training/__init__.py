"""Training: one loop for every architecture, one stream for any number of dictionaries.

train(config, stream, out, site=..., options=TrainConfig(...)) -> Dictionary
sweep([Plan(name, config, options), ...], stream, out, site=...) -> [Dictionary, ...]
calibrate(dictionary, held_out, l0=32) -> Dictionary                  top-k to JumpReLU
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.activations import Stream
from assay.dictionaries import Dictionary
from assay.training.against_model import ModelStream
from assay.training.calibrate import calibrate
from assay.training.loop import Interrupted, sweep
from assay.training.maker import scale_of
from assay.training.options import TrainConfig
from assay.training.plan import Plan

__all__ = ["Interrupted", "ModelStream", "Plan", "TrainConfig", "calibrate", "scale_of", "sweep", "train"]


def train(
    config: Any,
    stream: Stream,
    out: str | Path,
    *,
    site: str,
    options: TrainConfig | None = None,
    init_from: Path | Dictionary | None = None,
    **more: Any,
) -> Dictionary:
    """Train one dictionary into the folder `out`; the keyword arguments of `sweep` apply."""
    plan = Plan(".", config, options or TrainConfig(), init_from)
    return sweep([plan], stream, Path(out), site=site, **more)[0]
