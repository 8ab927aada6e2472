"""One dictionary at the table: which arm it belongs to, which role that arm plays, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

ROLES = ("method", "baseline", "control", "floor")


class Coder(Protocol):
    """What evaluation asks of a dictionary; any object with these two is measured, in raw activation space.

    Read where present: `encode_sparse(x) -> Codes`, `encode(x, training=True)`, `arch`, `config.d_in`, `config.d_sae`,
    `W_dec`, `path` (with `weights.safetensors` and `documents.json`, the ids of its training documents), and
    `provenance`, a mapping with `site`, `model`, `model_hash`, `document_ids`, `cost` (of `core.outcome.Cost`).
    """

    def encode(self, x: Any) -> Any: ...
    def decode(self, f: Any) -> Any: ...


@dataclass(frozen=True)
class Entry:
    """A dictionary with its place in the study.

    arm: its name in tables and pictures, shared by all sparsities and seeds of one architecture ("gated").
    role: method | baseline | control | floor.
    subject: the hash of the artefact; empty: taken from the weights.
    seed: of its training; `core.arms.SEEDLESS` for what no seed changes (pca, raw).
    options: what distinguishes this one inside its arm ({"l1_coef": 0.6}); empty: the dictionary's own options.
    cost: what it took to make (`core.outcome.Cost`, upfront part); evaluation fills in the marginal part.
    trained_on: ids of the documents it was trained on; None: taken from the dictionary's provenance where it says so.
    """

    arm: str
    role: str
    dictionary: Any
    subject: str = ""
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    cost: Any | None = None
    trained_on: frozenset[str] | None = None
