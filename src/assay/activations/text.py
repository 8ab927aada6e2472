"""Documents: a text and the name it has everywhere, the first 16 hex digits of the SHA-256 of its UTF-8 bytes.

The name decides the split, so that the same text falls on the same side in every run, file and order:
`split_of(id)`: 90 % train, 5 % validation, 5 % test, from the id as a number modulo 100;
`half_of(id)`: text given to evaluation alone goes half to validation and half to test, from (id // 100) modulo 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from assay.activations import readers
from assay.core.errors import BadInput

Split = Literal["train", "validation", "test"]


class Document(NamedTuple):
    id: str  # 16 hex digits
    text: str


def document_id(text: str) -> str:
    """First 16 hex digits of the SHA-256 of the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def split_of(document: str) -> Split:
    """The split of a document id: 90 train, 5 validation, 5 test."""
    place = int(document, 16) % 100
    return "train" if place < 90 else "validation" if place < 95 else "test"


def half_of(document: str) -> Split:
    """The half of a document id when its text serves evaluation alone; independent of `split_of`."""
    return "validation" if int(document, 16) // 100 % 2 == 0 else "test"


def of_split(documents: Iterable[Document], *splits: Split) -> Iterator[Document]:
    """The documents that belong to one of the given splits, in their order."""
    return (d for d in documents if split_of(d.id) in splits)


@dataclass
class Documents:
    """The usable, distinct documents of a source; each iteration reads it anew.

    Counts speak of the last iteration: `n_read` rows seen, `n_duplicates` removed (same text), `n_empty` skipped,
    `n_mended` with lone surrogates replaced.
    """

    source: str
    text_column: str = "text"
    limit: int | None = None
    n_read: int = field(default=0, init=False)
    n_duplicates: int = field(default=0, init=False)
    n_empty: int = field(default=0, init=False)
    n_mended: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[Document]:
        self.n_read = self.n_duplicates = self.n_empty = self.n_mended = 0
        seen: set[int] = set()
        for text in readers.texts(self.source, self.text_column):
            if self.limit is not None and len(seen) >= self.limit:
                return
            self.n_read += 1
            if not text or text.isspace():
                self.n_empty += 1
                continue
            document = Document(document_id(text := self._mended(text)), text)
            if (key := int(document.id, 16)) in seen:
                self.n_duplicates += 1
                continue
            seen.add(key)
            yield document
        if not seen:
            raise BadInput(
                f"{self.source} holds no usable text ({self.n_read} rows read, all empty); give text with at least "
                "one word in it."
            )

    def _mended(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate from an escaped JSON string: tokenizers refuse it
            self.n_mended += 1
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def counts(self) -> dict[str, int]:
        return {
            "n_read": self.n_read,
            "n_duplicates": self.n_duplicates,
            "n_empty": self.n_empty,
            "n_mended": self.n_mended,
        }


def documents(source: str, *, text_column: str = "text", limit: int | None = None) -> Documents:
    """Open text and check that it is there.

    `source`: `storyworld[:variable=value,...][:n]` (`storyworld:tense=present,future`), a hub dataset `NAME[:config][:split]` (split defaults to train), or a file: `.jsonl`,
    `.jsonl.gz`, `.parquet` (the text is in `text_column`), `.txt` (documents are parted by blank lines).
    `limit` is the number of distinct documents to take.

    Raises `NotFound` (missing file, dataset, column), `BadInput` (unreadable or unusable), `Unreachable` (no hub).
    """
    source, n = readers.parse(str(source))
    if n is not None:
        limit = n if limit is None else min(n, limit)
    if limit is not None and limit < 1:
        raise BadInput(f"{source} was limited to {limit} documents; at least 1 is needed.")
    return Documents(source, text_column, limit)
