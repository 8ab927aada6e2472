r"""Control: a random encoder that training may not move. Only the decoder and its bias learn.

    f = TopK(relu((x - b_dec) W_enc)),   x_hat = f W_dec + b_dec,   W_enc random unit columns, frozen; b_enc = 0, frozen

Which latents fire was decided by chance; what they are praised for is the decoder's fit. b_dec learns and does move the encoder's
origin. Source: the frozen-encoder control of arXiv 2602.14111, as reported in its abstract.
Differs from the paper: the activation rule is TopK with AuxK, so that its sparsity can be set on the grid of the other controls.
"""

from __future__ import annotations

from assay.core.config import config, require
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk


@config
class Config(TopkConfig):
    """Options of the frozen-encoder control: those of topk."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(not self.layered, "wiring", self.wiring, "sae, transcoder or crosscoder")


class FrozenEncoder(Topk):
    Config = Config
    role = "control"
    frozen = ("W_enc", "b_enc")
