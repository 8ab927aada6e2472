"""Checkpoints: whole or absent. A run keeps the latest; it is renamed into place before the one before it is removed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.core import artefact

State = dict[str, tuple[dict[str, "Tensor"], dict[str, Any]]]


def write(folder: Path, step: int, members: State) -> None:
    """Write the state after `step` steps of every member as `folder/checkpoint-<step>/` and remove older ones."""
    target = folder / f"checkpoint-{step:09d}"
    if not target.exists():
        with artefact.new_folder(target) as temporary:
            for i, (tensors, _) in enumerate(members.values()):
                artefact.write_tensors(temporary / f"{i}.safetensors", tensors)
            numbers = {name: numbers for name, (_, numbers) in members.items()}
            artefact.write_json(temporary / "state.json", {"schema": artefact.SCHEMA, "step": step, "members": numbers})
    for older in all_of(folder):
        if older != target:
            shutil.rmtree(older)


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
    members: State = {
        name: (artefact.read_tensors(latest / f"{i}.safetensors"), numbers)
        for i, (name, numbers) in enumerate(state["members"].items())
    }
    return state["step"], members


def remove(folder: Path) -> None:
    for path in all_of(folder):
        shutil.rmtree(path)
