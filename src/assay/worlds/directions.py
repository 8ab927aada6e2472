"""Unit directions with a chosen mean-max overlap: the mean over rows of the largest |cosine| with another row.

None leaves random directions. 0 makes exactly orthonormal rows (n <= d). Below what random rows have, gradient steps on
Σ_ij max(|c_ij| − t, 0)² push rows apart until the mean-max overlap is the wanted one. Above it, rows 2i and 2i+1 get
that cosine.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from assay.core.errors import BadOption

ROWS = 2048  # rows of the cosine matrix held at once
PATIENCE = 40
TOLERANCE = 0.01


def mean_max_overlap(directions: Tensor) -> float:
    """Mean over unit rows [n, d] of the largest |cosine| with another row; 0 for a single row."""
    return float(torch.cat([block.max(1).values for _, block in _cosines(directions)]).mean())


def directions_of(n: int, d: int, overlap: float | None, rng: torch.Generator) -> Tensor:
    """n unit rows [n, d], float32, with the wanted overlap. Raises `BadOption` when no such rows were found."""
    if overlap == 0:
        if n > d:
            raise BadOption(
                f"--overlap is 0 with {n} directions in {d} dimensions; orthonormal rows need --n-true <= --d."
            )
        square = torch.linalg.qr(torch.randn(d, n, dtype=torch.float64, generator=rng)).Q
        return square.T.contiguous().float()
    rows = normalize(torch.randn(n, d, generator=rng), dim=1)
    if overlap is None or n == 1:
        return rows
    if mean_max_overlap(rows) < overlap:
        return _paired(rows, overlap)
    return _spread(rows, overlap)


def _paired(rows: Tensor, cosine: float) -> Tensor:
    """Give rows 2i and 2i+1 the wanted cosine; an odd last row keeps its place."""
    even, odd = rows[0 : len(rows) - 1 : 2], rows[1::2]
    apart = normalize(odd - (odd * even).sum(1, keepdim=True) * even, dim=1)
    paired = rows.clone()
    paired[1::2] = cosine * even + math.sqrt(1 - cosine**2) * apart
    return paired


def _spread(rows: Tensor, overlap: float) -> Tensor:
    step = min(0.1, 2 * rows.shape[1] / len(rows))  # rows rows^T has eigenvalues of n/d and more
    reached: list[float] = []
    while not _stalled(reached):
        gradient, largest = torch.zeros_like(rows), []
        for start, absolute in _cosines(rows):
            block = rows[start : start + len(absolute)]
            largest.append(absolute.max(1).values)
            excess = (absolute - 0.9 * overlap).clamp_min(0) * (block @ rows.T).sign()
            gradient[start : start + len(block)] = excess @ rows
        reached.append(float(torch.cat(largest).mean()))
        if reached[-1] <= overlap + TOLERANCE:
            return rows
        rows = normalize(rows - step * gradient, dim=1)
    raise BadOption(
        f"--overlap is {overlap}, but {len(rows)} directions in {rows.shape[1]} dimensions "
        f"came no nearer than {min(reached):.3f}; raise --overlap or --d, or plant fewer features."
    )


def _stalled(reached: list[float]) -> bool:
    """The last `PATIENCE` steps did not lower the overlap by a further thousandth."""
    return len(reached) > PATIENCE and min(reached[-PATIENCE:]) > min(reached[:-PATIENCE]) - 1e-3


def _cosines(rows: Tensor) -> list[tuple[int, Tensor]]:
    """(first row, |cosines| of a block of rows with all rows, 0 with themselves)."""
    blocks = []
    for start in range(0, len(rows), ROWS):
        block = (rows[start : start + ROWS] @ rows.T).abs()
        block[torch.arange(len(block)), torch.arange(start, start + len(block))] = 0
        blocks.append((start, block))
    return blocks
