"""Inputs on which two spellings of one dictionary are compared: made up from its own weights, so that some latents fire.

inputs(parts, n) -> x [n, d_in]        compare(...) raises BadInput, naming both, when codes or outputs differ
"""

from __future__ import annotations

import torch
from torch import Tensor

from assay.core.errors import BadInput
from assay.interop.layers import Layers
from assay.interop.parts import Parts

N_LATENTS = 6  # that each row is built from
TOLERANCE = 1e-4  # of the largest value; pairs this near their threshold may change sides


@torch.no_grad()
def inputs(parts: Parts | Layers, n: int = 64) -> Tensor:
    """x [n, d_in] float32: sums of a few encoder directions, long enough to pass thresholds and biases, and some noise."""
    if isinstance(parts, Layers):
        return torch.cat([inputs(p, n) for p in parts.parts], dim=1)
    p = parts.double()
    rng = torch.Generator().manual_seed(0)
    length = p.W_enc.norm(dim=0).clamp_min(1e-12)
    bias = p.vectors["b_enc"] if "b_enc" in p.vectors else p.vectors["b_gate"]
    level = bias.abs() + p.vectors.get("theta", torch.zeros_like(bias)).relu()
    if p.norm_in_code:
        level = bias.abs() + (level - bias.abs()) / p.norms.clamp_min(1e-12)
    if p.threshold is not None:
        level = level + p.threshold / (p.norms.clamp_min(1e-12) if p.norm_in_code else 1.0)
    wanted = 2 * level + 0.5 * length  # of u
    reach = wanted / length**2
    reach = reach.clamp(max=20 * float(reach.median()))  # one odd latent must not drown the others
    latent = torch.randint(p.d_sae, (n, N_LATENTS), generator=rng)
    weight = (0.5 + torch.rand(n, N_LATENTS, generator=rng, dtype=torch.float64)) * reach[latent]
    z = torch.einsum("nm,nmd->nd", weight.to(p.W_enc), p.W_enc.t()[latent])
    z = z + 0.1 * float(z.std()) * torch.randn(n, p.d_in, generator=rng, dtype=torch.float64).to(z)
    return ((z + p.b_dec if p.subtracts else z) / p.scale[0]).float()


@torch.no_grad()
def compare(
    before: Parts | Layers, after: Parts | Layers, x: Tensor, what: str, *, codes: bool = True
) -> dict[str, float]:
    """Largest relative differences of codes and outputs on x; a pair within rounding of its threshold may change sides."""
    before, after = before.double(), after.double()
    f, g = before.codes(x), after.codes(x)
    y, y_after = before.predict(x, f), after.predict(x, g)
    size = max(float(f.abs().max()), 1e-30)
    flipped = (f != 0) != (g != 0)
    excused = flipped & (_near(before, x) | ((f - g).abs() <= TOLERANCE * size))
    rows = ~flipped.any(1)
    worst = float(((f - g).abs() * ~flipped).max()) / size if codes else 0.0
    drift = float((y - y_after)[rows].abs().max()) / max(float(y.abs().max()), 1e-30) if bool(rows.any()) else 0.0
    if bool((flipped & ~excused).any()) or worst > TOLERANCE or drift > TOLERANCE:
        raise BadInput(
            f"{what}: codes differ by {worst:.1e} and outputs by {drift:.1e} of their scale on {len(x)} golden rows "
            f"(allowed {TOLERANCE:g}), so it is not the same dictionary; please report this."
        )
    return {"rows": len(x), "pairs": int((f != 0).sum()), "worst_code": worst, "worst_output": drift}


def _near(p: Parts | Layers, x: Tensor) -> Tensor:
    """[n, d_sae]: pairs within rounding of the border that decides them."""
    if isinstance(p, Layers):
        return torch.cat([_near(each, x[:, read]) for each, read in zip(p.parts, p.reads, strict=True)], dim=1)
    u, v = p.pre(x), p.vectors
    if p.rule == "gated":
        return (u + v["b_gate"]).abs() <= TOLERANCE * (u.abs() + v["b_gate"].abs())
    pre = (u + v["b_enc"]) * (p.norms if p.norm_in_code else 1.0)
    if p.rule in ("topk", "abstopk"):
        key = pre.abs() if p.rule == "abstopk" else pre.relu()
        kth = key.topk(p.k or 1, dim=1).values[:, -1:]
        return (key - kth).abs() <= TOLERANCE * kth
    border = v["theta"] if p.rule == "jumprelu" else torch.full_like(pre[0], p.threshold or 0.0)
    return (pre - border).abs() <= TOLERANCE * (u.abs() + border.abs())
