"""Where a dictionary lies: a local path, hf://org/repo/path, or the short name of a known release.

located(name) -> Place(path, facts)     the local path; what is fetched from the hub lies in its cache
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HUB = "hf://"


@dataclass(frozen=True)
class Place:
    """`facts`: what the place says by itself: hub (with the commit), and model, site, target of a known release."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def beside(self, known: dict[str, Any]) -> dict[str, Any]:
        """What the dictionary's own files say, with what the place says where they are silent, and where it came from."""
        return {**self.facts, **known, **{name: value for name, value in self.facts.items() if name == "hub"}}


def located(name: str | Path) -> Place:
    """The local path of a dictionary; a `Path` is one already. Raises NotFound for a place that is none, Unreachable offline."""
    if isinstance(name, Path):
        return Place(name)
    if name.startswith((HUB, "hf:/")):
        from assay.interop.hub import fetched

        return fetched(name)
    if not Path(name).exists():
        from assay.interop import releases

        if (known := releases.resolve(name)) is not None:
            return known
    return Place(Path(name))
