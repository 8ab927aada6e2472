"""A task's texts through the model once: pooled vectors, pooled sparse codes of every dictionary, and on request the tokens; cached.

    ROOT/KEY/vectors.safetensors     last, mean, max [n, d] at the text tokens; n_tokens [n]; n_cut: texts that were longer than the context
    ROOT/KEY/codes-NAME.safetensors  pointer [n + 1], latent, and mean, max, last [nnz]: codes of each text's tokens, pooled
    ROOT/KEY/tokens.safetensors      x [tokens, d] float16, pointer [n + 1]; for the attention-pooled probe only

KEY says model, site, context and texts, so that nothing stale is ever read. Special tokens ([CLS], [SEP], BOS) are not pooled, and "last"
is the last token of the text itself. Codes are made token by token and never densified; max keeps the code of largest size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay import activations
from assay.activations.live import forward
from assay.activations.table import TEXT
from assay.core.artefact import read_tensors, storage, write_tensors
from assay.core.errors import BadInput
from assay.dictionaries import Dictionary
from assay.probing.features import Sparse

POOLS = ("mean", "max", "last")
BATCH_TEXTS = 64


@dataclass(frozen=True)
class Named:
    """A dictionary, the name of its arm, and its hash."""

    name: str
    dictionary: Dictionary
    subject: str


@dataclass
class Harvested:
    """What the model says of a task's texts, in the order of the task's rows."""

    vectors: dict[str, Tensor]  # pool -> [n, d] float32
    n_tokens: Tensor  # [n]; 0 where a text has no token
    n_cut: int
    codes: dict[str, dict[str, Sparse]]  # dictionary's name -> pool -> codes
    tokens: tuple[Tensor, Tensor] | None = None  # x [tokens, d] float16, pointer [n + 1]


@dataclass
class Harvester:
    """Reads texts through one model at one site, with some dictionaries, into a cache."""

    model: Any
    site: str
    dictionaries: Sequence[Named]
    root: Path
    context: int | None = None
    keep_tokens: bool = False
    spent: dict[str, float] = field(default_factory=dict[str, float])  # seconds: "model", and one entry a dictionary
    n_tokens_read: int = 0

    @cached_property
    def weights(self) -> str:
        return self.model.weights_hash()

    def key(self, texts: Sequence[str]) -> str:
        digest = hashlib.sha256(f"1 {self.weights} {self.site} {self.context} {self.model.dtype}".encode())
        for text in texts:
            digest.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
        return digest.hexdigest()[:24]

    def get(self, texts: Sequence[str], advance: Callable[[int], None] = lambda n: None) -> Harvested:
        """The harvest of these texts, from the cache where it is whole, else through the model."""
        folder = self.root / self.key(texts)
        missing = [d for d in self.dictionaries if not (folder / f"codes-{d.subject}.safetensors").exists()]
        if (
            missing
            or not (folder / "vectors.safetensors").exists()
            or (self.keep_tokens and not (folder / "tokens.safetensors").exists())
        ):
            with storage(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._fill(texts, folder, missing, advance)
        else:
            advance(len(texts))
        return self._read(folder)

    def _read(self, folder: Path) -> Harvested:
        held = read_tensors(folder / "vectors.safetensors")
        n = len(held["n_tokens"])
        codes: dict[str, dict[str, Sparse]] = {}
        for d in self.dictionaries:
            found = read_tensors(folder / f"codes-{d.subject}.safetensors")
            codes[d.name] = {
                pool: Sparse.of(found["pointer"], found["latent"], found[pool], (n, d.dictionary.d_sae))
                for pool in POOLS
            }
        tokens = None
        if self.keep_tokens:
            kept = read_tensors(folder / "tokens.safetensors")
            tokens = kept["x"], kept["pointer"]
        return Harvested({pool: held[pool] for pool in POOLS}, held["n_tokens"], int(held["n_cut"]), codes, tokens)

    def _fill(
        self, texts: Sequence[str], folder: Path, missing: Sequence[Named], advance: Callable[[int], None]
    ) -> None:
        from assay.core.provenance import seconds

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
        ids = [activations.document_id(texts[i]) for i in order]
        row_of = dict(zip(ids, order, strict=True))
        documents = (activations.Document(name, texts[i]) for name, i in zip(ids, order, strict=True))
        blocks = activations.unpacked(documents, self.model, context=self.context, quiet=True)
        table = blocks.table
        place = torch.tensor(
            [row_of[table.documents[i]] for i in table.document[table.starts[:-1]]]
        )  # block -> row of the task
        d, n = int(self.model.width(self.site)), len(texts)
        vectors = {pool: torch.zeros(n, d) for pool in POOLS}
        n_tokens = torch.zeros(n, dtype=torch.int64)
        pooled: dict[str, list[tuple[Tensor, ...]]] = {m.name: [] for m in missing}
        kept: list[tuple[Tensor, Tensor]] = []
        started = seconds()
        for rows, got in forward(self.model, blocks, np.arange(len(blocks)), [self.site], BATCH_TEXTS):
            text = torch.from_numpy(table.role[rows] == TEXT)
            x = got[self.site].float().cpu()[text]
            block = np.searchsorted(table.starts, rows[text.numpy()], side="right") - 1
            row = place[torch.from_numpy(block)]
            own, which, count = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
            ends = count.cumsum(0) - 1
            vectors["mean"][own] = torch.zeros(len(own), d).index_add_(0, which, x) / count[:, None]
            vectors["max"][own] = torch.segment_reduce(x, "max", lengths=count)
            vectors["last"][own] = x[ends]
            n_tokens[own] = count
            now = seconds()
            self.spent["model"] = self.spent.get("model", 0.0) + now - started
            if self.keep_tokens:
                kept.append((row, x.half()))
            for m in missing:
                pooled[m.name].append(pool_codes(m.dictionary, x, which, count, own))
                after = seconds()
                self.spent[m.name] = self.spent.get(m.name, 0.0) + after - now
                now = after
            advance(len(np.unique(block)))
            started = now
        self.n_tokens_read += int(n_tokens.sum())
        if not int(n_tokens.sum()):
            raise BadInput("None of the texts of this task has a token for this model; give other texts.")
        for m in missing:
            write_tensors(folder / f"codes-{m.subject}.safetensors", joined(pooled[m.name], n))
        if self.keep_tokens:
            row, x = torch.cat([r for r, _ in kept]), torch.cat([x for _, x in kept])
            by_row = torch.argsort(row, stable=True)
            pointer = torch.cat([torch.zeros(1, dtype=torch.int64), n_tokens.cumsum(0)])
            write_tensors(folder / "tokens.safetensors", {"x": x[by_row], "pointer": pointer})
        write_tensors(
            folder / "vectors.safetensors", {**vectors, "n_tokens": n_tokens, "n_cut": torch.tensor(blocks.n_truncated)}
        )


def pool_codes(dictionary: Dictionary, x: Tensor, which: Tensor, count: Tensor, own: Tensor) -> tuple[Tensor, ...]:
    """(row, latent, mean, max, last) of the pairs that fire in some token of a text.

    x [tokens, d], which [tokens]: the text of each token, `count` tokens each, in order; own: the task's row of each text.
    """
    codes = dictionary.encode_sparse(x)
    f = dictionary.d_sae
    text = which[codes.row]
    pair, place = torch.unique(text * f + codes.latent, return_inverse=True)
    value = codes.value.float()
    total = torch.zeros(len(pair)).index_add_(0, place, value)
    high = torch.zeros(len(pair)).scatter_reduce_(0, place, value, "amax", include_self=True)
    if dictionary.signed:
        low = torch.zeros(len(pair)).scatter_reduce_(0, place, value, "amin", include_self=True)
        high = torch.where(-low > high, low, high)
    at_end = codes.row == (count.cumsum(0) - 1)[text]
    last = torch.zeros(len(pair)).index_add_(0, place[at_end], value[at_end])
    text = pair // f
    return own[text], pair % f, total / count[text], high, last


def joined(parts: Sequence[tuple[Tensor, ...]], n: int) -> dict[str, Tensor]:
    """The pairs of all batches in the order of the rows, with pointers."""
    row, latent, *values = (torch.cat([part[i] for part in parts]) for i in range(5))
    order = torch.argsort(row, stable=True)
    pointer = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(row, minlength=n).cumsum(0)])
    return {"pointer": pointer, "latent": latent[order], **{p: v[order] for p, v in zip(POOLS, values, strict=True)}}
