"""The one small interface behind a stream: where rows come from, a store, a live model or plain tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from assay.activations.table import TEXT, IntArray, Table
from assay.core.errors import BadInput, BadOption, NotFound, nearest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Origin:
    """Where a row comes from. `position` counts the document's own tokens; -1 and None where there is none."""

    row: int
    document: str | None
    position: int
    token_id: int

    def __str__(self) -> str:
        if self.document is None:
            return f"row {self.row}"
        if self.position < 0:
            return f"document {self.document}, special token {self.token_id}, row {self.row}"
        return f"document {self.document}, position {self.position}, token {self.token_id}, row {self.row}"


class Source(Protocol):
    """Activation rows by number. `fetch` gets ascending rows unless `in_memory`, which also takes them in any order."""

    in_memory: bool

    @property
    def table(self) -> Table: ...

    @property
    def sites(self) -> list[str]: ...

    def width(self, site: str) -> int: ...

    def fetch(self, rows: IntArray, sites: Sequence[str]) -> dict[str, Tensor]:
        """{site: [len(rows), width], of any floating dtype}."""
        ...

    def describe(self) -> dict[str, Any]:
        """What provenance says of these rows."""
        ...


class TensorSource:
    """Plain tensors {site: [n, d]} as rows; one bare tensor is the site "x".

    `documents` gives each row a document id (16 hex digits), so that splits apply; without it every row is kept.
    """

    in_memory = True

    def __init__(self, tensors: Mapping[str, Tensor] | Tensor, *, documents: Sequence[str] | None = None) -> None:
        self._tensors = {"x": tensors} if isinstance(tensors, Tensor) else dict(tensors)
        lengths = {site: len(x) for site, x in self._tensors.items() if x.ndim == 2 and x.is_floating_point()}
        if len(lengths) != len(self._tensors) or len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
            shapes = ", ".join(f"{site} {list(x.shape)} {x.dtype}" for site, x in self._tensors.items()) or "nothing"
            raise BadInput(f"Floating-point tensors [n, d] with one n are needed for every site; got {shapes}.")
        n = next(iter(lengths.values()))
        if documents is not None and len(documents) != n:
            raise BadInput(f"{len(documents)} document ids came for {n} rows; one a row is needed.")
        names, index = np.unique(np.asarray([] if documents is None else documents, dtype=str), return_inverse=True)
        self.table = Table(
            token_id=np.broadcast_to(np.int32(-1), (n,)),
            document=np.broadcast_to(np.int32(-1), (n,)) if documents is None else index.astype(np.int32),
            position=np.arange(n, dtype=np.int32),
            role=np.broadcast_to(np.uint8(TEXT), (n,)),
            block_rows=np.broadcast_to(np.int32(1), (n,)),
            documents=tuple(str(name) for name in names),
        )

    @property
    def sites(self) -> list[str]:
        return list(self._tensors)

    def width(self, site: str) -> int:
        return self._tensors[site].shape[1]

    def fetch(self, rows: IntArray, sites: Sequence[str]) -> dict[str, Tensor]:
        index = torch.from_numpy(rows)
        return {site: x.index_select(0, index.to(x.device)) for site in sites if (x := self._tensors[site]) is not None}

    def describe(self) -> dict[str, Any]:
        return {"kind": "tensors", "sites": {s: self.width(s) for s in self.sites}, "n_rows": self.table.n_rows}


def origin_of(table: Table, row: int) -> Origin:
    return Origin(row, table.document_of(row), int(table.position[row]), int(table.token_id[row]))


def torch_dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise BadOption(f'Activations cannot be kept as "{name}".{nearest(name, DTYPES)}')
    return DTYPES[name]


def chosen_sites(source: Source, sites: Sequence[str] | None) -> list[str]:
    """The given sites, all of them by default; an unknown one is refused and the nearest named."""
    for site in sites or ():
        if site not in source.sites:
            raise NotFound(f'These activations have no site "{site}".{nearest(site, source.sites)}')
    return list(dict.fromkeys(sites)) if sites else list(source.sites)


def check_finite(site: str, x: Tensor, rows: IntArray, table: Table, dtype: str | None = None) -> None:
    """Stop at the first NaN or infinity of x [n, d] and name where row rows[i] comes from.

    `dtype` names the storage type when x was finite before it was cast to it.
    """
    if bool(torch.isfinite(x.sum(dtype=torch.float32))):
        return  # one pass, no temporary; a sum that overflows is looked at closely below
    for first in range(0, len(x), 4096):
        finite = torch.isfinite(x[first : first + 4096])
        if finite.all():
            continue
        at, dim = (int(i) for i in (~finite).nonzero()[0])
        value = float(x[first + at, dim])
        where = origin_of(table, int(rows[first + at]))
        if dtype is not None:
            raise BadInput(
                f"Activations at {site} are too large for {dtype} ({where}, dimension {dim}); keep them as bfloat16 "
                "or float32 with --store-dtype."
            )
        raise BadInput(
            f"Activations at {site} are not finite: {value} at {where}, dimension {dim}; look at the model's weights "
            "or run it in float32, or leave the document out."
        )


def check_varies(site: str, x: Tensor) -> None:
    """Refuse a site whose rows [n, d] are all equal, up to rounding (1e-6 of the largest entry)."""
    sample = x[:4096].float()
    spread = float((sample - sample[:1]).abs().max())
    if spread <= 1e-6 * float(sample.abs().max()):
        raise BadInput(
            f"Activations at {site} are constant: {len(sample):,} rows are all equal, so there is nothing to take "
            "apart; choose another site."
        )
