"""From text to a measured dictionary: the seconds of each stage, and what an evaluation costs in forward passes.

    python bench/end_to_end.py                 or: python bench/end_to_end.py --tokens 1000000 --record

stories260k reads stories: tokens, harvest, one top-k dictionary trained on the store, evaluation on held-out stories; each stage as the verbs
call it, in one process, wall and CPU seconds. Evaluation is set beside the bare forward to the logits on the same padded batches: it needs one pass
to read, one each for the clean, the zero-ablated and the mean-ablated loss, and one a dictionary for the spliced loss.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import recording
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ASSAY_SHARED", ROOT.parent / "shared")) / "data"
SITE = "resid_post.2"


def main() -> None:
    flags = arguments()
    torch.set_num_threads(flags.threads)
    with tempfile.TemporaryDirectory(prefix="bench-end-to-end-") as folder:
        text = table(flags, *measured(flags, Path(folder)))
    print(text)
    if flags.record:
        recording.append(text)


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--tokens", type=int, default=300_000, help="of text, and rows trained on")
    asked.add_argument("--documents", type=int, default=60, help="held-out stories to evaluate on")
    asked.add_argument("--d-sae", type=int, default=1024)
    asked.add_argument("--k", type=int, default=16)
    asked.add_argument("--rounds", type=int, default=5, help="of evaluation and forwards, interleaved")
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--record", action="store_true", help="append the table to docs/results/performance.md")
    return asked.parse_args()


def measured(flags: argparse.Namespace, folder: Path) -> tuple[list[tuple[str, int, float, float]], int]:
    """(stage, tokens, wall, CPU) in their order, and the tokens of one evaluation."""
    from assay import activations, dictionaries, evaluation, models, training
    from assay.evaluation.readings import Live, splitting

    lines: list[tuple[str, int, float, float]] = []

    def stage(name: str, tokens: int | None, run: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        done = run()
        n = done.table.n_rows if tokens is None else tokens
        lines.append((name, n, time.perf_counter() - wall, time.process_time() - cpu))
        return done

    model = models.load(str(SHARED / "models" / "stories260k"))
    text = activations.documents(str(SHARED / "text" / "tinystories-train.jsonl.gz"))
    blocks = stage(
        "text to blocks of tokens",
        None,
        lambda: activations.pack(text, model, context=256, max_tokens=flags.tokens, quiet=True),
    )
    n = blocks.table.n_rows
    store = stage("harvest", n, lambda: activations.harvest(model, [SITE], blocks, folder / "acts", quiet=True))
    config = dictionaries.config_class("topk")(d_in=store.width(SITE), d_sae=flags.d_sae, k=flags.k)
    options = training.TrainConfig(n_tokens=n, batch_size=2048, lr=3e-3)
    stream = activations.Stream(store, [SITE], batch_size=2048)
    made = stage(
        "train topk",
        options.n_steps * 2048,
        lambda: training.train(config, stream, folder / "topk", site=SITE, options=options, quiet=True),
    )

    held_out = list(activations.documents(str(SHARED / "text" / "tinystories-heldout.jsonl.gz"), limit=flags.documents))
    entries = [evaluation.Entry("topk", "method", made)]
    live = Live(model, SITE, held_out, splitting("halves"), context=256, batch_tokens=4096)
    batches = [(reading.ids, reading.mask) for reading in live.sequences()]
    n_held = int(live.lengths.sum())

    def bare() -> None:
        with torch.no_grad():
            for ids, mask in batches:
                assert ids is not None
                model.logits(ids, mask)

    def evaluate() -> None:
        evaluation.evaluate(
            entries, model=model, documents=held_out, alone=True, context=256, quiet=True,
            showing=evaluation.Showing(n_latents=0), resamples=1000,
        )  # fmt: skip

    before = len(lines)
    for _ in range(flags.rounds):
        stage("evaluate", n_held, evaluate)
        stage("one forward to the logits", n_held, bare)
    rounds, lines = lines[before:], lines[:before]
    for name in ("evaluate", "one forward to the logits"):
        wall, cpu = zip(*((w, c) for which, _, w, c in rounds if which == name), strict=True)
        lines.append((name, n_held, statistics.median(wall), statistics.median(cpu)))
    return lines, n_held


def table(flags: argparse.Namespace, lines: list[tuple[str, int, float, float]], n_held: int) -> str:
    text = (
        f"stories260k at {SITE}; topk with {flags.d_sae:,} latents, k={flags.k}, batches of 2,048; evaluation on {n_held:,} tokens of {flags.documents} held-out"
        f" stories,\nmedian of {flags.rounds} rounds interleaved with the bare forward on the same batches. torch {torch.__version__}."
    )
    out = ["| stage | tokens | seconds | CPU seconds | tokens/s | CPU µs a token |", "|---|---|---|---|---|---|"]
    out += [
        f"| {name} | {n:,} | {wall:.2f} | {cpu:.2f} | {n / wall:,.0f} | {1e6 * cpu / n:.2f} |"
        for name, n, wall, cpu in lines
    ]
    evaluate, forward = lines[-2], lines[-1]
    out += ["", f"An evaluation of one dictionary costs {evaluate[3] / forward[3]:.1f} forward passes (CPU time)."]
    return recording.section("from text to a measured dictionary", flags.threads, text, out)


if __name__ == "__main__":
    main()
