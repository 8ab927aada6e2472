"""Which columns of x a block of latents reads and which columns of y it writes.

Several sites are concatenated on the last axis, x [batch, sum of widths]; latent ids are flat. One block is one dense matrix each
way, W_enc [read width, latents] and W_dec [latents, written width]; what a wiring does not connect is not stored.

    SAE            one block: everything
    transcoder     one block; y is another site
    crosscoder     one block that reads and writes all sites
    CLT            one block a layer: it reads its own site and writes its own and all later ones
    per layer      one block a layer: it reads its own site and writes its own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.core.errors import BadOption
from assay.kernels import Above, BatchTop, Codes, Selection, Top
from assay.kernels.selection import keys

Scale = float | Sequence[float]  # one for all sites, or one a site


@dataclass(frozen=True)
class Block:
    """Latents `latents` read x[:, reads] and write y[:, writes]."""

    reads: slice
    latents: slice
    writes: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        """(read width, number of latents, written width)."""
        return width(self.reads), width(self.latents), width(self.writes)


def width(columns: slice) -> int:
    return columns.stop - columns.start


def slices(widths: Sequence[int]) -> list[slice]:
    """The columns of each site in the concatenation."""
    ends = list(accumulate(widths))
    return [slice(end - size, end) for size, end in zip(widths, ends, strict=True)]


def blocks_of(config: Any) -> tuple[Block, ...]:
    """The blocks that a configuration names by `wiring`, `in_sites`, `out_sites` and `d_sae`."""
    d_out = config.d_out or config.d_in
    if not config.layered:
        return (Block(slice(0, config.d_in), slice(0, config.d_sae), slice(0, d_out)),)
    n = config.d_sae // len(config.widths_in)
    reads, writes = slices(config.widths_in), slices(config.widths_out)
    own = config.wiring == "perlayer"
    return tuple(
        Block(read, slice(layer * n, (layer + 1) * n), write if own else slice(write.start, d_out))
        for layer, (read, write) in enumerate(zip(reads, writes, strict=True))
    )


def for_sites(options: dict[str, Any], widths_in: Sequence[int], widths_out: Sequence[int] | None) -> dict[str, Any]:
    """The options of a configuration with its widths filled in for the sites at hand; `widths_out` None: it predicts what it reads.

    A wiring that is not said follows from the sites: another target makes a transcoder, several sites a crosscoder, several of
    both a crosslayer transcoder. Raises BadOption where the wiring that is said cannot be had.
    """
    wiring = options.get("wiring", "sae")
    if wiring == "sae":
        if widths_out is None:
            wiring = "sae" if len(widths_in) == 1 else "crosscoder"
        else:
            wiring = "transcoder" if len(widths_in) == len(widths_out) == 1 else "crosslayer"
    if wiring in ("transcoder", "crosslayer", "perlayer") and widths_out is None:
        raise BadOption(f"A {wiring} predicts another site than it reads; name it with --target.")
    if wiring == "crosscoder" and len(widths_in) == 1:
        raise BadOption("A crosscoder reads several sites; name them with commas, --site resid_post.0,resid_post.1.")
    filled: dict[str, Any] = {**options, "d_in": sum(widths_in), "wiring": wiring}
    if len(widths_in) > 1:
        filled["in_sites"] = tuple(widths_in)
    if widths_out is not None:
        filled["d_out"] = sum(widths_out)
        if len(widths_out) > 1 or len(widths_in) > 1:
            filled["out_sites"] = tuple(widths_out)
    return filled


def along(values: Scale, widths: Sequence[int]) -> Tensor:
    """[sum of widths] float64: one number a site, spread over the site's columns."""
    each = [float(values)] * len(widths) if isinstance(values, (int, float)) else [float(v) for v in values]
    return torch.cat([torch.full((w,), v, dtype=torch.float64) for w, v in zip(widths, each, strict=True)])


def part(selection: Selection, block: Block) -> Selection:
    """The selection among one block's latents; of a joint one, a superset that `joint` cuts down."""
    if isinstance(selection, Above):
        return Above(selection.threshold[block.latents])
    bias = None if selection.key_bias is None else selection.key_bias[block.latents]
    return replace(selection, k=min(selection.k, width(block.latents)), key_bias=bias)


@dataclass(frozen=True)
class Support:
    """The chosen pairs of all blocks: parts[i] are block i's, with latent ids of their own; flat vectors run block by block."""

    blocks: tuple[Block, ...]
    parts: list[Codes]

    def __len__(self) -> int:
        return sum(len(p) for p in self.parts)

    @property
    def value(self) -> Tensor:
        return self.parts[0].value if len(self.parts) == 1 else torch.cat([p.value for p in self.parts])

    @property
    def latent(self) -> Tensor:
        """[nnz] ids among all latents."""
        if len(self.parts) == 1:
            return self.parts[0].latent
        return torch.cat([p.latent + b.latents.start for b, p in zip(self.blocks, self.parts, strict=True)])

    def split(self, flat: Tensor) -> list[Codes]:
        """Each block's pairs with their share of the flat values [nnz]."""
        if len(self.parts) == 1:
            return [self.parts[0].with_values(flat)]
        pieces = flat.split([len(p) for p in self.parts])
        return [p.with_values(v) for p, v in zip(self.parts, pieces, strict=True)]

    def below(self, m: int) -> tuple[Support, Tensor]:
        """The pairs whose latent is below m, and which of the flat ones they are [nnz] bool."""
        inside = [p.latent + b.latents.start < m for b, p in zip(self.blocks, self.parts, strict=True)]
        parts = [Codes(p.row[i], p.latent[i], p.value[i], p.shape) for p, i in zip(self.parts, inside, strict=True)]
        return Support(self.blocks, parts), torch.cat(inside)

    def joined(self, flat: Tensor) -> Codes:
        """One `Codes` over all latents with these values, in row order."""
        if len(self.parts) == 1:
            return self.parts[0].with_values(flat)
        row, latent = torch.cat([p.row for p in self.parts]), self.latent
        n_latents = max(b.latents.stop for b in self.blocks)
        order = torch.argsort(row * n_latents + latent)
        return Codes(row[order], latent[order], flat[order], (self.parts[0].shape[0], n_latents))

    @staticmethod
    def of(codes: Codes, blocks: tuple[Block, ...]) -> Support:
        """The inverse of `joined`: the pairs of each block."""
        if len(blocks) == 1:
            return Support(blocks, [codes])
        parts: list[Codes] = []
        for block in blocks:
            here = (codes.latent >= block.latents.start) & (codes.latent < block.latents.stop)
            shape = (codes.shape[0], width(block.latents))
            parts.append(Codes(codes.row[here], codes.latent[here] - block.latents.start, codes.value[here], shape))
        return Support(blocks, parts)

    def over_all(self, selection: Selection) -> Support:
        """Where rows or latents are split between processes: what a selection over all of them leaves of these candidates."""
        if isinstance(selection, Above) or (distribution.parts() == 1 and distribution.latent_parts() == 1):
            return self
        if isinstance(selection, Top):
            one_block = distribution.latent_parts() > 1  # latents are divided in dictionaries of one block only
            return Support(self.blocks, [cut_rows(self.parts[0], selection)]) if one_block else self
        if selection.scope == "block" and len(self.blocks) > 1:
            cut = [cut_across(p, part(selection, b)) for b, p in zip(self.blocks, self.parts, strict=True)]  # type: ignore[arg-type]
            return Support(self.blocks, cut)
        return Support.of(cut_across(self.joined(self.value), selection), self.blocks)

    def joint(self, selection: Selection) -> Support:
        """Cut the candidates of all blocks down to the selection's k a row (or B * k a batch), if its scope is all blocks."""
        if len(self.parts) == 1 or isinstance(selection, Above) or selection.scope == "block":
            return self
        everything = self.joined(self.value)
        bias = None if selection.key_bias is None else selection.key_bias[everything.latent]
        key = keys(everything.value, replace(selection, key_bias=bias))
        order = torch.argsort(
            key, descending=True, stable=True
        )  # pairs are in row order: ties go to the lower row, latent
        if isinstance(selection, BatchTop):
            kept = order[: selection.k * everything.shape[0]]
        else:
            by_row = order[torch.argsort(everything.row[order], stable=True)]
            rank = (
                torch.arange(len(everything), device=by_row.device) - everything.pointers[:-1][everything.row[by_row]]
            )
            kept = by_row[rank < selection.k]
        kept = kept.sort().values
        cut = Codes(everything.row[kept], everything.latent[kept], everything.value[kept], everything.shape)
        return Support.of(cut, self.blocks)


def across(selection: Selection) -> Selection:
    """The selection with which a process finds enough candidates where the batch is split: `cut_across` takes the best of all."""
    return replace(selection, k=selection.k * distribution.parts()) if isinstance(selection, BatchTop) else selection


def gathered(codes: Codes) -> Codes:
    """The codes of the whole batch over all latents, where these are split between processes."""
    if distribution.parts() == 1 and distribution.latent_parts() == 1:
        return codes
    widths = latent_shards.stacked(torch.tensor([codes.shape[1]], device=codes.row.device)).flatten().tolist()
    before = sum(widths[: distribution.shard()])
    row = codes.row + codes.shape[0] * distribution.row_part() * (distribution.parts() > 1)
    found = [torch.cat(distribution.each_part(part)) for part in (row, codes.latent + before, codes.value)]
    order = torch.argsort(found[0] * sum(widths) + found[1])
    row, latent, value = (part[order] for part in found)
    return Codes(row, latent, value, (codes.shape[0] * distribution.parts(), sum(widths)))


def cut_across(codes: Codes, selection: BatchTop) -> Codes:
    """Of this process's candidates, those among the k * (rows of all processes) largest; ties go to the lower row, then latent."""
    bias = None if selection.key_bias is None else selection.key_bias[codes.latent]
    key = keys(codes.value, replace(selection, key_bias=bias))
    together = torch.cat(distribution.each_part(key))
    n = selection.k * codes.shape[0] * distribution.parts()
    if len(together) <= n:
        return codes
    least = together.topk(n).values[-1]
    room = n - int((together > least).sum())
    keep, tied = key >= least, key == least
    if int((together == least).sum()) > room:
        row = codes.row[tied] + codes.shape[0] * distribution.row_part()
        place = ((row * distribution.shards() + distribution.shard()) << 32) + codes.latent[tied]
        last = torch.cat(distribution.each_part(place)).sort().values[room - 1]
        keep[tied] = place <= last
    return Codes(codes.row[keep], codes.latent[keep], codes.value[keep], codes.shape)


def cut_rows(codes: Codes, selection: Top) -> Codes:
    """Of this shard's candidates, those among the k largest of all shards in their row; ties go to the lower latent."""
    bias = None if selection.key_bias is None else selection.key_bias[codes.latent]
    key = keys(codes.value, replace(selection, key_bias=bias))
    column = torch.arange(len(codes), device=key.device) - codes.pointers[:-1][codes.row]
    table = key.new_zeros(codes.shape[0], selection.k)
    table[codes.row, column] = key
    keep = largest(table)[codes.row, column]
    return Codes(codes.row[keep], codes.latent[keep], codes.value[keep], codes.shape)


def largest(key: Tensor) -> Tensor:
    """Which of this shard's keys [B, k] are among the k largest of all shards in their row; ties go to the lower shard, then the
    lower column, and 0 is never chosen."""
    k, mine = key.shape[1], distribution.shard()
    everyone = latent_shards.stacked(key)
    least = everyone.transpose(0, 1).flatten(1).topk(k, dim=1).values[:, -1:]
    tied = everyone == least
    room = k - (everyone > least).sum((0, 2)) - tied[:mine].sum((0, 2))
    own = tied[mine]
    return ((key > least) | (own & (own.cumsum(1) <= room[:, None]))) & (key > 0)


def chosen(u: Tensor, selection: Selection, blocks: tuple[Block, ...]) -> Tensor:
    """The support of u [B, F] as a boolean mask, by the definition."""
    from assay.kernels import reference

    here = across(selection)
    if len(blocks) == 1 or isinstance(here, Above) or here.scope == "all":
        mask = reference.chosen(u, here)
    else:
        mask = torch.cat([reference.chosen(u[:, b.latents], part(here, b)) for b in blocks], dim=1)
    if isinstance(selection, Above) or (distribution.parts() == 1 and distribution.latent_parts() == 1):
        return mask
    row, latent = mask.nonzero(as_tuple=True)
    pairs = Support.of(Codes(row, latent, u[row, latent], (u.shape[0], u.shape[1])), blocks).over_all(selection)
    return pairs.joined(torch.ones_like(pairs.value)).dense().bool()
