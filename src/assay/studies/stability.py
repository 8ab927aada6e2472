"""stability: do two seeds, or two widths, of one architecture find the same directions?

agreement  of a seed: its living latents matched one to one (Hungarian, |cosine|) with those of every other seed; the mean over the pairs of
           latents, then over the other seeds. The unit is a seed, and a verdict needs five. Units share pairs of seeds, so the
           intervals are somewhat too narrow.
kept       of a seed: share of its living latents whose nearest direction in a wider dictionary of another seed has |cosine| above .9; the
           mean over the other seeds (the same seed would start from the same rows).

Living is what fires on the test documents at all. The frozen random decoder shows the agreement of chance.

The claim is reproduced when archetypal beats the stronger of topk and relu on agreement at more than half of its verdicts and loses at
none; it is not reproduced when it loses or ties at half of them or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from assay.core.config import config, require
from assay.core.outcome import Metric, Results
from assay.evaluation import Entry, Evaluation
from assay.metrics.recovery import RECOVERED_ABOVE, match
from assay.studies.bench import RESULTS, Bench
from assay.studies.by_seed import add_by_seed, frequencies
from assay.studies.finding import Claim, Finding, Panel, claim_of, curve, pooled, seeds_of, won
from assay.studies.options import Sparsities
from assay.studies.recipes import BASELINE, Recipe, autoencoders, chosen, plans, values_of

QUESTION = "Do two seeds, or two widths, of one architecture find the same directions?"
CLAIM = "Dictionaries whose directions stay near mixtures of data points agree better between seeds than free ones."
SOURCE = "Fel et al. 2025, Archetypal SAE, arXiv 2502.12892 (read in its code)"
METHOD, BASELINES, CHANCE = "archetypal", ("topk", BASELINE), "random"
AGREEMENT, KEPT = "agreement", "kept"
METRICS = (Metric(name=AGREEMENT, better="higher"), Metric(name=KEPT, better="higher"))


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

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.seeds > 1, "seeds", self.seeds, "2 or more: agreement is between seeds")
        require(self.wider > 1, "wider", self.wider, "above 1")


def run(bench: Bench, options: Options) -> Finding:
    archs = list(dict.fromkeys([*BASELINES, *chosen(options, [*autoencoders(slow=False), METHOD])]))
    recipes = [Recipe(a, "baseline" if a in BASELINES else "method", a, values_of(a, options)) for a in archs]
    recipes.append(Recipe(CHANCE, "control", CHANCE, values_of(CHANCE, options)))
    entries = bench.train(plans(recipes, bench.width, options))
    wide = bench.train(
        plans([replace(r, width=options.wider) for r in recipes], bench.width, options), where="dictionaries-wide"
    )
    results = bench.measure(entries, language=False, more=lambda found: add(found, options, entries, wide))
    return Finding(results, [RESULTS], claim_about(results), panels(results, archs))


def add(found: Evaluation, options: Options, entries: Sequence[Entry], wide: Sequence[Entry]) -> None:
    """Both metrics of every dictionary against those of the other seeds of its configuration."""
    living = [entry.dictionary.W_dec[frequencies(found, entry) > 0] for entry in entries]
    broad = [entry.dictionary.W_dec for entry in wide]
    values: dict[Metric, list[float]] = {metric: [] for metric in METRICS}
    for entry, own in zip(entries, living, strict=True):
        others = [i for i, e in enumerate(entries) if e.seed != entry.seed and same_but_seed(e, entry)]
        values[METRICS[0]].append(float(np.mean([agreement(own, living[i]) for i in others])))
        values[METRICS[1]].append(float(np.mean([kept(own, broad[i]) for i in others])))
    add_by_seed(found, entries, values, options)


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
