"""Several layers that are one dictionary: a cross-layer transcoder, or a set of per-layer transcoders. A sibling of `Parts`.

    f     = the codes of all layers side by side, layer l's by its own `Parts` from x_l
    y_hat = (sum over l of layer l's prediction, at the columns that it writes) / out

x and y concatenate the layers on the last axis. Layer l reads x_l; it writes y_l and, where `crosses`, all later y. Its `Parts` so
hold W_dec [d_sae, written width], b_dec [written width] (what it adds to later layers, mostly 0) and, where there is one, W_skip
[d_in, written width]; their scale is (s_in of the layer, 1). `out` divides each layer's whole prediction: one number a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.interop.parts import Parts, Rule
from assay.interop.site_names import ours


@dataclass(frozen=True)
class Layers:
    """`widths`: of each layer's output. Offers what `Parts` does to whatever compares, measures or folds."""

    parts: tuple[Parts, ...]
    widths: tuple[int, ...]
    crosses: bool
    out: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not self.out:
            object.__setattr__(self, "out", (1.0,) * len(self.widths))
        assert len(self.parts) == len(self.widths) == len(self.out) > 0
        assert all(p.transcoder and p.scale[1] == 1 and p.rows == "as_is" for p in self.parts)
        assert [p.d_out for p in self.parts] == [w.stop - w.start for w in self.writes]
        if not all(0 < s < float("inf") for s in self.out):
            raise BadInput(f"The scales of the layers' outputs are {self.out}; positive numbers are needed.")
        said = {(p.rule, p.k, p.norm_in_code) for p in self.parts}
        if len(said) > 1:
            rules = ", ".join(f"{p.rule}{'' if p.k is None else f' k={p.k}'}" for p in self.parts)
            raise BadInput(
                f"The layers have different rules ({rules}), and one dictionary has one; open them one by one."
            )

    @property
    def wiring(self) -> str:
        return "crosslayer" if self.crosses else "perlayer"

    @property
    def transcoder(self) -> bool:
        return True

    @property
    def rows(self) -> str:
        """How rows are normalised: not at all, in every format of several layers."""
        return "as_is"

    @property
    def reads(self) -> list[slice]:
        ends = list(accumulate(p.d_in for p in self.parts))
        return [slice(end - p.d_in, end) for end, p in zip(ends, self.parts, strict=True)]

    @property
    def own(self) -> list[slice]:
        """The columns of each layer's own output."""
        ends = list(accumulate(self.widths))
        return [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]

    @property
    def writes(self) -> list[slice]:
        return [slice(own.start, self.d_out) if self.crosses else own for own in self.own]

    @property
    def rule(self) -> Rule:
        return self.parts[0].rule

    @property
    def k(self) -> int | None:
        return self.parts[0].k

    @property
    def threshold(self) -> float | None:
        """The one threshold of all layers; None where they have none, or each its own."""
        found = {p.threshold for p in self.parts}
        return found.pop() if len(found) == 1 else None

    @property
    def d_in(self) -> int:
        return sum(p.d_in for p in self.parts)

    @property
    def d_sae(self) -> int:
        return sum(p.d_sae for p in self.parts)

    @property
    def d_out(self) -> int:
        return sum(self.widths)

    @property
    def vectors(self) -> dict[str, Tensor]:
        """[d_sae] each: those of all layers side by side."""
        return {name: torch.cat([p.vectors[name] for p in self.parts]) for name in self.parts[0].vectors}

    @property
    def norms(self) -> Tensor:
        """[d_sae]: the length of every decoder row, over all that its layer writes."""
        return torch.cat([p.norms for p in self.parts])

    @property
    def encoder_norms(self) -> Tensor:
        return torch.cat([p.encoder_norms for p in self.parts])

    @property
    def b_dec(self) -> Tensor:
        """[d_out]: what all layers add together."""
        total = torch.zeros(self.d_out, dtype=self.parts[0].b_dec.dtype)
        for p, columns in zip(self.parts, self.writes, strict=True):
            total[columns] += p.b_dec
        return total

    def each(self, change: Callable[[Parts], Parts]) -> Layers:
        """The same of changed parts."""
        return replace(self, parts=tuple(change(p) for p in self.parts))

    def double(self) -> Layers:
        return self.each(Parts.double)

    @torch.no_grad()
    def unscaled(self) -> Layers:
        """`out` moved into what each layer writes; the codes stay."""
        if all(s == 1 for s in self.out):
            return self
        divisor = torch.cat([torch.full((w,), s) for w, s in zip(self.widths, self.out, strict=True)])
        made: list[Parts] = []
        for p, columns in zip(self.parts, self.writes, strict=True):
            assert not p.norm_in_code, "the lengths of its rows are about to change"
            by = divisor[columns].to(p.W_dec)
            skip = None if p.W_skip is None else p.W_skip / by
            made.append(replace(p, W_dec=p.W_dec / by, b_dec=p.b_dec / by, W_skip=skip))
        return replace(self, parts=tuple(made), out=())

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """f [n, d_sae] of x [n, d_in]."""
        return torch.cat([p.codes(x[:, read]) for p, read in zip(self.parts, self.reads, strict=True)], dim=1)

    @torch.no_grad()
    def predict(self, x: Tensor, f: Tensor) -> Tensor:
        """y_hat [n, d_out] of codes f that `codes` gave for x."""
        y_hat = torch.zeros(len(x), self.d_out, dtype=f.dtype)
        pieces = f.split([p.d_sae for p in self.parts], dim=1)
        for p, read, piece, columns in zip(self.parts, self.reads, pieces, self.writes, strict=True):
            y_hat[:, columns] += p.predict(x[:, read], piece.to(p.W_dec))
        divisor = torch.cat([torch.full((w,), s) for w, s in zip(self.widths, self.out, strict=True)])
        return y_hat / divisor.to(y_hat)


def layer(
    rule: Rule,
    W_enc: Tensor,
    vectors: dict[str, Tensor],
    W_dec: Tensor,
    b_dec: Tensor,
    *,
    skip: Tensor | None = None,
    **more: Any,
) -> Parts:
    """One layer's parts: W_dec [d_sae, written width]; b_dec and skip [d_in, ...] may reach the first of these columns only."""
    short = W_dec.shape[1] - b_dec.shape[0]
    b_dec = torch.nn.functional.pad(b_dec, (0, short))
    if skip is not None:
        skip = torch.nn.functional.pad(skip, (0, W_dec.shape[1] - skip.shape[1]))
    return Parts(
        rule=rule, W_enc=W_enc, W_dec=W_dec, b_dec=b_dec, vectors=vectors, W_skip=skip, transcoder=True, **more
    )


def sites(names: Sequence[str | None]) -> str | None:
    """Our names of the layers' sites with commas between; None where one is not said."""
    known = [ours(name) for name in names if name]
    return ",".join(str(name) for name in known) if len(known) == len(names) else None


def of_each(joined: Any, n: int) -> list[str | None]:
    """The names between the commas, one a layer; None each where they do not say n."""
    names = joined.split(",") if isinstance(joined, str) else []
    return list(names) if len(names) == n else [None] * n


def one_width(layers: Layers, format: str) -> int:
    """The width of all sites. Raises BadInput where they differ, or the numbers of latents do."""
    found = {p.d_in for p in layers.parts} | set(layers.widths)
    if len(found) > 1:
        raise BadInput(f"{format} holds layers of one width; these have {', '.join(map(str, sorted(found)))}.")
    if len({p.d_sae for p in layers.parts}) > 1:
        raise BadInput(f"{format} holds layers of as many latents each; these have {[p.d_sae for p in layers.parts]}.")
    return found.pop()
