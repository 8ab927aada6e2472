"""Opening dictionaries, wherever they come from, and writing them for others. One foreign format is one file in this folder.

open(path) -> Dictionary          our own format, or any that is recognised by its content; in raw space, ready to encode
start(path, config) -> Dictionary     the same to train on from, in the form that `config` trains
inspect(path) -> dict             what was found: format, widths, site, conventions, and checks of the numbers
verify(path) -> dict              golden vectors recomputed
convert(src, dst, to) -> dict     writes another format, reads it back and compares golden codes and outputs
names() -> ["dictionary_learning", ...]      "assay" is our own

A format's file has ABOUT (one line), HOLDS (the rules that it can say), WIRINGS (what it holds of `WIRED`), detects(path) (by content),
read(path) -> Parts, or Layers, and write(parts, folder), which refuses what the format cannot represent in one sentence that names the part.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from assay.core import artefact
from assay.core.errors import AssayError, BadInput, BadOption, NotFound, nearest
from assay.dictionaries import Dictionary, load, save
from assay.dictionaries import verify as verify_own
from assay.dictionaries.files import CONFIG, GOLDEN
from assay.interop.places import located

if TYPE_CHECKING:
    from assay.interop.layers import Layers
    from assay.interop.parts import Parts
    from assay.interop.told import Told

OWN = "assay"
WIRED = {
    "sae": "a dictionary that predicts what it reads",
    "transcoder": "a transcoder",
    "perlayer": "a set of transcoders, one a layer",
    "crosslayer": "a cross-layer transcoder",
}
NOT_FORMATS = {
    "folding",
    "foreign_files",
    "golden",
    "hub",
    "layers",
    "ours",
    "ours_layers",
    "parts",
    "places",
    "pushing",
    "releases",
    "site_names",
    "starting",
    "told",
    "torch_files",
}


class Format(Protocol):
    """What the file of a format offers."""

    ABOUT: str
    HOLDS: frozenset[str]
    WIRINGS: tuple[str, ...]

    def detects(self, path: Path) -> bool: ...

    def read(self, path: Path) -> Parts | Layers: ...

    def write(self, parts: Any, folder: Path) -> None: ...


def names() -> list[str]:
    """The foreign formats: the files of this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in NOT_FORMATS)


def format_of(name: str) -> Format:
    """The module of a format; an unknown name raises `NotFound` with the nearest."""
    if name not in names():
        raise NotFound(f'"{name}" is not a format.{nearest(name, [OWN, *names()])}')
    return cast(Format, importlib.import_module(f"{__name__}.{name}"))


def is_own(path: Path) -> bool:
    """Whether a folder is of our own format, whole or torn."""
    return (path / artefact.CHECKSUMS).is_file() and (path / CONFIG).is_file()


def detect(path: str | Path) -> str:
    """The name of the format at `path`. Raises NotFound when there is nothing that is known."""
    place = located(path).path
    if is_own(place):
        return OWN
    for name in names():
        if place.exists() and format_of(name).detects(place):
            return name
    if not place.exists() or (place / CONFIG).is_file() or (place / "run.json").is_file():
        load(place)  # raises, and knows best what is missing
    raise NotFound(f"{place} holds no dictionary that is known; formats are {', '.join([OWN, *names()])}.")


def read(path: str | Path, name: str | None = None, told: Told | None = None) -> Parts | Layers:
    """The parts of a dictionary of any format, as its file states them; `told` where the format leaves something out (`ASKS`)."""
    from assay.interop.ours import from_dictionary

    place = located(path).path
    name = name or detect(place)
    if told and (name == OWN or not getattr(format_of(name), "ASKS", False)):
        raise BadOption(
            f"{path} is a {name} dictionary, which says its rule itself; leave --rule, --k and --threshold out."
        )
    if name == OWN:
        return from_dictionary(load(place))
    reader: Any = format_of(name).read
    return reader(place, told) if told else reader(place)


def open(path: str | Path) -> Dictionary:
    """A dictionary in raw space, ready to encode. Raises NotFound, Corrupt or BadInput in one sentence."""
    found = located(path)
    name = detect(found.path)
    made = load(found.path) if name == OWN else _opened(read(found.path, name), found.path)
    made.provenance = found.beside(made.provenance)
    return made


def start(path: str | Path, config: Any) -> Dictionary:
    """A dictionary to train on from, in raw space: ours as it is, another tool's in the form of an architecture's `config`."""
    from assay.interop.starting import as_form

    found = located(path)
    name = detect(found.path)
    made = load(found.path) if name == OWN else as_form(read(found.path, name), config, str(path))
    made.path, made.provenance = found.path, found.beside(made.provenance)
    return made


def verify(path: str | Path) -> dict[str, Any]:
    """Recompute the golden vectors: ours, or those that a conversion left beside a foreign file. Raises Corrupt, BadInput, NotFound."""
    place = located(path).path
    name = detect(place)
    if name == OWN:
        return verify_own(place)
    parts = read(place, name)
    checked = _carried(parts, place)
    if checked is None:
        raise NotFound(
            f"{path} is a {name} dictionary without golden vectors of a conversion beside it, so there is nothing to verify it "
            "against; assay inspect checks its files."
        )
    return {"path": str(path), "format": name, "arch": parts.rule, **checked}


def _opened(parts: Parts | Layers, path: Path) -> Dictionary:
    from assay.interop.ours import to_dictionary

    made = to_dictionary(parts)
    made.path = path
    return made


def inspect(path: str | Path, told: Told | None = None) -> dict[str, Any]:
    """What is at `path`, in plain words and numbers, checked but not converted."""
    found_at = located(path)
    place = found_at.path
    name = detect(place)
    dictionary = load(place) if name == OWN else None
    try:
        parts = read(place, name, told)
    except AssayError:
        if dictionary is None:
            raise
        parts = None  # one of ours that no other format could hold
    opened = dictionary if dictionary is not None else _opened(cast("Parts", parts), place)
    said = found_at.beside(opened.provenance)
    found: dict[str, Any] = {
        "path": str(path),
        "format": name,
        "arch": opened.arch,
        "d_in": opened.d_in,
        "d_sae": opened.d_sae,
        "d_out": opened.d_out,
        **{key: said.get(key) for key in ("model", "site", "target")},
    }
    if name == OWN:
        found |= _own_conventions(place, opened, parts) | {"verified": verify_own(place)}
    else:
        found |= {k: v for k, v in opened.provenance["read_from"].items() if k != "format"}
        if parts is not None:
            found |= {"golden": _carried(parts, place)}
    return found | ({} if parts is None else {"numbers": _numbers(parts)})


def _own_conventions(place: Path, opened: Dictionary, parts: Parts | Layers | None) -> dict[str, Any]:
    from assay.interop.site_names import NOT_SUBTRACTED, RAW, SUBTRACTED, threshold_of

    scale = artefact.read_json(place / CONFIG)["scale"]
    return {
        "architecture": opened.arch,
        "scale": f"{RAW}; trained in {scale['convention']}, x / {scale['c_in']}"
        if opened.config.rows == "as_is"
        else f"each row by itself: {opened.config.rows}",
        "threshold": "see the architecture" if parts is None else threshold_of(parts.rule, parts.k),
        "b_dec": SUBTRACTED if opened.pre_bias else NOT_SUBTRACTED,
        "notes": [],
    }


def _numbers(parts: Parts | Layers) -> dict[str, Any]:
    """Plain checks of the weights: lengths of decoder rows, cosine with the encoder, thresholds."""
    from assay.interop.parts import Parts

    norms = parts.norms
    checked: dict[str, Any] = {
        "decoder_norm": [float(norms.min()), float(norms.median()), float(norms.max())],
        "zero_rows": int((norms == 0).sum()),
        "zero_columns": int((parts.encoder_norms == 0).sum()),
    }
    if isinstance(parts, Parts) and parts.d_in == parts.d_out:
        product = (parts.W_enc.t() * parts.W_dec).sum(1)
        cosine = product / (parts.W_enc.norm(dim=0) * norms).clamp_min(1e-30)
        checked["encoder_decoder_cosine"] = float(cosine.median())
    if "theta" in parts.vectors:
        theta = parts.vectors["theta"]
        checked["theta"] = [float(theta.min()), float(theta.median()), float(theta.max())]
    if parts.threshold is not None:
        checked["threshold"] = parts.threshold
    return checked


def _carried(parts: Parts | Layers, path: Path) -> dict[str, float] | None:
    """Recompute the golden vectors that a conversion of ours left beside the file; None where there are none."""
    from assay.interop.foreign_files import inside, is_there, safetensors_of
    from assay.interop.golden import TOLERANCE

    folder = path if path.is_dir() else path.parent
    if not is_there(folder, GOLDEN):
        return None
    golden = safetensors_of(inside(folder, GOLDEN))
    if (
        not {"x", "x_hat"} <= set(golden)
        or golden["x"].shape[-1] != parts.d_in
        or golden["x_hat"].shape[-1] != parts.d_out
    ):
        raise BadInput(
            f"{folder / GOLDEN} holds golden vectors of another dictionary; remove it or restore the weights."
        )
    x = golden["x"].double()
    p = parts.double()
    y, then = p.predict(x, p.codes(x)), golden["x_hat"].double()
    off = (y - then).abs().amax(1) > TOLERANCE * then.abs().max().clamp_min(1e-30)
    if int(off.sum()) > max(1, len(x) // 16):  # a pair at its threshold may change sides, and a row with it
        raise BadInput(
            f"{folder}: {int(off.sum())} of {len(x)} golden rows come out differently; the weights were altered."
        )
    return {"rows": len(x), "rows_at_a_threshold": int(off.sum())}


def write(dictionary: Dictionary, folder: str | Path, to: str) -> None:
    """Write a dictionary in a foreign format. Raises BadInput with the part that it cannot represent."""
    from assay.interop.ours import from_dictionary

    with _foreign_folder(Path(folder)) as place:
        _written(from_dictionary(dictionary), place, to)


@contextmanager
def _foreign_folder(place: Path) -> Generator[Path]:
    """A folder that appears whole or not at all, without the checksums that mark our own format."""
    with artefact.new_folder(place) as folder:
        yield folder
    (place / artefact.CHECKSUMS).unlink(missing_ok=True)


def _written(parts: Parts | Layers, place: Path, to: str) -> Parts | Layers:
    """Write parts in a format and return what was written; codes stay, but the rule may become jumprelu where that is exact."""
    from assay.interop import folding
    from assay.interop.layers import Layers

    target = format_of(to)
    wired = parts.wiring if isinstance(parts, Layers) else "transcoder" if parts.transcoder else "sae"
    if wired not in target.WIRINGS:
        raise BadInput(f"{to} holds {' or '.join(WIRED[w] for w in target.WIRINGS)}; this is {WIRED[wired]}.")
    parts = folding.plain(parts)
    if not isinstance(parts, Layers) and parts.rows not in getattr(target, "ROWS", ("as_is",)):
        try:
            parts = folding.constant_norm(parts)
        except BadInput as error:
            raise BadInput(f"{to} cannot represent this dictionary. {error}") from None
    if parts.rule not in target.HOLDS:
        if "jumprelu" not in target.HOLDS or parts.rule in ("topk", "abstopk"):
            raise BadInput(
                f"{to} cannot represent the rule {parts.rule}: it holds {', '.join(sorted(target.HOLDS))} only."
            )
        parts = folding.as_jumprelu(parts)
    elif parts.rule == "gated" and parts.transcoder and "jumprelu" in target.HOLDS:
        parts = folding.as_jumprelu(parts)  # no format has gated transcoders
    target.write(parts, place)
    return parts


def convert(
    src: str | Path, dst: str | Path, to: str, *, told: Told | None = None, command: str | None = None
) -> dict[str, Any]:
    """Write the dictionary at `src` to the folder `dst` in another format; nothing is left there when that fails.

    What was written is read back and its codes and outputs are compared with those of the source, by the source's own equation, on
    golden rows: the source's where it is ours, made up from its weights otherwise. They are stored with the result.
    """
    import torch

    from assay.interop.golden import compare, inputs
    from assay.interop.ours import from_dictionary, to_dictionary

    if to != OWN:
        format_of(to)
    found = located(src)
    source, place = found.path, Path(dst)
    name = detect(source)
    before = read(source, name, told)
    x = artefact.read_tensors(source / GOLDEN)["x"] if name == OWN else inputs(before)
    provenance = {
        **found.beside(before.facts),
        "converted": {"from": name, "to": to, "source": source.name, "command": command},
    }
    with artefact.new_folder(place) if to == OWN else _foreign_folder(place) as folder:
        if to == OWN:
            made = load(source) if name == OWN else to_dictionary(before)
            made.provenance = provenance
            save(made, folder, golden=x, provenance=provenance)
            after = from_dictionary(load(folder, check=False))
            checked = compare(before, after, x, f"{source} as {to}")
            verify_own(folder)
        else:
            _written(replace(before, facts=provenance), folder, to)
            after = format_of(to).read(folder)
            same_rows = getattr(before, "rows", None) == getattr(after, "rows", None)  # else codes were folded too
            checked = compare(before, after, x, f"{source} as {to}", codes=same_rows)
            wide = after.double()
            with torch.no_grad():
                x_hat = wide.predict(x, wide.codes(x)).float()
            artefact.write_tensors(folder / GOLDEN, {"x": x, "x_hat": x_hat})
    return {"from": name, "to": to, "path": str(place), **checked}
