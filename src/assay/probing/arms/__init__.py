"""Dense and black-box arms: one file an arm, found by listing this folder.

A file states ABOUT (one line), ROLE, ACCESS (text or activations), SLOW (whether it takes seconds a task), and
`run(material, jobs) -> one Scored a job`. `missing(material)` says in a sentence why an arm does not apply, or nothing. Everything that
learns from labels does so from a job's training rows and folds; `protocol.choose` makes the choice.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from typing import Protocol, cast

from assay.core.arms import Role
from assay.core.errors import NotFound, nearest
from assay.core.outcome import Access
from assay.probing.protocol import Job, Material, Scored

NOT_ARMS = {"per_fold", "pooled"}


class DenseArm(Protocol):
    """What the file of an arm offers."""

    ABOUT: str
    ROLE: Role
    ACCESS: Access
    SLOW: bool

    def run(self, material: Material, jobs: Sequence[Job]) -> list[Scored]: ...


def names() -> list[str]:
    """The arms: the files of this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in NOT_ARMS)


def arm(name: str) -> DenseArm:
    """The file of an arm; an unknown name raises `NotFound` with the nearest."""
    if name not in names():
        raise NotFound(f'"{name}" is not an arm.{nearest(name, names())}')
    return cast(DenseArm, importlib.import_module(f"{__name__}.{name}"))


def missing(name: str, material: Material) -> str | None:
    """Why an arm does not apply to a task, or None."""
    said = getattr(arm(name), "missing", None)
    return None if said is None else said(material)
