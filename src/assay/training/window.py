"""Running sums of a training run between two lines of its log: float64 over steps, the batch's own precision within one."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from assay.core import distribution


def dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


class Window:
    """Sums from which L0, FVU and gamma of the last steps follow; each is a ratio of sums, divided once."""

    def __init__(self, d_out: int) -> None:
        self.n_rows = 0
        self.n_steps = 0
        self.n_active = 0
        self.error = 0.0
        self.x_hat_x_hat = 0.0
        self.x_hat_y = 0.0
        self.y_y = 0.0
        self.y_sum = torch.zeros(d_out, dtype=torch.float64)
        self.terms: dict[str, float] = {}
        self.started = time.perf_counter()

    def add(self, y: Tensor, x_hat: Tensor, n_active: int, terms: dict[str, float], loss: float) -> int:
        """One step. y, x_hat [rows, d_out] and n_active are this process's own, terms and loss the whole batch's; returns n_active
        of the whole batch."""
        error = y - x_hat
        dots = torch.stack([dot(error, error), dot(x_hat, x_hat), dot(x_hat, y), dot(y, y)]).double()
        counts = torch.tensor([len(y), n_active], dtype=torch.float64, device=y.device)
        sums = distribution.total(torch.cat([counts, dots, y.sum(0).double()])).cpu()
        n_rows, active, error_error, x_hat_x_hat, x_hat_y, y_y = sums[:6].tolist()
        self.n_rows += int(n_rows)
        self.n_steps += 1
        self.n_active += int(active)
        self.error += error_error
        self.x_hat_x_hat += x_hat_x_hat
        self.x_hat_y += x_hat_y
        self.y_y += y_y
        self.y_sum += sums[6:]
        for name, value in {**terms, "loss": loss}.items():
            self.terms[name] = self.terms.get(name, 0.0) + value
        return int(active)

    def summary(self) -> dict[str, Any]:
        """l0, fvu, gamma (relative reconstruction bias), mean loss terms, and rows per second of the whole run."""
        spread = self.y_y - float(self.y_sum.pow(2).sum()) / max(self.n_rows, 1)
        return {
            "l0": self.n_active / max(self.n_rows, 1),
            "fvu": self.error / spread if spread > 0 else None,
            "gamma": self.x_hat_x_hat / self.x_hat_y if self.x_hat_y > 0 else None,
            "tokens_per_second": self.n_rows / max(time.perf_counter() - self.started, 1e-9),
            **{name: total / max(self.n_steps, 1) for name, total in self.terms.items() if math.isfinite(total)},
        }

    def tensors(self) -> dict[str, Tensor]:
        return {"y_sum": self.y_sum}

    def numbers(self) -> dict[str, Any]:
        return {n: v for n, v in vars(self).items() if n not in ("y_sum", "started")}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self.y_sum.copy_(tensors["y_sum"])
        for name, value in numbers.items():
            setattr(self, name, value)
