"""Names of sites between assay (resid_post.3) and TransformerLens (blocks.3.hook_resid_post), and what a file says of its making."""

from __future__ import annotations

import re
from typing import Any

from assay.models.sites import KINDS, LENS


def ours(name: str | None) -> str | None:
    """Our name of a TransformerLens name, or of resid_post_layer_3; any other name (a dotted module path) stays."""
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name or "")
    plain = re.fullmatch(r"(\w+)_layer_(\d+)", name or "")
    if plain and plain[1] in KINDS:
        return f"{plain[1]}.{plain[2]}"
    return f"{LENS[match[2]]}.{match[1]}" if match and match[2] in LENS else name


def lens(site: str | None) -> str | None:
    """The TransformerLens name of our site; any other name stays."""
    kind, _, layer = (site or "").partition(".")
    alias = {ours: theirs for theirs, ours in LENS.items()}.get(kind)
    return f"blocks.{layer}.{alias}" if alias and layer.isdecimal() else site


def facts(
    *,
    format: str,
    architecture: str,
    scale: str,
    threshold: str,
    b_dec: str,
    model: Any = None,
    site: Any = None,
    target: Any = None,
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """What becomes the provenance of a dictionary that was read: model and sites by our names, conventions in words."""

    def text(value: Any) -> str | None:
        return value if isinstance(value, str) and value else None

    known = {"model": text(model), "site": ours(text(site)), "target": ours(text(target))}
    conventions: dict[str, Any] = {
        "format": format,
        "architecture": architecture,
        "scale": scale,
        "threshold": threshold,
        "b_dec": b_dec,
        "notes": list(notes),
    }
    return {**{name: value for name, value in known.items() if value}, "read_from": conventions}


SUBTRACTED = "subtracted from x by the encoder, added by the decoder"
NOT_SUBTRACTED = "added by the decoder only; the encoder reads x as it is"
RAW = "none: reads raw activations"
NO_THRESHOLD = "none"
EACH = "one a latent, on when pre > theta"
ONE = "one number for all latents, on when pre > threshold"
BY_RULE = {"relu": NO_THRESHOLD, "gated": "the gate, on when u + b_gate > 0", "jumprelu": EACH, "batchtopk": ONE}


def threshold_of(rule: str, k: int | None = None) -> str:
    """The convention of a rule in words."""
    return BY_RULE.get(rule) or f"none: the {k} largest of each row"
