"""What ships with the package, by name: the storyworld model and the text it was never trained on.

Nothing here imports torch or the generator; the rooms above read files.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from assay.core.errors import Corrupt, NotFound, nearest

DATA = Path(__file__).resolve().parents[1] / "data"
MODELS = ("storyworld",)
TEXTS = {"storyworld": "storyworld/stories.jsonl.gz"}


def names() -> list[str]:
    """Models that ship."""
    return list(MODELS)


def texts() -> list[str]:
    """Texts that ship."""
    return list(TEXTS)


def path(name: str) -> Path:
    """The folder of a shipped model, in Hugging Face format. An unknown name is `NotFound`, with the nearest one."""
    if name not in MODELS:
        raise NotFound(f'No model "{name}" ships with assay.{nearest(name, MODELS)}')
    return _present(DATA / name)


def text_path(name: str) -> Path:
    """The .jsonl.gz file of a shipped text: one JSON object a line, `text` and its labels."""
    if name not in TEXTS:
        raise NotFound(f'No text "{name}" ships with assay.{nearest(name, TEXTS)}')
    return _present(DATA / TEXTS[name])


def stories(name: str = "storyworld", limit: int | None = None) -> Iterator[dict[str, str]]:
    """Yield the first `limit` stories (all when None) in the file's order: `text` and a label for every variable.

    The storyworld model was trained on none of them. A torn file raises `Corrupt`.
    """
    file = text_path(name)
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for i, line in enumerate(lines):
                if limit is not None and i >= limit:
                    return
                yield json.loads(line)
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Corrupt(f"{file} is not a whole .jsonl.gz file ({error}); install assay again.") from None


def _present(file: Path) -> Path:
    if not file.exists():
        raise NotFound(f"{file} is missing from this installation of assay; install it again.")
    return file
