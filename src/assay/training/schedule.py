"""What changes along a run: the learning rate and the weight of the sparsity penalty."""

from __future__ import annotations

import math

from assay.training.options import TrainConfig

RESAMPLE_DIP = 0.1  # arXiv 2404.16014 App. D: after resampling the rate drops to a tenth ...
RESAMPLE_STEPS = 1000  # ... and returns by a cosine over 1000 steps (here at most a twentieth of the run)


def resample_steps(options: TrainConfig) -> list[int]:
    """The steps (from 0) after which dead latents are resampled."""
    return [int(at * options.n_steps) for at in options.resample_at]


def learning_rate(options: TrainConfig, step: int, last_resample: int | None = None) -> float:
    """The rate of step `step` (from 0): linear warm-up, constant, linear decay to 0; a dip after each resampling."""
    n = options.n_steps
    warmup, decay = options.lr_warmup * n, options.lr_decay * n
    rate = options.lr
    if step < warmup:
        rate *= (step + 1) / (warmup + 1)
    if step > n - decay:
        rate *= (n - step) / decay
    if last_resample is not None:
        length = min(RESAMPLE_STEPS, max(1, n // 20))
        passed = min(1.0, (step - last_resample) / length)
        rate *= RESAMPLE_DIP + (1 - RESAMPLE_DIP) * 0.5 * (1 - math.cos(math.pi * passed))
    return rate


def sparsity_ramp(options: TrainConfig, step: int) -> float:
    """The factor of the sparsity penalty at step `step` (from 0), rising linearly from 0 to 1."""
    length = options.sparsity_warmup * options.n_steps
    return 1.0 if length == 0 else min(1.0, step / length)
