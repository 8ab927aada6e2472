"""How well learned directions recover planted ones.

Latents are matched one to one to planted directions so that the summed |cosine| is largest (Hungarian method); there
are min(d_sae, n_true) pairs, and that is the denominator of every mean over pairs.

    MCC         mean |cosine| of the pairs
    recovered   share of the pairs above .9
    uniqueness  distinct planted directions that are the nearest one of some latent, over d_sae
    F1          mean over the pairs of 2TP / (2TP + FP + FN) of "fires" (f != 0) against "is present" (true code != 0)

A direction and its negative are the same direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from scipy.optimize import linear_sum_assignment  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from torch import Tensor

from assay.metrics.fidelity import length

RECOVERED_ABOVE = 0.9


@dataclass(frozen=True)
class Matching:
    """Pairs of a latent and a planted direction, int64 [p] each, their |cosine| [p]; uniqueness is of all latents."""

    latent: Tensor
    true: Tensor
    cosine: Tensor
    uniqueness: float

    @property
    def mcc(self) -> float:
        return float(self.cosine.mean())

    def recovered(self, above: float = RECOVERED_ABOVE) -> float:
        return float((self.cosine > above).double().mean())


def match(directions: Tensor, planted: Tensor) -> Matching:
    """Match `directions` [d_sae, d] to `planted` [n_true, d]. A zero direction has cosine 0 with everything."""
    cosine = (_unit(directions) @ _unit(planted).T).abs()
    rows, columns = cast(tuple[Any, Any], linear_sum_assignment(cosine.numpy(), maximize=True))
    latent, true = torch.as_tensor(rows, dtype=torch.int64), torch.as_tensor(columns, dtype=torch.int64)
    named = torch.bincount(cosine.argmax(1)[cosine.amax(1) > 0], minlength=planted.shape[0]) > 0
    return Matching(latent, true, cosine[latent, true], float(named.sum()) / max(directions.shape[0], 1))


def _unit(rows: Tensor) -> Tensor:
    rows = rows.detach().double().cpu()
    return rows / length(rows).clamp(min=1e-300).unsqueeze(1)


class Agreement:
    """Counts of firing against presence on matched pairs, added up over batches."""

    def __init__(self, matching: Matching) -> None:
        self.matching = matching
        pairs = matching.latent.shape[0]
        self.both = torch.zeros(pairs, dtype=torch.int64)
        self.fired = torch.zeros(pairs, dtype=torch.int64)
        self.present = torch.zeros(pairs, dtype=torch.int64)

    def add(self, f: Tensor, true_codes: Tensor) -> None:
        """f [n, d_sae] and true_codes [n, n_true] of the same tokens."""
        fired = (f[:, self.matching.latent.to(f.device)] != 0).cpu()
        present = (true_codes[:, self.matching.true.to(true_codes.device)] != 0).cpu()
        self.both += (fired & present).sum(0)
        self.fired += fired.sum(0)
        self.present += present.sum(0)

    @property
    def f1(self) -> Tensor:
        """float64 [p]: 2TP / (2TP + FP + FN) = 2 both / (fired + present); 0 where neither ever happened."""
        return 2 * self.both.double() / (self.fired + self.present).clamp(min=1).double()
