r"""Straight-through estimators: functions with a jump, given a useful derivative to the place of the jump.

    jump(z, theta, eps) = z * 1[z > theta]        step(z, theta, eps) = 1[z > theta]

    d jump / d theta := -(theta / eps) * K        d step / d theta := -(1 / eps) * K        K = 1 if |z - theta| < eps / 2 else 0
    d jump / d z      = 1[z > theta]              d step / d z      = 0

Averaged over many z, these estimate the derivative of the expected value with a window of width eps (a rectangle kernel): a
small window is noisy and mostly empty, a wide one is biased. With `to_input` z also receives minus the derivative of theta, as if
the function depended on z - theta alone at the jump.

Sources: Rajamanoharan et al. 2024, arXiv 2407.14435, eq. 11-12; `to_input`: Anthropic, update of January 2025. Both were read in
quotations and re-implementations.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def jump(z: Tensor, theta: Tensor, eps: float, *, to_input: bool = False) -> Tensor:
    """z where z > theta, else 0: elementwise, theta broadcasts against z."""
    return cast(Tensor, _Jump.apply(z, theta, eps, to_input))


def step(z: Tensor, theta: Tensor, eps: float, *, to_input: bool = False) -> Tensor:
    """1 where z > theta, else 0: elementwise, theta broadcasts against z."""
    return cast(Tensor, _Step.apply(z, theta, eps, to_input))


def window(z: Tensor, theta: Tensor, eps: float) -> Tensor:
    """K: whether z lies within eps / 2 of theta."""
    return (z - theta).abs() < eps / 2


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, eps: float, to_input: bool) -> Tensor:
        ctx.save_for_backward(z, theta)
        ctx.eps, ctx.to_input = eps, to_input
        return z * (z > theta)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        z, theta = ctx.saved_tensors
        at_jump = g * window(z, theta, ctx.eps) * (theta / ctx.eps)
        to_z = g * (z > theta)
        return (
            (to_z + at_jump if ctx.to_input else to_z).sum_to_size(z.shape),
            -at_jump.sum_to_size(theta.shape),
            None,
            None,
        )


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, theta: Tensor, eps: float, to_input: bool) -> Tensor:
        ctx.save_for_backward(z, theta)
        ctx.eps, ctx.to_input = eps, to_input
        return (z > theta).to(z.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        z, theta = ctx.saved_tensors
        at_jump = g * window(z, theta, ctx.eps) / ctx.eps
        to_z = at_jump if ctx.to_input else torch.zeros_like(at_jump)
        return to_z.sum_to_size(z.shape), -at_jump.sum_to_size(theta.shape), None, None
