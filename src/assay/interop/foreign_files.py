"""Files that strangers wrote: read as plain tensors and JSON, or refused in one sentence; nothing in them is ever run.

inside(folder, name)     a regular file that lies in the folder, also after links are followed
json_of, safetensors_of, npz_of     its content; tensors come as finite float32, whole numbers as they are
fit(tensors, path, sizes, {"W_enc": "d_in d_sae", ...})     checks every name and shape, fills `sizes`

A header is believed only as far as the file's size bears it out, so that no small file can ask for a large memory. A folder of the
hub's cache (`.../snapshots/REVISION`) may link to the `blobs` beside it, since that is how the cache is made.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core import artefact
from assay.core.errors import BadInput, Corrupt, NotFound

MOST_JSON = 16 << 20  # bytes of a configuration
MOST_HEADER = 64 << 20  # bytes of the header of a safetensors file
MOST_ARRAYS = 64  # in one .npz
NPY_HEADER = 128 + 10_000  # bytes before the numbers of an .npy, at most


def inside(folder: Path, name: str) -> Path:
    """The file `name` of a folder. Raises NotFound when it is missing, BadInput when it leads out or is no file."""
    path = folder / name
    if not path.exists():
        raise NotFound(f"{path} does not exist.")
    if not artefact.lies_in(folder, path):
        raise BadInput(
            f"{path} is a link that leads out of its folder, to {path.resolve()}; copy the file itself there."
        )
    if not path.is_file():
        raise BadInput(f"{path} is not a regular file.")
    return path


def is_there(folder: Path, name: str) -> bool:
    """Whether a folder has such a file; where it leads is checked on reading."""
    return (folder / name).is_file()


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object. Raises BadInput for anything else."""
    if path.stat().st_size > MOST_JSON:
        raise BadInput(f"{path} is larger than any configuration ({path.stat().st_size >> 20} MB); it is not read.")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not readable JSON ({type(error).__name__}).") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path} holds a {type(found).__name__}, not a JSON object.")
    return found


def peek_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object, or {} where there is none that can be read: for looking at what a folder is."""
    try:
        return json_of(inside(folder, name)) if is_there(folder, name) else {}
    except (BadInput, OSError):
        return {}


def safetensors_of(path: Path, leave_out: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, without those whose names begin with `leave_out`."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
    header = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if header > min(MOST_HEADER, size - 8):
        raise BadInput(f"{path} says that its header has {header} bytes, but the file has {size}; it is not read.")
    try:
        found = artefact.read_tensors(path)
        return clean({n: t for n, t in found.items() if leave_out is None or not n.startswith(leave_out)}, path)
    except Corrupt as error:
        raise BadInput(str(error)) from None


def safetensors_names(path: Path) -> set[str]:
    """The names of the tensors of a safetensors file, from its header; empty where there is no such file."""
    try:
        if not path.is_file():  # a device or a pipe would never end
            return set()
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(MOST_HEADER, path.stat().st_size - 8):
                return set()
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return set()
    return set(header) - {"__metadata__"} if isinstance(header, dict) else set()


def npz_of(path: Path) -> dict[str, Tensor]:
    """The arrays of an .npz. Their headers are checked against the archive's own sizes before numpy opens it, without pickles."""
    import numpy as np
    from numpy.lib import format as npy

    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [m.filename for m in members]
            if len(members) > MOST_ARRAYS or len(set(names)) != len(names):
                raise BadInput(f"{path} holds {len(members)} members, some of one name or too many; it is not read.")
            for member in members:
                if not member.filename.endswith(".npy") or "/" in member.filename or "\\" in member.filename:
                    raise BadInput(f"{path} holds {member.filename!r}, which is no array; it is not read.")
                with archive.open(member) as file:
                    version = npy.read_magic(file)
                    reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = reader(file)
                    header = file.tell()
                numbers = math.prod(shape) * dtype.itemsize
                if dtype.hasobject or dtype.kind not in "fiu" or header > NPY_HEADER:
                    raise BadInput(f"{path}: {member.filename} holds {dtype}, not numbers; it is not read.")
                if numbers + header != member.file_size:
                    raise BadInput(
                        f"{path}: {member.filename} says it is {list(shape)}, which its {member.file_size} bytes are not."
                    )
                if member.file_size > 1100 * member.compress_size + 1024:  # deflate packs at most 1032 to 1
                    raise BadInput(f"{path}: {member.filename} unpacks to more than it can; it is not read.")
            unpacked = sum(m.file_size for m in members)
            if unpacked > 32 * path.stat().st_size + (1 << 24):  # weights hardly shrink
                raise BadInput(
                    f"{path} has {path.stat().st_size} bytes and unpacks to {unpacked}; weights do not shrink so, it is not read."
                )
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except BadInput:
        raise
    except Exception as error:  # what zipfile and numpy raise on a damaged file is not one family
        raise BadInput(f"{path} is not a whole .npz of numbers ({type(error).__name__}).") from None
    return clean(found, path)


def clean(tensors: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Dense tensors on the CPU: floats as finite float32, whole numbers as they are. Raises BadInput naming the first bad one."""
    made: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (
            not isinstance(tensor, Tensor)
            or tensor.layout != torch.strided
            or tensor.is_complex()
            or tensor.is_quantized
        ):
            raise BadInput(f"{path}: {name} is not a dense tensor of real numbers.")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise BadInput(f"{path}: {name} says it is {list(tensor.shape)}, more than what is stored of it.")
        if tensor.is_floating_point():
            tensor = tensor.detach().float().contiguous()
            if not bool(torch.isfinite(tensor).all()):
                raise BadInput(f"{path}: {name} holds values that are not finite; the dictionary is unusable.")
        made[str(name)] = tensor
    return made


def fit(
    tensors: Mapping[str, Tensor],
    path: Path,
    sizes: dict[str, int],
    must: Mapping[str, str],
    may: Mapping[str, str] | None = None,
) -> None:
    """Check names and shapes: must and may give each tensor's axes, such as {"W_enc": "d_in d_sae"}; "" is a single number.

    `sizes` holds what the configuration says of the axes and takes up what the tensors say.
    """
    axes = {**must, **(may or {})}
    missing = [name for name in must if name not in tensors]
    if missing:
        raise BadInput(f"{path} has no {', '.join(missing)}; it holds {', '.join(sorted(tensors)[:12]) or 'nothing'}.")
    extra = sorted(set(tensors) - set(axes))
    if extra:
        raise BadInput(
            f"{path} also holds {', '.join(extra[:6])}, which a dictionary of this kind has not; nothing is left out silently, "
            "so it is not read."
        )
    for name, tensor in tensors.items():
        wanted = axes[name].split()
        if tensor.dim() != len(wanted) or 0 in tensor.shape:
            raise BadInput(f"{path}: {name} is {list(tensor.shape)}; {axes[name] or 'one number'} was expected.")
        if not tensor.is_floating_point() and wanted:
            raise BadInput(f"{path}: {name} holds {tensor.dtype}; weights are floating-point numbers.")
        for axis, size in zip(wanted, tensor.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise BadInput(
                    f"{path}: {name} is {list(tensor.shape)}, so {axis} would be {size}, but it is {sizes[axis]} by the rest of "
                    "the dictionary; its files do not belong together."
                )


def whole(value: Any, name: str, path: Path) -> int:
    """A positive whole number of a configuration."""
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not 0 < value < 1 << 40 or value != int(value):
        raise BadInput(f"{path}: {name} is {repr(value)[:60]}; a positive whole number was expected.")
    return int(value)


def folder_of(path: Path, name: str) -> Path | None:
    """The folder that holds the file `name`, of a path that names the folder or the file; None where it does not."""
    if path.is_dir():
        return path if is_there(path, name) else None
    return path.parent if path.name == name and path.is_file() else None
