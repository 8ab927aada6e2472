"""One loop for all: a stream of activations trains any number of dictionaries side by side.

A run's folder holds run.json (what was asked for), a log and a checkpoint while it runs, and the finished dictionaries at the
end. Killed at any moment, it continues from its checkpoint to the same weights, bit for bit: rows, schedules and random numbers
depend on the step alone.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.activations import Stream, each, together
from assay.core import artefact, provenance
from assay.core.config import to_json
from assay.core.errors import AssayError, BadInput, BadOption, NotFound
from assay.core.progress import Bar, progress
from assay.core.randomness import torch_rng
from assay.dictionaries import GRADIENT, Dictionary, build, class_of, load, save
from assay.dictionaries.wiring import along
from assay.training import checkpoint
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.step import trainable
from assay.training.workers import workers

SAMPLE = 16_384  # rows for scale, initialisation and resampling
RUN = "run.json"
LOG = "log.jsonl"


@dataclass(frozen=True)
class Plan:
    """One dictionary to make: where it goes (relative to the run's folder), what it is, how it is trained."""

    name: str
    config: Any
    options: TrainConfig
    init_from: Path | None = None  # an existing dictionary whose parameters it starts from

    @property
    def arch(self) -> str:
        return type(self.config).__module__.rsplit(".", 1)[-1]

    def describe(self) -> dict[str, Any]:
        start = None if self.init_from is None else str(self.init_from)
        return {"arch": self.arch, "options": to_json(self.config), "train": to_json(self.options), "init": start}


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
    """Make every plan's dictionary from one stream, each in `out / plan.name`; returns them in raw space.

    site: the activations that are read; target: those predicted, the same when not given; several are written with commas. facts: what provenance should say of
    model and text. Raises BadOption when `out` holds another run, BadInput on unusable activations.
    """
    _check(plans)
    if stream.batch_size != plans[0].options.batch_size:
        raise BadOption(
            f"The stream gives batches of {stream.batch_size} rows, but batch_size is {plans[0].options.batch_size}; "
            "steps and tokens are counted from it, so give both the same."
        )
    if plans[0].options.against != "activations" and not hasattr(stream, "external"):
        raise BadOption(
            f"--against {plans[0].options.against} needs the model: give --model, --site and --text, not activations."
        )
    out = Path(out)
    asked = {
        "site": site,
        "target": target,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "members": {plan.name: plan.describe() for plan in plans},
        "stream": stream.describe(),
    }
    _open_folder(out, asked, resume)
    if resume and all((out / plan.name / artefact.CHECKSUMS).exists() for plan in plans):  # written last: all is done
        checkpoint.remove(out)
        return [load(out / plan.name) for plan in plans]
    first = plans[0].options
    maker = _Maker(stream, site, target, first)
    gradient = [p for p in plans if class_of(p.arch).learned_by == GRADIENT]
    members = [maker.member(plan) for plan in gradient]
    finished = [plan for plan in plans if class_of(plan.arch).learned_by != GRADIENT]
    start = _restore(out, members) if resume else 0
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
    for plan, member in zip(gradient, members, strict=True):
        made = member.dictionary.to("cpu")
        cost = _cost(made, member.seconds, member.flops, first.n_steps * first.batch_size, plan.options.device)
        _finish(made, plan, out, golden, documents, {**shared, "cost": _including(harvest, cost)})
    for plan in finished:
        made, cost = maker.fitted(plan)
        _finish(made, plan, out, golden, documents, {**shared, "cost": _including(harvest, cost)})
    checkpoint.remove(out)
    return [load(out / plan.name) for plan in plans]


def _check(plans: list[Plan]) -> None:
    names = [plan.name for plan in plans]
    if not plans:
        raise BadOption("There is nothing to train: no dictionary was named.")
    if len(set(names)) != len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise BadOption(
            f'Two dictionaries of this run are both "{twice}"; leave one out or give them different options.'
        )
    against = {plan.options.against for plan in plans} - {"activations"}
    if against and len(plans) > 1:
        raise BadOption(
            f"--against {against.pop()} trains one dictionary at a time, since each changes the model in its own way."
        )
    for plan in plans:
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
    )
    for plan in plans[1:]:
        for name in shared:
            if getattr(plan.options, name) != getattr(plans[0].options, name):
                raise BadOption(f"The dictionaries of one run share one stream, so {name} cannot differ between them.")


def _open_folder(out: Path, asked: dict[str, Any], resume: bool) -> None:
    if resume:
        if not (out / RUN).exists():
            raise NotFound(f"{out} holds no run to resume; leave --resume out to start one.")
        before = artefact.read_json(out / RUN)
        for name, value in json.loads(json.dumps(asked)).items():
            if before.get(name) != value:
                what, was, now = _difference(name, before.get(name), value)
                raise BadOption(
                    f"{out} was started with {what} = {was}, now it is {now}; resume with what it was started with."
                )
        return
    artefact.refuse_existing(out, resumable=True)
    artefact.write_json(out / RUN, asked)


def _difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first place where two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                return _difference(f"{name}.{key}" if name else key, before.get(key), now.get(key))
    return name, before, now


def _restore(out: Path, members: list[Member]) -> int:
    found = checkpoint.read(out)
    step, states = found or (0, {})
    for member in members:
        if found is not None:
            member.restore(*states[member.name])
        log = out / member.name / LOG
        if log.exists():  # lines after the checkpoint are written again
            lines = log.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            artefact.atomic_write(log, "".join(line + "\n" for line in kept).encode())
    return step


class _Maker:
    """Makes members and fitted dictionaries from one stream: scale, sample, initialisation."""

    def __init__(self, stream: Stream, site: str, target: str | None, options: TrainConfig) -> None:
        self.stream, self.site, self.target, self.options = stream, site, target, options
        x, y = self.raw(stream.sample(SAMPLE, "init"))
        self.n_sample = len(x)
        widths = [[stream.width(single) for single in each(name)] for name in (site, target or site)]
        self.scale = scales_of(x, widths[0], options.scale), scales_of(y, widths[1], options.scale)
        self.divisors = [along(c, w).float() for c, w in zip(self.scale, widths, strict=True)]
        self.sample = x / self.divisors[0], y / self.divisors[1]
        self.variance = float(self.sample[1].double().var(0, correction=0).sum())
        self.fits: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}

    def raw(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = together(batch, self.site).float()
        return x, (x if self.target is None else together(batch, self.target).float())

    def scaled(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = self.raw(batch)
        x = (x / self.divisors[0]).to(self.options.device)
        return x, (x if self.target is None else (y / self.divisors[1]).to(self.options.device))

    def member(self, plan: Plan) -> Member:
        if plan.config.d_in != self.sample[0].shape[1]:
            raise BadOption(
                f"{plan.name} has d_in={plan.config.d_in}, but the activations at {self.site} have width {self.sample[0].shape[1]}."
            )
        dictionary = build(plan.config, torch_rng(plan.options.seed, "init", plan.arch), *self.sample)
        dictionary.scale = self.scale
        if plan.init_from is not None:
            self.adopt(dictionary, plan.init_from)
        member = Member(plan.name, dictionary, plan.options, self.variance)
        if plan.options.init_resample:
            member.revive(*(part.to(plan.options.device) for part in self.sample))
        return member

    def adopt(self, dictionary: Dictionary, path: Path) -> None:
        """Start from an existing dictionary: its raw-space export, unfolded with this run's scale."""
        old = load(path)
        was, now = [(d.arch, d.d_in, d.d_sae, d.d_out) for d in (old, dictionary)]
        if was != now or old.blocks != dictionary.blocks:
            raise BadOption(
                f"--init {path} is a {was[0]} dictionary of {was[1:]} (d_in, d_sae, d_out); this run makes a {now[0]} of "
                f"{now[1:]}. Give the same --arch and --d-sae."
            )
        forms = [(d.pre_bias, d.unit_norm, set(d.state_dict())) for d in (old, dictionary)]
        if forms[0] != forms[1]:
            raise BadOption(
                f"--init {path} is another form of {old.arch} ({old.config}); give the options of that form."
            )
        dictionary.load_state_dict(old.rescaled(*dictionary.scale, unfold=True))

    def fitted(self, plan: Plan) -> tuple[Dictionary, dict[str, Any]]:
        """A dictionary that is learned by `fit`: one pass over at most the run's tokens, in raw space.

        Dictionaries that differ only in options that `fit` does not read (k of pca) share one fit, and its cost is each one's.
        """
        cls = class_of(plan.arch)
        dictionary = cls(plan.config)
        read = {name: value for name, value in to_json(plan.config).items() if name not in cls.fit_free}
        key = json.dumps([plan.arch, plan.options.seed, read], sort_keys=True)
        if key not in self.fits:
            n_rows = min(self.options.n_steps * self.options.batch_size, self.stream.n_rows)
            n_steps = max(1, n_rows // self.options.batch_size)
            started = provenance.seconds()
            chunks = (self.raw(batch)[0] for batch in self.stream.batches(0, n_steps))
            dictionary.fit(chunks, torch_rng(plan.options.seed, "fit", plan.arch))
            seconds = provenance.seconds() - started
            cost = _cost(dictionary, seconds, None, n_steps * self.options.batch_size, "cpu")
            self.fits[key] = dictionary.state_dict(), cost
        state, cost = self.fits[key]
        dictionary.load_state_dict(state)
        return dictionary, cost


def scales_of(x: Tensor, widths: list[int], convention: str) -> float | list[float]:
    """`scale_of` each site in the columns of x [n, sum of widths]; a single number for a single site."""
    found = [scale_of(part, convention) for part in x.split(widths, dim=1)]
    return found[0] if len(found) == 1 else found


def scale_of(x: Tensor, convention: str) -> float:
    """C such that x / C is in training space: E x_j^2 = 1 (rms1), E ||x||^2 = 1 (norm1), or 1 (none)."""
    if convention == "none":
        return 1.0
    mean_square = float(x.double().pow(2).mean())
    return (mean_square * (x.shape[1] if convention == "norm1" else 1)) ** 0.5


def _including(shared: dict[str, Any] | None, cost: dict[str, Any]) -> dict[str, Any]:
    """The cost of a dictionary with that of the harvest that it shares with others."""
    return cost if shared is None else {**cost, "includes": [shared["id"]]}


def _cost(dictionary: Dictionary, seconds: float, flops: int | None, tokens: int, device: str) -> dict[str, Any]:
    """The upfront part of a `core.outcome.Cost`: this dictionary's own steps. Harvesting is a cost of its own."""
    return {
        "access": "activations",
        "upfront_tokens": tokens,
        "upfront_seconds": seconds,
        "upfront_flops": flops,
        "params_trained": sum(p.numel() for p in trainable(dictionary).values()),
        "peak_bytes": provenance.peak_bytes(),
        "device": device,
        "n_threads": torch.get_num_threads(),
    }


def _train(
    members: list[Member],
    stream: Stream,
    out: Path,
    maker: _Maker,
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
            on_all(partial(_one_step, t=t, stream=stream, xy=maker.scaled(batch)))
            _resample([member for member in members if member.wants_resampling(t)], t, maker)
            t += 1
            if t % options.log_every == 0 or t == n_steps:
                for member in members:
                    line = member.report(t)
                    _append(out / member.name / LOG, line)
                    if on_tick is not None:
                        on_tick(member.name, line, bar)
            if stopped.is_set() or t % options.checkpoint_every == 0 or t == n_steps:
                checkpoint.write(out, t, {member.name: member.state() for member in members})
            if stopped.is_set() and t < n_steps:
                raise Interrupted(f"Stopped after step {t} of {n_steps}; {out} continues with --resume.")
            bar.advance(options.batch_size)


def _resample(members: list[Member], t: int, maker: _Maker) -> None:
    """Revive dead latents of these members after step t, all from one sample."""
    if members:
        x, y = maker.scaled(maker.stream.sample(SAMPLE, f"resample {t}"))
        for member in members:
            member.resample(t, x, y)


def _one_step(member: Member, t: int, stream: Stream, xy: tuple[Tensor, Tensor]) -> None:
    x, y = xy
    try:
        external = getattr(stream, "external", None)  # of a stream that trains against its model
        if external is not None:
            external = partial(external, c_out=member.dictionary.scale[1])
        member.step(t, x, y, external)
    except BadInput as error:
        bad = (~(torch.isfinite(x).all(1) & torch.isfinite(y).all(1))).nonzero().flatten()
        if bad.numel() == 0:
            raise
        raise BadInput(
            f"{error} Row {int(bad[0])} of the batch is not finite; it is {stream.origin(t, int(bad[0]))}."
        ) from None


def _append(path: Path, line: dict[str, Any]) -> None:
    with artefact.storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


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


def _finish(
    dictionary: Dictionary, plan: Plan, out: Path, golden: Tensor, documents: list[str], facts: dict[str, Any]
) -> None:
    described = plan.describe()
    folder = out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    convention = plan.options.scale if dictionary.learned_by == GRADIENT else "none"
    try:
        save(
            dictionary,
            folder,
            golden=golden,
            provenance=provenance.collect(**facts, train=described["train"], init=described["init"]),
            convention=convention,
            documents=documents,
        )
    except AssayError as error:
        raise type(error)(f"{error} The trained state is kept in {out}; run again with --resume.") from None
