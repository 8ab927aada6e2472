"""What bench/gpu.py times: training steps by each implementation of the kernels, and harvesting against the bare forward."""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from assay import activations, dictionaries, models
from assay.dictionaries.initialisation import firing_threshold
from assay.kernels import implementation
from assay.training import step

THRESHOLDS = {"relu": ("b_enc",), "gated": ("b_gate", "b_mag"), "jumprelu": ("b_enc",)}  # what sets L0 at the start
Row = dict[str, Any]


def train_steps(arch: str, F: int, paths: list[str], flags: argparse.Namespace, device: str) -> list[Row]:
    """One row a path: median milliseconds of a step, in rounds through all paths; a path that needs too much memory is said."""
    x = planted(flags.batch, flags.d_in, device)
    made = dictionary(arch, F, flags, x)
    params = step.trainable(made)
    moments = [{n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2)]
    weights = made.weights(1.0)
    peaks: dict[str, float] = {}
    support: dict[str, int] = {}

    def once(path: str) -> float:
        kernel = implementation("torch" if path == "dense" else path)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        waited(device)
        started = time.perf_counter()
        with torch.no_grad():
            if path == "dense":
                done = step.dense(made, x, x, weights, 1.0)
            else:
                done = step.sparse(made, x, x, weights, 1.0, kernel)
            kernel.update(
                params, done.grads, *moments, step=1, lr=0.0, beta1=0.9, beta2=0.999, eps=1e-8, clip=1.0,
                unit_rows=("W_dec",),
            )  # fmt: skip
        waited(device)
        seconds = time.perf_counter() - started
        support[path] = len(done.f)
        peaks[path] = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
        return seconds

    taken: dict[str, list[float]] = {path: [] for path in paths}
    without: dict[str, str] = {}
    for i in range(flags.repeats + 1):
        for path in [p for p in paths if p not in without]:
            try:
                seconds = once(path)
            except torch.cuda.OutOfMemoryError:
                without[path] = "skipped: out of memory"
                emptied(device)
                continue
            if i:  # the first round compiles and warms up
                taken[path].append(seconds)
    middle = {path: statistics.median(t) for path, t in taken.items() if t and path not in without}
    return [
        {"path": path, "words": without[path]}
        if path in without
        else {
            "path": path, "ms": round(1e3 * middle[path], 2), "best_ms": round(1e3 * min(taken[path]), 2),
            "tokens_per_second": round(flags.batch / middle[path]), "peak_gib": round(peaks[path], 1),
            "l0": round(support[path] / flags.batch, 1),
            "over_dense": round(middle["dense"] / middle[path], 2) if "dense" in middle else None,
            "over_torch": round(middle["torch"] / middle[path], 2) if "torch" in middle else None,
        }
        for path in paths
    ]  # fmt: skip


def dictionary(arch: str, F: int, flags: argparse.Namespace, x: torch.Tensor) -> Any:
    """Random unit rows on the GPU, W_enc their transpose, thresholds that put L0 near k; float32."""
    told = {"relu": {"l1_coef": 1.0}, "gated": {"l1_coef": 1.0}, "jumprelu": {"l0_coef": 1.0}}.get(arch, {"k": flags.k})
    made = dictionaries.class_of(arch)(dictionaries.config_class(arch)(d_in=flags.d_in, d_sae=F, **told)).to(x.device)
    rng = torch.Generator(x.device).manual_seed(0)
    with torch.no_grad():
        rows = torch.nn.functional.normalize(torch.randn(F, flags.d_in, generator=rng, device=x.device), dim=1)
        made.W_dec.copy_(rows)
        made.W_enc.copy_(rows.t())
        if arch in THRESHOLDS:
            level = firing_threshold(made, x, flags.k)
            for name in THRESHOLDS[arch]:
                made.get_parameter(name).copy_(-level)
        if arch == "jumprelu":
            made.get_parameter(made.theta_name).fill_(1e-3)
    return made


def planted(n: int, d: int, device: str) -> torch.Tensor:
    """[n, d]: sums of 20 of 2 d fixed directions with a little noise."""
    rng = torch.Generator(device).manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(2 * d, d, generator=rng, device=device), dim=1)
    which = torch.randint(0, 2 * d, (20, n), generator=rng, device=device)
    size = 0.5 + torch.rand(20, n, 1, generator=rng, device=device)
    x = 0.05 * torch.randn(n, d, generator=rng, device=device)
    for ids, by in zip(which, size, strict=True):
        x += directions[ids] * by
    return x


def harvest(flags: argparse.Namespace, device: str) -> list[Row]:
    """Rows a second of `activations.harvest` on a GPT-2 of random weights, against its bare forward that stops at the same block."""
    torch.manual_seed(0)
    width, layers, context, n = (8, 2, 8, 4) if flags.dry else (768, 12, 256, 512)
    config = GPT2Config(
        n_embd=width, n_layer=layers, n_head=2 if flags.dry else 12, vocab_size=200 if flags.dry else 50_257
    )
    model = models.Model(GPT2LMHeadModel(config).to(device), name="gpt2-random")
    ids = np.random.default_rng(0).integers(0, config.vocab_size, n * context).astype(np.int32)

    def first(n: int) -> Any:
        table = activations.Table(
            token_id=ids[: n * context], document=np.repeat(np.arange(n, dtype=np.int32), context),
            position=np.tile(np.arange(context, dtype=np.int32), n), role=np.zeros(n * context, np.uint8),
            block_rows=np.full(n, context, np.int32), documents=tuple(f"{i:016x}" for i in range(n)),
        )  # fmt: skip
        return activations.Blocks(table, activations.Frame((), (), frozenset(), 0, True), context, True)

    at, batch = layers // 2, 2 if flags.dry else 64

    class Stop(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    def bare(_: Path) -> None:
        hook = model.hf.transformer.h[at].register_forward_hook(stop)
        with torch.no_grad():
            for some in torch.from_numpy(ids).long().reshape(n, context).split(batch):
                try:
                    model.hf(input_ids=some.to(device), use_cache=False)
                except Stop:
                    continue
        hook.remove()

    def stored(dtype: str, blocks: Any) -> Callable[[Path], None]:
        return lambda out: (
            activations.harvest(model, [f"resid_post.{at}"], blocks, out, dtype=dtype, batch_size=batch, quiet=True),
            shutil.rmtree(out),
        )[1]

    arms = {
        "bare forward": bare, "harvest float32": stored("float32", first(n)), "harvest bfloat16": stored("bfloat16", first(n)),
        "harvest of one block: what each does once": stored("float32", first(1)),
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        for i in range(2 if flags.dry else 4):
            for name, arm in arms.items():
                waited(device)
                started = time.perf_counter()
                arm(Path(folder) / "out")
                waited(device)
                if i:
                    taken[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(t) for name, t in taken.items()}
    return [
        {
            "path": name,
            "ms": round(1e3 * t, 2),
            "best_ms": round(1e3 * min(taken[name]), 2),
            "tokens_per_second": None if "one block" in name else round(len(ids) / t),
        }
        for name, t in middle.items()
    ]


def waited(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def emptied(device: str) -> None:
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
