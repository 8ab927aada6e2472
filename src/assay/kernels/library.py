"""The compiled library of the native kernels: which builds are there, which one this processor can run, and why none where none is.

`pip install` compiles one library for each instruction set where it finds a compiler (`setup.py`); each is complete. The best one
that the processor can run is used. A library that was compiled from other sources than those beside it is not.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent / "cpp"
NEEDS = {"avx512vnni": 7, "avx2": 1, "plain": 0}  # bits of assay_processor(), the best build first
WORDS = {"avx512vnni": "avx512-vnni", "avx2": "avx2", "plain": "plain"}


@dataclass(frozen=True)
class Found:
    """The library in use, or None; name: of its instruction set; why: one phrase for `assay doctor`."""

    library: ctypes.CDLL | None
    name: str
    why: str


@cache
def find() -> Found:
    """The best library that was compiled and that this processor runs."""
    built = {name: path for name in NEEDS if (path := _path(name)) is not None}
    if not built:
        return Found(
            None, "", "the native kernels were not compiled when assay was installed: no C++ compiler with OpenMP"
        )
    why = ""
    for name in built:
        found = open_build(name)
        if found.library is not None:
            better = [WORDS[n] for n in NEEDS if n not in built and NEEDS[n] > NEEDS[name]]
            return Found(found.library, found.name, found.why + (f"; not compiled: {', '.join(better)}" * bool(better)))
        why = why or found.why
    return Found(None, "", why)


@cache
def open_build(name: str) -> Found:
    """One build by name: avx512vnni, avx2 or plain."""
    path = _path(name)
    if path is None:
        return Found(None, "", f"the {WORDS[name]} build of the native kernels was not compiled")
    processor = _path("plain")  # asked through the build that runs everywhere
    if NEEDS[name] and (processor is None or _processor(processor) & NEEDS[name] != NEEDS[name]):
        return Found(None, "", f"this processor cannot run the {WORDS[name]} build of the native kernels")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return Found(None, "", f"the native kernels do not load: {error}")
    library.assay_sources.restype = ctypes.c_char_p
    if SOURCES.is_dir() and library.assay_sources().decode() != digest():
        return Found(None, "", "the native kernels were compiled from other sources; run `pip install -e .` again")
    declare(library)
    return Found(library, name, f"native {WORDS[name]}")


def declare(library: ctypes.CDLL) -> None:
    """Say what its functions return; all others return nothing."""
    for kind in ("f32", "f64"):
        getattr(library, f"assay_squared_length_{kind}").restype = ctypes.c_double
        getattr(library, f"assay_squared_length_of_sums_{kind}").restype = ctypes.c_double
        getattr(library, f"assay_pairs_new_{kind}").restype = ctypes.c_void_p
        getattr(library, f"assay_pairs_count_{kind}").restype = ctypes.c_int64
    library.assay_first_outside.restype = library.assay_screen.restype = ctypes.c_int64


def digest() -> str:
    """Of the sources, as `setup.py` computes it."""
    found = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")]):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _processor(plain: Path) -> int:
    try:
        return int(ctypes.CDLL(str(plain)).assay_processor())
    except OSError:
        return 0


def _path(name: str) -> Path | None:
    spec = importlib.util.find_spec(f"assay.kernels._native_{name}")
    return None if spec is None or spec.origin is None else Path(spec.origin)
