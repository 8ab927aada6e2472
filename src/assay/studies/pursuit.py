"""pursuit: decoders alone. Gradient pursuit (metrics/pursuit.py) codes with a trained decoder, at most k active latents a token.

For every architecture, seed and k the decoder is chosen on the validation documents among those trained at all sparsities. Arms with
-pursuit use it; arms without use their own encoders. The L1 decoder under pursuit is the baseline of all.

The claim has two parts. (1) gated-pursuit beats relu-pursuit at more than half of the verdicts on FVU and loss recovered and loses at none;
refuted when it loses or ties at half or more. (2) The gap between encoder and pursuit, FVU of the encoder (interpolated in log L0 at
the pursuit's L0, never extrapolated) minus FVU of the pursuit, is smaller for gated than for relu: the interval of the mean
difference over seeds and k lies above 0; refuted when it lies below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core import artefact
from assay.core.config import config
from assay.core.errors import BadInput
from assay.core.outcome import Results
from assay.core.record import canonical
from assay.evaluation import Entry, checks, tables
from assay.evaluation.readings import VALIDATION
from assay.kernels import Codes
from assay.metrics.fidelity import fvu_terms
from assay.metrics.pursuit import gradient_pursuit, pursue
from assay.metrics.ratio import Mean
from assay.studies.bench import RESULTS, Bench
from assay.studies.finding import Claim, Finding, Panel, Part, Series, claim_of, curve, pooled, seeds_of, won
from assay.studies.options import WithOwn
from assay.studies.recipes import BASELINE, CONTROLS, Recipe, plans, role_of, values_of
from assay.studies.resampled import Estimate, Resampled, interpolated

QUESTION = "How good are the decoders by themselves, and how much do the encoders lose?"
CLAIM = "Under gradient pursuit Gated decoders are slightly better than L1 decoders, and Gated encoders lose less against it."
SOURCE = "Rajamanoharan et al. 2024, arXiv 2404.16014v2, App. A, figures 10-11"
METHOD = "gated"
FIDELITY = ("fvu", "loss_recovered_zero")
BLOCK = 1 << 22  # numbers of a dense code held at once
CHOICE = "decoders.json"


@config
class Options(WithOwn):
    """Options of the study."""

    archs: tuple[str, ...] = (METHOD,)
    k: tuple[int, ...] = (4, 8, 16)
    """Active latents that the pursuit may use, and those of the controls."""
    max_documents: int = 100
    """Held-out documents that are measured, half of them for choosing baselines; pursuit is slow."""


class Pursued:
    """A dictionary whose encoder is gradient pursuit through its decoder."""

    def __init__(self, dictionary: Any, k: int) -> None:
        self.below, self.k = dictionary, k
        self.W_dec, self.b_dec, self.config, self.arch = (
            dictionary.W_dec, dictionary.b_dec, dictionary.config, dictionary.arch,
        )  # fmt: skip
        self.path: Path | None = dictionary.path
        self.provenance = dictionary.provenance

    def encode_sparse(self, x: Tensor) -> Codes:
        rows = max(1, BLOCK // len(self.W_dec))
        return Codes.of(torch.cat([gradient_pursuit(part, self.W_dec, self.b_dec, self.k) for part in x.split(rows)]))

    def encode(self, x: Tensor) -> Tensor:
        return self.encode_sparse(x).dense()

    def decode(self, f: Tensor | Codes) -> Tensor:
        return self.below.decode(f)


def run(bench: Bench, options: Options) -> Finding:
    archs = list(dict.fromkeys([BASELINE, *options.archs]))
    recipes = [
        Recipe(a, "control" if role_of(a) == "control" else "method", a, values_of(a, options))
        for a in [*archs, *CONTROLS]
    ]
    own = bench.own(options.dict)
    for entry in own:
        if entry.dictionary.config.rows != "as_is":
            raise BadInput(
                f"{entry.arm} normalises every row by itself ({entry.dictionary.config.rows}), so its decoder does not write activations, "
                "which pursuit reads; leave it out of --dict."
            )
    entries = [*bench.train(plans(recipes, bench.width, options)), *own]
    decoders = [entry for entry in entries if entry.arm in archs or entry in own]
    ks = sorted(set(options.k))
    wider = sorted({max(1, ks[0] // 2), *ks, 2 * ks[-1]})  # of the baseline, so that it spans the others
    tried = validation_fvu(bench, decoders, wider)
    coded = [pursued(e, k) for k in wider for e in best(decoders, tried, k) if k in ks or e.arm == BASELINE]
    results = bench.measure([*entries, *coded])
    difference = gap_difference(results, seed=options.seed, resamples=options.resamples)
    return Finding(results, [RESULTS], claim_about(results, difference), panels(results, decoders, tried, ks))


def name_of(entry: Entry) -> str:
    return f"{entry.arm} {Path(entry.dictionary.path).name}"


@torch.no_grad()
def validation_fvu(bench: Bench, decoders: Sequence[Entry], ks: Sequence[int]) -> dict[str, dict[int, float]]:
    """{dictionary: {k: FVU on the validation documents}}; kept in decoders.json."""
    file = bench.out / CHOICE
    if file.exists():
        return {name: {int(k): v for k, v in at.items()} for name, at in artefact.read_json(file).items()}
    readings = bench.readings()
    rows = torch.cat([r.x for r in readings.batches(readings.members(VALIDATION))])
    mean = Mean()
    mean.add(rows)
    found: dict[str, dict[int, float]] = {}
    for entry in decoders:
        d = entry.dictionary
        sums = {k: np.zeros(2) for k in ks}
        for x in rows.split(max(1, BLOCK // len(d.W_dec))):
            for step, f in enumerate(pursue(x, d.W_dec, d.b_dec, ks[-1]), start=1):
                if step in sums:
                    sums[step] += [float(t.sum()) for t in fvu_terms(x, d.decode(f), mean.value)]
        found[name_of(entry)] = {k: float(num / den) for k, (num, den) in sums.items()}
    artefact.write_json(file, found)
    return found


def best(decoders: Sequence[Entry], tried: dict[str, dict[int, float]], k: int) -> list[Entry]:
    """For each architecture and seed the decoder of least FVU on validation at this k."""
    groups: dict[tuple[str, int], list[Entry]] = {}
    for entry in decoders:
        groups.setdefault((entry.arm, entry.seed), []).append(entry)
    return [min(group, key=lambda e: tried[name_of(e)][k]) for group in groups.values()]


def pursued(entry: Entry, k: int) -> Entry:
    """The entry's decoder under pursuit, with a name of its own and a cost that includes the decoder's."""
    below = tables.recorded_cost(entry, checks.subject_of(entry))
    arm = f"{entry.arm}-pursuit"
    subject = artefact.sha256_bytes(canonical([checks.subject_of(entry), "pursuit", k]).encode())[:16]
    return Entry(
        arm, "baseline" if entry.arm == BASELINE else "method", Pursued(entry.dictionary, k), subject=subject, seed=entry.seed,
        options={"k": k}, cost=replace(below, id=f"{arm}-{subject}", includes=(below.id,), upfront_seconds=0.0, upfront_flops=0.0),
    )  # fmt: skip


@dataclass(frozen=True)
class Gaps:
    """Gap of relu minus gap of gated, over seeds and k; and the two gaps as measured."""

    difference: Estimate
    relu: float
    gated: float


def gap_difference(results: Results, *, seed: int = 0, resamples: int = 10_000) -> Gaps | None:
    """None where no encoder can be read at the pursuit's L0 in both architectures."""
    fvu = Resampled(results, "fvu", seed=seed, resamples=resamples, use="gap")
    arms = [(arch, f"{arch}-pursuit") for arch in (BASELINE, METHOD)]
    by_seed: list[list[np.ndarray]] = []
    for one in fvu.seeds(*(arm for pair in arms for arm in pair)):
        gaps = [gap(fvu, *pair, one) for pair in arms]
        if gaps[0] is not None and gaps[1] is not None:
            by_seed.append([gaps[0], gaps[1]])
    if not by_seed:
        return None
    first, second = ([pair[i] for pair in by_seed] for i in range(2))
    difference = fvu.estimate([a - b for a, b in zip(first, second, strict=True)])
    return Gaps(difference, float(np.mean([g[0] for g in first])), float(np.mean([g[0] for g in second])))


def gap(fvu: Resampled, encoder: str, pursuit: str, seed: int) -> np.ndarray | None:
    """FVU of the encoder minus that of the pursuit at the pursuit's L0, mean over those that the encoder's curve covers."""
    own = fvu.curve(encoder, seed)
    found = [at - value for l0, value in fvu.curve(pursuit, seed) if (at := interpolated(own, l0)) is not None]
    return np.mean(found, axis=0) if found else None


def claim_about(results: Results, gaps: Gaps | None) -> Claim:
    arm = f"{METHOD}-pursuit"
    verdicts = [
        v for v in results.verdicts if v.arm == arm and v.baseline == f"{BASELINE}-pursuit" and v.metric in FIDELITY
    ]
    parts = [won(verdicts, f"{arm} against {BASELINE}-pursuit")]
    if gaps is None:
        parts.append(Part("the encoders cannot be read at the pursuit's L0, so no gap can be told", None))
    else:
        d = gaps.difference
        said = (
            f"the encoder loses {gaps.relu:.3f} of FVU against pursuit in relu and {gaps.gated:.3f} in gated, "
            f"{d.value:.3f} [{d.lo:.3f}, {d.hi:.3f}] less"
        )
        parts.append(Part(said, True if d.lo > 0 else False if d.hi < 0 else None))
    seeds = [seeds_of(verdicts)] if verdicts else []
    if gaps is not None:
        seeds.append(gaps.difference.n_seeds)
    return claim_of(parts, min(seeds, default=0))


def panels(
    results: Results, decoders: Sequence[Entry], tried: dict[str, dict[int, float]], ks: Sequence[int]
) -> list[Panel]:
    """Encoders and pursuit against L0; and at each k, FVU of each decoder against the L0 that it was trained at."""
    outcomes = pooled(results, "fvu")
    arms = list(dict.fromkeys(e.arm for e in decoders))
    lines = [curve(outcomes, name) for arm in arms for name in (arm,)]
    lines += [curve(outcomes, f"{arm}-pursuit", f"{arm}: pursuit") for arm in arms]
    l0 = {
        o.subject: o.point or 0.0
        for o in results.outcomes
        if o.metric == "fvu" and o.seed is not None and o.split != "validation"
    }
    by_k = [
        Panel(
            f"k-{k}", f"Pursuit at k = {k}, by the L0 at which the decoder was trained", "points",
            "L0 of the trained dictionary (log scale)", "FVU on validation", [
                Series(arm, [l0[checks.subject_of(e)] for e in decoders if e.arm == arm], [tried[name_of(e)][k] for e in decoders if e.arm == arm])
                for arm in arms
            ], "", x_log=True,
        )
        for k in ks
    ]  # fmt: skip
    return [
        Panel("fvu", "Encoder and pursuit", "lines", "L0, active latents a token (log scale)", "FVU", lines, "Lower is better.", x_log=True),
        *by_k,
    ]  # fmt: skip
