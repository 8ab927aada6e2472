"""frequency: latents that fire on more than a tenth of all tokens, by architecture, with and without the penalty against them.

dense    share of a dictionary's latents that fire on more than --above of the test documents' tokens; the unit is a seed, a verdict needs
         five. Fewer is better.

jumprelu is the baseline. jumprelu-frequency is the same with the penalty Σ ω (1 + ω / --omega0) on firing frequencies ω, which grows with the
square for frequent latents.

The claim has two parts. (1) jumprelu-frequency beats jumprelu on dense at more than half of its verdicts and loses at none; refuted when it
loses or ties at half or more. Verdicts where jumprelu has no dense latent do not count. (2) Its FVU at equal L0 is at most --worse above jumprelu's: at every sparsity that can be compared the
interval of the gain lies above −worse; refuted where one lies below.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.config import config, require
from assay.core.outcome import Metric, Results
from assay.evaluation import Entry, Evaluation
from assay.studies.bench import RESULTS, Bench, still_moving
from assay.studies.by_seed import add_by_seed, frequencies
from assay.studies.finding import Claim, Finding, Panel, Part, claim_of, curve, pooled, seeds_of, won
from assay.studies.options import WithOwn
from assay.studies.recipes import BASELINE as L1
from assay.studies.recipes import CONTROLS, Recipe, autoencoders, chosen, plans, role_of, values_of

QUESTION = "Which architectures make latents that fire all the time, and does a penalty on frequency remove them?"
CLAIM = "A penalty that grows with the square of the firing frequency removes frequent latents at little cost in reconstruction."
SOURCE = "Google DeepMind, Negative results for SAEs on downstream tasks, 2025; the form of the penalty as the JumpReLU file gives it"
BASELINE, METHOD, DENSE = "jumprelu", "jumprelu-frequency", "dense"
SETTLED = 0.02  # as far as FVU of a run may move over its last fifth


@config
class Options(WithOwn):
    """Options of the study."""

    archs: tuple[str, ...] = ("gated", "topk", "batchtopk", "matryoshka")
    seeds: int = 5
    """Seeds of each dictionary; five or more give verdicts on dense latents."""
    above: float = 0.1
    """Firing frequency from which a latent counts as dense."""
    omega0: float = 0.1
    """Frequency above which the penalty grows with the square."""
    worse: float = 0.02
    """FVU that the penalty may cost."""
    k: tuple[int, ...] = (4, 8, 16)
    l1_coef: tuple[float, ...] = (1.0, 2.0, 4.0)
    lp_coef: tuple[float, ...] = (1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("above", "omega0"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "between 0 and 1")
        require(self.worse > 0, "worse", self.worse, "above 0")


def run(bench: Bench, options: Options) -> Finding:
    archs = list(dict.fromkeys([BASELINE, L1, *chosen(options, autoencoders(slow=False))]))
    values = values_of(BASELINE, options)
    wider = values | {
        "l0_coef": sorted({min(options.l0_coef) / 2, *options.l0_coef, *(m * max(options.l0_coef) for m in (2, 4))})
    }
    recipes = [
        Recipe(
            BASELINE, "baseline", BASELINE, wider
        ),  # so that it spans the others, which are sparser at equal penalty
        *(Recipe(a, "method", a, values_of(a, options)) for a in archs if a != BASELINE),
        Recipe(METHOD, "method", BASELINE, values | {"penalty": "frequency", "omega0": options.omega0}),
        *(Recipe(a, role_of(a), a, values_of(a, options)) for a in CONTROLS),
    ]
    own = bench.own(options.dict)
    entries = [*bench.train(plans(recipes, bench.width, options)), *own]
    results = bench.measure(entries, more=lambda found: add(found, options, entries))
    moving = still_moving(entries, METHOD, "fvu", SETTLED)
    return Finding(
        results,
        [RESULTS],
        claim_about(results, options.worse, moving),
        panels(results, [*archs, METHOD, *(e.arm for e in own)], options),
    )


def add(found: Evaluation, options: Options, entries: Sequence[Entry]) -> None:
    seeded = [entry for entry in entries if entry.role != "control"]
    shares = [float((frequencies(found, entry) > options.above).double().mean()) for entry in seeded]
    add_by_seed(found, seeded, {Metric(name=DENSE, better="lower"): shares}, options)


def claim_about(results: Results, worse: float, moving: str = "") -> Claim:
    mine = [v for v in results.verdicts if v.arm == METHOD and v.baseline == BASELINE]
    dense, fvu = ([v for v in mine if v.metric == metric] for metric in (DENSE, "fvu"))
    dense = [v for v in dense if v.baseline_value > 0]  # where there is none, none can be removed
    parts = [
        won(dense, f"{METHOD} against {BASELINE} on dense latents, where there are any"),
        cheap([(v.lo, v.hi) for v in fvu], worse),
    ]
    return claim_of(parts, seeds_of(mine), moving)


def cheap(gains: Sequence[tuple[float, float]], worse: float) -> Part:
    """Whether intervals of the gain on FVU lie above −worse."""
    if not gains:
        return Part("FVU could not be compared at equal L0", None)
    said = f"FVU changes by {-max(hi for _, hi in gains):+.4f} to {-min(lo for lo, _ in gains):+.4f} (ends of the intervals)"
    refuted = any(hi < -worse for _, hi in gains)
    return Part(said, False if refuted else True if all(lo > -worse for lo, _ in gains) else None)


def panels(results: Results, arms: Sequence[str], options: Options) -> list[Panel]:
    def against_l0(metric: str, title: str, y: str, said: str) -> Panel:
        lines = [curve(pooled(results, metric), arm) for arm in arms]
        return Panel(metric, title, "lines", "L0, active latents a token (log scale)", y, lines, said, x_log=True)

    return [
        against_l0(
            DENSE,
            "Dense latents",
            "share of latents",
            f"Share that fires on more than {100 * options.above:g} % of tokens.",
        ),
        against_l0("fvu", "What it costs", "FVU", "Lower is better."),
    ]
