r"""Control: a dictionary of random directions that training may not move. Only the encoder and the biases learn.

    f = TopK(relu((x - b_dec) W_enc + b_enc)),   x_hat = f W_dec + b_dec,   W_dec random unit rows, frozen

Whatever a trained dictionary is praised for should be missing here. Source: the frozen-decoder control of arXiv 2602.14111.
Differs from the paper: the activation rule is TopK with AuxK, so that its sparsity can be set on the grid of the other controls.
"""

from __future__ import annotations

from assay.core.config import config
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk


@config
class Config(TopkConfig):
    """Options of the random control: those of topk."""


class Random(Topk):
    Config = Config
    role = "control"
    frozen = ("W_dec",)
