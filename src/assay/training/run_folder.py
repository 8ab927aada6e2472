"""The folder of a run: what was asked for, logs that grow, a checkpoint to continue from, finished dictionaries.

Only the leading process of several writes in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.core import artefact, distribution, provenance
from assay.core.errors import AssayError, BadOption, NotFound
from assay.dictionaries import GRADIENT, Dictionary, save
from assay.training import checkpoint
from assay.training.export import export
from assay.training.member import Member
from assay.training.plan import Plan
from assay.training.shard import Shard

RUN = "run.json"
LOG = "log.jsonl"


def open_folder(out: Path, asked: dict[str, Any], resume: bool) -> None:
    """Refuse a folder that holds a result, or, on resuming, one that was asked for something else: the first difference is named."""
    if resume:
        if not (out / RUN).exists():
            raise NotFound(f"{out} holds no run to resume; leave --resume out to start one.")
        older = {"kernels": ["torch"] * len(asked["kernels"]), "processes": 1}  # of runs from before there was a choice
        before: dict[str, Any] = {**older, **artefact.read_json(out / RUN)}
        for member in before["members"].values():
            member["train"].setdefault("latent_shards", 1)
        for name, value in json.loads(json.dumps(asked)).items():
            if before.get(name) != value:
                what, was, now = _difference(name, before.get(name), value)
                raise BadOption(
                    f"{out} was started with {what} = {was}, now it is {now}; resume with what it was started with."
                )
        return
    artefact.refuse_existing(out, resumable=True)


def _difference(name: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The first place where two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *now]:
            if before.get(key) != now.get(key):
                return _difference(f"{name}.{key}" if name else key, before.get(key), now.get(key))
    return name, before, now


def restore(out: Path, members: list[Member]) -> int:
    """Bring the members to the latest checkpoint and cut their logs there; returns its step, 0 where there is none."""
    if not distribution.leading():
        distribution.wait()  # the leading process mends what a kill left, then the others read
    found = checkpoint.read(out)
    step, states = found or (0, {})
    for member in members:
        if found is not None:
            member.restore(*states[member.name])
        log = out / member.name / LOG
        if log.exists():  # lines after the checkpoint are written again
            lines = log.read_text().splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
            if distribution.leading():
                artefact.atomic_write(log, "".join(line + "\n" for line in kept).encode())
    if distribution.leading():
        distribution.wait()
    return step


def append(path: Path, line: dict[str, Any]) -> None:
    """One more line of a log."""
    with artefact.storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def finish(
    dictionary: Dictionary, plan: Plan, out: Path, golden: Tensor, documents: list[str], facts: dict[str, Any]
) -> None:
    """Write the finished dictionary into its folder: the leading process does, of a shard all together."""
    described = plan.describe()
    folder = out / plan.name
    folder.mkdir(parents=True, exist_ok=True)
    convention = plan.options.scale if dictionary.learned_by == GRADIENT else "none"
    write = export if isinstance(dictionary, Shard) else save
    try:
        write(
            dictionary,
            folder,
            golden=golden,
            provenance=provenance.collect(**facts, train=described["train"], init=described["init"]),
            convention=convention,
            documents=documents,
        )
    except AssayError as error:
        raise type(error)(f"{error} The trained state is kept in {out}; run again with --resume.") from None
