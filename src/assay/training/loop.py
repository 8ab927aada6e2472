"""One loop for all: a stream of activations trains any number of dictionaries side by side.

A run's folder holds run.json (what was asked for), a log and a checkpoint while it runs, and the finished dictionaries at the
end. Killed at any moment, it continues from its checkpoint to the same weights, bit for bit: rows, schedules and random numbers
depend on the step alone.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay import kernels
from assay.activations import Stream
from assay.core import artefact, distribution
from assay.core.errors import BadInput, BadOption
from assay.core.progress import Bar, progress
from assay.dictionaries import GRADIENT, Dictionary, class_of, load
from assay.training import checkpoint, run_folder
from assay.training.maker import SAMPLE, Maker, including, upfront_cost
from assay.training.member import Member
from assay.training.plan import Plan
from assay.training.shard import Shard, refuse, shapes
from assay.training.workers import workers


class Interrupted(Exception):
    """The user stopped the run; its state is saved."""


def sweep(
    plans: list[Plan],
    stream: Stream,
    out: Path,
    *,
    site: str,
    target: str | None = None,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    quiet: bool = False,
    on_tick: Callable[[str, dict[str, Any], Bar], None] | None = None,
) -> list[Dictionary]:
    """Make every plan's dictionary from one stream, each in `out / plan.name`; returns them in raw space. With latents divided among
    processes what is returned has shapes and `.path` but no numbers, since the whole may fit no process.

    site: the activations that are read; target: those predicted, the same when not given; several are written with commas. facts: what provenance should say of
    model and text. Raises BadOption when `out` holds another run, BadInput on unusable activations.
    """
    _check(plans)
    with distribution.divided(plans[0].options.latent_shards):
        return _sweep(plans, stream, Path(out), site, target, resume, facts, quiet, on_tick)


def _sweep(
    plans: list[Plan],
    stream: Stream,
    out: Path,
    site: str,
    target: str | None,
    resume: bool,
    facts: dict[str, Any] | None,
    quiet: bool,
    on_tick: Callable[[str, dict[str, Any], Bar], None] | None,
) -> list[Dictionary]:
    first = plans[0].options
    distribution.share(first.batch_size)  # refuses a batch that the processes cannot divide
    if stream.batch_size != first.batch_size:
        raise BadOption(
            f"The stream gives batches of {stream.batch_size} rows, but batch_size is {first.batch_size}; "
            "steps and tokens are counted from it, so give both the same."
        )
    if first.against != "activations" and distribution.n_processes() > 1:
        raise BadOption(f"--against {first.against} runs in one process; start it without torchrun.")
    if first.against != "activations" and not hasattr(stream, "external"):
        raise BadOption(f"--against {first.against} needs the model: give --model, --site and --text, not activations.")
    asked = {
        "site": site,
        "target": target,
        "threads": torch.get_num_threads(),
        "processes": distribution.n_processes(),
        "torch": torch.__version__,
        "kernels": [kernels.describe(p.options.kernels, torch.empty(0, device=p.options.device))[0] for p in plans],
        "members": {plan.name: plan.describe() for plan in plans},
        "stream": stream.describe(),
    }
    if distribution.leading():
        run_folder.open_folder(out, asked, resume)
    distribution.wait()
    if resume and all((out / plan.name / artefact.CHECKSUMS).exists() for plan in plans):  # written last: all is done
        if distribution.leading():
            checkpoint.remove(out)
        return [_made(out, plan) for plan in plans]
    maker = Maker(stream, site, target, first)
    gradient = [p for p in plans if class_of(p.arch).learned_by == GRADIENT]
    members = [maker.member(plan) for plan in gradient]
    finished = [plan for plan in plans if class_of(plan.arch).learned_by != GRADIENT]
    if distribution.leading() and not resume:  # from here on there is something to resume
        artefact.write_json(out / run_folder.RUN, asked)
    start = run_folder.restore(out, members) if resume else 0
    if members:
        _train(members, stream, out, maker, start, quiet, on_tick)
    golden = maker.raw(stream.sample(256, "golden"))[0]
    documents = sorted(stream.document_ids())
    harvest = getattr(stream.source, "cost", None)  # of a store; a live model's forward passes are not timed
    shared = {
        "site": site,
        "target": target,
        "stream": stream.describe(),
        "sample_rows": maker.n_sample,
        "harvest_cost": harvest,
        **(facts or {}),
    }

    def finish(made: Dictionary, plan: Plan, cost: dict[str, Any]) -> None:
        run_folder.finish(made, plan, out, golden, documents, {**shared, "cost": including(harvest, cost)})

    for plan, member in zip(gradient, members, strict=True):
        sharded = isinstance(member.dictionary, Shard)
        made = member.dictionary if sharded else member.dictionary.to("cpu")
        n_tokens, whole = first.n_steps * first.batch_size, shapes(plan.config) if sharded else made
        cost = upfront_cost(whole, member.seconds, member.flops, n_tokens, plan.options.device)
        if sharded or distribution.leading():
            finish(made, plan, cost)
    for plan in finished:
        made, cost = maker.fitted(plan)  # in every process: a live model is read by all together
        if distribution.leading():
            finish(made, plan, cost)
    if distribution.leading():
        checkpoint.remove(out)
    distribution.wait()
    return [_made(out, plan) for plan in plans]


def _made(out: Path, plan: Plan) -> Dictionary:
    """The finished dictionary of a plan; its shapes alone where it was made in shards."""
    if distribution.shards() == 1:
        return load(out / plan.name)
    made = shapes(plan.config)
    made.path = out / plan.name
    return made


def _check(plans: list[Plan]) -> None:
    names = [plan.name for plan in plans]
    if not plans:
        raise BadOption("There is nothing to train: no dictionary was named.")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise BadOption(
            f'Two dictionaries of this run are both "{twice}"; leave one out or give them different options.'
        )
    rows = {plan.config.rows for plan in plans} - {"as_is"}
    if rows:
        raise BadOption(
            f"rows is {rows.pop()}: dictionaries that normalise each row are read and evaluated, but not trained here; leave it out."
        )
    against = {plan.options.against for plan in plans} - {"activations"}
    if against and len(plans) > 1:
        raise BadOption(
            f"--against {against.pop()} trains one dictionary at a time, since each changes the model in its own way."
        )
    for plan in plans:
        if plan.options.latent_shards > 1:
            refuse(plan)
        if plan.options.init_resample and plan.init_from is None:
            raise BadOption(
                "--init-resample revives latents of a dictionary that is given by --init; give both or neither."
            )
    shared = (
        "n_tokens",
        "batch_size",
        "shuffle_rows",
        "scale",
        "stream_seed",
        "device",
        "log_every",
        "checkpoint_every",
        "latent_shards",
    )
    for plan in plans[1:]:
        for name in shared:
            if getattr(plan.options, name) != getattr(plans[0].options, name):
                raise BadOption(f"The dictionaries of one run share one stream, so {name} cannot differ between them.")


def _train(
    members: list[Member],
    stream: Stream,
    out: Path,
    maker: Maker,
    start: int,
    quiet: bool,
    on_tick: Callable[[str, dict[str, Any], Bar], None] | None,
) -> None:
    options = members[0].options
    n_steps = options.n_steps
    what = members[0].dictionary.arch if len(members) == 1 else f"{len(members)} dictionaries"
    t = start
    with (
        _stoppable() as stopped,
        workers(members) as on_all,
        progress(
            n_steps * options.batch_size, f"training {what}", "tokens", quiet=quiet, done=start * options.batch_size
        ) as bar,
    ):
        for batch in stream.batches(start, n_steps - start):
            x, y = maker.scaled(batch)
            on_all(partial(_one_step, t=t, stream=stream, x=kernels.Shared(x), y=y))
            _resample([member for member in members if member.wants_resampling(t)], t, maker)
            t += 1
            if t % options.log_every == 0 or t == n_steps:
                for member in members:
                    line = member.report(t)
                    if distribution.leading():
                        run_folder.append(out / member.name / run_folder.LOG, line)
                    if on_tick is not None:
                        on_tick(member.name, line, bar)
            stopping = distribution.agreed(stopped.is_set())
            if stopping or t % options.checkpoint_every == 0 or t == n_steps:
                checkpoint.write(out, t, {member.name: member.state() for member in members})
            if stopping and t < n_steps:
                distribution.wait()  # for the checkpoint
                raise Interrupted(f"Stopped after step {t} of {n_steps}; {out} continues with --resume.")
            bar.advance(options.batch_size)


def _resample(members: list[Member], t: int, maker: Maker) -> None:
    """Revive dead latents of these members after step t, all from one sample."""
    if members:
        x, y = maker.scaled(maker.stream.sample(SAMPLE, f"resample {t}"))
        for member in members:
            member.resample(t, x, y)


def _one_step(member: Member, t: int, stream: Stream, x: kernels.Shared, y: Tensor) -> None:
    try:
        external = getattr(stream, "external", None)  # of a stream that trains against its model
        if external is not None:
            external = partial(external, c_out=member.dictionary.scale[1])
        member.step(t, x.y, y, external, x)
    except BadInput as error:
        bad = (~(torch.isfinite(x.y).all(1) & torch.isfinite(y).all(1))).nonzero().flatten()
        if bad.numel() == 0:
            raise
        raise BadInput(
            f"{error} Row {int(bad[0])} of the batch is not finite; it is {stream.origin(t, int(bad[0]))}."
        ) from None


@contextmanager
def _stoppable() -> Generator[threading.Event]:
    """An event that Ctrl-C or a polite kill sets, so that the run stops between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {s: signal.signal(s, lambda *_: event.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
