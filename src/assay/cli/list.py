"""assay list: what there is."""

from __future__ import annotations

import dataclasses
import json
from typing import Literal

from assay.cli.parsing import parse

ABOUT = """Say what there is: architectures, the sites of a model, studies, shipped texts, or releases of other people's dictionaries.

  assay list archs
  assay list sites --model storyworld
  assay list studies
  assay list texts
  assay list releases
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    what: Literal["archs", "sites", "studies", "texts", "releases"]
    """What to list."""
    model: str = "storyworld"
    """The model whose sites are listed."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("list", ABOUT, argv, Flags, positional=("what",))
    found = {"archs": _archs, "sites": _sites, "studies": _studies, "texts": _texts, "releases": _releases}[flags.what](
        flags.model
    )
    if flags.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found), default=0)
        for name, about in found.items():
            print(f"  {name:<{width}}  {about}")
    return 0


def _archs(_: str) -> dict[str, str]:
    import sys

    from assay import dictionaries

    about: dict[str, str] = {}
    for name in dictionaries.names():
        dictionaries.class_of(name)
        doc = sys.modules[f"assay.dictionaries.{name}"].__doc__ or ""
        about[name] = doc.strip().splitlines()[0]
    return about


def _sites(model: str) -> dict[str, str]:
    from assay import models

    opened = models.load(model)
    return {site: f"width {opened.width(site)}" for site in opened.sites()}


def _studies(_: str) -> dict[str, str]:
    from assay import studies

    return {name: studies.about(name) for name in studies.names()}


def _releases(_: str) -> dict[str, str]:
    from assay.interop import releases

    return releases.about()


def _texts(_: str) -> dict[str, str]:
    from assay.core import shipped

    return {
        name: f"{shipped.text_path(name).stat().st_size / 1e6:.1f} MB, ships with assay" for name in shipped.texts()
    }
