r"""Skip transcoder: a TopK transcoder beside a dense linear path.

    f     = TopK(relu(x W_enc + b_enc))
    y_hat = f W_dec + x W_skip + b_dec
    loss  = ||y - y_hat||^2 + auxk_coef * AuxK

W_skip starts at 0. What is linear in x need not be spelled out by latents.

Source: Paulo, Shabalin & Belrose 2025, arXiv 2501.18823.
Differs from the paper: W_dec starts at random unit rows, not at 0, and its rows are kept at length 1; AuxK is on.
"""

from __future__ import annotations

from typing import Literal

from assay.core.config import config
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk


@config
class Config(TopkConfig):
    """Options of a skip transcoder: those of topk."""

    wiring: Literal["transcoder"] = "transcoder"
    """How it is wired: always as a transcoder."""
    skip: bool = True
    """Whether the dense path is there."""


class SkipTranscoder(Topk):
    Config = Config
