r"""AbsTopK sparse autoencoder: signed codes.

    z    = (x - b_dec) W_enc + b_enc
    f    = the k largest |z| of each row with their signs, ties to the lower latent;  the others 0
    loss = ||x - (f W_dec + b_dec)||^2  +  auxk_coef * AuxK

A latent can speak for both ends of an axis (f > 0 and f < 0), so firing is f != 0, and whatever ranks latents ranks |f|. L0 is k
whatever x is, since no value is cut at 0. AuxK takes the k_aux largest |z| of the dead latents with their signs as well
(`training/auxk.py`): with a relu, only one side of a dead latent could come back. The rows of W_dec are kept at length 1.

Source: arXiv 2510.00404 (2025), the activation rule as described by two libraries; the paper was not read in full.
Differs from the paper: the training recipe (initialisation, AuxK, scale of the error) is that of `topk.py`, so that the two differ in
the sign alone.
"""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from assay.core.config import config
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk
from assay.kernels import Top


@config
class Config(TopkConfig):
    """Options of an AbsTopK SAE: those of topk."""


class Abstopk(Topk):
    Config = Config
    signed = True

    def select(self, p: SimpleNamespace, training: bool) -> Top:
        return Top(self.config.k, p.b_enc, signed=True, scope=self.config.scope)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"f": u + p.b_enc}, {}
