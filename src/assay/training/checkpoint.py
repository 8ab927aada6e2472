"""Checkpoints: whole or absent. A run keeps the latest; it is renamed into place before the one before it is removed.

Where latents are divided, each shard writes a folder of its own, `checkpoint-<step>/shard-<i>/`, and the leading process renames the
checkpoint when all are there. A process reads its own shard only.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.core import artefact, distribution

State = dict[str, tuple[dict[str, "Tensor"], dict[str, Any]]]


def write(folder: Path, step: int, members: State) -> None:
    """Write the state after `step` steps of every member as `folder/checkpoint-<step>/` and remove older ones; all processes call it."""
    target = folder / f"checkpoint-{step:09d}"
    if distribution.shards() > 1:
        _write_together(target, step, members)
    elif distribution.leading() and not target.exists():
        with artefact.new_folder(target) as temporary:
            _write_state(temporary, step, members)
    if distribution.leading():
        for older in all_of(folder):
            if older != target:
                shutil.rmtree(older)


def _write_state(folder: Path, step: int, members: State) -> None:
    for i, (tensors, _) in enumerate(members.values()):
        artefact.write_tensors(folder / f"{i}.safetensors", tensors)
    numbers = {name: numbers for name, (_, numbers) in members.items()}
    artefact.write_json(folder / "state.json", {"schema": artefact.SCHEMA, "step": step, "members": numbers})


def _write_together(target: Path, step: int, members: State) -> None:
    """One folder a shard, by the processes of the first row part; the checkpoint has its name only when all are whole."""
    if distribution.agreed(distribution.leading() and target.exists()):
        return
    temporary = target.with_name(f".{target.name}.shards.partial")
    with artefact.storage(target):
        if distribution.leading():
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        distribution.wait()
        if distribution.row_part() == 0:
            mine = temporary / f"shard-{distribution.shard()}"
            mine.mkdir()
            _write_state(mine, step, members)
            artefact.write_checksums(mine)
            artefact.sync_folder(mine)
        distribution.wait()
        if distribution.leading():
            what = {"schema": artefact.SCHEMA, "step": step, "latent_shards": distribution.shards()}
            artefact.write_json(temporary / "state.json", what)
            artefact.write_checksums(temporary, ["state.json"])
            artefact.sync_folder(temporary)
            os.replace(temporary, target)
            artefact.sync_folder(target.parent)


def all_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("checkpoint-*") if p.is_dir())


def read(folder: Path) -> tuple[int, State] | None:
    """The latest checkpoint, or None. A torn or altered one raises Corrupt and is named."""
    for torn in folder.glob(".checkpoint-*.partial"):  # a process was killed while it wrote
        shutil.rmtree(torn)
    found = all_of(folder)
    if not found:
        return None
    latest = found[-1]
    artefact.verify_checksums(latest)
    state = artefact.read_json(latest / "state.json")
    if "latent_shards" in state:
        latest = latest / f"shard-{distribution.shard()}"
        artefact.verify_checksums(latest)
        state = artefact.read_json(latest / "state.json")
    members: State = {
        name: (artefact.read_tensors(latest / f"{i}.safetensors"), numbers)
        for i, (name, numbers) in enumerate(state["members"].items())
    }
    return state["step"], members


def remove(folder: Path) -> None:
    for path in all_of(folder):
        shutil.rmtree(path)
