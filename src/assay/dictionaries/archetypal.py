r"""Relaxed archetypal sparse autoencoder (RA-SAE): every direction is near a mixture of data points.

    W_dec = exp(log_scale) * (mixing C + relaxation)          eq. 4;   mixing [d_sae, n_candidates], C [n_candidates, d_out]
    rows of mixing are >= 0 and sum to 1,   ||relaxation_i|| <= delta
    f     = TopK(relu((x - b_dec) W_enc + b_enc)),   x_hat = f W_dec + b_dec,   loss = ||x - x_hat||^2 + auxk_coef * AuxK

C are k-means centroids of the sample that the run starts from, less b_dec at the start; they never change. After every update
mixing and relaxation are set back to where they must lie. DENSE: autograd carries the decoder's gradient on to mixing, relaxation
and log_scale. The rows of W_dec are not of length 1.

Source: Fel et al. 2025, arXiv 2502.12892, eq. 4, and the released code.
Differs from the paper: mixing starts as one centroid each (the released code starts from the identity too); log_scale starts so that
rows have length 1 on average, not at 0; AuxK moves the encoder only, since the decoder's rows are no parameters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.dictionaries.base import DENSE
from assay.dictionaries.fitting import whole_number
from assay.dictionaries.topk import Config as TopkConfig
from assay.dictionaries.topk import Topk

MADE = "W_dec is made from mixing, relaxation and log_scale"


@config
class Config(TopkConfig):
    """Options of a relaxed archetypal SAE."""

    n_candidates: int | None = None
    """Number of k-means centroids that directions are mixed from; d_sae when not given."""
    delta: float = 1.0
    """How far a direction may lie from its mixture, in training space, before the common scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wiring == "sae", "wiring", self.wiring, "sae: it predicts what it reads")
        n = self.n_candidates
        require(n is None or n >= self.d_sae, "n_candidates", n, f"at least --d-sae {self.d_sae}")
        require(self.delta >= 0, "delta", self.delta, "at least 0")


class Archetypal(Topk):
    Config = Config
    degree = Topk.degree | {"mixing": 0, "relaxation": 0, "log_scale": 0, "candidates": 0}
    exceptions = {
        "test_initialisation_follows_its_generator": MADE + "; test_archetypal_equation.py tests its start",
        "test_parameters_have_the_shapes_of_the_contract": MADE,
        "test_initial_shapes_of_the_recipe": "rows start as centroids, whose lengths differ",
        "test_verify_catches_a_small_error_of_one_direction": MADE,
        "test_the_engine_gives_the_gradients_of_the_loss": MADE + ", which the engine on a support does not know",
        "test_the_dense_path_gives_the_same_step": MADE + ", which the engine on a support does not know",
        "test_each_term_alone_reaches_the_same_parameters": MADE + ", which the engine on a support does not know",
        "test_a_batch_in_which_nothing_fires": MADE + ", which the engine on a support does not know",
        "test_outside_the_support_nothing_happens": MADE + ", so its rows cannot be changed one by one",
        "test_the_switch_between_paths_depends_on_the_last_support_alone": "it always takes the dense path",
    }

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        d_sae, d_out = self.W_dec.shape
        del self._parameters["W_dec"]  # the parameter; what is read under this name is below
        n = config.n_candidates or d_sae
        self.mixing = nn.Parameter(torch.eye(d_sae, n))
        self.relaxation = nn.Parameter(torch.zeros(d_sae, d_out))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.candidates: Tensor
        self.register_buffer("candidates", torch.zeros(n, d_out))

    @property
    def W_dec(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.log_scale.exp() * (self.mixing @ self.candidates + self.relaxation)

    @property
    def step(self) -> Literal["sparse", "dense"]:
        return DENSE

    @property
    def unit_norm(self) -> bool:
        return False

    @torch.no_grad()
    def constrain(self) -> None:
        positive = self.mixing.relu()
        total = positive.sum(1, keepdim=True)
        self.mixing.copy_(torch.where(total > 0, positive / total, 1 / positive.shape[1]))
        length = self.relaxation.norm(dim=1, keepdim=True)
        self.relaxation.mul_((self.config.delta / length.clamp_min(1e-30)).clamp_max(1.0))

    @torch.no_grad()
    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        self.b_dec.copy_(y.mean(0))
        centred = y - self.b_dec
        n = len(self.candidates)
        if not bool(centred.any()):  # no sample was given
            points = torch.randn(self.candidates.shape, generator=rng)
        elif len(y) < n:
            raise BadInput(
                f"--n-candidates is {n}, but the sample has {len(y)} rows; give fewer candidates or more text."
            )
        else:
            points = centroids(centred, n, whole_number(rng))
        self.candidates.copy_(points)
        self.log_scale.copy_(-points.norm(dim=1).mean().clamp_min(1e-30).log())
        rows = self.W_dec
        self.W_enc.copy_((rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)).t())


def centroids(rows: Tensor, n: int, seed: int) -> Tensor:
    """[n, d]: k-means centroids of rows [m, d]."""
    from sklearn.cluster import MiniBatchKMeans

    clusters = MiniBatchKMeans(n, batch_size=4096, n_init=1, random_state=seed)  # pyright: ignore[reportArgumentType]
    found = clusters.fit(rows.double().cpu().numpy())
    return torch.from_numpy(found.cluster_centers_).to(rows)
