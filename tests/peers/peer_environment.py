"""The environment in which other libraries run: `.venv-peers` beside the repository's own, made when first asked for.

    python tests/peers/peer_environment.py        makes it and says what is in it

Nothing of assay is installed there and nothing there is imported here: the two sides exchange files. Needs only the standard library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-peers"
PYTHON = FOLDER / "bin" / "python"
READY = FOLDER / ".ready"

# torch comes first and is named again, so that nothing replaces it. dictionary-learning asks for plotting, tracking and an old nnsight
# (<0.4) that its trainers never use: it is installed alone, beside what importing the trainers needs.
TORCH = "torch==2.13.0"
STEPS = (
    (TORCH,),
    ("--no-deps", "dictionary-learning==0.1.0"),
    (TORCH, "nnsight==0.8.1", "einops==0.8.2", "numpy==2.4.6", "safetensors==0.8.0", "tqdm==4.70.1"),
)


class Unavailable(Exception):
    """The environment cannot be made here, in one sentence."""


def python() -> Path:
    """The environment's interpreter, made first if it is missing or holds other versions. Raises Unavailable."""
    wanted = "\n".join(" ".join(step) for step in STEPS)
    if READY.exists() and READY.read_text() == wanted:
        return PYTHON
    try:
        if not PYTHON.exists():
            venv.create(FOLDER, with_pip=True)
        for step in STEPS:
            run(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step])
        run(["-c", "import dictionary_learning.trainers"])
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"the peers' environment could not be made in {FOLDER.name}: {last_line(error)}") from None
    READY.write_text(wanted)
    return PYTHON


def run(arguments: list[str], *, env: dict[str, str] | None = None) -> str:
    """Run the environment's interpreter without the caller's Python settings; its standard output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(PYTHON), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={**kept, **(env or {})})
    return done.stdout


def last_line(error: Exception) -> str:
    """What went wrong, from the last line that the program wrote."""
    written = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return written[-1] if written else type(error).__name__


if __name__ == "__main__":
    try:
        print(f"{python().relative_to(ROOT)} is ready:")
    except Unavailable as reason:
        sys.exit(str(reason))
    for step in STEPS:
        print("  pip install", *step)
