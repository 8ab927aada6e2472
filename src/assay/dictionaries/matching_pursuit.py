r"""Matching-pursuit sparse autoencoder (MP-SAE): the code is a greedy pursuit through the decoder's own rows.

    r = x - b_dec,  f = 0;   k times:   i = argmax_i (W_dec[i] . r),   c = relu(W_dec[i] . r),   f_i += c,   r -= c W_dec[i]
    x_hat = f W_dec + b_dec,   loss = ||x - x_hat||^2

There is no encoder matrix: W_enc is W_dec^T. A latent may be chosen twice, so L0 <= k. The rows of W_dec are kept at length 1, so
every step makes the residual shorter. The gradient runs through all steps except the choices. DENSE: which latents will fire is known
only after the steps before, so there is no support to name beforehand.

Source: Costa et al. 2025, arXiv 2506.03093 ("From Flat to Hierarchical"), as in the released code: the largest inner product, not
the largest in size.
Differs from the paper: a step whose largest inner product is negative adds nothing (theirs would add a negative code); no dropout of
latents; no term that revives dead latents, which the released code offers as a recipe.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.dictionaries.base import DENSE
from assay.dictionaries.initialisation import geometric_median
from assay.dictionaries.options import Config as BaseConfig
from assay.dictionaries.whole_rows import WholeRows

ENGINE = "it trains by autograd of the whole loss, without the engine's support"


@config
class Config(BaseConfig):
    """Options of a matching-pursuit SAE."""

    k: int
    """Steps of the pursuit: how many latents may be active in a token."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wiring == "sae", "wiring", self.wiring, "sae: it predicts what it reads")
        require(0 < self.k <= self.d_sae, "k", self.k, f"between 1 and --d-sae {self.d_sae}")


class MatchingPursuit(WholeRows):
    Config = Config
    exceptions = WholeRows.exceptions | {
        "test_parameters_have_the_shapes_of_the_contract": "W_enc is W_dec^T, not a parameter",
        "test_storage_stays_latent_major_through_training": "W_enc is W_dec^T, not a parameter",
        "test_verify_catches_a_small_error_of_one_direction": "a row of W_dec also chooses, so other latents come on",
        "test_the_engine_gives_the_gradients_of_the_loss": ENGINE,
        "test_the_dense_path_gives_the_same_step": ENGINE,
        "test_each_term_alone_reaches_the_same_parameters": ENGINE,
        "test_a_batch_in_which_nothing_fires": ENGINE,
        "test_outside_the_support_nothing_happens": ENGINE,
        "test_pairs_below_a_threshold_are_zero_with_their_derivatives": ENGINE,
        "test_pairs_do_not_depend_on_shape": ENGINE,
        "test_the_switch_between_paths_depends_on_the_last_support_alone": ENGINE,
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        del self._parameters["W_enc"]  # the parameter; what is read under this name is below

    @property
    def W_enc(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.W_dec.t()

    @property
    def step(self) -> Literal["sparse", "dense"]:
        return DENSE

    def codes_of(self, x: Tensor) -> Tensor:
        residual = self.centred(x)
        f = residual.new_zeros(len(residual), self.d_sae)
        for _ in range(self.config.k):
            with torch.no_grad():
                latent = (residual @ self.W_enc).argmax(1)
            direction = self.W_dec[latent]
            c = (residual * direction).sum(1, keepdim=True).relu()
            f = f.scatter_add(1, latent[:, None], c)
            residual = residual - c * direction
        return f

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        rows = torch.randn(self.W_dec.shape, generator=rng).to(self.W_dec)
        self.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
        self.b_dec.copy_(geometric_median(y))
