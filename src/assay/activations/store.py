"""A harvested folder of activations, read by row: checked shard by shard on first touch, mapped, never loaded whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.activations.shards import PROVENANCE, check_file, map_shard, read_manifest, read_table, shard_name
from assay.activations.source import DTYPES, chosen_sites
from assay.activations.table import IntArray, Table
from assay.core.artefact import read_json
from assay.core.errors import BadInput, BadOption, Corrupt

MAPPED_SHARDS = 64  # kept mapped at once; the pages they touched are the system's to drop


class Store:
    """Activation rows on disk, with the columns of each row in `table`. Open with `Store.open(folder)`."""

    in_memory = False

    def __init__(self, path: Path, manifest: dict[str, Any], table: Table) -> None:
        self.path, self.manifest, self._table = path, manifest, table
        self._mapped: OrderedDict[tuple[str, int], Tensor] = OrderedDict()
        self._checked: set[tuple[str, int]] = set()

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Open a finished harvest; its columns are checked now, each shard when first touched.

        Raises `NotFound` (no store there), `BadInput` (unfinished), `Corrupt` (torn, altered, other schema; names the
        file).
        """
        path = Path(path)
        manifest = read_manifest(path)
        if not manifest["complete"]:
            n = -(-manifest["n_rows"] // manifest["shard_rows"])
            raise BadInput(
                f"{path} is an unfinished harvest ({len(manifest['shards'])} of {n} shards); continue it with "
                "`assay harvest --resume`."
            )
        for name, expected in manifest["files"].items():
            check_file(path, Path(name).name, expected)
        table = read_table(path)
        if table.n_rows != manifest["n_rows"] or int(table.starts[-1]) != table.n_rows:
            raise Corrupt(f"{path} says {manifest['n_rows']} rows, its columns hold {table.n_rows}; harvest it again.")
        return cls(path, manifest, table)

    @property
    def table(self) -> Table:
        return self._table

    @property
    def sites(self) -> list[str]:
        return list(self.manifest["sites"])

    @property
    def n_rows(self) -> int:
        return self._table.n_rows

    @property
    def dtype(self) -> str:
        return self.manifest["dtype"]

    @property
    def provenance(self) -> dict[str, Any]:
        return read_json(self.path / PROVENANCE)

    @property
    def cost(self) -> dict[str, Any]:
        """What the harvest took, as the fields of a `core.outcome.Cost`: shared by all dictionaries trained on it."""
        held = sum(p.stat().st_size for p in self.path.rglob("*.safetensors"))
        return {
            "id": f"harvest-{self.manifest['blocks_digest'][:12]}-{'+'.join(self.sites)}",
            "access": "activations",
            "upfront_tokens": self.n_rows,
            "upfront_seconds": float(self.provenance.get("seconds", 0.0)),
            "disk_bytes": held,
        }

    def width(self, site: str) -> int:
        return self.manifest["sites"][chosen_sites(self, [site])[0]]

    def gather(self, site: str, rows: IntArray) -> Tensor:
        """float32 [len(rows), width]: the given rows in the given order; repeats are fine."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.n_rows):
            raise BadOption(f"Rows {rows.min()}..{rows.max()} were asked for; {self.path} holds 0..{self.n_rows - 1}.")
        ascending, place = np.unique(rows, return_inverse=True)
        return self.fetch(ascending, [site])[site].index_select(0, torch.from_numpy(place)).float()

    def fetch(self, rows: IntArray, sites: Sequence[str]) -> dict[str, Tensor]:
        """Ascending rows of several sites, in the type they are stored in."""
        per_shard = self.manifest["shard_rows"]
        shards, first = np.unique(rows // per_shard, return_index=True)
        cuts = [*first.tolist(), len(rows)]
        out: dict[str, Tensor] = {}
        for site in chosen_sites(self, sites):
            x = out[site] = torch.empty(len(rows), self.width(site), dtype=DTYPES[self.dtype])
            for shard, a, b in zip(shards.tolist(), cuts, cuts[1:]):
                index = torch.from_numpy(rows[a:b] - shard * per_shard)
                torch.index_select(self._shard(site, shard), 0, index, out=x[a:b])
        return out

    def verify(self) -> int:
        """Check every shard now; return how many files were read. Raises `Corrupt` naming the first bad one."""
        n_shards = len(self.manifest["shards"])
        for site in self.sites:
            for shard in range(n_shards):
                self._checked.discard((site, shard))
                self._shard(site, shard, again=True)
        return n_shards * len(self.sites) + len(self.manifest["files"])

    def describe(self) -> dict[str, Any]:
        """What provenance says of these rows."""
        left_out = ("shards", "files", "self", "complete")
        return {key: value for key, value in self.manifest.items() if key not in left_out}

    def _shard(self, site: str, shard: int, again: bool = False) -> Tensor:
        key = (site, shard)
        if key in self._mapped and not again:
            self._mapped.move_to_end(key)
            return self._mapped[key]
        if key not in self._checked:
            recorded = self.manifest["shards"]
            if shard >= len(recorded) or site not in recorded[shard]:
                raise Corrupt(f"{self.path} does not list {shard_name(site, shard)}; harvest it again.")
            check_file(self.path, shard_name(site, shard), recorded[shard][site])
            self._checked.add(key)
        per_shard = self.manifest["shard_rows"]
        n = min(per_shard, self.n_rows - shard * per_shard)
        x = map_shard(self.path, site, shard, (n, self.manifest["sites"][site]), DTYPES[self.dtype])
        self._mapped[key] = x
        while len(self._mapped) > MAPPED_SHARDS:
            self._mapped.popitem(last=False)
        return x
