"""Several stores of the same tokens side by side: the same site of several models, for a crosscoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from assay.activations.source import chosen_sites
from assay.activations.store import Store
from assay.activations.table import IntArray, Table
from assay.core.errors import BadInput


class Joined:
    """Rows of several stores; the sites of a store in folder `a` are called `a:resid_post.1`.

    Raises `BadInput` where the stores do not hold the same tokens of the same documents in the same rows.
    """

    in_memory = False

    def __init__(self, stores: Sequence[Store]) -> None:
        names = [store.path.name for store in stores]
        if len(set(names)) < len(names):
            raise BadInput(f"Two of these stores have the same folder name ({', '.join(names)}); rename one.")
        self.stores = dict(zip(names, stores, strict=True))
        for other in stores[1:]:
            _check_same_tokens(stores[0], other)

    @classmethod
    def open(cls, *paths: Path | str) -> Store | Joined:
        """One store as it is, several joined."""
        stores = [Store.open(path) for path in paths]
        return stores[0] if len(stores) == 1 else cls(stores)

    @property
    def first(self) -> Store:
        return next(iter(self.stores.values()))

    @property
    def table(self) -> Table:
        return self.first.table

    @property
    def manifest(self) -> dict[str, Any]:
        return self.first.manifest

    @property
    def provenance(self) -> dict[str, Any]:
        held = {name: store.provenance for name, store in self.stores.items()}
        models = ", ".join(str(p.get("model")) for p in held.values())
        return {"model": models, "text": self.first.provenance.get("text"), "stores": held}

    @property
    def sites(self) -> list[str]:
        return [f"{name}:{site}" for name, store in self.stores.items() for site in store.sites]

    @property
    def n_rows(self) -> int:
        return self.first.n_rows

    def width(self, site: str) -> int:
        name, _, single = chosen_sites(self, [site])[0].partition(":")
        return self.stores[name].width(single)

    def fetch(self, rows: IntArray, sites: Sequence[str]) -> dict[str, Tensor]:
        """Ascending rows of several sites, in the types they are stored in."""
        out: dict[str, Tensor] = {}
        for site in chosen_sites(self, sites):
            name, _, single = site.partition(":")
            out[site] = self.stores[name].fetch(rows, [single])[single]
        return out

    def describe(self) -> dict[str, Any]:
        return {"kind": "joined", "stores": {name: store.describe() for name, store in self.stores.items()}}


def _check_same_tokens(one: Store, other: Store) -> None:
    for column in ("token_id", "document", "position", "role"):
        a, b = getattr(one.table, column), getattr(other.table, column)
        same = len(a) == len(b) and one.table.documents == other.table.documents
        if same and np.array_equal(a, b):
            continue
        row = int(np.argmax(a[: len(b)] != b[: len(a)])) if len(a) and len(b) else 0
        raise BadInput(
            f"{one.path} and {other.path} do not hold the same tokens: they have {len(a):,} and {len(b):,} rows and differ in "
            f"{column} from row {row:,}. Harvest both from the same text, with the same tokenizer and --context."
        )
