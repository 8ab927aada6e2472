r"""Clusters (k-means) as a dictionary, with one-hot or triangle codes.

    d_i = ||x - c_i||,   c_i = b_dec + length_i * W_enc[:, i]          centroid i; the columns of W_enc have length 1

codes = "onehot":    f_i = length_i for the nearest centroid, 0 for the others;  W_dec = W_enc^T, so x_hat is that centroid
codes = "triangle":  f_i = max(0, mean_j d_j - d_i), the k largest of them where k is given;
                     x_hat = f W_dec + b_dec, with W_dec by least squares from the codes of a sample (a hull of distances has no
                     decoder of its own)

b_dec is the mean of the data. The one-hot value is the centroid's distance from it, not 1, so that row i of W_dec is a direction and
codes scale as the activations do. Fitted in one pass over batches; the least squares use a sample of `--sample` rows.

Sources: Sculley 2010, "Web-scale k-means clustering", by scikit-learn's MiniBatchKMeans; triangle codes: Coates, Lee & Ng 2011,
"An analysis of single-layer networks in unsupervised feature learning", section 3.2.
Differs from the paper: Coates et al. whiten first and do not decode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.dictionaries.base import FIT
from assay.dictionaries.fitting import batches, reservoir, whole_number
from assay.dictionaries.options import Config as BaseConfig
from assay.dictionaries.whole_rows import WholeRows, k_largest

CANCELS = 1e-3  # a squared distance below this share of ||x||^2 + ||c||^2 is computed from the difference itself
RIDGE = 1e-6  # of the mean squared code, so that latents that always fire together have one solution


@config
class Config(BaseConfig):
    """Options of k-means."""

    codes: Literal["onehot", "triangle"] = "onehot"
    """onehot: the nearest centroid alone; triangle: how much nearer than the average each centroid is."""
    k: int | None = None
    """With triangle codes, how many are kept in a token; all (about half of the latents) when not given."""
    batch_size_fit: int = 4096
    """Rows in one step of the fit; the first takes at least three times --d-sae."""
    sample: int = 32_768
    """With triangle codes, rows on which the decoder is found; they are held in memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wiring == "sae", "wiring", self.wiring, "sae: it predicts what it reads")
        require(self.d_out in (None, self.d_in), "d_out", self.d_out, f"d_in={self.d_in} (or left out)")
        require(self.k is None or 0 < self.k <= self.d_sae, "k", self.k, f"between 1 and --d-sae {self.d_sae}")
        require(self.codes == "triangle" or self.k in (None, 1), "k", self.k, "1 or left out with --codes onehot")
        require(self.batch_size_fit > 0, "batch_size_fit", self.batch_size_fit, "positive")
        require(self.sample > 0, "sample", self.sample, "positive")


class Kmeans(WholeRows):
    Config = Config
    role = "baseline"
    variants = ("wiring", "codes")
    learned_by = FIT
    vectors = ("length",)
    degree = {"length": 1}

    def codes_of(self, x: Tensor) -> Tensor:
        rows, length = self.centred(x), self.get_parameter("length")
        u = rows @ self.W_enc
        if self.config.codes == "onehot":
            nearest = (length * (length - 2 * u)).argmin(1)  # ||x - b_dec||^2 is the same for all
            return torch.zeros_like(u).scatter(1, nearest[:, None], length[nearest][:, None])
        size = rows.pow(2).sum(1, keepdim=True) + length.pow(2)
        squared = size - 2 * length * u
        row, near = (squared.detach() < CANCELS * size.detach()).nonzero(as_tuple=True)
        apart = rows[row] - length[near, None] * self.W_enc.t()[near]
        squared = squared.index_put((row, near), apart.pow(2).sum(1))
        distance = squared.clamp_min(torch.finfo(u.dtype).tiny).sqrt()
        f = (distance.mean(1, keepdim=True) - distance).relu()
        return f if self.config.k is None else k_largest(f, self.config.k)

    @torch.no_grad()
    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        from sklearn.cluster import MiniBatchKMeans

        size = self.config.batch_size_fit
        seed = whole_number(rng)
        clusters = MiniBatchKMeans(self.d_sae, batch_size=size, random_state=seed, n_init=1)  # pyright: ignore[reportArgumentType]

        def seen() -> Iterator[Tensor]:
            for number, rows in enumerate(batches(chunks, size, first=3 * self.d_sae)):
                if number == 0 and len(rows) < self.d_sae:
                    raise BadInput(
                        f"{len(rows)} rows make no {self.d_sae} clusters; give more rows or a smaller --d-sae."
                    )
                clusters.partial_fit(rows.numpy())
                yield rows

        rows, mean = reservoir(seen(), self.config.sample if self.config.codes == "triangle" else 1, rng)
        if not len(rows):
            raise BadInput("There are no rows to cluster; give more text.")
        offset = torch.from_numpy(clusters.cluster_centers_).double() - mean
        length = offset.norm(dim=1)
        direction = offset / length.clamp_min(1e-30)[:, None]
        self.b_dec.copy_(mean)
        self.get_parameter("length").copy_(length)
        self.W_enc.copy_(direction.T)
        self.W_dec.copy_(self.least_squares(rows) if self.config.codes == "triangle" else direction)

    def least_squares(self, rows: Tensor) -> Tensor:
        """W_dec [d_sae, d_out] that predicts rows - b_dec from their codes best."""
        squares = torch.zeros(self.d_sae, self.d_sae, dtype=torch.float64)
        products = torch.zeros(self.d_sae, self.d_out, dtype=torch.float64)
        for part in rows.split(4096):
            f = self.codes_of(part.to(self.b_dec)).double()
            squares += f.T @ f
            products += f.T @ (part - self.b_dec.double())
        squares.diagonal().add_(RIDGE * float(squares.diagonal().mean()))
        return torch.linalg.solve(squares, products)
