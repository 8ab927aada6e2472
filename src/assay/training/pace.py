"""How long a harvest and a training run will take, from sizes and rates; and how to divide a dictionary that does not fit.

    a step     2 B d F / (rate of the product x screening)     the encoder
               + (native: 0; others: 20 B F) / memory          pre-activations, written, read and compared
               + terms 16 B L0 d / memory                      decode, cotangent and two weight gradients at the active pairs
               + 36 P (torch: 60 P) / memory                   clipping, Adam, unit rows
               + 56 B d / memory + overhead + sent / link      the batch itself; what no size explains; other processes
    a token of a harvest     (2 weights passed + 2 context heads d_head a block) / (share x rate of the product)
               + numbers handled outside products / memory     norms, activations, softmax: most of a small model's time

B, F and P are those of one process. Tests hold a step and a harvest within 1.5 times those on record for the CPU, in view of which the
overhead and what a token handles were chosen; nothing was compared with a GPU.
"""

from __future__ import annotations

from dataclasses import replace

from assay.models.shape import Shape
from assay.training.budget import ESTIMATED, ITEM, Figure, Job, peak
from assay.training.rates import DEVICES, Rates

DENSE_WORK = 12  # B d F operations of a step by autograd on all pairs
MOST_SHARDS = 4096


def step_seconds(job: Job, rates: Rates) -> float:
    """Seconds of one step of one process, all its dictionaries one after the other."""
    z = job.sizes
    B, F, P = job.batch_size / job.rows, z.d_sae / job.latents, z.n_trained / job.latents
    d = (z.d_in + z.d_out) / 2
    if z.dense:
        product = DENSE_WORK * B * d * F / rates.matmul["float32"]
    else:
        rate = rates.matmul["bfloat16" if job.kernels == "triton_bf16" else "float32"]
        rate *= rates.screened if job.kernels == "native" else 1.0
        product = 2 * B * z.d_in * F / rate + (0 if job.kernels == "native" else 20 * B * F) / rates.memory
        product += z.terms * 16 * B * (z.l0 / job.latents) * d / rates.memory
    update = (60 if job.kernels == "torch" else 36) * P / rates.memory
    sent = 8 * P * (job.rows - 1) / job.rows + 8 * B * z.d_out * z.terms * (job.latents - 1) / job.latents
    return job.n_dictionaries * (product + update + 56 * B * d / rates.memory + rates.overhead + sent / rates.link)


def forward_seconds(shape: Shape, site: str, context: int, dtype: str, rates: Rates) -> float:
    """Seconds of one token up to a canonical site."""
    products = max(shape.work(site, context), 2.0 * shape.d) / (rates.forward * rates.matmul[dtype])
    return products + ITEM[dtype] * shape.handled(site, context) / rates.memory


def times(job: Job, shape: Shape, sites: tuple[str, ...], context: int, dtype: str, rates: Rates) -> list[Figure]:
    """Hours and tokens a second of the harvest, of reading the store, and of training."""
    n_processes = job.rows * job.latents
    last = max(sites, key=lambda site: shape.work(site, context))
    token = forward_seconds(shape, last, context, dtype, rates) / n_processes
    step = step_seconds(job, rates)
    reading = job.width * ITEM[job.store_dtype] / rates.disk
    train = job.tokens / job.batch_size * step
    of = f", {n_processes} processes" if n_processes > 1 else ""
    work = f"{shape.work(last, context) / 1e6:,.1f} million operations a token up to {last}, {dtype}{of}"
    return [
        Figure("harvest", 1 / token, "tokens/s", ESTIMATED, work),
        Figure("harvest", job.tokens * token, "seconds", ESTIMATED, f"{job.tokens:,} tokens"),
        Figure("reading", job.tokens * reading, "seconds", ESTIMATED, f"the store once at {rates.disk / 1e9:g} GB/s"),
        Figure("training", job.batch_size / step, "tokens/s", ESTIMATED, f"{1e3 * step:,.0f} ms a step, {job.kernels} kernels{of}"),
        Figure("training", train, "seconds", ESTIMATED, f"{job.tokens // job.batch_size:,} steps"),
    ]  # fmt: skip


def shards_to_fit(job: Job, memory: float) -> int | None:
    """The smallest power of two of latent shards with which one process needs at most `memory` bytes; None where none helps."""
    n = 1
    while n <= min(MOST_SHARDS, job.sizes.d_sae):
        if peak(replace(job, latents=n)) <= memory:
            return n
        n *= 2
    return None


def devices_that_fit(job: Job) -> list[tuple[str, int | None]]:
    """Every known device but the CPU with the number of latent shards that it needs."""
    names = [name for name in DEVICES if name != "cpu"]
    return [
        (name, shards_to_fit(replace(job, on_device=True, kernels=on_gpu(job.kernels)), DEVICES[name]().holds))
        for name in names
    ]


def on_gpu(kernels: str) -> str:
    """The kernels that a GPU would use in their place."""
    return "triton" if kernels == "native" else kernels
