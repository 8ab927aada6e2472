r"""Transcoder: what an MLP does to its input, as a sum of sparse parts.

    f     = relu(x W_enc + b_enc)                    x: what the MLP reads
    y_hat = f W_dec + b_dec                          y: what it writes
    loss  = ||y - y_hat||^2 + l1_coef * sum_i f_i ||W_dec_i||

Both sides have a scale of their own. Any other activation rule makes a transcoder too: `--arch topk --arch.wiring transcoder`,
or simply `--target SITE`.

Source: Dunefsky, Chlenski & Nanda 2024, arXiv 2406.11944.
Differs from the paper: the penalty weighs each latent by its row's length (as in the April 2024 form of `relu`), since nothing
else keeps free rows from growing; `decoder_norm=unit` gives the paper's penalty on rows of length 1.
"""

from __future__ import annotations

from typing import Literal

from assay.core.config import config
from assay.dictionaries.relu import Config as ReluConfig
from assay.dictionaries.relu import Relu


@config
class Config(ReluConfig):
    """Options of a transcoder: those of relu."""

    decoder_norm: Literal["unit", "free"] = "free"
    """free: the penalty weighs each latent by its rows' length; unit: rows of W_dec are kept at length 1."""
    wiring: Literal["transcoder"] = "transcoder"
    """How it is wired: always as a transcoder."""


class Transcoder(Relu):
    Config = Config
    role = "method"
