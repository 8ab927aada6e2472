"""Is the opponent real? Gated, L1 and TopK trained by dictionary_learning and by assay, same rows, order, start and recipe.

    python bench/no_straw_man.py                          writes docs/results/no-straw-man.md; about a quarter of an hour on two cores
    python bench/no_straw_man.py --steps 300 --seeds 2    a quick look, to --out elsewhere

dictionary_learning lives in `.venv-peers` (made when missing, see tests/peers/peer_environment.py); the comparison itself is tests/peers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from assay.core import artefact, provenance
from assay.training.step import DENSE_ABOVE

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from agreement import FVU, GAMMA, L0_SHARE, METRICS, Difference, apart, difference  # noqa: E402
from peer_recipe import PEERS, VARIANTS, Recipe  # noqa: E402
from side_by_side import SITE, Rows, Run, prepare, train_ours, train_theirs  # noqa: E402

DIGITS = {"l0": 2, "fvu": 4, "gamma": 4}
NAMES = {"gated": "gated", "relu": "relu (L1, unit rows)", "topk": "topk"}
Theirs = dict[tuple[str, int], Run]
Ours = dict[tuple[str, str, int], Run]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--steps", type=int, default=Recipe.n_steps)
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "no-straw-man.md")
    flags = asked.parse_args()
    torch.set_num_threads(flags.threads)
    started, seeds = time.perf_counter(), range(flags.seeds)
    with tempfile.TemporaryDirectory() as folder:
        rows = prepare(Path(folder), Recipe().shorter(flags.steps))
        theirs, about = train_theirs(rows, seeds)
        ours = train_ours(rows, theirs, seeds, tuple(VARIANTS))
        half, _ = train_theirs(rows, seeds, ("gated", "relu"), penalty=0.5, name="half")
    facts = {"peer": about["versions"], "minutes": (time.perf_counter() - started) / 60, "threads": flags.threads}
    command = "python bench/no_straw_man.py" + "".join(f" {arg}" for arg in sys.argv[1:])
    artefact.atomic_write(flags.out, page(rows, list(seeds), theirs, ours, half, command, facts).encode())


def page(rows: Rows, seeds: Sequence[int], theirs: Theirs, ours: Ours, half: Theirs, command: str, facts: dict) -> str:
    """The results page, from the readings."""
    recipe = rows.recipe
    same = {key[1:]: run for key, run in ours.items() if key[0] == "same"}
    rounded = {key[1:]: run for key, run in ours.items() if key[0] == "reference"}
    versions = provenance.versions()
    agrees = all(found.agrees for arch in PEERS for found in differences(arch, seeds, same, theirs).values())
    return "\n".join(
        [
            "# No straw man: assay beside the real dictionary_learning",
            "",
            "Our baselines are only worth beating if they are as good as those that people use. Here the trainers of the PyPI package",
            f"`dictionary-learning` {facts['peer']['dictionary-learning']} (`GatedSAETrainer`, `StandardTrainer`, `TopKTrainer`) and assay's train on the same rows, in the same order,",
            "from the same weights, by the same recipe. Both are read on the same held-out rows by assay's metrics; theirs through their own",
            "`encode` and `decode`. Written by `bench/no_straw_man.py`; `tests/peers` asserts the same on a shorter run.",
            "",
            f"**{'All' if agrees else 'Not all'} of L0, FVU and γ agree for gated, L1 and TopK**: "
            + (
                "the whole 95 % interval of each paired difference lies within its margin."
                if agrees
                else "see the table."
            ),
            "",
            f"- command: `{command}` ({facts['minutes']:.0f} minutes, {facts['threads']} thread)",
            f"- versions: python {versions['python']}, assay {versions['assay']}, torch {versions['torch']}; on their side torch {facts['peer']['torch']}",
            f"- rows: `{SITE}` of the shipped storyworld model, d = {rows.train.shape[1]}; {len(rows.train):,} training rows of {len(set(rows.documents)):,} stories, {len(rows.held_out):,} held-out rows",
            "  of other stories; divided by one number so that E x_j² = 1",
            f"- recipe: {recipe.n_steps:,} steps of {recipe.batch} rows ({recipe.n_steps * recipe.batch:,}, {recipe.n_steps * recipe.batch / len(rows.train):.1f} epochs), {recipe.d_sae} latents, Adam at {recipe.lr:g}, linear warm-up {recipe.warmup} steps,",
            f"  decay over the last {recipe.decay}, sparsity warm-up {recipe.sparsity_warmup}; λ {recipe.gated_l1:g} for gated, {recipe.relu_l1:g} for L1, k = {recipe.k}",
            f"- seeds: {', '.join(map(str, seeds))}; a seed sets their initialisation and the order of the rows",
            "",
            "## Same start, same recipe",
            "",
            "Difference: ours less theirs, paired by seed, with its 95 % t interval. Margin: what this project calls a tie (FVU"
            f" {FVU:g}, γ {GAMMA:g}), and {L0_SHARE:.0%} of L0.",
            "SD: the standard deviation between seeds on their side. Rounding: the same difference between assay's two implementations",
            "of its kernels (the mathematics is the same, the order of the sums is not): what no two programs can avoid.",
            "",
            "| | metric | theirs, by seed | ours, by seed | difference [95 %] | margin | SD | rounding |",
            "|---|---|---|---|---|---|---|---|",
            *same_rows(seeds, theirs, same, rounded),
            "",
            "The losses of the two, step by step: the largest relative difference so far.",
            "",
            "| | step 1 | 10 | 100 | 300 | all | two kernels of ours, 300 | all |",
            "|---|---|---|---|---|---|---|---|",
            *trace_rows(seeds, theirs, same, rounded),
            "",
            *reading_the_traces(recipe, seeds, same),
            "",
            "## The comparison can fail",
            "",
            "The same with half the penalty on their side only. A margin that passed this would mean nothing.",
            "",
            "| | metric | theirs at λ/2 | difference [95 %] | margin | agrees |",
            "|---|---|---|---|---|---|",
            *half_rows(seeds, half, same),
            "",
            PROSE_RECIPE,
            "## assay by its own recipe",
            "",
            "The first table shows that the code is right. It does not show that assay's *defaults* are. Here assay starts and trains as `assay train`",
            "does (rows of length 1 in both matrices, b_dec at the data's mean or median, its own Adam coefficients, resampling, no clipping),",
            "with the same rows, steps, rate and λ; and once more with `--clip 1`. Means over seeds.",
            "",
            "| | arm | L0 | FVU | γ |",
            "|---|---|---|---|---|",
            *own_rows(seeds, theirs, ours),
            "",
            PROSE_OWN,
        ]
    )


def values(runs: dict, arch: str, seeds: Sequence[int], metric: str) -> list[float]:
    return [runs[arch, seed].reading[metric] for seed in seeds]


def differences(arch: str, seeds: Sequence[int], mine: Theirs, yours: Theirs) -> dict[str, Difference]:
    return {m: difference(m, values(mine, arch, seeds, m), values(yours, arch, seeds, m)) for m in METRICS}


def listed(numbers: Sequence[float], metric: str) -> str:
    return " ".join(f"{number:.{DIGITS[metric]}f}" for number in numbers)


def interval(found: Difference) -> str:
    return f"{small(found.mean)} [{small(found.lo)}, {small(found.hi)}]"


def small(number: float) -> str:
    """Two significant digits, with a real minus sign."""
    return (
        f"{number:.2g}".replace("-", "−") if abs(number) >= 1e-3 or number == 0 else f"{number:.1e}".replace("-", "−")
    )


def same_rows(seeds: Sequence[int], theirs: Theirs, same: Theirs, rounded: Theirs) -> list[str]:
    lines = []
    for arch in PEERS:
        noise = differences(arch, seeds, rounded, same)
        for metric, found in differences(arch, seeds, same, theirs).items():
            yours, mine = (listed(values(runs, arch, seeds, metric), metric) for runs in (theirs, same))
            cells = [
                NAMES[arch],
                metric,
                yours,
                mine,
                interval(found),
                small(found.margin),
                small(found.seeds_sd),
                interval(noise[metric]),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def trace_rows(seeds: Sequence[int], theirs: Theirs, same: Theirs, rounded: Theirs) -> list[str]:
    lines = []
    for arch in PEERS:
        cells = [NAMES[arch]]
        for one, other, n_steps in [(same, theirs, n) for n in (1, 10, 100, 300, None)] + [
            (rounded, same, n) for n in (300, None)
        ]:
            cells.append(f"{max(apart(one[arch, s].loss, other[arch, s].loss, n_steps) for s in seeds):.0e}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def reading_the_traces(recipe: Recipe, seeds: Sequence[int], same: Theirs) -> list[str]:
    shares = []
    for arch in PEERS:
        few = [
            float((l0 <= DENSE_ABOVE * recipe.d_sae).double().mean())
            for s in seeds
            if (l0 := same[arch, s].l0) is not None
        ]
        shares.append(f"{statistics.mean(few):.0%} ({arch})")
    return [
        f"Both of our steps are in it: dense while many latents are on, sparse below {DENSE_ABOVE:.0%} of them, which is {', '.join(shares)} of the run. TopK's",
        "losses part when rounding changes which latent is a row's k-th, and because its AuxK term is there or not as a single latent",
        "counts as dead; the dictionaries do not. ",
    ]


def half_rows(seeds: Sequence[int], half: Theirs, same: Theirs) -> list[str]:
    lines = []
    for arch in ("gated", "relu"):
        for metric, found in differences(arch, seeds, same, half).items():
            cells = [
                NAMES[arch],
                metric,
                listed(values(half, arch, seeds, metric), metric),
                interval(found),
                small(found.margin),
            ]
            lines.append("| " + " | ".join([*cells, "yes" if found.agrees else "**no**"]) + " |")
    return lines


def own_rows(seeds: Sequence[int], theirs: Theirs, ours: Ours) -> list[str]:
    lines = []
    for arch in PEERS:
        arms = {"dictionary_learning": theirs}
        arms |= {f"assay: {VARIANTS[v]}": {k[1:]: r for k, r in ours.items() if k[0] == v} for v in ("own", "clipped")}
        for name, runs in arms.items():
            means = [f"{statistics.mean(values(runs, arch, seeds, m)):.{DIGITS[m]}f}" for m in METRICS]
            lines.append("| " + " | ".join([NAMES[arch], name, *means]) + " |")
    return lines


PROSE_RECIPE = ""
PROSE_OWN = ""


if __name__ == "__main__":
    main()
