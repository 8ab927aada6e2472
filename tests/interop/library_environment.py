"""The environment of the real libraries: `.venv-interop` beside the repository's own, made by `make test-interop`.

python tests/interop/library_environment.py        makes it and says what is in it
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from separate_environment import TORCH, Environment, Unavailable, last_line

RUNNER = Path(__file__).with_name("run_libraries.py")

# dictionary-learning asks for plotting and an old nnsight, circuit-tracer for an old transformers, hypothesaes for a language model's client,
# overcomplete for vision models, none of which their dictionaries use: these are installed alone. What overcomplete imports comes with them.
STEPS = (
    (TORCH,),
    (TORCH, "sae-lens==6.54.12", "eai-sparsify==1.3.3"),
    ("--no-deps", "dictionary-learning==0.1.0"),
    (TORCH, "nnsight==0.8.1"),
    ("--no-deps", "hypothesaes==2.0.1", "circuit-tracer==0.5.0", "overcomplete==0.3.0"),
    (TORCH, "einops==0.8.2", "matplotlib==3.11.2", "scikit-learn==1.9.1"),
)
ENVIRONMENT = Environment(
    ".venv-interop", STEPS, {"OMP_NUM_THREADS": "1", "SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1"}
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


def library(format: str) -> Path:
    """The interpreter in which a format's library can be imported. Raises Unavailable with the reason."""
    if not ENVIRONMENT.ready.exists():
        raise Unavailable(f"{ENVIRONMENT.name} is not there; make test-interop makes it")
    try:
        ENVIRONMENT.run(["-c", LIBRARIES[format]])
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(f"the library of {format} does not import: {last_line(error)}") from None
    return ENVIRONMENT.python


if __name__ == "__main__":
    ENVIRONMENT.main()
