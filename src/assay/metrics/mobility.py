"""Whether thresholds with a straight-through estimator can move, and whether they did.

window_frac    share of pairs (token, latent) whose pre-activation lies within eps / 2 of its threshold; only these move it
moved_frac     share of thresholds that are farther than eps from where the run began

With no pair in the window no penalty weight can help. Reported for several trainers: eps chosen for one scale of the activations
and used at another; thresholds kept as logarithms, whose steps under Adam are theta times the learning rate.
"""

from __future__ import annotations

from torch import Tensor

STUCK_BELOW = 0.1  # share of moved thresholds below which training says so
BLIND_BELOW = 0.05  # tokens of a batch in a latent's window below which it says so


def window_frac(z: Tensor, theta: Tensor, eps: float) -> float:
    """z [n, d_sae], theta [d_sae]."""
    return float(((z - theta).abs() < eps / 2).double().mean()) if z.numel() else 0.0


def moved_frac(theta: Tensor, start: Tensor, eps: float) -> float:
    """theta, start [d_sae]."""
    return float(((theta - start).abs() > eps).double().mean())


def warning(window: float, moved: float, eps: float, n_rows: int) -> str | None:
    """One sentence when thresholds hardly moved or hardly can; window and moved as above, of a batch of n_rows tokens."""
    pairs = window * n_rows
    seen = f"a latent has {pairs:.2g} tokens of a batch within the bandwidth {eps:g} of its threshold"
    if moved < STUCK_BELOW:
        then = "give a wider --bandwidth" if pairs < 1 else "train longer or raise --lr"
        return f"thresholds do not move: {moved:.1%} of them are farther than {eps:g} from where they began, and {seen}; {then}."
    return f"thresholds hardly learn: {seen}; give a wider --bandwidth." if pairs < BLIND_BELOW else None
