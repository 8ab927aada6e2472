"""stability: do two seeds, or two widths, of one architecture find the same directions, and do known features stay whole?

agreement  of a seed: its living latents matched one to one (Hungarian, |cosine|) with those of every other seed; the mean over the pairs of
           latents, then over the other seeds. The unit is a seed, and a verdict needs five. Units share pairs of seeds, so the
           intervals are somewhat too narrow.
kept       of a seed: share of its living latents whose nearest direction in a wider dictionary of another seed has |cosine| above .9; the
           mean over the other seeds (the same seed would start from the same rows).
split      latents that a known feature is split into, mean over features; split-wide: in the wider dictionary of the same seed.
absorbed   share of a known feature's tokens at which its latents are silent and another latent took over, confirmed by intervening;
           absorbed-wide: the same in the wider dictionary. `known_probes` says how both are measured.
one-latent F1 of a known feature read from its best single latent, mean over features; one-latent-wide. A logistic probe on the
           activations is the baseline of this.

Living is what fires on the test documents at all. The frozen random decoder shows what chance gives.

The claim is reproduced when archetypal beats the stronger of topk and relu on agreement at more than half of its verdicts and loses at
none; it is not reproduced when it loses or ties at half of them or more. Two published claims on absorption stand in a table, with the
same words: matryoshka against the stronger baseline on absorbed, by the same rule; and wide against narrow, by the intervals of the differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from assay.core import artefact
from assay.core.config import config, require
from assay.core.outcome import Better, Metric, Results
from assay.evaluation import Entry, Evaluation
from assay.metrics.recovery import RECOVERED_ABOVE, match
from assay.studies import known_probes
from assay.studies.bench import RESULTS, Bench
from assay.studies.by_seed import add_by_seed, frequencies
from assay.studies.finding import Claim, Finding, Panel, claim_of, curve, pooled, seeds_of, won
from assay.studies.known_panels import known_panels, known_tables
from assay.studies.options import SHIPPED, Sparsities
from assay.studies.recipes import BASELINE, Recipe, autoencoders, chosen, plans, values_of

QUESTION = (
    "Do two seeds, or two widths, of one architecture find the same directions, and do known features stay whole?"
)
CLAIM = "Dictionaries whose directions stay near mixtures of data points agree better between seeds than free ones."
SOURCE = "Fel et al. 2025, Archetypal SAE, arXiv 2502.12892 (read in its code)"
METHOD, BASELINES, CHANCE = "archetypal", ("topk", BASELINE), "random"
AGREEMENT, KEPT = "agreement", "kept"
METRICS = (Metric(name=AGREEMENT, better="higher"), Metric(name=KEPT, better="higher"))
OF_KNOWN: dict[str, tuple[str, Better]] = {
    "split": ("split", "lower"),
    "absorbed": ("absorbed", "lower"),
    "one-latent": ("f1", "higher"),
}
KNOWN = "known.json"
WIDE = "dictionaries-wide"


@config
class Options(Sparsities):
    """Options of the study."""

    archs: tuple[str, ...] = ("archetypal", "gated", "matryoshka")
    seeds: int = 5
    """Seeds of each dictionary; five or more give verdicts."""
    n_tokens: int = 100_000
    """Rows that each dictionary is trained on."""
    wider: float = 2.0
    """Width of the wide dictionaries, as a multiple of the others'."""
    k: tuple[int, ...] = (4, 8, 16)
    l1_coef: tuple[float, ...] = (1.0, 2.0, 4.0)
    known: Literal["auto", "story", "text"] = "auto"
    """Known features: story (the variables of storyworld) or text (letters, capitals, ...); auto: story where the text is storyworld."""
    known_tokens: int = 20_000
    """Held-out tokens on which known features are looked for."""
    split_margin: float = 0.03
    """F1 by which one latent more must improve a known feature for the feature to count as split."""
    most_split: int = 10
    """Latents at most that a known feature is split into."""
    ablated: int = 64
    """Absorbed tokens of each dictionary that are tested by intervening."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seeds > 1, "seeds", self.seeds, "2 or more: agreement is between seeds")
        require(self.wider > 1, "wider", self.wider, "above 1")
        require(0 < self.split_margin < 1, "split_margin", self.split_margin, "between 0 and 1")
        for name in ("known_tokens", "most_split", "ablated"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")

    @property
    def known_kind(self) -> Literal["story", "text"]:
        text = self.heldout or self.chosen_text
        return ("story" if text.partition(":")[0] == SHIPPED else "text") if self.known == "auto" else self.known


def run(bench: Bench, options: Options) -> Finding:
    archs = list(dict.fromkeys([*BASELINES, *chosen(options, [*autoencoders(slow=False), METHOD])]))
    recipes = [Recipe(a, "baseline" if a in BASELINES else "method", a, values_of(a, options)) for a in archs]
    recipes.append(Recipe(CHANCE, "control", CHANCE, values_of(CHANCE, options)))
    entries = bench.train(plans(recipes, bench.width, options))
    wide = bench.train(plans([replace(r, width=options.wider) for r in recipes], bench.width, options), where=WIDE)
    known = known_of(bench, options, entries, wide)
    results = bench.measure(entries, language=False, more=lambda found: add(found, options, entries, wide, known))
    drawn = [*panels(results, archs), *known_panels(results, known, archs, CHANCE)]
    tables = known_tables(results, known, wide_differences(known, entries, wide), CHANCE)
    return Finding(results, [RESULTS], claim_about(results), drawn, tables)


def add(
    found: Evaluation, options: Options, entries: Sequence[Entry], wide: Sequence[Entry], known: known_probes.Known
) -> None:
    """All metrics of every dictionary: against those of the other seeds of its configuration, and of known features."""
    living = [entry.dictionary.W_dec[frequencies(found, entry) > 0] for entry in entries]
    broad = [entry.dictionary.W_dec for entry in wide]
    values: dict[Metric, list[float]] = {metric: [] for metric in METRICS}
    for entry, own in zip(entries, living, strict=True):
        others = [i for i, e in enumerate(entries) if e.seed != entry.seed and same_but_seed(e, entry)]
        values[METRICS[0]].append(float(np.mean([agreement(own, living[i]) for i in others])))
        values[METRICS[1]].append(float(np.mean([kept(own, broad[i]) for i in others])))
    if known.features:
        for name, (field, better) in OF_KNOWN.items():
            for suffix, group in (("", entries), ("-wide", wide)):
                metric = Metric(name=name + suffix, better=better)
                values[metric] = [float(known.dictionaries[name_of(e)][field]) for e in group]
    add_by_seed(found, entries, values, options)


def known_of(bench: Bench, options: Options, entries: Sequence[Entry], wide: Sequence[Entry]) -> known_probes.Known:
    """Measured, or read back from known.json."""
    file = bench.out / KNOWN
    if not file.exists():
        probes = known_probes.Probes(
            bench.readings(), options.known_kind, known_tokens=options.known_tokens, ablated=options.ablated,
            margin=options.split_margin, most=options.most_split, seed=options.seed,
        )  # fmt: skip
        known = known_probes.measure_known(probes, {name_of(e): e for e in (*entries, *wide)}, bench.quiet)
        artefact.write_json(file, asdict(known))
    raw: dict[str, Any] = artefact.read_json(file)
    value, lo, hi = raw.pop("probe_f1")
    return known_probes.Known(probe_f1=(value, lo, hi), **raw)


def name_of(entry: Entry) -> str:
    """The folders of a dictionary inside the study's."""
    path = Path(entry.dictionary.path)
    return f"{path.parent.name}/{path.name}"


def wide_differences(
    known: known_probes.Known, entries: Sequence[Entry], wide: Sequence[Entry]
) -> dict[str, list[list[float]]]:
    """arm -> for each sparsity the absorbed share of the wide dictionary less that of the narrow one, seed by seed."""
    groups: dict[tuple[str, str], list[float]] = {}
    for narrow, broad in zip(entries, wide, strict=True) if known.features else ():
        mine = groups.setdefault((narrow.arm, str(narrow.dictionary.config)), [])
        mine.append(known.dictionaries[name_of(broad)]["absorbed"] - known.dictionaries[name_of(narrow)]["absorbed"])
    found: dict[str, list[list[float]]] = {}
    for (arm, _), differences in groups.items():
        found.setdefault(arm, []).append(differences)
    return found


def same_but_seed(a: Entry, b: Entry) -> bool:
    return a.arm == b.arm and a.dictionary.config == b.dictionary.config


def agreement(a: Tensor, b: Tensor) -> float:
    """Mean |cosine| of the rows of a and b matched one to one; 0 where one of them has none."""
    return match(a, b).mcc if len(a) and len(b) else 0.0


def kept(narrow: Tensor, wide: Tensor) -> float:
    """Share of the rows of `narrow` that have a row of `wide` with |cosine| above .9."""
    first, second = (w / w.norm(dim=1, keepdim=True).clamp_min(1e-12) for w in (narrow, wide))
    nearest = (first @ second.t()).abs().amax(1)
    return float((nearest > RECOVERED_ABOVE).float().mean()) if len(narrow) else 0.0


def claim_about(results: Results) -> Claim:
    verdicts = [v for v in results.verdicts if v.arm == METHOD and v.metric == AGREEMENT]
    return claim_of(
        [won(verdicts, f"{METHOD} against the stronger of {' and '.join(BASELINES)} on agreement")], seeds_of(verdicts)
    )


def panels(results: Results, archs: Sequence[str]) -> list[Panel]:
    found: list[Panel] = []
    for metric, title, said in (
        (AGREEMENT, "Agreement between seeds", f"Mean |cosine| of matched latents. {CHANCE} is chance."),
        (
            KEPT,
            "Kept in a wider dictionary",
            "Share of living latents with a near twin in a wider dictionary of another seed.",
        ),
    ):
        lines = [curve(pooled(results, metric), arm) for arm in [*archs, CHANCE]]
        found.append(
            Panel(metric, title, "lines", "L0, active latents a token (log scale)", metric, lines, said, x_log=True)
        )
    return found
