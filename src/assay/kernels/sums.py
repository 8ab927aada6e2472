"""A matrix's gradient that is not summed yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from assay.kernels.codes import Codes


@dataclass(frozen=True)
class Sums:
    """The gradient [F, n] whose row i is the sum over latent i's pairs of value * g[row], as `accumulate(codes, g)` would give it.

    The native `update` sums it row by row, twice with clipping, and so neither writes nor reads F x n numbers of it. transposed: the
    parameter is [n, F], as W_enc is.
    """

    codes: Codes
    g: Tensor
    transposed: bool = False

    def fits(self, parameter: Tensor) -> bool:
        """Whether the parameter's rows lie in memory latent by latent, as the update needs them."""
        return (parameter.t() if self.transposed else parameter).is_contiguous()

    def whole(self, accumulate: Callable[[Codes, Tensor], Tensor]) -> Tensor:
        """It as a tensor of the parameter's shape."""
        summed = accumulate(self.codes, self.g)
        return summed.t() if self.transposed else summed
