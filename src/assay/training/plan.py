"""One dictionary to make: its name, its options, and those of its training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.config import to_json
from assay.dictionaries import Dictionary
from assay.training.options import TrainConfig


@dataclass(frozen=True)
class Plan:
    """One dictionary to make: where it goes (relative to the run's folder), what it is, how it is trained."""

    name: str
    config: Any
    options: TrainConfig
    init_from: Path | Dictionary | None = None  # an existing dictionary whose parameters it starts from

    @property
    def arch(self) -> str:
        return type(self.config).__module__.rsplit(".", 1)[-1]

    @property
    def init_name(self) -> str | None:
        """How the dictionary it starts from is called: its address on the hub, or its folder."""
        start = self.init_from
        if isinstance(start, Dictionary):
            start = start.provenance.get("hub") or start.path
        return None if start is None else str(start)

    def describe(self) -> dict[str, Any]:
        options, train = to_json(self.config), to_json(self.options)
        return {"arch": self.arch, "options": options, "train": train, "init": self.init_name}
