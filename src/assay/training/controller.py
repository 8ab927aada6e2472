r"""A closed loop that sets the weight of a sparsity penalty so that training arrives at a stated L0.

    every EVERY steps after the sparsity warm-up:    e = log(L0 / target), cut to [-1, 1],  L0 the mean of these steps
    sum <- sum + SLOW * e, unless L0 comes nearer at a pace that brings it there within SOON updates
    factor = exp(sum + FAST * e),    sum and factor kept within 1/100 and 100

The penalty's weight is the architecture's own times `factor`, so the coefficient that was given is only where it starts. The sum
finds the weight, the second part damps the swing: L0 answers a new weight with a delay. Thresholds move at a pace that no weight
can hurry; waiting while L0 is on its way keeps the sum from running off meanwhile. Within the warm-up L0 says nothing yet.

Source: closed-loop coefficient controllers with these limits are used in studies on synthetic worlds; their law was not published.
"""

from __future__ import annotations

import math
from typing import Any

from assay.core.errors import BadOption
from assay.dictionaries import Dictionary

EVERY = 10  # steps
SLOW, FAST = 0.2, 1.0
SOON = 25  # updates
LIMIT = 100.0
MISSED = 0.1  # relative distance from the target that is said at the end


class Controller:
    """State of the loop; `numbers()` is what a checkpoint holds."""

    def __init__(self, target: float) -> None:
        self.target = target
        self.total = 0.0
        self.factor = 1.0
        self.before: float | None = None  # log L0 of the last EVERY steps
        self.n_active = 0
        self.n_rows = 0
        self.n_steps = 0

    def see(self, n_active: int, n_rows: int, ramp: float) -> None:
        """After a step: how many codes were on in its rows; `ramp` as in `sparsity_ramp`."""
        if ramp < 1:
            return
        self.n_active += n_active
        self.n_rows += n_rows
        self.n_steps += 1
        if self.n_steps < EVERY:
            return
        log_l0 = math.log(max(self.n_active / self.n_rows, 1e-9))
        off = log_l0 - math.log(self.target)
        nearer = 0.0 if self.before is None else math.copysign(1.0, off) * (self.before - log_l0)
        error = min(1.0, max(-1.0, off))
        if nearer * SOON < abs(off):
            self.total = min(math.log(LIMIT), max(-math.log(LIMIT), self.total + SLOW * error))
        self.before = log_l0
        self.factor = min(LIMIT, max(1 / LIMIT, math.exp(self.total + FAST * error)))
        self.n_active = self.n_rows = self.n_steps = 0

    def warning(self, l0: float) -> str | None:
        """One sentence when the run ends elsewhere than it was told; l0 of its last steps."""
        if abs(l0 - self.target) <= MISSED * self.target:
            return None
        return f"L0 is {l0:.4g}, not the {self.target:g} of --target-l0; train longer, or start from another penalty weight."

    def numbers(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "target"}

    def restore(self, numbers: dict[str, Any]) -> None:
        for name, value in numbers.items():
            setattr(self, name, value)


def controller(name: str, dictionary: Dictionary, target: float | None) -> Controller | None:
    """The loop for a dictionary, None without a target. Raises BadOption where no penalty could reach it."""
    if target is None:
        return None
    who = dictionary.arch if name == "." else f"{name} ({dictionary.arch})"
    penalties = {term: weight for term, weight in dictionary.weights(1.0).items() if term not in dictionary.recon}
    if not penalties:
        raise BadOption(
            f"--target-l0 is {target:g}, but {who} has no sparsity penalty whose weight could be moved; "
            "leave it out, or set --arch.k where there is one."
        )
    if not any(penalties.values()):
        raise BadOption(f"--target-l0 is {target:g}, but the penalty of {who} has weight 0; give it one to start from.")
    if target >= dictionary.config.d_sae:
        raise BadOption(f"--target-l0 is {target:g}; it must be below the {dictionary.config.d_sae} latents of {who}.")
    return Controller(target)
