"""`.pt` archives: read as tensors and plain values or refused, and written without pickling anything.

torch_of(path)           the dict in it; whatever would run code is refused
pt_of(path)              the file that a path names, and the dict in it
torch_bytes(content)     the bytes of an archive of tensors and plain values
pt_file, pt_names        which file a path names, and whether some names are in it, for recognising a format
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.interop.foreign_files import MOST_JSON, inside


def torch_of(path: Path) -> dict[Any, Any]:
    """The dict in a `.pt` archive: tensors and plain values. Whatever would run code is refused by the loader, and said.

    The only place that calls torch.load, and only with weights_only.
    """
    size = path.stat().st_size
    try:
        if not zipfile.is_zipfile(path):
            raise BadInput(f"{path} is not a torch archive of today's kind; save it again with a current torch.")
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if ".." in Path(member.filename).parts or member.filename.startswith(("/", "\\")):
                    raise BadInput(f"{path} holds {member.filename!r}, a path that leads out; it is not read.")
            if sum(m.file_size for m in archive.infolist()) > size:
                raise BadInput(f"{path} unpacks to more than its {size} bytes, which torch's own archives never do.")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise BadInput(f"{path} holds a {type(content).__name__}, not a dict of tensors.")
        return content
    except BadInput:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        said = str(error).strip()
        if any(word in said for word in ("nsupported", "WeightsUnpickler", "Weights only")):
            named = re.search(r"GLOBAL `?([\w.]+)", said)
            raise BadInput(
                f"{path} holds more than tensors{f' ({named[1]})' if named else ''}: loading it could run code, so it is refused."
            ) from None
        said = said.splitlines()[0][:120] if said else ""
        raise BadInput(f"{path} is not a whole torch archive ({type(error).__name__}: {said}).") from None


def torch_bytes(content: Mapping[str, Any]) -> bytes:
    """A torch archive of a dict of tensors and plain values: zip members data.pkl (opcodes spelled out here), data/0, data/1, ...

    float32, int32 and int64 tensors; whole numbers, true and false, None, text, lists of these, and dicts: all that formats need.
    """
    kinds = {torch.float32: "FloatStorage", torch.int32: "IntStorage", torch.int64: "LongStorage"}
    blobs: list[bytes] = []

    def spelled(value: Any) -> bytes:
        if isinstance(value, Tensor):
            return tensor(value)
        if value is None or isinstance(value, bool):
            return b"N" if value is None else b"\x88" if value else b"\x89"
        if isinstance(value, int):
            return b"\x8a\x08" + struct.pack("<q", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(spelled, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(spelled, value)) + b"e"
        assert isinstance(value, Mapping), type(value)
        return b"}(" + b"".join(spelled(key) + spelled(each) for key, each in value.items()) + b"u"

    def tensor(value: Tensor) -> bytes:
        plain = value.detach().cpu().contiguous()
        storage = b"(" + spelled("storage") + b"ctorch\n" + kinds[plain.dtype].encode() + b"\n"
        storage += spelled(str(len(blobs))) + spelled("cpu") + spelled(plain.numel()) + b"tQ"
        blobs.append(plain.numpy().tobytes())
        shape = spelled(tuple(plain.shape)) + spelled(tuple(plain.stride()))
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + storage
            + spelled(0)
            + shape
            + b"\x89ccollections\nOrderedDict\n)RtR"
        )

    members = {"data.pkl": b"\x80\x02" + spelled(content) + b".", "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{i}": blob for i, blob in enumerate(blobs)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    return out.getvalue()


def pt_file(path: Path) -> Path | None:
    """The `.pt` or `.pth` file that a path names, or the only one in its folder."""
    found = [path] if path.is_file() else sorted([*path.glob("*.pt"), *path.glob("*.pth")]) if path.is_dir() else []
    found = [file for file in found if file.is_file()]  # a device or a pipe would never end
    return found[0] if len(found) == 1 and found[0].suffix in (".pt", ".pth") else None


def pt_of(path: Path) -> tuple[Path, dict[Any, Any]]:
    """The `.pt` file at a path, and its content."""
    named = pt_file(path) or path
    file = inside(named.parent, named.name)
    return file, torch_of(file)


def pt_names(path: Path, *names: str) -> bool:
    """Whether the `.pt` archive at a path names all of these, looked for in its raw opcodes: nothing is interpreted."""
    try:
        with zipfile.ZipFile(pt_file(path) or "") as archive:
            member = next((m for m in archive.infolist() if m.filename.endswith("/data.pkl")), None)
            words = b"" if member is None or member.file_size >= MOST_JSON else archive.read(member)
    except Exception:  # a damaged archive can raise anything, and is no format's
        return False
    return all(name.encode() in words for name in names)
