"""Every native kernel at awkward shapes, on the library that the environment names; started by `test_sanitized.py`."""

from __future__ import annotations

import ctypes
import os

import torch
from test_native import SHAPES, draw, selections, whole_numbers

from assay.kernels import Codes, Origin, Shared, Sums, library, native, screening

SANITIZED = ctypes.CDLL(os.environ["SANITIZED"])


def main() -> None:
    build = os.environ["BUILD"]
    library.declare(SANITIZED)
    found = library.Found(SANITIZED, build, "sanitized")
    library.find = lambda: found  # type: ignore[assignment]
    for screened in (False, True):
        screening.SCREEN_FROM, screening.SAMPLE = ({build: 1}, 1) if screened else ({}, 64)
        for B, d, F, d_out in [*SHAPES, (400, 12, 200, 3)]:
            for x in (
                whole_numbers(B, d, seed=1),
                draw(B, d, seed=2, dtype=torch.float32),
                torch.full((B, d), float("nan")),
            ):
                W = draw(F, d, seed=3, dtype=torch.float32)
                bias, wide = draw(d, 1, seed=7, dtype=torch.float32)[:, 0], torch.cat([x, x], dim=1)
                for selection in selections(F):
                    native.encode_select(x, W.t(), selection)
                    native.encode_select(x - bias, W.t(), selection, Origin(Shared(wide), slice(d, 2 * d), bias))
            for dtype in (torch.float32, torch.float64):
                on = torch.rand(B, F) < 0.3
                codes = Codes.of((on * draw(B, F, seed=4)).to(dtype))
                W_dec, g = (
                    draw(F, d_out, seed=5, dtype=dtype),
                    draw(B, d_out + 3, seed=6, dtype=dtype)[:, 1 : d_out + 1],
                )
                native.decode(codes, W_dec)
                native.cotangent(codes, g, W_dec)
                grad = native.accumulate(codes, g)
                moments = [{"W": torch.zeros_like(W_dec)} for _ in range(2)]
                for gradient in (grad, Sums(codes, g)):
                    native.update(
                        {"W": W_dec},
                        {"W": gradient},
                        *moments,
                        step=1,
                        lr=0.1,
                        beta1=0.9,
                        beta2=0.9,
                        eps=1e-8,
                        clip=1.0,
                        unit_rows=("W",),
                    )
    print("all shapes")


if __name__ == "__main__":
    main()
