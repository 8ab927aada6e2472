"""Opening dictionaries, wherever they come from.

open(path) -> Dictionary. Our own format today; other formats are recognised by content, and a foreign one is named in the refusal.
"""

from __future__ import annotations

from pathlib import Path

from assay.core.errors import BadInput
from assay.dictionaries import Dictionary, load

FOREIGN = {
    "cfg.json": "SAELens or sparsify",
    "ae.pt": "dictionary_learning",
    "params.npz": "Gemma Scope",
    "hyperparams.json": "OpenMOSS",
}


def open(path: str | Path) -> Dictionary:
    """A dictionary in raw space, ready to encode. Raises NotFound or Corrupt, BadInput for a format that is not read yet."""
    folder = Path(path)
    for name, format in FOREIGN.items():
        if (folder / name).is_file() and not (folder / "config.json").is_file():
            raise BadInput(
                f"{folder} looks like a {format} dictionary ({name}); this version reads assay's own format only."
            )
    return load(folder)
