"""Where dictionary_learning trains beside us: `.venv-peers`.

python tests/peers/peer_environment.py        makes it and says what is in it
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from separate_environment import TORCH, Environment

# dictionary-learning asks for plotting, tracking and an old nnsight (<0.4) that its trainers never use: it is installed alone, beside
# what importing the trainers needs.
ENVIRONMENT = Environment(
    ".venv-peers",
    (
        (TORCH,),
        ("--no-deps", "dictionary-learning==0.1.0"),
        (TORCH, "nnsight==0.8.1", "einops==0.8.2", "numpy==2.4.6", "safetensors==0.8.0", "tqdm==4.70.1"),
    ),
    {"HF_HUB_OFFLINE": "1"},
)

if __name__ == "__main__":
    ENVIRONMENT.main()
