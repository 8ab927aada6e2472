"""Splitting and absorption of known features, dictionary by dictionary, on held-out documents.

1. At most `known_tokens` tokens, whole documents, are read at the site and, with a model at hand, at the last residual stream after it.
   Probes are fitted on the validation documents; everything is counted on the test documents.
2. A logistic probe on the activations is the baseline. Features that it cannot read, or that hold too rarely, are left out.
3. Each dictionary: the feature's latents (k-sparse probing), then the tokens at which another latent took over (metrics/splitting.py).
4. A sample of those tokens, one a document, is tested by intervening: what that latent writes is taken out of the model's activation, and
   the feature's probe after the last layer must fall, by more than when the token's strongest other latent is taken out. The share of
   absorbed tokens is multiplied by the share of the sample that passes. Where no site comes later, nothing is tested, and that is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from assay.core.progress import progress
from assay.core.randomness import numpy_rng
from assay.evaluation import Entry, coding
from assay.evaluation.examples import pieces
from assay.evaluation.readings import TEST, VALIDATION, Live
from assay.kernels import Codes
from assay.metrics.splitting import Absorbed, Bools, Floats, Latents, Probe, absorbed_rows, f1_of, logistic, split_of
from assay.models import Edit, edited, read
from assay.studies.known_features import Kind, features

FEWEST = 20  # tokens with and without the feature, in either half
READABLE, ABOVE_YES = 0.5, 0.1  # F1 that the probe on activations must reach, and by how much it must beat "always yes"
ROWS = 1024  # of codes decoded at once
RESAMPLES = 1000


@dataclass(frozen=True)
class Measured:
    """Of one dictionary, means over features. absorbed = candidates * confirmed / tested (candidates alone where none was tested)."""

    f1: float
    split: float
    absorbed: float
    candidates: float
    tested: int
    confirmed: int
    fall: float
    fall_control: float


@dataclass(frozen=True)
class Known:
    """What the study keeps: the baseline's F1 [value, lo, hi], its F1 by feature, and `Measured` by dictionary."""

    probe_f1: tuple[float, float, float]
    features: dict[str, float]
    later: str
    dictionaries: dict[str, dict[str, Any]]


class Probes:
    """The rows, the labels and the probes that every dictionary is measured with."""

    def __init__(
        self, readings: Live, kind: Kind, *, known_tokens: int, ablated: int, margin: float, most: int, seed: int
    ) -> None:
        self.readings, self.margin, self.most, self.ablated, self.seed = readings, margin, most, ablated, seed
        self.later = later_site(readings)
        self.x, self.x_later, self.document, self.position, token_id = self._read(known_tokens)
        side = readings.side[self.document]
        self.fit, self.test = side == VALIDATION, side == TEST
        piece = pieces(readings.model.tokenizer)
        found = features(kind, self.document, token_id, readings.table.documents, piece)
        self.labels: dict[str, Bools] = {}
        self.probes: dict[str, Probe] = {}
        self.probes_later: dict[str, Probe] = {}
        x, x_later = (t.double().numpy() for t in (self.x, self.x_later))
        for name, y in found.items():
            counts = [int(part.sum()) for side in (self.fit, self.test) for part in (y[side], ~y[side])]
            if min(counts) < FEWEST:
                continue
            probe = logistic(x[self.fit], y[self.fit])
            f1, always = (
                f1_of(probe.says(x[self.test]), y[self.test]),
                f1_of(np.ones(self.test.sum(), bool), y[self.test]),
            )
            if f1 >= READABLE and f1 >= always + ABOVE_YES:
                self.labels[name], self.probes[name] = y, probe
                if self.later:
                    self.probes_later[name] = logistic(x_later[self.fit], y[self.fit])
        self.says = {name: probe.says(x) for name, probe in self.probes.items()}

    @torch.no_grad()
    def _read(
        self, known_tokens: int
    ) -> tuple[Tensor, Tensor, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """x [n, d] at the site, x_later, and document, position, token id [n] of at most `known_tokens` tokens."""
        readings = self.readings
        order = numpy_rng(self.seed, "known documents").permutation(readings.chosen)
        chosen = np.sort(order[np.cumsum(readings.lengths[order]) <= known_tokens])
        parts: list[tuple[Tensor, ...]] = []
        for reading in readings.sequences(chosen):
            assert reading.ids is not None
            assert reading.keep is not None
            h = read(readings.model, reading.ids, reading.mask, [readings.site, *([self.later] if self.later else [])])
            x = h[readings.site][reading.keep].float().cpu()
            later = h[self.later][reading.keep].float().cpu() if self.later else x[:, :0]
            parts.append((x, later, reading.document, reading.position, reading.token_id))
        if not parts:
            parts = [(torch.zeros(0, readings.width), torch.zeros(0, 0), *(torch.zeros(0, dtype=torch.int64),) * 3)]
        x, later, *columns = (torch.cat(column) for column in zip(*parts, strict=True))
        document, position, token_id = (c.numpy() for c in columns)
        return x, later, document, position, token_id

    # ---- the baseline ----------------------------------------------------------------------------------------------

    def baseline(self) -> tuple[float, float, float]:
        """Mean F1 of the probes on activations on the test documents, with a percentile interval over documents."""
        documents, place = np.unique(self.document[self.test], return_inverse=True)
        counts = np.zeros((len(documents), len(self.labels), 2))
        for i, (name, y) in enumerate(self.labels.items()):
            says, true = self.says[name][self.test], y[self.test]
            np.add.at(counts[:, i], place, np.stack([says & true, says.astype(int) + true], axis=1))
        n = len(documents)
        drawn = numpy_rng(self.seed, "known baseline").multinomial(n, np.full(n, 1 / n), RESAMPLES)
        sums = np.einsum("rd,dfc->rfc", np.vstack([np.ones(n), drawn]), counts)
        f1 = (2 * sums[..., 0] / np.maximum(sums[..., 1], 1)).mean(1)
        lo, hi = np.quantile(f1[1:], [0.025, 0.975])
        return float(f1[0]), float(lo), float(hi)

    def f1_by_feature(self) -> dict[str, float]:
        return {name: f1_of(self.says[name][self.test], y[self.test]) for name, y in self.labels.items()}

    # ---- a dictionary ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def measure(self, dictionary: Any) -> Measured:
        f: Any = sparse_codes(dictionary, self.x)
        D = directions(dictionary, f.shape[1])
        fit, test = Latents(f[self.fit]), Latents(f[self.test])
        signed = bool(getattr(dictionary, "signed", False))
        aligned = 2 / np.sqrt(D.shape[1])  # two standard deviations of a random direction's cosine
        one: list[float] = []
        n_split: list[int] = []
        shares: list[float] = []
        taken: list[tuple[str, Absorbed]] = []
        for name, y in self.labels.items():
            split = split_of(
                fit, y[self.fit], test, y[self.test], margin=self.margin, most=self.most, signed=signed
            )  # fmt: skip
            eligible = (y & self.says[name])[self.test]
            absorbed = absorbed_rows(test.rows, eligible, split.latents, D, self.probes[name].weight, aligned=aligned)
            one.append(split.f1[0] if split.f1 else 0.0)
            n_split.append(max(1, len(split.latents)))
            shares.append(len(absorbed.row) / max(1, int(eligible.sum())))
            taken.append((name, absorbed))
        candidates = float(np.mean(shares))
        fallen = self._intervene(test.rows, D, taken) if self.later else np.zeros((0, 2))
        passed = (fallen[:, 0] > 0) & (fallen[:, 0] > fallen[:, 1])
        confirmed = float(passed.mean()) if len(fallen) else 1.0
        falls = fallen.mean(0) if len(fallen) else np.zeros(2)
        return Measured(
            float(np.mean(one)), float(np.mean(n_split)), candidates * confirmed, candidates, len(fallen), int(passed.sum()),
            float(falls[0]), float(falls[1]),
        )  # fmt: skip

    def _intervene(self, f: csr_matrix, D: Floats, taken: Sequence[tuple[str, Absorbed]]) -> Floats:
        """[m, 2]: by how much the later probe of a token's feature falls without the latent that took over, and without its control."""
        rows = np.flatnonzero(self.test)
        cases = [(name, int(rows[r]), int(r), int(i), int(j)) for name, a in taken for r, i, j in zip(a.row, a.latent, a.control, strict=True)]  # fmt: skip
        sample: dict[int, tuple[str, int, int, int, int]] = {}
        for at in numpy_rng(self.seed, "ablated tokens").permutation(len(cases)):
            case = cases[at]
            if len(sample) < self.ablated:
                sample.setdefault(int(self.document[case[1]]), case)  # one a document: edits must not meet
        if not sample:
            return np.zeros((0, 2))
        written = {  # document -> [2, d]: what the latent that took over, and its control, write
            document: np.stack([float(f[r, latent]) * D[latent] if latent >= 0 else 0 * D[0] for latent in (i, j)])
            for document, (_, _, r, i, j) in sample.items()
        }
        scores: dict[int, list[float]] = {document: [] for document in sample}
        for which in range(2):
            for reading in self.readings.sequences(np.array(sorted(sample))):
                documents = reading.document.numpy()
                wanted = np.array([self.position[sample[int(d)][1]] for d in documents])
                here = np.flatnonzero(reading.position.numpy() == wanted)
                values = self._without(reading, here, np.stack([written[int(documents[k])][which] for k in here]))
                for k, value in zip(here, values, strict=True):
                    document = int(documents[k])
                    scores[document].append(float(value @ self.probes_later[sample[document][0]].weight))
        before = {
            document: float(self.x_later[row].double().numpy() @ self.probes_later[name].weight)
            for document, (name, row, *_) in sample.items()
        }
        return np.array([[before[d] - with_out for with_out in scores[d]] for d in sample])

    def _without(self, reading: Any, here: NDArray[np.int64], written: Floats) -> Floats:
        """The later site's values [m, d] at the rows `here` of a reading, with `written` [m, d] taken out of the site there."""
        where = torch.zeros(len(reading.document), written.shape[1])
        where[torch.from_numpy(here)] = torch.from_numpy(written).float()

        def fn(h: Tensor, _: Any) -> Tensor:
            out = torch.zeros_like(h)
            return h - out.index_put((reading.keep,), where.to(h))

        model = self.readings.model
        with edited(model, [Edit(self.readings.site, fn)]):
            later = read(model, reading.ids, reading.mask, [self.later])[self.later]
        return later[reading.keep].float().cpu()[torch.from_numpy(here)].double().numpy()


def measure_known(probes: Probes, named: dict[str, Entry], quiet: bool) -> Known:
    found: dict[str, dict[str, Any]] = {}
    with progress(len(named), "known features", "dictionaries", quiet=quiet) as bar:
        for name, entry in named.items():
            found[name] = asdict(probes.measure(entry.dictionary)) if probes.labels else {}
            bar.advance(1)
    baseline = probes.baseline() if probes.labels else (0.0, 0.0, 0.0)
    return Known(baseline, probes.f1_by_feature(), probes.later, found)


def later_site(readings: Live) -> str:
    """The last layer's residual stream where it comes after the site; else empty."""
    names = readings.model.sites()
    last = f"resid_post.{readings.model.n_layers - 1}"
    if readings.site not in names or last not in names or names.index(last) <= names.index(readings.site):
        return ""
    return last


def sparse_codes(dictionary: Any, x: Tensor) -> csr_matrix:
    """f [n, d_sae] of rows x [n, d], sparse."""
    device = coding.device_of(dictionary, x.device)
    codes = coding.encode(dictionary, x.to(device))
    parts = (t.cpu().numpy() for t in (codes.value, codes.row, codes.latent))
    value, row, latent = parts
    return csr_matrix((value.astype(np.float64), (row, latent)), shape=codes.shape)


def directions(dictionary: Any, d_sae: int) -> Floats:
    """[d_sae, d]: what one unit of each latent adds to the reconstruction."""
    device = coding.device_of(dictionary, torch.device("cpu"))
    parts: list[Tensor] = []
    for start in range(0, d_sae, ROWS):
        latent = torch.arange(start, min(d_sae, start + ROWS), device=device)
        row = torch.arange(len(latent), device=device)
        one = Codes(row, latent, torch.ones(len(latent), device=device), (len(latent), d_sae))
        nothing = Codes(row[:0], latent[:0], one.value[:0], (1, d_sae))
        parts.append(dictionary.decode(one) - dictionary.decode(nothing))
    return torch.cat(parts).double().cpu().numpy()
