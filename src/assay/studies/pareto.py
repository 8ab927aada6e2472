"""pareto: sparsity against fidelity for every architecture, against L1 baselines of equal and of 1.5 times the width.

A Gated SAE costs about 1.5 times a ReLU SAE's step, so its paper gives the baseline 1.5 times as many latents (section 4.1). Both widths
stand here as baselines; a verdict is against the stronger one, chosen on validation, at the arm's own L0.

The claim is reproduced when gated beats that baseline, on FVU and loss recovered together, at more than half of the points that can be
compared, and loses at none; it is not reproduced when it loses or ties at half of them or more and
its runs had settled (FVU of training batches moved by .02 at most over their last fifth).
"""

from __future__ import annotations

from dataclasses import replace

from assay.core.config import config, require
from assay.core.outcome import Results
from assay.studies.bench import RESULTS, Bench, still_moving
from assay.studies.finding import Claim, Finding, claim_of, seeds_of, won
from assay.studies.options import WithOwn
from assay.studies.recipes import BASELINE, CONTROLS, autoencoders, chosen, plans, standard

QUESTION = "Which architecture keeps most of the activations, and of the model's loss, at how many active latents?"
CLAIM = (
    "At equal sparsity Gated SAEs reconstruct better than L1 baselines, even when those have 1.5 times as many latents."
)
SOURCE = "Rajamanoharan et al. 2024, arXiv 2404.16014v2, section 4.1, figures 1, 3 and 13, tables 1-8"
METHOD = "gated"
SETTLED = 0.02  # as far as FVU of a run may move over its last fifth, where the learning rate falls
FIDELITY = ("fvu", "loss_recovered_zero")


@config
class Options(WithOwn):
    """Options of the study."""

    wider: float = 1.5
    """Width of the wide baseline, as a multiple of the others'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.wider > 1, "wider", self.wider, "above 1")


def run(bench: Bench, options: Options) -> Finding:
    archs = chosen(options, autoencoders(slow=False))
    arms = standard(options, archs)
    wide = replace(
        next(r for r in arms if r.arch == BASELINE), arm=f"{BASELINE}-{options.wider:g}x", width=options.wider
    )
    made = plans([*arms, wide], bench.width, options)
    own = bench.own(options.dict)
    entries = [*bench.train(made), *own]
    results = bench.measure(entries)
    moving = still_moving(entries, METHOD, "fvu", SETTLED)
    return Finding(results, [RESULTS], claim_about(results, METHOD, moving))


def claim_about(results: Results, arm: str, moving: str = "") -> Claim:
    """The claim about one arm, from its verdicts."""
    verdicts = [v for v in results.verdicts if v.arm == arm and v.metric in FIDELITY and v.baseline not in CONTROLS]
    parts = [won(verdicts, f"{arm} against the stronger L1 baseline on FVU and loss recovered")]
    return claim_of(parts, seeds_of(verdicts), moving)
