"""The environment of the real libraries: `.venv-interop` beside the repository's own, made by `make test-interop`.

    python tests/interop/library_environment.py        makes it and says what is in it

Nothing of assay is installed there and nothing there is imported here: the two sides exchange files. Needs only the standard library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-interop"
PYTHON = FOLDER / "bin" / "python"
READY = FOLDER / ".ready"
RUNNER = Path(__file__).with_name("run_libraries.py")

# torch comes first and is named again, so that nothing replaces it. dictionary-learning asks for plotting and an old nnsight, circuit-tracer
# for an old transformers, hypothesaes for a language model's client, overcomplete for vision models and plots, none of which their dictionaries use: these are installed alone.
TORCH = "torch==2.13.0"
STEPS = (
    (TORCH,),
    (TORCH, "sae-lens==6.54.12", "eai-sparsify==1.3.3"),
    ("--no-deps", "dictionary-learning==0.1.0"),
    (TORCH, "nnsight==0.8.1"),
    ("--no-deps", "hypothesaes==2.0.1", "circuit-tracer==0.5.0", "overcomplete==0.3.0"),
)
LIBRARIES = {  # format -> what says that its library is there; hypothesaes and overcomplete themselves import what is not installed
    "saelens": "import sae_lens",
    "sparsify": "import sparsify",
    "dictionary_learning": "import dictionary_learning.trainers",
    "hypothesaes": "import importlib.util; assert importlib.util.find_spec('hypothesaes'), 'it is not installed'",
    "overcomplete": "import importlib.util; assert importlib.util.find_spec('overcomplete'), 'it is not installed'",
    "goodfire": "import sae_lens",
    "qwen_scope": "import sae_lens",
    "circuit_tracer": "import circuit_tracer.transcoder.single_layer_transcoder",
    "gemma_scope": "import circuit_tracer.transcoder.single_layer_transcoder",
    "gemma_scope_2": "import circuit_tracer.transcoder.single_layer_transcoder",
    "circuit_tracer_clt": "import circuit_tracer.transcoder.cross_layer_transcoder",
    "gemma_scope_2_clt": "import circuit_tracer.transcoder.cross_layer_transcoder",
}
READ_ONLY = (  # circuit-tracer or SAELens loads them, no library writes them
    "gemma_scope",
    "gemma_scope_2",
    "gemma_scope_2_clt",
    "goodfire",
    "qwen_scope",
)


class Unavailable(Exception):
    """The environment cannot be made or used here, in one sentence."""


def make() -> None:
    """Make the environment if it is missing or holds other versions. Raises Unavailable."""
    wanted = "\n".join(" ".join(step) for step in STEPS)
    if READY.exists() and READY.read_text() == wanted:
        return
    try:
        if not PYTHON.exists():
            venv.create(FOLDER, with_pip=True)
        for step in STEPS:
            run(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step])
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"{FOLDER.name} could not be made: {last_line(error)}") from None
    READY.write_text(wanted)


def library(format: str) -> Path:
    """The interpreter in which a format's library can be imported. Raises Unavailable with the reason."""
    if not READY.exists():
        raise Unavailable(f"{FOLDER.name} is not there; make test-interop makes it")
    try:
        run(["-c", LIBRARIES[format]])
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"the library of {format} does not import: {last_line(error)}") from None
    return PYTHON


def run(arguments: list[str]) -> str:
    """Run the environment's interpreter without the caller's Python settings; its standard output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    kept |= {"OMP_NUM_THREADS": "1", "SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([str(PYTHON), *arguments], capture_output=True, text=True, check=True, cwd=ROOT, env=kept)
    return done.stdout


def last_line(error: Exception) -> str:
    """What went wrong, from the last line that the program wrote."""
    written = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return written[-1] if written else type(error).__name__


if __name__ == "__main__":
    try:
        make()
    except Unavailable as reason:
        sys.exit(str(reason))
    print(f"{FOLDER.name} is ready:")
    for step in STEPS:
        print("  pip install", *step)
