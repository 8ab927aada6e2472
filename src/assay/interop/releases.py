"""Well-known releases by short names: gemma-scope-2b-res/layer_12/width_16k/l0_82. The list is data/releases.json, and says how it was checked.

resolve(name) -> Place | None       the local copy, fetched from the hub; None where the name is of no release and near to none
about() -> {name: "..."}            for `assay list releases`
facts_of(repo, path) -> dict        model, site and target that the list knows of a place on the hub
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from assay.core.artefact import read_json
from assay.core.errors import NotFound
from assay.core.shipped import DATA
from assay.interop.places import HUB, Place

FILE = DATA / "releases.json"
NEAR = 0.6  # a misspelt name is taken for a release where it is this similar to one
BRACES = {"layer": r"\d+", "all": "(?:_all)?"}


@cache
def known() -> dict[str, dict[str, Any]]:
    """{name: its entry}; names under `also` stand for the same entry."""
    entries: list[dict[str, Any]] = read_json(FILE)["releases"]
    return {name: entry for entry in entries for name in (entry["name"], *entry["also"])}


def about() -> dict[str, str]:
    """One line a release: an example, the model, and where it lies."""
    return {
        name: f"{entry['model']}, {HUB}{entry['repo']}; such as {name}/{entry['example']}"
        for name, entry in known().items()
        if name == entry["name"]
    }


def resolve(name: str) -> Place | None:
    """The place that a short name stands for. Raises NotFound, with what is nearest, where it is nearly one."""
    if name.startswith((".", "/", "~")):
        return None
    release, _, rest = name.partition("/")
    entry = known().get(release)
    if entry is None:
        near = difflib.get_close_matches(release, known(), n=1, cutoff=NEAR)
        if not near:
            return None
        raise NotFound(
            f'"{name}" is no folder, and "{release}" no known release. Did you mean "{near[0]}"? assay list releases shows all.'
        )
    from assay.interop.hub import fetched

    return fetched(f"{HUB}{entry['repo']}/{path_of(release, entry, rest.strip('/'))}")


def path_of(release: str, entry: dict[str, Any], rest: str) -> str:
    """The path inside the repository that `rest` stands for. Raises NotFound with an example, or with the layers there are."""
    for path, found in _matches(entry, rest):
        layers, layer = entry["layers"], int(found.get("layer", 0))
        listed = list(range(layers)) if isinstance(layers, int) else layers
        if "layer" in found and layer not in listed:
            which = f"0 to {listed[-1]}" if isinstance(layers, int) else ", ".join(map(str, listed))
            raise NotFound(f'"{release}/{rest}" names layer {layer}; {release} has layers {which}.')
        return path["path"].format_map(found)
    forms = " or ".join(path.get("short", path["path"]) for path in entry["paths"])
    raise NotFound(
        f'"{release}" is followed by {forms}, such as {release}/{entry["example"]}; "{rest}" is none of these.'
    )


def facts_of(repo: str, path: str) -> dict[str, Any]:
    """What the list knows of a place on the hub; nothing of a place that is not in it."""
    for entry in known().values():
        if entry["repo"] == repo:
            for form, found in _matches(entry, path):
                sites = {name: form[name].format_map(found) for name in ("site", "target") if name in form}
                return {"model": entry["model"], **sites}
    return {}


def _matches(entry: dict[str, Any], rest: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """(path, what its braces stand for) of every path that `rest` is, in full or in short, with or without the file at its end."""
    for path in entry["paths"]:
        for form in (path["path"], path.get("short", path["path"])):
            pattern = re.sub(r"\\\{(\w+)\\\}", lambda m: f"(?P<{m[1]}>{BRACES.get(m[1], '[^/]+')})", re.escape(form))
            if match := re.fullmatch(pattern + r"(?:/[\w.]+\.(?:npz|safetensors|pt))?", rest):
                yield path, match.groupdict(default="")
