"""ablations: which parts of a Gated SAE matter, and how much of its gain is explained by fixing shrinkage alone.

Variants of gated (options of its file), each at every sparsity, stand against the full architecture, which is the baseline here: the
auxiliary decoder live, no r_mag, untied encoders, and b_mag tied, which removes the jump. relu is the L1 baseline of equal width;
relu-rescaled is the same dictionary, frozen, with only r_mag and b_mag learned on top (rescale & shift).

The share of the gain that rescale & shift explains, at the L0 of each relu dictionary and never extrapolated:

    share = (FVU relu − FVU rescaled) / (FVU relu − FVU gated, interpolated in log L0)          mean over seeds and sparsities

The claim has three parts. A variant is worse when it loses to gated at more than half of its verdicts on FVU and loss recovered and beats
it at none; that is refuted when it beats or ties at half or more. (1) live is worse. (2) untied gains nothing: it beats gated at none
of them; refuted when it beats it at more than half. (3) The interval of the share lies below --small; refuted when it lies above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from assay.core import artefact
from assay.core.config import config, require
from assay.core.outcome import Results, Verdict
from assay.dictionaries import conversions, load, save
from assay.dictionaries.relu import Relu
from assay.evaluation import Entry, checks, tables
from assay.studies.bench import RESULTS, Bench, still_moving
from assay.studies.finding import Claim, Finding, Panel, Part, Series, Table, claim_of, curve, pooled, seeds_of
from assay.studies.options import Sparsities
from assay.studies.recipes import BASELINE, CONTROLS, Made, Recipe, plans, train_config, values_of
from assay.studies.resampled import Estimate, Resampled, interpolated
from assay.training import Plan

QUESTION = "Which parts of a Gated SAE matter, and how much of its gain does fixing shrinkage alone explain?"
CLAIM = (
    "Letting the auxiliary task train the decoder makes Gated SAEs clearly worse; untying the encoders gains nothing; rescaling and "
    "shifting a frozen L1 baseline recovers only a small part of the gain."
)
SOURCE = "Rajamanoharan et al. 2024, arXiv 2404.16014v2, sections 5.1-5.2, figures 8-9"
FULL = "gated"
VARIANTS = {
    "gated-live": {"aux_decoder": "live"},
    "gated-no-r_mag": {"r_mag": "off"},
    "gated-untied": {"tie_encoder": False},
    "gated-tied-b_mag": {"b_mag": "tied"},
}
RESCALED = f"{BASELINE}-rescaled"
FIDELITY = ("fvu", "loss_recovered_zero")
SETTLED = 0.02  # as far as FVU of a run may move over its last fifth


@config
class Options(Sparsities):
    """Options of the study; --archs does not apply."""

    small: float = 0.5
    """Share of the gain below which rescale & shift explains only a small part."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.small < 1, "small", self.small, "between 0 and 1")


def run(bench: Bench, options: Options) -> Finding:
    gated = values_of(FULL, options)
    recipes = [
        Recipe(FULL, "baseline", FULL, gated),
        *(Recipe(arm, "method", FULL, gated | variant) for arm, variant in VARIANTS.items()),
        Recipe(BASELINE, "method", BASELINE, values_of(BASELINE, options)),
        *(Recipe(arch, "control", arch, values_of(arch, options)) for arch in CONTROLS),
    ]
    entries = bench.train(plans(recipes, bench.width, options))
    entries += rescaled(bench, options, [e for e in entries if e.arm == BASELINE])
    results = bench.measure(entries)
    share = share_of_gain(results, seed=options.seed, resamples=options.resamples)
    moving = still_moving(entries, FULL, "fvu", SETTLED)
    return Finding(
        results, [RESULTS], claim_about(results, share, options.small, moving), panels(results, share), [table(results)]
    )


def rescaled(bench: Bench, options: Options, entries: Sequence[Entry]) -> list[Entry]:
    """Each relu dictionary as a Gated one of which only r_mag and b_mag learn; its cost includes the dictionary below it."""
    made: list[Made] = []
    for entry in entries:
        name = Path(entry.dictionary.path).name
        start = bench.out / "starts" / name
        if not (start / artefact.CHECKSUMS).exists():
            relu = load(entry.dictionary.path)
            assert isinstance(relu, Relu)
            golden = bench.stream().sample(256, "golden")[bench.opened.site].float()
            documents = artefact.read_json(Path(entry.dictionary.path) / "documents.json")
            with artefact.storage(start):
                start.mkdir(parents=True, exist_ok=True)
            gated = conversions.relu_to_gated(relu)
            save(gated, start, golden=golden, provenance=gated.provenance, convention="none", documents=documents)
        plan = Plan(name, load(start).config, train_config(options, entry.seed), init_from=start)
        made.append(Made(plan, RESCALED, "method", entry.seed))
    trained = bench.train(made, where="dictionaries-rescaled")
    below = [tables.recorded_cost(entry, checks.subject_of(entry)).id for entry in entries]
    return [
        replace(entry, cost=replace(tables.recorded_cost(entry, checks.subject_of(entry)), includes=(cost,)))
        for entry, cost in zip(trained, below, strict=True)
    ]


@dataclass(frozen=True)
class Share:
    """The share of the gain that rescale & shift explains: at each place where it could be told, and over all."""

    at: dict[float, float]  # L0 -> mean over seeds
    mean: Estimate


def share_of_gain(results: Results, *, seed: int = 0, resamples: int = 10_000) -> Share | None:
    """Mean over seeds and sparsities; None where no relu dictionary lies between two of gated."""
    fvu = Resampled(results, "fvu", seed=seed, resamples=resamples, use="share of gain")
    places: dict[float, list[float]] = {}
    by_seed: list[np.ndarray] = []
    for one in fvu.seeds(BASELINE, RESCALED, FULL):
        gated = fvu.curve(FULL, one)
        shares: list[np.ndarray] = []
        pairs = zip(fvu.curve(BASELINE, one), fvu.curve(RESCALED, one), strict=True)  # they keep the same order of L0
        for (l0, relu), (_, shifted) in pairs:
            full = interpolated(gated, l0)
            if full is not None:
                shares.append((relu - shifted) / (relu - full))
                places.setdefault(round(l0, 6), []).append(float(shares[-1][0]))
        if shares:
            by_seed.append(np.mean(shares, axis=0))
    if not by_seed:
        return None
    return Share({l0: float(np.mean(v)) for l0, v in sorted(places.items())}, fvu.estimate(by_seed))


def claim_about(results: Results, share: Share | None, small: float, moving: str = "") -> Claim:
    """The three parts of the claim."""
    verdicts = {arm: _about(results, arm) for arm in VARIANTS}
    gained = [v.word == "beats" for v in verdicts["gated-untied"]]
    said = f"gated-untied beats gated at {sum(gained)} of {len(gained)}"
    parts = [
        worse(verdicts["gated-live"], "gated-live against gated"),
        Part(
            said, None if not gained else True if not any(gained) else False if 2 * sum(gained) > len(gained) else None
        ),
    ]
    if share is None:
        parts.append(Part("no relu dictionary lies between two of gated, so no share of the gain can be told", None))
    else:
        mean = share.mean
        holds = True if mean.hi < small else False if mean.lo > small else None
        parts.append(Part(f"rescale & shift explains {mean} of the gain on FVU", holds))
    seeds = min(
        seeds_of([v for each in verdicts.values() for v in each]), share.mean.n_seeds if share is not None else 0
    )
    return claim_of(parts, seeds, moving)


def worse(verdicts: Sequence[Verdict], what: str) -> Part:
    """Loses at more than half and beats at none; refuted where it beats or ties at half or more."""
    count = {word: sum(v.word == word for v in verdicts) for word in ("beats", "ties", "loses", "no signal")}
    said = f"{what}: " + (", ".join(f"{word} {n}" for word, n in count.items() if n) or "no verdict")
    if verdicts and not count["beats"] and 2 * count["loses"] > len(verdicts):
        return Part(said, True)
    return Part(said, False if verdicts and 2 * (count["beats"] + count["ties"]) >= len(verdicts) else None)


def _about(results: Results, arm: str) -> list[Verdict]:
    return [v for v in results.verdicts if v.arm == arm and v.baseline == FULL and v.metric in FIDELITY]


def panels(results: Results, share: Share | None) -> list[Panel]:
    outcomes = pooled(results, "fvu")
    arms = [FULL, *VARIANTS, BASELINE, RESCALED]
    found = [
        Panel(
            "variants", "FVU against L0", "lines", "L0, active latents a token (log scale)", "FVU",
            [curve(outcomes, arm) for arm in arms], "Lower is better.", x_log=True,
        )
    ]  # fmt: skip
    if share is not None:
        labels = [f"L0 {l0:.3g}" for l0 in share.at] + ["all"]
        values = [*share.at.values(), share.mean.value]
        bars = Series(RESCALED, [], values, [*values[:-1], share.mean.lo], [*values[:-1], share.mean.hi], labels)
        found.append(
            Panel(
                "share", "Share of gated's gain that rescale & shift explains", "bars", "share of the gain on FVU", "",
                [bars], "1 would mean that shrinkage is all there is. The interval is of the mean.", line=1.0,
            )
        )  # fmt: skip
    return found


def table(results: Results) -> Table:
    """Words of the verdicts of every arm against full gated."""
    rows: list[list[str]] = []
    for arm in [*VARIANTS, BASELINE, RESCALED]:
        for metric in FIDELITY:
            words = [v.word for v in _about(results, arm) if v.metric == metric]
            gains = [v.gain for v in _about(results, arm) if v.metric == metric]
            if words:
                counted = ", ".join(f"{word} {words.count(word)}" for word in dict.fromkeys(words))
                rows.append([arm, metric, counted, f"{min(gains):+.4f} to {max(gains):+.4f}"])
    return Table("Against full gated at equal L0", ["arm", "metric", "verdicts", "gain"], rows)
