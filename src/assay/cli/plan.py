"""assay plan: what a harvest and a training run will take, before anything is allocated."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from assay.cli.figures import described, size
from assay.cli.parsing import parse, take_arch
from assay.core.config import require
from assay.core.errors import BadOption, nearest

if TYPE_CHECKING:
    from assay.training.budget import Figure, Job
    from assay.training.rates import Rates

ABOUT = """Say what a harvest and a training run will take, before anything is allocated: memory, disk, tokens a second and hours; whether it
fits; and how to divide it where it does not. Of the model only its config is read. Every number says whether it is counted (from shapes
and formats), estimated (from stated rates) or measured (--measure, on this processor).

  assay plan --model gemma-2-2b --site resid_post.12 --arch topk --d-sae 65536 --k 64 --tokens 500M --device h200
  assay plan --model-shape d=2304,layers=26,mlp=9216,vocab=256k --site mlp_out.5 --arch gated --d-sae 16384 --l1-coef 0.6 --tokens 1e8
  assay plan ... --budget-memory 80GB --processes 8 --latent-shards 4        four parts of the latents, two of the rows
  assay plan --model storyworld --site resid_post.1 --arch topk --d-sae 512 --k 8 --tokens 2M --measure
"""
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}


@dataclasses.dataclass(kw_only=True)
class Flags:
    model: str | None = None
    """gpt2, pythia-70m, gemma-2-2b, gemma-2-9b, llama-3-8b, llama-3-70b (sizes known here), storyworld, a local folder, or a hub name."""
    model_shape: str | None = None
    """Instead of --model: d=2304,layers=26,heads=8,head=256,kv=4,mlp=9216,vocab=256k,gated=1,tied=1; all but d and layers may be left out."""
    site: str
    """Where in the model: resid_post.3, mlp_out.0, ...; several with commas."""
    target: str | None = None
    """The site to predict, for transcoders."""
    tokens: int
    """Tokens to harvest and to train on, once."""
    device: str = "cpu"
    """What it will run on: cpu, rtx4090, a100, h100, h200 or b200; each process has one."""
    budget_memory: str | None = None
    """Memory that one process may use, such as 80GB or 64GiB; all that the device has when not given."""
    budget_disk: str | None = None
    """Disk that store, checkpoints and result may use together, such as 2TB."""
    processes: int = 1
    """Processes that torchrun will start."""
    latent_shards: int = 1
    """Among how many of them the latents are divided; the others divide the rows."""
    dictionaries: int = 1
    """How many of this size are trained side by side, as in a sweep."""
    l0: float = 64
    """Active latents a token, for architectures without k."""
    dead: float = 0.1
    """Share of the latents that are dead at the worst moment, where AuxK revives them."""
    batch_size: int = 2048
    """Rows in one step."""
    shuffle_rows: int = 1 << 18
    """Rows that are shuffled together; they are held in memory."""
    context: int = 1024
    """Tokens in a block of text."""
    blocks: int = 16
    """Blocks in one forward pass of the harvest."""
    dtype: str = "float32"
    """Number format of the model: float32, bfloat16 or float16."""
    store_dtype: str = "float32"
    """Number format of the store: float32, bfloat16 or float16."""
    kernels: str = "auto"
    """native or torch on the CPU; triton, triton_bf16 or torch on a GPU; auto takes native or triton."""
    measure: bool = False
    """Measure this processor for two seconds instead of taking stated rates; for --device cpu."""
    threads: int | None = None
    """CPU threads; all cores when not given."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    arch, argv = take_arch(argv, "plan")
    from assay import dictionaries

    if arch is None:
        if "-h" in argv or "--help" in argv:
            parse("plan", ABOUT + f"\n--arch is one of: {', '.join(dictionaries.names())}", argv, Flags)
        raise BadOption(f"--arch is missing; choose one of {', '.join(dictionaries.names())}.")
    flags = parse("plan", ABOUT + f"\n--arch {arch}", argv, Flags, arch=dictionaries.config_class(arch))
    check(flags)
    found = planned(flags, arch)
    if flags.json:
        print(json.dumps(found, default=dataclasses.asdict))
    else:
        print(described(found))
    return 0


def check(flags: SimpleNamespace) -> None:
    from assay.training.budget import ITEM

    if (flags.model is None) == (flags.model_shape is None):
        both = "Both --model and --model-shape were" if flags.model else "Neither --model nor --model-shape was"
        raise BadOption(f"{both} given; one of them says how large the model is.")
    counts = (
        "tokens",
        "processes",
        "latent_shards",
        "dictionaries",
        "batch_size",
        "shuffle_rows",
        "context",
        "blocks",
        "l0",
    )
    for name in counts:
        require(getattr(flags, name) > 0, name, getattr(flags, name), "positive")
    for name in ("dtype", "store_dtype"):
        given = getattr(flags, name)
        if given not in ITEM:
            raise BadOption(f'--{name.replace("_", "-")} is "{given}".{nearest(given, ITEM)}')
    require(0 <= flags.dead <= 1, "dead", flags.dead, "a share between 0 and 1")
    on_cpu = flags.device == "cpu"
    known = ("native", "torch") if on_cpu else ("triton", "triton_bf16", "torch")
    allowed = f"auto, {' or '.join(known)} with --device {flags.device}"
    require(flags.kernels in ("auto", *known), "kernels", flags.kernels, allowed)
    require(
        on_cpu or not flags.measure, "measure", True, "left out unless --device is cpu: only this processor is at hand"
    )
    shards = flags.latent_shards
    require(flags.processes % shards == 0, "latent_shards", shards, f"a divisor of --processes {flags.processes}")
    rows = flags.processes // shards
    require(flags.batch_size % rows == 0, "batch_size", flags.batch_size, f"divisible by the {rows} row parts")
    require(
        flags.batch_size <= flags.tokens,
        "tokens",
        flags.tokens,
        f"at least one batch (--batch-size {flags.batch_size})",
    )


def bytes_of(name: str, words: str) -> float:
    """`80GB` -> 8e10. Raises BadOption for a size without unit, or none at all."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKMGT]i?B)", words.strip())
    if match is None or match[2] not in UNITS or float(match[1]) == 0:
        raise BadOption(f'--{name} is "{words}"; a size with its unit is needed, such as 80GB or 64GiB.')
    return float(match[1]) * UNITS[match[2]]


def planned(flags: SimpleNamespace, arch: str) -> dict[str, Any]:
    """Everything that is printed, by name: lists of figures, and sentences."""
    from assay import activations, dictionaries
    from assay.dictionaries.wiring import for_sites
    from assay.models.shape import shape_of, written
    from assay.training import budget, pace, rates

    shape = written(flags.model_shape) if flags.model_shape is not None else shape_of(flags.model)
    sites = tuple(shape.site(single) for single in activations.each(flags.site))
    require(len(sites) > 0, "site", flags.site, "a place in the model, such as resid_post.0")
    targets = None if flags.target is None else tuple(shape.site(single) for single in activations.each(flags.target))
    widths = [[shape.width(s) for s in some] for some in (sites, targets or ())]
    config = dictionaries.config_class(arch)(**for_sites(flags.arch, widths[0], widths[1] or None))
    memory = None if flags.budget_memory is None else bytes_of("budget-memory", flags.budget_memory)
    space = None if flags.budget_disk is None else bytes_of("budget-disk", flags.budget_disk)
    rate = rates.rates_of(flags.device)
    if flags.measure:
        from assay.cli.opening import set_threads

        set_threads(flags.threads)
        rate = rates.measured()
    memory = rate.holds if memory is None else memory
    on_device = flags.device != "cpu"
    kept = tuple(dict.fromkeys((*sites, *(targets or ()))))
    job = budget.Job(
        budget.sizes_of(config, getattr(config, "init_l0", None) or flags.l0),
        sum(map(shape.width, kept)),
        flags.tokens,
        flags.batch_size,
        flags.store_dtype,
        ("triton" if on_device else "native") if flags.kernels == "auto" else flags.kernels,
        flags.shuffle_rows,
        flags.processes // flags.latent_shards,
        flags.latent_shards,
        flags.dictionaries,
        at_once=min(flags.threads or os.cpu_count() or 1, flags.dictionaries)
        if not on_device and flags.processes == 1
        else 1,
        dead_frac=flags.dead,
        on_device=on_device,
    )
    harvest = budget.harvest_memory(shape, kept, flags.dtype, flags.tokens, flags.blocks, flags.context)
    disk = budget.disk(job)
    name = flags.model or flags.model_shape
    return {
        "what": f"{arch}, {job.sizes.d_sae:,} latents of {name} at {','.join(sites)}"
        + (f" -> {','.join(targets)}" if targets else "")
        + f", {flags.tokens:,} tokens",
        "device": f"{flags.device}: {rate.about}",
        "held": budget.held(job),
        "passing": budget.passing(job),
        "host": [*budget.in_host(job), saving(job)] if on_device else [saving(job)],
        "peak_bytes": budget.peak(job),
        "harvest": harvest,
        "harvest_bytes": sum(f.value for f in harvest),
        "disk": disk,
        "times": pace.times(job, shape, kept, flags.context, flags.dtype, rate),
        "verdicts": [
            *training_verdict(job, memory, rate),
            *harvest_verdict(harvest, budget.peak(job), memory, flags),
            *disk_verdict(disk, space, flags.store_dtype),
        ],
        "devices": {name: n for name, n in pace.devices_that_fit(job)},
    }


def saving(job: Job) -> Figure:
    from assay.training.budget import COUNTED, Figure, while_saving

    return Figure("writing", while_saving(job), "bytes", COUNTED, "copies while a checkpoint or the result is written")


def training_verdict(job: Job, memory: float, rate: Rates) -> list[str]:
    from assay.training import pace
    from assay.training.budget import peak

    need, room = peak(job), f"{size(memory)} of one process"
    if need <= memory:
        return [f"Training fits: {size(need)} of the {room}."]
    said = f"Training does not fit: it needs {size(need)}, more than the {room}."
    if job.sizes.dense:
        return [
            f"{said} Its steps are dense, so its latents cannot be divided; take a smaller --d-sae or --batch-size."
        ]
    n = pace.shards_to_fit(job, memory)
    if n is None:
        return [f"{said} No number of latent shards helps, as windows, rows and columns are not divided by them; "
                "take a smaller --shuffle-rows, --batch-size or --tokens."]  # fmt: skip
    each = peak(dataclasses.replace(job, latents=n))
    total = n * job.rows
    return [
        f"{said} {job.rows} row part{'s' * (job.rows > 1)} x {n} latent shards fit, {size(each)} each:",
        f"  torchrun --nproc-per-node {total} -m assay train ... --latent-shards {n}",
    ]


def harvest_verdict(harvest: list[Figure], training: float, memory: float, flags: SimpleNamespace) -> list[str]:
    need = sum(f.value for f in harvest if flags.device == "cpu" or f.name != "columns")
    if need > memory:
        cheaper = (
            " Take --dtype bfloat16."
            if flags.dtype == "float32"
            else " A device with more memory is needed, or the CPU."
        )
        return [
            f"The harvest does not fit: it needs {size(need)}, more than {size(memory)}, and assay holds the whole model in each "
            f"process.{cheaper}"
        ]
    together = need + training
    live = "fits too" if together <= memory else "does not fit, so harvest first"
    return [f"The harvest fits: {size(need)}. Training straight from the model, {size(together)} together, {live}."]


def disk_verdict(disk: list[Figure], space: float | None, dtype: str) -> list[str]:
    if space is None:
        return []
    stores = {f.name.partition(", ")[2]: f.value for f in disk if f.name.startswith("store")}
    rest = sum(f.value for f in disk if not f.name.startswith("store"))
    need = rest + stores["bfloat16" if dtype == "float16" else dtype]
    if need <= space:
        return [f"The disk suffices: {size(need)} of {size(space)}."]
    smaller = rest + stores["bfloat16"] <= space
    advice = (
        "take --store-dtype bfloat16" if smaller else "take fewer --tokens, or train from the model without a store"
    )
    return [f"The disk does not suffice: {size(need)} are needed, more than {size(space)}; {advice}."]
