"""The evaluation documents, read once and handed on in batches of whole documents.

A `Reading` holds the kept rows (text tokens; special ones and padding are left out) of some documents. Two things can
be read: a model over whole, never packed, sequences (`Live`), or activations on disk (`Stored`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.activations import Blocks, Document, Table, each, half_of, split_of, together, unpacked
from assay.core.errors import BadInput, BadOption

VALIDATION, TEST = 0, 1


@dataclass(frozen=True)
class Reading:
    """n kept rows of whole documents, in document order.

    document int64 [n], index into `table.documents`; token_id, position int64 [n]; x float32 [n, d_in]: what is read;
    y float32 [n, d_out]: what is predicted, x itself unless the target is another site.
    ids, mask int64 [batch, pos] and keep bool [batch, pos] (`x` are its rows) are None where no model is at hand.
    """

    document: Tensor
    token_id: Tensor
    position: Tensor
    x: Tensor
    ids: Tensor | None = None
    mask: Tensor | None = None
    keep: Tensor | None = None
    y_other: Tensor | None = None

    @property
    def y(self) -> Tensor:
        return self.x if self.y_other is None else self.y_other


@dataclass(frozen=True)
class Splitting:
    """A rule that puts a document id into `validation`, into the other split, or (None) leaves it out."""

    name: str
    test: str
    how: str
    of: Callable[[str], int | None]

    @property
    def names(self) -> tuple[str, str]:
        """Names of the splits VALIDATION and TEST."""
        return ("validation", self.test)


def splitting(name: str) -> Splitting:
    """The rule called `halves`, `hash` or `shift:NAME`. Raises `BadOption` for another name."""
    if name == "hash":
        how = "5 % validation and 5 % test by the hash of each document; the training 90 % left out"
        return Splitting(name, "test", how, _by_hash)
    if name == "halves":
        return Splitting(name, "test", "text for evaluation alone, halved by the hash of each document", _by_half)
    if name.startswith("shift:") and len(name) > len("shift:"):
        return Splitting(name, name, "text of another kind, halved by the hash of each document", _by_half)
    raise BadOption(f'--split is "{name}"; it must be halves, hash or shift:NAME.')


def _by_half(document: str) -> int:
    return VALIDATION if half_of(document) == "validation" else TEST


def _by_hash(document: str) -> int | None:
    return {"train": None, "validation": VALIDATION, "test": TEST}[split_of(document)]


class Readings(ABC):
    """What `Live` and `Stored` share: which documents there are, and on which side each one falls."""

    table: Table
    site: str  # what is read; several sites are written with commas
    target: str  # what is predicted: `site`, unless the dictionaries are transcoders
    width: int
    target_widths: list[int]
    context: int | None = None
    model_name: str = ""
    model_hash: str | None = None

    def __init__(self, rule: Splitting) -> None:
        self.rule = rule

    @cached_property
    def side(self) -> np.ndarray:
        """int8 [n_documents]: VALIDATION, TEST, or -1 for a document that is left out or has no kept token."""
        sides = [self.rule.of(document) for document in self.table.documents]
        side = np.array([-1 if s is None else s for s in sides], dtype=np.int8)
        return np.where(self.lengths > 0, side, -1)

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [n_documents]: kept tokens of each."""
        kept = self.table.document[~self.table.special]
        return np.bincount(kept[kept >= 0], minlength=len(self.table.documents))

    @property
    def width_out(self) -> int:
        return sum(self.target_widths)

    def members(self, side: int) -> np.ndarray:
        """Indices of the documents of one side."""
        return np.flatnonzero(self.side == side)

    @property
    def n_documents(self) -> int:
        return len(self.table.documents)

    @property
    def chosen(self) -> np.ndarray:
        """Indices of all documents that are evaluated."""
        return np.flatnonzero(self.side >= 0)

    def target_columns(self) -> dict[str, slice]:
        """The columns of each single site that is predicted, where there are several; else nothing."""
        names = each(self.target)
        ends = np.cumsum(self.target_widths).tolist()
        return {n: slice(e - w, e) for n, e, w in zip(names, ends, self.target_widths)} if len(names) > 1 else {}

    def require_both_sides(self) -> None:
        """Raises `BadInput` where validation or test has no document."""
        counts = [len(self.members(side)) for side in (VALIDATION, TEST)]
        if min(counts) == 0:
            raise BadInput(
                f"The text gives {counts[0]} validation and {counts[1]} {self.rule.test} documents; both are needed "
                f"({self.rule.how}). Give more documents."
            )

    @abstractmethod
    def batches(self, documents: Sequence[int] | np.ndarray | None = None) -> Iterator[Reading]:
        """Readings of the given documents (default: all that are evaluated); a document lies in one reading whole."""

    def described(self) -> dict[str, dict[str, Any]]:
        """{split: documents, tokens, how}."""
        return {
            name: {
                "documents": len(members := self.members(side)),
                "tokens": int(self.lengths[members].sum()),
                "how": self.rule.how,
            }
            for side, name in enumerate(self.rule.names)
        }

    def alarms(self) -> list[str]:
        """What is amiss with the way these documents were read."""
        return []

    def notes(self) -> list[str]:
        """What a reader may want to know of it."""
        return []


def packets(lengths: np.ndarray, order: np.ndarray, budget: int, padded: bool) -> Iterator[np.ndarray]:
    """Cut `order` into runs whose tokens (padded to the longest, if `padded`) fit the budget; one document at least."""
    run: list[int] = []
    total = longest = 0
    for index in order:
        length = int(lengths[index])
        longest_then = max(longest, length)
        size = (len(run) + 1) * longest_then if padded else total + length
        if run and size > budget:
            yield np.array(run)
            run, total, longest_then = [], 0, length
        run.append(int(index))
        total, longest = total + length, longest_then
    if run:
        yield np.array(run)


class Live(Readings):
    """A model over whole sequences, one document each, cut at the context and never packed."""

    def __init__(
        self,
        model: Any,
        site: str,
        documents: Iterable[Any],
        rule: Splitting,
        *,
        target: str | None = None,
        context: int | None,
        batch_tokens: int,
    ) -> None:
        super().__init__(rule)
        self.model = model
        self.site = named(model, site)
        self.target = named(model, target or site)
        self.width = sum(map(model.width, each(self.site)))
        self.target_widths = [model.width(single) for single in each(self.target)]
        wanted = (Document(d.id, d.text) for d in documents if rule.of(d.id) is not None)
        self.blocks: Blocks = unpacked(wanted, model, context=context, quiet=True)
        self.table = self.blocks.table
        self.context = self.blocks.context
        self.model_name = str(model.name)
        self.model_hash = model.weights_hash()
        self.batch_tokens = batch_tokens

    def notes(self) -> list[str]:
        n = self.blocks.n_truncated
        return [f"{n} of {self.n_documents} documents were cut at {self.context} tokens."] if n else []

    @cached_property
    def _block_of(self) -> dict[int, list[int]]:
        """Document index -> its blocks."""
        found: dict[int, list[int]] = {}
        table = self.table
        for block in range(table.n_blocks):
            inside = table.document[table.starts[block] : table.starts[block + 1]]
            if len(named := inside[inside >= 0]):
                found.setdefault(int(named[0]), []).append(block)
        return found

    def sequences(self, documents: Sequence[int] | np.ndarray | None = None) -> Iterator[Reading]:
        """As `batches` without activations (x has no columns): what is needed to run the model oneself."""
        wanted = self.chosen if documents is None else np.asarray(documents)
        by_length = wanted[np.argsort(-self.lengths[wanted], kind="stable")]
        extra = 1 + len(self.blocks.frame.suffix)
        for packet in packets(self.lengths + extra, by_length, self.batch_tokens, padded=True):
            blocks = np.array([block for document in packet for block in self._block_of[int(document)]])
            ids, mask, rows = self.blocks.batch(blocks)
            text = ~self.table.special[rows]
            keep = torch.zeros(mask.shape, dtype=torch.bool)
            keep[mask.bool()] = torch.from_numpy(text)
            kept = rows[text]
            device = self.model.device
            yield Reading(
                *(torch.from_numpy(c[kept].astype(np.int64)) for c in self._columns),
                x=torch.empty(len(kept), 0),
                ids=ids.to(device),
                mask=mask.to(device),
                keep=keep.to(device),
            )

    @property
    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.table.document, self.table.token_id, self.table.position

    @torch.no_grad()
    def batches(self, documents: Sequence[int] | np.ndarray | None = None) -> Iterator[Reading]:
        from assay.models import read

        for reading in self.sequences(documents):
            assert reading.ids is not None
            h = read(self.model, reading.ids, reading.mask, singles(self.site, self.target))
            yield with_activations(reading, h, self.site, self.target)


def named(model: Any, site: str) -> str:
    """The canonical name of one site, or of several with commas."""
    return ",".join(model.canonical(single) for single in each(site))


def singles(site: str, target: str) -> list[str]:
    """The single sites that are read or predicted, each once."""
    return list(dict.fromkeys([*each(site), *each(target)]))


def with_activations(reading: Reading, h: Mapping[str, Tensor], site: str, target: str) -> Reading:
    """The reading with x and y taken from h, {single site: [batch, pos, width]}, at its kept positions."""
    x = together(h, site)[reading.keep].float()
    y = None if target == site else together(h, target)[reading.keep].float()
    return replace(reading, x=x, y_other=y)


class Stored(Readings):
    """Activations on disk: rows are grouped by document. There is no model, so no loss can be measured."""

    def __init__(self, store: Any, site: str, rule: Splitting, *, batch_tokens: int, target: str | None = None) -> None:
        super().__init__(rule)
        self.store, self.site, self.target = store, site, target or site
        self.width = sum(map(store.width, each(self.site)))
        self.target_widths = [store.width(single) for single in each(self.target)]
        self.table = store.table
        self.batch_tokens = batch_tokens
        manifest = getattr(store, "manifest", {})
        self.packed = bool(manifest.get("packed", False))
        self.model_name = str(manifest.get("model") or "")
        self.model_hash = manifest.get("weights_hash")

    def alarms(self) -> list[str]:
        packed = "These activations were harvested from packed blocks, in which a document sees its neighbours: its "
        return [packed + "intervals treat documents as independent, which they are not quite."] if self.packed else []

    @cached_property
    def _rows_of(self) -> tuple[np.ndarray, np.ndarray]:
        """Kept rows sorted by document, and where each document starts among them."""
        kept = np.flatnonzero(~self.table.special & (self.table.document >= 0))
        kept = kept[np.argsort(self.table.document[kept], kind="stable")]
        return kept, np.concatenate([[0], np.cumsum(self.lengths)])

    def batches(self, documents: Sequence[int] | np.ndarray | None = None) -> Iterator[Reading]:
        wanted = self.chosen if documents is None else np.asarray(documents)
        kept, starts = self._rows_of
        for packet in packets(self.lengths, wanted, self.batch_tokens, padded=False):
            rows = np.concatenate([kept[starts[d] : starts[d + 1]] for d in packet])
            columns = (self.table.document, self.table.token_id, self.table.position)
            h = self._fetch(rows)
            yield Reading(
                *(torch.from_numpy(c[rows].astype(np.int64)) for c in columns),
                x=together(h, self.site),
                y_other=None if self.target == self.site else together(h, self.target),
            )

    def _fetch(self, rows: np.ndarray) -> dict[str, Tensor]:
        """{single site: float32 [n, width]} of the given rows, from a store or from any source of rows."""
        wanted = singles(self.site, self.target)
        if hasattr(self.store, "gather"):
            return {single: self.store.gather(single, rows).float() for single in wanted}
        ascending, place = np.unique(rows, return_inverse=True)
        found = self.store.fetch(ascending, wanted)
        return {single: found[single][torch.from_numpy(place)].float() for single in wanted}
