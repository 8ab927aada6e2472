"""Folders and files that are either whole or absent, and that say so when they were altered.

A result folder is written under a temporary name beside its place, synced, and renamed. `checksums.json` holds the SHA-256 of
every file in it; `verify_checksums` names the first one that differs.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError, BadOption, Corrupt, NotFound, Storage

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1
CHECKSUMS = "checksums.json"


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def storage(path: Path) -> Generator[None]:
    """Turn the operating system's refusals while writing into one sentence."""
    try:
        yield
    except AssayError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Storage(
                f"The disk that holds {path} is full; what was complete is kept. Free some space and run again."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise Storage(
                f"{path} cannot be written ({error.strerror}); choose a folder of yours with --out."
            ) from error
        raise


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part."""
    with becoming(Path(path)) as temporary, open(temporary, "wb") as file:
        file.write(data)


@contextmanager
def becoming(path: Path) -> Generator[Path]:
    """A temporary name beside `path`; on leaving, what was written there is synced and takes its place."""
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_json(path: Path, data: Any) -> None:
    atomic_write(path, (json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; a missing file is `NotFound`, a torn one `Corrupt`."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFound(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{path} is not readable JSON ({error}); it was torn or altered.") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically, from where they lie: only views and non-contiguous ones are copied first."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with becoming(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as files are made here; the library makes its own for the owner alone
        try:
            save_file(plain, temporary, metadata=dict(metadata or {}))
            temporary.chmod(mode)
        except SafetensorError as error:  # the system's refusals come as words
            if (number := re.search(r"os error (\d+)", str(error))) is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; a missing file is `NotFound`, a damaged one `Corrupt` and named."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise NotFound(f"{path} does not exist.")
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise Corrupt(f"{path} is not a whole safetensors file ({error}); it was torn or altered.") from None


def free_name(path: Path) -> Path:
    """The first of path-2, path-3, ... that does not exist."""
    n = 2
    while (candidate := path.with_name(f"{path.name}-{n}")).exists():
        n += 1
    return candidate


def _leftover(path: Path) -> bool:
    """Whether this is a temporary file that a killed run left behind."""
    return path.name.startswith(".") and (path.suffix in (".tmp", ".partial") or path.name.startswith(".tmp"))


def refuse_existing(path: Path, resumable: bool = False) -> None:
    """Refuse a folder that already holds something; the message names a free folder and, where it applies, --resume."""
    if path.exists() and (not path.is_dir() or any(not _leftover(p) for p in path.iterdir())):
        resume = "continue it with --resume, or " if resumable else ""
        raise BadOption(
            f"{path} already holds a result; {resume}write to a free folder such as --out {free_name(path)}."
        )


@contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Yield a temporary sibling of `path`; on leaving, write its checksums, sync it and rename it into place.

    Raises `BadOption` when `path` already holds something. On an exception nothing is left behind.
    """
    path = Path(path)
    refuse_existing(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            write_checksums(temporary)
            sync_folder(temporary)
            if path.exists():
                shutil.rmtree(path)  # empty but for leftovers, as checked above
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_checksums(folder: Path, names: list[str] | None = None) -> None:
    """Record the SHA-256 of the named files, or of every file below `folder` (hidden ones aside), in `checksums.json`."""
    everything = [p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS and not p.name.startswith(".")]
    files = sorted(everything if names is None else [folder / name for name in names])
    write_json(folder / CHECKSUMS, {str(p.relative_to(folder)): sha256_file(p) for p in files})


def lies_in(folder: Path, path: Path) -> bool:
    """Whether a path stays in a folder, also after links are followed; in the hub's cache they may lead to the `blobs` beside it."""
    real, home = path.resolve(), folder.resolve()
    cache = next((p.parent / "blobs" for p in (home, *home.parents) if p.name == "snapshots"), None)
    return real.is_relative_to(home) or (cache is not None and real.is_relative_to(cache))


def verify_checksums(folder: Path) -> list[str]:
    """Check every file named in `checksums.json`; return their names. Raises `Corrupt` naming the first bad one."""
    recorded: dict[str, str] = read_json(folder / CHECKSUMS)
    for name, expected in recorded.items():
        path = folder / name
        if not lies_in(folder, path):
            raise Corrupt(f"{folder / CHECKSUMS} names {name}, which lies outside the folder.")
        if not path.is_file():
            raise Corrupt(f"{path} is missing, though {CHECKSUMS} lists it.")
        if sha256_file(path) != expected:
            raise Corrupt(f"{path} differs from its recorded checksum; it was torn or altered after it was written.")
    return list(recorded)
