"""The native kernels: one library for each instruction set, from the same sources. Without a compiler the package installs without them.

Each is optional and is chosen when the package runs (`assay/kernels/library.py`); no flag changes the meaning of arithmetic.
"""

import hashlib
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("src/assay/kernels/cpp")
INSTRUCTIONS = {
    "plain": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512vnni": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni"],
}
COMMON = ["-std=c++17", "-O3", "-fopenmp", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]


def digest() -> str:
    """Of the sources, so that a library that was compiled from others is not used."""
    found = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")]):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


headers = [str(path) for path in sorted(SOURCES.glob("*.h"))]
setup(
    ext_modules=[
        Extension(
            f"assay.kernels._native_{name}",
            sources=[str(SOURCES / f"{name}.cpp")],
            depends=headers,
            define_macros=[("ASSAY_SOURCES", f'"{digest()}"')],
            extra_compile_args=[*COMMON, *flags],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
        for name, flags in INSTRUCTIONS.items()
    ]
)
