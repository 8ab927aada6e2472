"""A dictionary as a foreign file states it: one linear encoder, one rule, one linear decoder, nothing folded yet.

    z     = s_in x                                                       s_in, s_out: `scale`; x normalised by `rows` first, y_hat back last
    u     = (z - b_dec) W_enc where `subtracts`, else z W_enc
    f     = rule(u)                                                      below; with `norm_in_code` pre * ||W_dec_i|| stands for pre
    y_hat = (f W_dec + b_dec + z W_skip) / s_out                         with `norm_in_code` f / ||W_dec_i|| stands for f

    relu       relu(pre)                         pre = u + b_enc
    jumprelu   relu(pre) 1[pre > theta]          theta [d_sae]
    batchtopk  relu(pre) 1[pre > threshold]      one number
    topk       the k largest relu(pre) of a row, ties to the lower latent;   abstopk   the k largest |pre|, with their signs
    gated      1[u + b_gate > 0] relu(exp(r_mag) u + b_mag)

A format reads a file into `Parts` and writes a file from `Parts`; `ours.py` makes dictionaries of them and back; `folding.py` moves
the scale, norms and b_dec into the weights. Every format so has its conventions in one place and knows nothing of our classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.dictionaries.rows import Rows, normalised, undone

Rule = Literal["relu", "gated", "jumprelu", "topk", "abstopk", "batchtopk"]
VECTORS: dict[str, tuple[str, ...]] = {
    "relu": ("b_enc",),
    "gated": ("b_gate", "r_mag", "b_mag"),
    "jumprelu": ("b_enc", "theta"),
    "topk": ("b_enc",),
    "abstopk": ("b_enc",),
    "batchtopk": ("b_enc",),
}
LARGE = 1 << 26  # numbers of a matrix that are not copied into float64


@dataclass(frozen=True)
class Parts:
    """W_enc [d_in, d_sae], W_dec [d_sae, d_out], b_dec [d_out], vectors [d_sae] by the names of `VECTORS`, W_skip [d_in, d_out]."""

    rule: Rule
    W_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    vectors: dict[str, Tensor]
    subtracts: bool = False
    transcoder: bool = False
    k: int | None = None
    threshold: float | None = None
    groups: tuple[int, ...] = ()
    """Sizes of the nested groups of a Matryoshka dictionary; they play no part in its codes."""
    W_skip: Tensor | None = None
    scale: tuple[float, float] = (1.0, 1.0)
    norm_in_code: bool = False
    rows: Rows = "as_is"
    """How each row is normalised by itself (`dictionaries/rows.py`)."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the file says of its making: architecture, model, site, target, scale, threshold, b_dec, notes."""

    def __post_init__(self) -> None:
        assert set(self.vectors) == set(VECTORS[self.rule]), (self.rule, sorted(self.vectors))
        if self.rule in ("topk", "abstopk") and not (self.k is not None and 0 < self.k <= self.d_sae):
            raise BadInput(f"k is {self.k}; it must be a whole number from 1 to d_sae={self.d_sae}.")
        if self.rule == "batchtopk" and not (self.threshold is not None and self.threshold > 0):
            raise BadInput(
                f"The batch top-k threshold is {self.threshold}, so none was learned yet and inference is not defined; "
                "train further, or read it as top-k."
            )
        if self.subtracts and self.d_in != self.d_out:
            raise BadInput(f"b_dec is subtracted from x, but d_in={self.d_in} and d_out={self.d_out} differ.")
        if self.subtracts and self.transcoder:
            raise BadInput(
                "This is a transcoder that subtracts b_dec from its input, though b_dec lies at another site."
            )
        if not all(0 < s < float("inf") for s in self.scale):
            raise BadInput(f"The activation scale is {self.scale}; positive numbers are needed.")

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    @property
    def norms(self) -> Tensor:
        """[d_sae]: the length of every decoder row."""
        return self.W_dec.norm(dim=1)

    @property
    def encoder_norms(self) -> Tensor:
        """[d_sae]: the length of every encoder column."""
        return self.W_enc.norm(dim=0)

    def double(self) -> Parts:
        """The same in float64; what is too large for that to be cheap stays as it is."""
        if self.W_enc.numel() > LARGE:
            return self
        return replace(
            self,
            W_enc=self.W_enc.double(),
            W_dec=self.W_dec.double(),
            b_dec=self.b_dec.double(),
            vectors={name: vector.double() for name, vector in self.vectors.items()},
            W_skip=None if self.W_skip is None else self.W_skip.double(),
        )

    @torch.no_grad()
    def pre(self, x: Tensor) -> Tensor:
        """u [n, d_sae]: what the encoder's matrix gives, before biases."""
        z = self.scale[0] * normalised(x.to(self.W_enc), self.rows)
        return (z - self.b_dec if self.subtracts else z) @ self.W_enc

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """f [n, d_sae] of x [n, d_in] by the equation above; nothing is folded."""
        u, v = self.pre(x), self.vectors
        if self.rule == "gated":
            f = (u + v["b_gate"] > 0) * (v["r_mag"].exp() * u + v["b_mag"]).relu()
            return f * self.norms if self.norm_in_code else f
        pre = u + v["b_enc"]
        if self.norm_in_code:
            pre = pre * self.norms
        if self.rule == "relu":
            return pre.relu()
        if self.rule == "jumprelu":
            return pre.relu() * (pre > v["theta"])
        if self.rule == "batchtopk":
            return pre.relu() * (pre > (self.threshold or 0.0))
        value = pre if self.rule == "abstopk" else pre.relu()
        order = value.abs().sort(dim=1, descending=True, stable=True).indices[:, : self.k]
        return torch.zeros_like(value).scatter(1, order, value.gather(1, order))

    @torch.no_grad()
    def predict(self, x: Tensor, f: Tensor) -> Tensor:
        """y_hat [n, d_out] of codes f that `codes` gave for x."""
        if self.norm_in_code:
            f = torch.where(self.norms > 0, f / self.norms, torch.zeros_like(f))
        y_hat = f @ self.W_dec + self.b_dec
        if self.W_skip is not None:
            y_hat = y_hat + self.scale[0] * x.to(self.W_enc) @ self.W_skip
        return undone(y_hat / self.scale[1], x.to(self.W_enc), self.rows)
