"""The sums of one dictionary: what evaluation adds up while the documents pass, and the list of metrics they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.arms import Role
from assay.core.outcome import Metric
from assay.evaluation import coding
from assay.evaluation.entry import Entry
from assay.evaluation.readings import TEST, VALIDATION, Reading
from assay.evaluation.tops import Tops
from assay.kernels import Codes
from assay.metrics import fidelity, language, shrinkage, sparsity
from assay.metrics.ratio import Ratio

LANGUAGE = ("loss_recovered_zero", "loss_recovered_mean", "delta_loss")
JUDGED: dict[str, tuple[Role, ...]] = {
    "fvu": ("baseline", "control"),
    "loss_recovered_zero": ("baseline", "control"),
    "gamma": ("baseline",),
}
"""The metrics that verdicts speak of, and the roles they are judged against: the strongest of them. Not the controls for gamma: an
orthogonal projection such as PCA has gamma 1 whatever it keeps, so that beating it would mean nothing."""


def declared(no_language: str | None, sites: Sequence[str] = ()) -> list[Metric]:
    """The metrics of an evaluation and their direction; `no_language`: why those that need a loss are null.

    sites: the single sites that are predicted, where there are several: each has an FVU of its own beside the pooled one.
    """
    return [
        *(Metric(name=f"fvu@{single}", better="lower") for single in sites if len(sites) > 1),
        Metric(name="fvu", better="lower"),
        Metric(name="loss_recovered_zero", better="higher", why_null=no_language),
        Metric(name="loss_recovered_mean", better="higher", why_null=no_language),
        Metric(name="delta_loss", better="lower", why_null=no_language),
        Metric(name="gamma", better="one"),
        Metric(name="l0", better="none"),
        Metric(name="l0_train", better="none"),
        Metric(name="cosine", better="higher"),
        Metric(name="norm_ratio", better="none"),
    ]


@dataclass
class Measurement:
    """One dictionary under measurement.

    `ratios`: metric -> sums per document; `firing`: validation and test counts; `encode_seconds` over `n_tokens`.
    """

    entry: Entry
    subject: str
    n_documents: int
    n_contexts: int
    sites: Mapping[str, slice] = field(
        default_factory=dict[str, slice]
    )  # columns of each target where there are several
    ratios: dict[str, Ratio] = field(default_factory=dict)
    firing: tuple[sparsity.Firing, sparsity.Firing] | None = None
    tops: Tops | None = None
    encode_seconds: float = 0.0
    n_tokens: int = 0

    @property
    def dictionary(self) -> Any:
        return self.entry.dictionary

    def ratio(self, metric: str) -> Ratio:
        return self.ratios.setdefault(metric, Ratio(self.n_documents))

    def reconstruct(self, reading: Reading, side: np.ndarray, means: Tensor) -> Tensor:
        """Encode and decode a reading, add its fidelity and sparsity, return x_hat [n, d_out], which is to be y.

        side [n_documents]: VALIDATION or TEST; means float64 [2, d_out]: the mean of y on either side.
        """
        x = reading.x.to(coding.device_of(self.dictionary, reading.x.device))
        codes, seconds = coding.timed_encode(self.dictionary, x)
        self.encode_seconds += seconds
        self.n_tokens += len(x)
        x_hat = coding.reconstruct(self.dictionary, x, codes).to(reading.x)
        row_side = torch.from_numpy(side)[reading.document].long()
        x_mean = means[row_side].to(x_hat.device)
        document = reading.document
        self.ratio("fvu").add(document, fidelity.fvu_terms(reading.y, x_hat, x_mean))
        for single, columns in self.sites.items():
            terms = fidelity.fvu_terms(reading.y[:, columns], x_hat[:, columns], x_mean[:, columns])
            self.ratio(f"fvu@{single}").add(document, terms)
        self.ratio("gamma").add(document, shrinkage.bias_terms(reading.y, x_hat))
        self.ratio("cosine").add(document, fidelity.cosine_terms(reading.y, x_hat))
        self.ratio("norm_ratio").add(document, fidelity.norm_ratio_terms(reading.y, x_hat))
        self.ratio("l0").add(document, sparsity.l0_terms(codes.row, codes.value, len(x)))
        if coding.has_training_mode(self.dictionary):
            same = not getattr(self.dictionary, "batch_codes", True)
            trained = codes if same else coding.encode(self.dictionary, x, training=True)
            self.ratio("l0_train").add(document, sparsity.l0_terms(trained.row, trained.value, len(x)))
        self._count(codes, reading, row_side)
        return x_hat

    def _count(self, codes: Codes, reading: Reading, row_side: Tensor) -> None:
        if self.firing is None:
            self.firing = (sparsity.Firing(codes.shape[1]), sparsity.Firing(codes.shape[1]))
            self.tops = Tops(codes.shape[1], self.n_contexts)
        pair_side = row_side[codes.row.cpu()].to(codes.row.device)
        for which in (VALIDATION, TEST):
            here = pair_side == which
            some = Codes(codes.row[here], codes.latent[here], codes.value[here], codes.shape)
            self.firing[which].add(some.latent, some.value, int((row_side == which).sum()))
            if which == TEST and self.tops is not None:
                self.tops.add(some, reading)

    def losses(self, document: Tensor, clean: Tensor, zero: Tensor, mean: Tensor, spliced: Tensor) -> None:
        """Add the losses of the counted target tokens, all [m] nats; `document` [m] is the document of each."""
        self.ratio("loss_recovered_zero").add(document, language.loss_recovered_terms(clean, spliced, zero))
        self.ratio("loss_recovered_mean").add(document, language.loss_recovered_terms(clean, spliced, mean))
        self.ratio("delta_loss").add(document, language.delta_loss_terms(clean, spliced))
