"""What every architecture needs to know: widths, number of latents, wiring, how rows are normalised.

The `Config` of each architecture adds its own options to these. A sentence under each field is its help on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from assay.core.config import config, require
from assay.dictionaries.rows import Rows


@config
class Config:
    """What every architecture needs to know."""

    d_in: int
    """Width of the activations that are read."""
    d_sae: int
    """Number of latents."""
    d_out: int | None = None
    """Width of the activations that are predicted; the input's own when not given."""
    wiring: Literal["sae", "transcoder", "crosscoder", "crosslayer", "perlayer"] = "sae"
    """Which sites latents read and write: their own, another, all with all, each layer to itself and all later ones, or each layer to
    itself only."""
    skip: bool = False
    """Whether a dense path W_skip [d_in, d_out] adds x @ W_skip to the prediction; of several layers one each, to what the layer writes."""
    in_sites: tuple[int, ...] | None = None
    """Widths of the sites that x concatenates; one site of width d_in when not given."""
    out_sites: tuple[int, ...] | None = None
    """Widths of the sites that are predicted; one of width d_out, or the sites that are read when d_out is not given."""
    rows: Rows = "as_is"
    """How each row is normalised by itself before it is encoded, and back after: as_is, layer_norm, constant_norm (`rows.py`)."""

    def __post_init__(self) -> None:
        alone = self.wiring == "sae" and len(self.widths_in) == 1 and self.d_in > 1
        require(self.rows == "as_is" or alone, "rows", self.rows, "as_is unless wiring is sae, of one site")
        require(self.d_in > 0, "d_in", self.d_in, "a positive width")
        require(self.d_sae > 0, "d_sae", self.d_sae, "a positive number of latents")
        require(self.d_out is None or self.d_out > 0, "d_out", self.d_out, "a positive width")
        for name, sites, total in (("in_sites", self.in_sites, self.d_in), ("out_sites", self.out_sites, self.d_out)):
            whole = self.d_in if total is None else total
            require(sites is None or sum(sites) == whole, name, sites, f"widths that add up to {whole}")
        if self.layered:
            n = len(self.widths_in)
            require(len(self.widths_out) == n, "out_sites", self.out_sites, f"{n} widths, as many as in_sites")
            require(self.d_sae % n == 0, "d_sae", self.d_sae, f"a multiple of the {n} layers, so that each has as many")
        across = self.wiring == "transcoder" or self.layered
        require(not self.skip or across, "skip", self.skip, "off unless wiring is transcoder, crosslayer or perlayer")

    @property
    def layered(self) -> bool:
        """Whether the wiring has a block of latents for each layer."""
        return self.wiring in ("crosslayer", "perlayer")

    @property
    def widths_in(self) -> tuple[int, ...]:
        return self.in_sites or (self.d_in,)

    @property
    def widths_out(self) -> tuple[int, ...]:
        return self.out_sites or (self.widths_in if self.d_out in (None, self.d_in) else (self.d_out,))


def unusual(config: Any, options: Sequence[str]) -> list[str]:
    """What the named options of a `Config` say where they differ from their defaults, a word each: ["free", "r_mag-off"]."""
    words = []
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name in options and value != field.default:
            telling = isinstance(value, str) and value not in ("on", "off")
            words.append(value if telling else f"{field.name}-{str(value).lower()}")
    return words
