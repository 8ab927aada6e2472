r"""BatchTopK sparse autoencoder.

    z    = (x - b_dec) W_enc + b_enc                                            [batch, d_sae]
    training:   f = the k * batch largest relu(z) of the whole batch, ties to the lower row, then the lower latent
    inference:  f = z * 1[z > threshold],  one number for all latents, so that a row's code depends on that row alone
    loss = ||x - (f W_dec + b_dec)||^2  +  auxk_coef * AuxK                     (AuxK: `training/auxk.py`)

threshold is the mean over training batches of the smallest positive code that was kept; zeros that fill a batch's quota are not
counted. It is a running mean that each batch moves by RATE of the way, after the update; the first batch sets it. 0 means that
none was seen yet, and then inference is refused.

Parity of L0: a training batch has exactly k active latents a token, unless fewer are positive. With one threshold the mean is near
k but nothing holds it there: expect a few per cent on the training distribution, more where the cuts of single batches scatter
(small batches, a high learning rate at the end) and on other text. `evaluate` reports both, `l0_train` and `l0`;
`training/calibrate.py` sets thresholds that give a stated L0.

Source: Bussmann et al. 2024, arXiv 2412.06410, section 3; AuxK from arXiv 2406.04093 App. A. Read through code and notes, not in full.
Differs from the paper: the paper's threshold is a mean over batches; libraries take running means (0.001 a batch from step 1000 on,
or 0.01 a batch), here 0.01 from the first batch on, so that a short run has one too, and the last few hundred batches count. The
error is not divided by the variance (see `topk.py`). The rows of W_dec are kept at length 1.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from assay.core.config import config
from assay.core.errors import BadInput
from assay.dictionaries.base import Dictionary
from assay.dictionaries.initialisation import geometric_median, init_tied
from assay.dictionaries.topk import Config as TopkConfig
from assay.kernels import Above, BatchTop, Codes, Selection

RATE = 0.01  # how far one batch moves the threshold


@config
class Config(TopkConfig):
    """Options of a BatchTopK SAE: those of topk, with k a mean over the batch."""


class Batchtopk(Dictionary):
    Config = Config
    batch_codes = True
    vectors = ("b_enc",)
    degree = {"b_enc": 1, "threshold": 1}
    dead_latents = "auxk"
    exceptions = {
        "test_a_code_that_is_almost_zero_may_be_zero": "a code jumps from 0 to the threshold and is never almost 0",
    }

    threshold: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.register_buffer("threshold", torch.zeros(()))

    def select(self, p: SimpleNamespace, training: bool) -> Selection:
        if training:
            return BatchTop(self.config.k, p.b_enc, scope=self.config.scope)
        if not float(self.threshold) > 0:
            raise BadInput(
                f"This {self.arch} dictionary has seen no training batch, so its inference threshold is not known; "
                "train it first, or encode with training=True."
            )
        return Above(self.threshold - p.b_enc)

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"f": (u + p.b_enc).relu()}, {}

    @torch.no_grad()
    def observe(self, codes: Codes, step: int) -> None:
        kept = codes.value[codes.value > 0]
        if kept.numel():
            rate = RATE if float(self.threshold) > 0 else 1.0
            self.threshold += rate * (kept.min() - self.threshold)

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        init_tied(self, rng)
        self.b_dec.copy_(geometric_median(y))
