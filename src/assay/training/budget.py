"""What a harvest and a training run hold in memory and on disk, from sizes alone, before anything is allocated.

P parameters, B rows a step, F latents, d width; r row parts x s latent shards = processes. Bytes of one process, in fp32:

    dictionary 4 P/s    moments 8 P/s    gradients 4 P/s (native: none where the update sums them)    exchange of gradients 8 P/s, where r > 1
    window     shuffle_rows x width x bytes of a kept number          sample   16,384 rows, read and predicted
    columns    22 a token: ids, document, position, role, mask, order
    a step     12 copies of its rows + 150 an active pair + the encoder's block (native: 8 MiB and F d in 8 bits; others: 4 x 16 MiB,
               4 x 256 MiB on a GPU; triton_bf16 and F d in 16 bits) + 6 P/s for torch's update. Where a step is dense: 9 tensors of B x F floats; while
               latents are dead and AuxK revives them: 6 tensors of B x dead floats
    writing    8 P/s for two copies of the result, where a checkpoint takes less; 14 P/s of a device's checkpoint, in the host's memory

On disk: 4 state + 8 P + 8 F a checkpoint, two of them while the second is written; rows x width x bytes of a kept number and 14 bytes
a token for a store. What is called counted is compared with real runs by tests; estimated is within the factor that they state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from assay.core.errors import BadOption
from assay.dictionaries import DENSE, GRADIENT, class_of
from assay.kernels import Above, native
from assay.kernels import torch as plain
from assay.models.shape import Shape
from assay.training.maker import SAMPLE

COUNTED, ESTIMATED, MEASURED = "counted", "estimated", "measured"
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
BATCH_COPIES, PAIR_BYTES, DENSE_TENSORS, AUXK_TENSORS = 12, 150, 9, 6
NATIVE_BLOCK, CPU_BLOCK, GPU_BLOCK = 1 << 23, 4 << 24, 4 << 28  # bytes of pre-activations, with what is made of them
COLUMNS_HELD, COLUMNS_KEPT = 22, 14  # bytes a token, in memory and on disk
QUEUED = 2**27  # bytes of a harvest that may wait for the disk


@dataclass(frozen=True)
class Figure:
    """One number of a plan. unit: bytes, seconds or tokens/s; how: counted, estimated or measured; why: what it is made of."""

    name: str
    value: float
    unit: str
    how: str
    why: str


@dataclass(frozen=True)
class Sizes:
    """What of a dictionary decides its cost. dense: every step is; starts_dense: the first ones are, until its codes are sparse."""

    d_in: int
    d_out: int
    d_sae: int
    n_trained: int
    n_state: int  # numbers in its state: parameters and buffers
    l0: float
    terms: int  # reconstructions
    dense: bool
    starts_dense: bool
    auxk: bool = False  # dead latents predict what is left over, on all rows


@dataclass(frozen=True)
class Job:
    """What is planned, by one process of rows x latents: `rows` and `latents` say into how many parts each is divided."""

    sizes: Sizes
    width: int  # of all sites that are kept
    tokens: int
    batch_size: int = 2048
    store_dtype: str = "float32"
    kernels: str = "native"
    shuffle_rows: int = 1 << 18
    rows: int = 1
    latents: int = 1
    n_dictionaries: int = 1
    at_once: int = 1  # dictionaries that step side by side, each in a thread of its own
    dead_frac: float = 0.1  # share of latents that are dead at the worst moment
    on_device: bool = False  # a device with memory of its own: windows, columns and samples lie in the host's


def sizes_of(config: Any, l0: float) -> Sizes:
    """The sizes of the dictionary that a configuration makes, counted on one without storage. l0: of those that have no k.

    Raises BadOption for one that is not trained in steps.
    """
    import torch

    arch = type(config).__module__.rsplit(".", 1)[-1]
    cls = class_of(arch)
    if cls.learned_by != GRADIENT:
        raise BadOption(f'--arch "{arch}" is fitted, not trained in steps; plan is for those that are, such as topk.')
    with torch.device("meta"), torch.no_grad():
        made = cls(config)
    for name in made.vectors:  # `select` may look at their values; matrices stay without storage
        setattr(made, name, torch.nn.Parameter(torch.zeros(made.d_sae)))
    for name, buffer in list(made.named_buffers(recurse=False)):
        if buffer.numel() <= made.d_sae:
            setattr(made, name, torch.zeros(buffer.shape, dtype=buffer.dtype))
    with torch.no_grad():
        selection = None if made.step == DENSE else made.select(made.params_at(), training=True)
    trained = sum(p.numel() for name, p in made.named_parameters() if name.partition(".")[0] not in made.frozen)
    above = selection is None or isinstance(selection, Above)
    starts_dense = above and made.step != DENSE and getattr(config, "init_l0", None) is None
    if selection is not None and not isinstance(selection, Above):
        l0 = float(selection.k)
    state = sum(t.numel() for t in made.state_dict().values())
    auxk = made.dead_latents == "auxk" and getattr(config, "auxk_coef", 0) > 0
    return Sizes(
        made.d_in, made.d_out, made.d_sae, trained, state, l0, len(made.recon), made.step == DENSE, starts_dense, auxk
    )


def held(job: Job) -> list[Figure]:
    """Bytes that a training process holds all the time, on the device that trains."""
    z, n = job.sizes, job.n_dictionaries
    P = 4 * n * z.n_trained / job.latents
    of = f"{z.n_trained:,} weights"
    of += f", {n} dictionaries" if n > 1 else ""
    of += f", one of {job.latents} shards" if job.latents > 1 else ""
    found = [
        Figure("dictionary", 4 * n * z.n_state / job.latents, "bytes", COUNTED, of + ", fp32"),
        Figure("Adam's moments", 2 * P, "bytes", COUNTED, "two numbers a weight, fp32"),
        gradients(job, P / n * job.at_once),
    ]
    return found if job.on_device else found + in_host(job)


def gradients(job: Job, whole: float) -> Figure:
    """Those of large matrices are summed by the native update, a row at a time, if nobody else has to see them."""
    z = job.sizes
    seen = z.dense or z.starts_dense or (z.auxk and job.dead_frac > 0) or job.rows * job.latents > 1
    if job.kernels != "native" or seen or z.d_sae * min(z.d_in, z.d_out) < native.SUMS_FROM:
        why = "one number a weight, fp32; the allocator keeps their place"
        return Figure("gradients", whole, "bytes", COUNTED, why)
    return Figure("gradients", 0, "bytes", COUNTED, "the update sums them, a row at a time")


def in_host(job: Job) -> list[Figure]:
    """Bytes of the rows at hand, which lie in the host's memory."""
    z, rows, sample = job.sizes, min(job.shuffle_rows, job.tokens), min(SAMPLE, job.tokens)
    window = rows * job.width * ITEM[job.store_dtype]
    return [
        Figure(
            "shuffle window", window, "bytes", COUNTED, f"{rows:,} rows of {job.width:,} numbers, {job.store_dtype}"
        ),
        Figure(
            "sample", 4 * sample * (z.d_in + z.d_out), "bytes", COUNTED, f"{sample:,} rows, read and predicted, fp32"
        ),
        Figure("columns", COLUMNS_HELD * job.tokens, "bytes", COUNTED, f"{COLUMNS_HELD} bytes a token"),
    ]


def passing(job: Job) -> list[Figure]:
    """Bytes that are there during a step only, of all dictionaries that step at once."""
    z = job.sizes
    P = 4 * z.n_trained / job.latents * job.at_once
    B, F = job.batch_size / job.rows * job.at_once, z.d_sae / job.latents
    found: list[Figure] = []
    if job.rows > 1:
        found.append(
            Figure(
                "exchange", 2 * P, "bytes", COUNTED, f"gradients as sent between {job.rows} row parts, and their sum"
            )
        )
    largest = NATIVE_BLOCK if job.kernels == "native" else GPU_BLOCK if job.on_device else CPU_BLOCK
    block = min(largest, 16 * B * F)
    block += {"native": F * z.d_in * job.at_once, "torch": 1.5 * P, "triton_bf16": 2 * F * z.d_in}.get(job.kernels, 0)
    sparse = BATCH_COPIES * 4 * B * max(z.d_in, z.d_out) + PAIR_BYTES * B * z.l0 / job.latents + block
    dense = DENSE_TENSORS * 4 * B * F
    if z.dense:
        found.append(
            Figure("a step", dense, "bytes", ESTIMATED, f"its steps are dense: {DENSE_TENSORS} tensors of rows x d_sae")
        )
        return found
    why = f"{job.kernels} kernels, {B:,.0f} rows, L0 {z.l0:g}: rows, active pairs, the encoder's block"
    found.append(Figure("a step", sparse, "bytes", ESTIMATED, why))
    if z.auxk and job.dead_frac > 0:
        why = f"AuxK with {job.dead_frac:.0%} of all latents dead: {AUXK_TENSORS} tensors of rows x dead latents"
        found.append(Figure("dead latents", AUXK_TENSORS * 4 * B * F * job.dead_frac, "bytes", ESTIMATED, why))
    if z.starts_dense and dense > sparse:
        above = (native if job.kernels == "native" else plain).DENSE_ABOVE
        why = (
            f"while L0 is above {above:.0%} of d_sae: {DENSE_TENSORS} tensors of rows x d_sae; --init-l0 starts sparse"
        )
        found.append(Figure("dense start", dense - sparse, "bytes", ESTIMATED, why))
    return found


def while_saving(job: Job) -> float:
    """Bytes beside what is held, in the host's memory, while a checkpoint or the result is written, one dictionary at a time: the
    result is folded into a copy and written from another; of a device's tensors a checkpoint is copied whole."""
    return (3.5 if job.on_device else 2.0) * 4 * job.sizes.n_trained / job.latents


def peak(job: Job) -> float:
    """Bytes at the highest point of training, on the device that trains."""
    step = sum(f.value for f in passing(job))
    return sum(f.value for f in held(job)) + (step if job.on_device else max(step, while_saving(job)))


def harvest_memory(
    shape: Shape, sites: tuple[str, ...], dtype: str, tokens: int, batch: int, context: int
) -> list[Figure]:
    """Bytes of one process that harvests: batch texts of `context` tokens at once, the model in `dtype`."""
    item, at_once = ITEM[dtype], batch * context
    width = sum(map(shape.width, sites))
    widest = 6 * shape.d + (3 if shape.gated else 2) * shape.mlp + 2 * shape.heads * shape.head
    how = COUNTED if shape.n_params else ESTIMATED
    return [
        Figure("model", item * shape.weights, "bytes", how, f"{shape.weights / 1e6:,.1f} million weights, {dtype}, all layers"),
        Figure("a forward pass", item * at_once * widest, "bytes", ESTIMATED, f"{at_once:,} tokens at once, one block's values"),
        Figure("rows on the way", 8 * at_once * width + QUEUED, "bytes", ESTIMATED, f"{width:,} numbers a token, and the queue to the disk"),
        Figure("columns", 13 * tokens, "bytes", COUNTED, "13 bytes a token"),
    ]  # fmt: skip


def checkpoint_bytes(sizes: Sizes, n_dictionaries: int = 1) -> int:
    """Bytes of the tensors of one checkpoint: state, moments, silence of each latent, the log's sums."""
    return n_dictionaries * (4 * sizes.n_state + 8 * sizes.n_trained + 8 * sizes.d_sae + 8 * sizes.d_out)


def store_bytes(tokens: int, width: int, dtype: str) -> int:
    """Bytes of a store: its rows and their columns."""
    return tokens * (width * ITEM[dtype] + COLUMNS_KEPT)


def disk(job: Job) -> list[Figure]:
    """Bytes on disk, by part; the store in each number format."""
    z, n = job.sizes, job.n_dictionaries
    formats = [
        Figure(f"store, {name}", store_bytes(job.tokens, job.width, name), "bytes", COUNTED,
               f"{job.tokens:,} rows of {job.width:,} numbers and {COLUMNS_KEPT} bytes" + (", chosen" if name == job.store_dtype else ""))
        for name in ("float32", "bfloat16")
    ]  # fmt: skip
    one = checkpoint_bytes(z, n)
    return [
        *formats,
        Figure(
            "checkpoints", 2 * one, "bytes", COUNTED, "two at the moment when the second is written: state and moments"
        ),
        Figure("result", 4 * n * z.n_state, "bytes", COUNTED, "the dictionary in fp32"),
    ]
