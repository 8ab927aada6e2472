"""What the examples of foreign files share: random weights and the codes of each rule, in plain tensors; nothing of assay is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

D, F, K = 6, 20, 4
State = dict[str, Tensor]
Answer = tuple[Tensor, Tensor]  # codes, output


@dataclass(frozen=True)
class Example:
    """`write(folder)` makes the files; `answer(x)` is what they compute; `arch` is what assay must read."""

    format: str
    name: str
    arch: str
    write: Callable[[Path], None]
    answer: Callable[[Tensor], Answer]
    d_out: int = D
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    d_in: int = D
    whole: bool = False
    """Whether several files make it up, so that no single one opens."""

    def __str__(self) -> str:
        return f"{self.format}-{self.name}"


def rows(n: int = 300, width: int = D, seed: int = 5) -> Tensor:
    return 1.5 * torch.randn(n, width, generator=torch.Generator().manual_seed(seed)) + 0.3


def numbers(*shape: int, seed: int, size: float = 0.5, around: float = 0.0) -> Tensor:
    return around + size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrices(d_out: int = D) -> State:
    """W_enc [D, F], W_dec [F, d_out], b_enc, b_dec, threshold: float32, none 0."""
    return {
        "W_enc": numbers(D, F, seed=1),
        "W_dec": numbers(F, d_out, seed=2),
        "b_enc": numbers(F, seed=3),
        "b_dec": numbers(d_out, seed=4, around=0.4),
        "threshold": numbers(F, seed=6, size=0.3, around=0.7).abs(),
    }


def gates() -> State:
    return {name: numbers(F, seed=seed, size=0.4) for seed, name in enumerate(("b_gate", "r_mag", "b_mag"), start=11)}


def largest(values: Tensor, k: int, key: Tensor | None = None) -> Tensor:
    kept = (values if key is None else key).topk(k, dim=-1).indices
    return torch.zeros_like(values).scatter(-1, kept, values.gather(-1, kept))


def relu_codes(z: Tensor, s: State) -> Tensor:
    return torch.relu(z @ s["W_enc"] + s["b_enc"])


def jump_codes(z: Tensor, s: State) -> Tensor:
    pre = z @ s["W_enc"] + s["b_enc"]
    return torch.relu(pre) * (pre > s["threshold"])


def gated_codes(z: Tensor, s: State) -> Tensor:
    gate = z @ s["W_enc"] + s["b_gate"]
    return (gate > 0) * torch.relu(z @ (s["W_enc"] * s["r_mag"].exp()) + s["b_mag"])


def topk_codes(z: Tensor, s: State) -> Tensor:
    return torch.relu(largest(z @ s["W_enc"] + s["b_enc"], K))


def abs_codes(z: Tensor, s: State) -> Tensor:
    pre = z @ s["W_enc"] + s["b_enc"]
    return largest(pre, K, pre.abs())


def normed_topk_codes(z: Tensor, s: State) -> Tensor:
    return torch.relu(largest((z @ s["W_enc"] + s["b_enc"]) * s["W_dec"].norm(dim=1), K))


def one_threshold(z: Tensor, s: State) -> Tensor:
    pre = z @ s["W_enc"] + s["b_enc"]
    return torch.relu(pre) * (pre > 0.8)


def normed_one_threshold(z: Tensor, s: State) -> Tensor:
    pre = (z @ s["W_enc"] + s["b_enc"]) * s["W_dec"].norm(dim=1)
    return torch.relu(pre) * (pre > 0.8)
