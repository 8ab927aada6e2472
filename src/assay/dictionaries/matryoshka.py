r"""Matryoshka sparse autoencoder: one BatchTopK code whose first latents must already reconstruct on their own.

    f    = the BatchTopK code of `batchtopk.py`; f_:m its first m latents, m in M = {m_1 < m_2 < ... < d_sae}
    loss = 1/|M| * sum over m in M of ||x - (f_:m W_dec_:m + b_dec)||^2  +  auxk_coef * AuxK(residual of the whole code)

Terms: "recon" is the whole code, "prefix_<m>" the first m latents; each has weight 1/|M|, so that one number normalises them
once, and AuxK keeps the strength against the reconstruction that it has in `batchtopk`. Inference is that of `batchtopk`.

Source: Bussmann et al. 2025, arXiv 2503.17547, section 3; the default groups are those of SAEBench (arXiv 2503.09532). Read through
code and notes, not in full.
Differs from the paper: the paper sums over M, which is this loss times |M| with an AuxK that is |M| times weaker. Its released code
takes the mean over one term more, the reconstruction by b_dec alone, which trains only b_dec and is left out here. Another library
divides twice by |M|, which makes AuxK |M| times stronger than here. Every prefix ends at a fixed latent; none is drawn at random.
"""

from __future__ import annotations

from itertools import accumulate

from assay.core.config import config, require
from assay.dictionaries.base import LIVE, Recon
from assay.dictionaries.batchtopk import Batchtopk
from assay.dictionaries.batchtopk import Config as BatchtopkConfig


@config
class Config(BatchtopkConfig):
    """Options of a Matryoshka SAE: those of batchtopk, and the groups."""

    groups: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2 + 1 / 32)
    """Sizes of the groups of latents, the innermost first: shares that sum to 1, or whole numbers that sum to d_sae."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes, total = self.groups, sum(self.groups)
        whole = all(size >= 1 and size == int(size) for size in sizes)
        require(
            all(size > 0 for size in sizes) and (abs(total - 1) < 1e-6 or (whole and total == self.d_sae)),
            "groups",
            sizes,
            f"positive shares that sum to 1, or whole numbers that sum to --d-sae {self.d_sae}",
        )

    @property
    def prefixes(self) -> tuple[int, ...]:
        """M, ascending, d_sae the last. Shares are rounded to latents; groups that would be empty are left out."""
        unit = self.d_sae / sum(self.groups)
        return tuple(sorted({max(1, round(unit * end)) for end in accumulate(self.groups)}))


class Matryoshka(Batchtopk):
    Config = Config

    @property
    def recon(self) -> dict[str, Recon]:
        inner = self.config.prefixes[:-1]
        return {"recon": ("f", LIVE), **{f"prefix_{m}": ("f", LIVE, m) for m in inner}}

    def weights(self, ramp: float) -> dict[str, float]:
        return dict.fromkeys(self.recon, 1 / len(self.recon))
