"""What a 16-bit store costs a dictionary: the same rows kept as float32, float16 and bfloat16, trained on, judged on float32 held-out rows.

    python bench/store_formats.py --record          some minutes on one thread; writes docs/results/store-formats.md

stories260k reads stories once a format (`assay harvest --store-dtype`). From each store the same architectures are trained with the same
seeds, initialisation and order of rows, so that the format is all that differs; all are evaluated in one pass over held-out stories that
the model reads in float32. A difference is format minus float32, seed by seed on the same documents.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ASSAY_SHARED", ROOT.parent / "shared")) / "data"
PAGE = ROOT / "docs" / "results" / "store-formats.md"
SITE = "resid_post.2"
CONTEXT = 256
FORMATS = ("float32", "float16", "bfloat16")
METRICS = {"fvu": "FVU", "l0": "L0", "loss_recovered_zero": "loss recovered (zero)"}
RESAMPLES = 10_000


def main() -> None:
    flags = arguments()
    torch.set_num_threads(flags.threads)
    with tempfile.TemporaryDirectory(prefix="bench-formats-") as folder:
        text = page(flags, *measured(flags, Path(folder)))
    print(text)
    if flags.record:
        PAGE.write_text(text, encoding="utf-8")


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--n-tokens", type=int, default=600_000, help="rows each dictionary is trained on")
    asked.add_argument("--rows", type=int, default=300_000, help="tokens in each store")
    asked.add_argument("--documents", type=int, default=120, help="held-out stories; half of them are the test side")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--d-sae", type=int, default=512)
    asked.add_argument("--batch-size", type=int, default=512)
    asked.add_argument("--lr", type=float, default=3e-3)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--record", action="store_true")
    return asked.parse_args()


def measured(flags: argparse.Namespace, folder: Path) -> tuple[dict[str, dict[str, float]], Any]:
    """Facts of each store, and the evaluation of all dictionaries."""
    from assay import activations, evaluation, models

    model = models.load(str(SHARED / "models" / "stories260k"))
    text = activations.documents(str(SHARED / "text" / "tinystories-train.jsonl.gz"))
    blocks = activations.pack(text, model, context=CONTEXT, max_tokens=flags.rows, quiet=True)
    stores = {f: activations.harvest(model, [SITE], blocks, folder / f, dtype=f, quiet=True) for f in FORMATS}
    facts = {f: facts_of(store, stores["float32"]) for f, store in stores.items()}
    for f, speeds in read_speeds(stores).items():
        facts[f] |= speeds
    entries = [e for f, store in stores.items() for e in trained(flags, f, store, folder / f"{f}-sweep")]
    held_out = activations.documents(str(SHARED / "text" / "tinystories-heldout.jsonl.gz"), limit=flags.documents)
    found = evaluation.evaluate(
        entries, model=model, documents=held_out, alone=True, context=CONTEXT, quiet=True,
        showing=evaluation.Showing(n_latents=0), resamples=1000,
    )  # fmt: skip
    return facts, found


def trained(flags: argparse.Namespace, name: str, store: Any, out: Path) -> list[Any]:
    """topk and gated, every seed, from one reading of the store."""
    from assay import activations, dictionaries, training
    from assay.evaluation import Entry

    width = {"d_in": store.width(SITE), "d_sae": flags.d_sae}
    configs = {
        "topk": dictionaries.config_class("topk")(**width, k=8),
        "gated": dictionaries.config_class("gated")(**width, l1_coef=2.0, init_l0=16.0),
    }
    rest = {"n_tokens": flags.n_tokens, "batch_size": flags.batch_size, "lr": flags.lr, "order_seed": 0}
    plans = [
        training.Plan(f"{arch}-{seed}", config, training.TrainConfig(seed=seed, **rest))
        for arch, config in configs.items()
        for seed in range(flags.seeds)
    ]
    made = training.sweep(
        plans, activations.Stream(store, [SITE], batch_size=flags.batch_size), out, site=SITE, quiet=True
    )
    return [
        Entry(f"{p.arch} {name}", "method", d, seed=p.options.seed, options={"store": name})
        for p, d in zip(plans, made, strict=True)
    ]


def facts_of(store: Any, exact: Any) -> dict[str, float]:
    """Bytes a token on disk, and the FVU of the rounding itself."""
    n_bytes = sum(p.stat().st_size for p in (store.path / SITE).iterdir())
    x, rounded = (s.gather(SITE, np.arange(store.n_rows)).double() for s in (exact, store))
    fvu = float((x - rounded).square().sum() / (x - x.mean(0)).square().sum())
    return {"bytes": n_bytes / store.n_rows, "fvu": fvu}


def read_speeds(stores: dict[str, Any], rounds: int = 7) -> dict[str, dict[str, float]]:
    """Rows a second of shuffled float32 batches from stores that the system has in its cache; interleaved, medians."""
    from assay import activations

    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
    for _ in range(rounds):
        for name, store in stores.items():
            stream = activations.Stream(store, [SITE], batch_size=2048)
            stream.order.window(0, 0, 0)  # the order is the same for all formats
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in stream.batches(0, stream.n_rows // 2048):
                pass
            taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    n = activations.Stream(next(iter(stores.values())), [SITE]).n_rows // 2048 * 2048
    medians = {
        name: [statistics.median(column) for column in zip(*pairs, strict=True)] for name, pairs in taken.items()
    }
    return {name: {"rows_per_second": n / wall, "cpu_us": 1e6 * cpu / n} for name, (wall, cpu) in medians.items()}


def difference(units: Any, arch: str, name: str, metric: str) -> str:
    """Format minus float32: the mean of the seeds' differences, its 95 % interval over seeds and documents."""
    from assay.core.randomness import numpy_rng
    from assay.core.resampling import influence, interval, ratios, resampled_ratios, reseeded

    sides = [columns(units, f"{arch} {which}", metric) for which in (name, "float32")]
    num, den = (np.concatenate([side[i] for side in sides], axis=1) for i in (0, 1))
    n_seeds = num.shape[1] // 2
    rng = numpy_rng(0, "store formats", arch, name, metric)
    draws, effect = resampled_ratios(num, den, RESAMPLES, rng), influence(num, den)
    values = ratios(num, den)
    gains = values[:n_seeds] - values[n_seeds:]
    found = interval(
        gains, draws[:, :n_seeds] - draws[:, n_seeds:], effect[:, :n_seeds] - effect[:, n_seeds:], level=0.95,
        seed_weights=lambda n: reseeded(n, RESAMPLES, rng),
    )  # fmt: skip
    assert found is not None
    return f"{gains.mean():+.2g} [{found.lo:+.2g}, {found.hi:+.2g}]"


def columns(units: Any, arm: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """num and den [documents, seeds] of one arm on the test side, documents by name."""
    frame = units.where(arm=arm, metric=metric, split="test").to_pandas()
    wide = frame.pivot(index="unit", columns="seed", values=["num", "den"]).sort_index()
    return wide["num"].to_numpy(), wide["den"].to_numpy()


def page(flags: argparse.Namespace, facts: dict[str, dict[str, float]], found: Any) -> str:
    units = found.units
    n_documents = len(columns(units, "topk float32", "fvu")[0])
    out = [
        "# Stores of 16 bits",
        "",
        f"Written on {platform.machine()} with {flags.threads} threads, torch {torch.__version__}, by",
        "",
        f"    python bench/store_formats.py {' '.join(sys.argv[1:])}",
        "",
        f"stories260k at {SITE}, stores of {flags.rows:,} tokens; from each, topk (k=8) and gated (λ=2) with {flags.d_sae} latents on {flags.n_tokens:,} tokens,",
        f"{flags.seeds} seeds, batches of {flags.batch_size}; judged on {n_documents} held-out stories that are read in float32. The same seeds, initialisation and order of rows:",
        "the format is all that differs. Differences are format minus float32, with 95 % intervals over seeds and documents; beside them the",
        "standard deviation between the seeds of float32, which is what another seed would change.",
        "",
        "| store | bytes a token | FVU of the rounding itself | shuffled batches, rows/s | CPU µs a row |",
        "|---|---|---|---|---|",
    ]
    for name, fact in facts.items():
        out.append(
            f"| {name} | {fact['bytes']:.1f} | {fact['fvu']:.1e} | {fact['rows_per_second']:,.0f} | {fact['cpu_us']:.2f} |"
        )
    out += [
        "",
        "| dictionary | metric | float32 | between seeds | float16 − float32 | bfloat16 − float32 |",
        "|---|---|---|---|---|---|",
    ]
    for arch in ("topk", "gated"):
        for metric, shown in METRICS.items():
            num, den = columns(units, f"{arch} float32", metric)
            values = num.sum(0) / den.sum(0)
            gains = " | ".join(difference(units, arch, name, metric) for name in FORMATS[1:])
            out.append(f"| {arch} | {shown} | {values.mean():.4f} | {values.std(ddof=1):.2g} | {gains} |")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
