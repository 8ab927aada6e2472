"""assay demo: the main job on what ships with the package."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from assay.cli.parsing import Common, parse, result_folder

ABOUT = """The main job, offline, on the language model and the stories that ship with the package: harvest one site, train Gated,
ReLU + L1 and TopK dictionaries at several sparsities beside the controls, evaluate them on stories that no dictionary saw, and write
report.html. A few minutes on two cores.
"""

SITE = "resid_post.1"
D_SAE = 384
TRIES = ("gated init-l0=16 l1-coef=1.5,2.5,4,7", "relu init-l0=16 l1-coef=0.5,1,2,4,8", "topk k=4,8,16,32")
N_TOKENS = 500_000
N_DOCUMENTS = 240  # held-out stories that are measured, half of them for choosing baselines
BATCH_SIZE = 512  # many short steps: at this size they converge sooner than few long ones
LR = 3e-3


@dataclasses.dataclass(kw_only=True)
class Flags(Common):
    n_tokens: int = N_TOKENS
    """Rows that each dictionary is trained on."""
    seeds: int = 1
    """Seeds of each dictionary; with three or more the verdicts speak of architectures."""
    d_sae: int = D_SAE
    """Latents of each dictionary."""


def main(argv: list[str]) -> int:
    flags = parse("demo", ABOUT, argv, Flags)
    started = time.perf_counter()
    from assay import activations, models, report, training
    from assay.cli.measuring import measure
    from assay.cli.opening import blocks_of, entries, set_threads
    from assay.cli.sweep import control_grid, make_plans, parse_try
    from assay.core import artefact
    from assay.training import TrainConfig

    set_threads(flags.threads)
    out = result_folder(flags.out, "demo")
    artefact.refuse_existing(out)
    model = models.load("storyworld", device=flags.device)
    note(flags.quiet, f"1/4  reading stories and harvesting {SITE} of storyworld")
    blocks = blocks_of(model, "storyworld", "text", None, flags.quiet, ("train",))
    facts = {"model": model.name, "model_path": "storyworld", "model_hash": model.weights_hash(), "text": "storyworld"}
    store = activations.harvest(model, [SITE], blocks, out / "activations", quiet=flags.quiet, facts=facts)

    options = TrainConfig(
        n_tokens=flags.n_tokens,
        batch_size=BATCH_SIZE,
        lr=LR,
        seed=flags.seed,
        order_seed=flags.seed,
        device=flags.device,
    )
    wanted = [parse_try(text) for text in TRIES]
    grid = control_grid(wanted, store.width(SITE))
    wanted += [{"arch": arch, "k": list(grid)} for arch in ("pca", "raw", "random")]
    plans = make_plans(wanted, store.width(SITE), flags.d_sae, options, flags.seeds)
    note(flags.quiet, f"2/4  training {len(plans)} dictionaries over one reading of {store.n_rows:,} rows")
    stream = activations.Stream(store, [SITE], seed=options.stream_seed, batch_size=options.batch_size)
    training.sweep(plans, stream, out / "dictionaries", site=SITE, facts=facts, quiet=flags.quiet)

    note(flags.quiet, "3/4  evaluating on held-out stories")
    found = entries([out / "dictionaries"])
    result = measure(
        found, out / "evaluation", max_documents=N_DOCUMENTS, seed=flags.seed, quiet=flags.quiet, device=flags.device
    )
    note(flags.quiet, "4/4  writing the report")
    page = report.build([out / "evaluation"], out / "report.html", title="assay demo: storyworld")
    seconds = time.perf_counter() - started
    if flags.json:
        print(json.dumps({"out": str(out), "report": str(page), "seconds": seconds}))
    else:
        print(report.verdict_table(result))
        print(f"{seconds:.0f} s in all. Report: {Path(page)}")
    return 0


def note(quiet: bool, text: str) -> None:
    import sys

    if not quiet:
        print(text, file=sys.stderr, flush=True)
