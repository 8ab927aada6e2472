"""Codes and reconstructions of any object that can encode and decode, sparse where it can, in rows that fit memory."""

from __future__ import annotations

import inspect
import time
from typing import Any

import torch
from torch import Tensor

from assay.kernels import Codes

DENSE_ELEMENTS = 1 << 24  # of a dense code of a dictionary that has no sparse one


def device_of(dictionary: Any, fallback: torch.device) -> torch.device:
    """Where the dictionary's numbers live."""
    weights = getattr(dictionary, "b_dec", getattr(dictionary, "W_dec", None))
    return weights.device if isinstance(weights, Tensor) else fallback


def n_latents(dictionary: Any) -> int | None:
    """d_sae, as far as the dictionary says it."""
    size = getattr(getattr(dictionary, "config", None), "d_sae", None)
    weights = getattr(dictionary, "W_dec", None)
    return int(size) if size is not None else weights.shape[0] if isinstance(weights, Tensor) else None


def has_training_mode(dictionary: Any) -> bool:
    """Whether `encode(x, training=True)` exists."""
    try:
        return "training" in inspect.signature(dictionary.encode).parameters
    except (TypeError, ValueError):
        return False


@torch.no_grad()
def encode(dictionary: Any, x: Tensor, *, training: bool = False) -> Codes:
    """Non-zero codes of x [n, d_in]. A dictionary with `encode_sparse` is never asked for a dense code."""
    options = {"training": True} if training else {}
    if hasattr(dictionary, "encode_sparse"):
        codes = dictionary.encode_sparse(x, **options)
        return codes.nonzero()
    parts: list[Codes] = []
    rows = max(1, DENSE_ELEMENTS // max(n_latents(dictionary) or 4 * x.shape[1], 1))
    for start in range(0, max(x.shape[0], 1), rows):
        part = Codes.of(dictionary.encode(x[start : start + rows], **options))
        parts.append(Codes(part.row + start, part.latent, part.value, part.shape))
    shape = (x.shape[0], parts[0].shape[1])
    row, latent, value = (torch.cat([getattr(p, name) for p in parts]) for name in ("row", "latent", "value"))
    return Codes(row, latent, value, shape)


@torch.no_grad()
def reconstruct(dictionary: Any, x: Tensor, codes: Codes) -> Tensor:
    """x_hat [n, d_out] of the sparse codes of x [n, d_in]."""
    if hasattr(dictionary, "reconstruct"):
        return dictionary.reconstruct(x, codes)
    if hasattr(dictionary, "encode_sparse"):
        return dictionary.decode(codes)
    rows = max(1, DENSE_ELEMENTS // max(codes.shape[1], 1))
    parts: list[Tensor] = []
    for start in range(0, max(codes.shape[0], 1), rows):
        here = (codes.row >= start) & (codes.row < start + rows)
        size = (min(rows, codes.shape[0] - start), codes.shape[1])
        part = Codes(codes.row[here] - start, codes.latent[here], codes.value[here], size)
        parts.append(dictionary.decode(part.dense()))
    return torch.cat(parts)


def timed_encode(dictionary: Any, x: Tensor) -> tuple[Codes, float]:
    """The codes and the seconds that they took."""
    _wait(x)
    start = time.perf_counter()
    codes = encode(dictionary, x)
    _wait(x)
    return codes, time.perf_counter() - start


def _wait(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
