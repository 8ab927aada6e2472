"""Conventions moved into the weights. Each returns new `Parts` with the same output; the docstring says what happens to the codes.

Everything here has been got wrong in a published library at least once (a bias forgotten, a threshold left in the old scale, b_dec
subtracted from a transcoder's input), so each has a before/after test on random biases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.interop.layers import Layers
from assay.interop.parts import Parts

Folded = TypeVar("Folded", Parts, Layers, Parts | Layers)  # of several layers each is folded by itself


@torch.no_grad()
def activation_scale(parts: Folded, codes: Literal["kept", "scaled"] = "kept") -> Folded:
    """Parts that read raw x and predict raw y: `scale` becomes (1, 1).

    codes = "kept":    f as it was (SAELens):     W_enc x s_in,  W_dec / s_out,       biases and thresholds as they are
    codes = "scaled":  f / s_in (Gemma Scope):    W_enc as it is,  W_dec s_in / s_out,  biases and thresholds / s_in
    Both: b_dec / s_out, W_skip s_in / s_out, r_mag as it is. Where b_dec is subtracted from x, s_in and s_out must be equal.
    """
    if isinstance(parts, Layers):
        return parts.each(lambda p: activation_scale(p, codes)).unscaled()
    s_in, s_out = parts.scale
    if parts.subtracts and s_in != s_out:
        raise BadInput(f"b_dec is subtracted from x, so one scale is needed for both, not {s_in} and {s_out}.")
    if s_in == s_out == 1:
        return parts
    if parts.norm_in_code:  # the rows' lengths are about to change
        return activation_scale(decoder_norm(parts), codes)
    kept = codes == "kept"
    return replace(
        parts,
        W_enc=parts.W_enc * s_in if kept else parts.W_enc,
        W_dec=parts.W_dec * ((1 if kept else s_in) / s_out),
        b_dec=parts.b_dec / s_out,
        vectors={n: v if kept or n == "r_mag" else v / s_in for n, v in parts.vectors.items()},
        threshold=parts.threshold if kept or parts.threshold is None else parts.threshold / s_in,
        W_skip=None if parts.W_skip is None else parts.W_skip * (s_in / s_out),
        scale=(1.0, 1.0),
    )


@torch.no_grad()
def decoder_norm(parts: Folded) -> Folded:
    """Rows of W_dec of length 1. Codes: as they were with `norm_in_code`, else f_i ||W_dec_i||.

    n_i = ||W_dec_i||:  W_enc, b_enc, b_gate, b_mag x n;  W_dec / n;  r_mag as it is. Thresholds: x n, but as they are with
    `norm_in_code`, which compares them to pre * n. A row of zeros stays; with `norm_in_code` its latent never fires, and its
    encoder becomes 0.
    """
    if isinstance(parts, Layers):
        return parts.each(decoder_norm)
    if parts.rule in ("topk", "abstopk", "batchtopk") and not parts.norm_in_code:
        raise BadInput(
            f"Folding decoder norms would change which latents this {parts.rule} chooses; its rows keep their lengths."
        )
    n = parts.norms
    if not parts.norm_in_code:
        n = torch.where(n > 0, n, torch.ones_like(n))
    as_is = {"r_mag", "theta"} if parts.norm_in_code else {"r_mag"}
    return replace(
        parts,
        W_enc=parts.W_enc * n,
        W_dec=parts.W_dec / torch.where(n > 0, n, torch.ones_like(n))[:, None],
        vectors={name: v if name in as_is else v * n for name, v in parts.vectors.items()},
        norm_in_code=False,
    )


@torch.no_grad()
def pre_bias(parts: Parts, subtracts: bool) -> Parts:
    """Parts whose encoder subtracts b_dec from x, or does not: the codes stay.

    From subtracting to not:  b_enc and b_gate - b_dec W_enc,  b_mag - exp(r_mag) (b_dec W_enc);  the other way with a plus.
    """
    if parts.subtracts == subtracts:
        return parts
    if parts.transcoder:
        raise BadInput("b_dec lies at another site than x, so no encoder of this transcoder can subtract it.")
    moved = parts.b_dec @ parts.W_enc * (1 if subtracts else -1)
    shift: dict[str, Tensor] = {"b_enc": moved, "b_gate": moved}
    if parts.rule == "gated":
        shift["b_mag"] = parts.vectors["r_mag"].exp() * moved
    return replace(
        parts,
        vectors={name: v + shift[name] if name in shift else v for name, v in parts.vectors.items()},
        subtracts=subtracts,
    )


@torch.no_grad()
def whitening(parts: Parts, mean: Tensor, matrix: Tensor, inverse: Tensor) -> Parts:
    """Parts that read raw x, of parts that read z = (x - mean) matrix and whose y_hat means y_hat inverse + mean: the codes stay.

    W_enc' = matrix W_enc;  W_dec' = W_dec inverse;  b_dec' = b_dec inverse + mean. Where b_dec is not subtracted, b_enc and b_gate
    lose mean W_enc', and b_mag exp(r_mag) times that; where it is, the new b_dec takes the mean away by itself.
    """
    if parts.transcoder or parts.scale != (1.0, 1.0):
        raise BadInput("Whitening can be folded into a dictionary that predicts its own unscaled input only.")
    if parts.norm_in_code:
        parts = decoder_norm(parts)
    mean, matrix, inverse = (t.to(parts.W_enc) for t in (mean, matrix, inverse))
    W_enc = matrix @ parts.W_enc
    moved = torch.zeros_like(W_enc[0]) if parts.subtracts else mean @ W_enc
    shift: dict[str, Tensor] = {"b_enc": moved, "b_gate": moved}
    if parts.rule == "gated":
        shift["b_mag"] = parts.vectors["r_mag"].exp() * moved
    return replace(
        parts,
        W_enc=W_enc,
        W_dec=parts.W_dec @ inverse,
        b_dec=parts.b_dec @ inverse + mean,
        vectors={name: v - shift[name] if name in shift else v for name, v in parts.vectors.items()},
    )


@torch.no_grad()
def as_jumprelu(parts: Folded) -> Folded:
    """The same codes by the rule relu(pre) 1[pre > theta]: exact for relu, batchtopk and gated.

    relu: theta = 0. batchtopk: theta = threshold. gated: W_enc exp(r_mag), b_enc = b_mag, theta = max(b_mag - exp(r_mag) b_gate, 0)
    (`dictionaries/conversions.py`).
    """
    if isinstance(parts, Layers):
        return parts.each(as_jumprelu)
    if parts.rule == "jumprelu":
        return parts
    if parts.rule in ("topk", "abstopk"):
        raise BadInput(f"{parts.rule} chooses k latents a row, which no threshold can say.")
    if parts.rule == "gated":
        from assay.dictionaries.conversions import gated_to_jumprelu
        from assay.interop.ours import from_dictionary, to_dictionary

        made: object = to_dictionary(replace(parts, rows="as_is"))
        return replace(from_dictionary(gated_to_jumprelu(made)), facts=parts.facts, rows=parts.rows)  # type: ignore[arg-type]
    b_enc = parts.vectors["b_enc"]
    theta = torch.full_like(b_enc, parts.threshold or 0.0)
    return replace(parts, rule="jumprelu", vectors={"b_enc": b_enc, "theta": theta}, threshold=None, k=None, groups=())


@torch.no_grad()
def constant_norm(parts: Parts) -> Parts:
    """Parts that read rows as they are, of parts that give each row the length sqrt(d_in): codes times ||x|| / sqrt(d_in).

    Exact where the codes grow with x, that is without biases and thresholds: relu, topk, abstopk with b_enc = b_dec = 0. A layer norm
    is never folded: its 1e-5 and its mean have no place in the weights.
    """
    grows = parts.rule in ("relu", "topk", "abstopk") and not bool(parts.b_dec.any() or parts.vectors["b_enc"].any())
    if parts.rows != "constant_norm" or not grows:
        raise BadInput(
            f"It normalises each row ({parts.rows}), which its weights cannot say; only where all biases are 0 could they."
        )
    return replace(parts, rows="as_is")


@torch.no_grad()
def plain(parts: Folded) -> Folded:
    """Raw in, raw out, rows as they are: what most formats hold."""
    if isinstance(parts, Layers):
        return parts.each(plain).unscaled()
    parts = decoder_norm(parts) if parts.norm_in_code else parts
    return activation_scale(parts)
