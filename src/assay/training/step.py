"""One training step's loss and gradients, from nothing but a dictionary's `select` and `pairs`.

`sparse` follows the step contract on the support S only:
  1. u on S from one dense product;  2. the codes of `pairs` at S;  3. residuals e, their cotangents g = 2 w e / B and
  alpha = g . W_dec[i] at S;  4. autograd of `pairs` over |S| numbers gives c = dL/du and the vectors' gradients;  5. dW_dec from f
  and g, dW_enc from c and x - b_pre, the biases from sums.
`dense` differentiates `Dictionary.loss` on all batch x d_sae pairs. Both give the same numbers; the dense one is faster when more
than a few per cent of the pairs are active.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from assay.dictionaries import LIVE, Dictionary
from assay.kernels import Codes

DENSE_ABOVE = 0.06  # share of active pairs above which the dense path wins; measured at d=512 (5 to 8 per cent)


@dataclass
class Step:
    """terms: unweighted losses; grads: one per trainable parameter; f: the main code; x_hat [batch, d_out]."""

    terms: dict[str, float]
    loss: float
    grads: dict[str, Tensor]
    f: Codes
    x_hat: Tensor
    n_support: int


def trainable(dictionary: Dictionary) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in dictionary.named_parameters() if name not in dictionary.frozen}


def dense(dictionary: Dictionary, x: Tensor, y: Tensor, weights: dict[str, float], progress: float) -> Step:
    """Loss and gradients by autograd over all pairs. x [batch, d_in], y [batch, d_out] in training space."""
    params = trainable(dictionary)
    with torch.enable_grad():
        forward = dictionary.dense_forward(x, y, progress)
        total = sum(weights[term] * value for term, value in forward.terms.items())
        assert isinstance(total, Tensor)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(total, list(params.values()), allow_unused=True)
    grads = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}
    return Step(
        {term: float(value.detach()) for term, value in forward.terms.items()},
        float(total.detach()),
        grads,
        Codes.of(forward.f.detach()),
        forward.x_hat.detach(),
        int(forward.support.sum()),
    )


@torch.no_grad()
def sparse(
    dictionary: Dictionary, x: Tensor, y: Tensor, weights: dict[str, float], progress: float, kernel: ModuleType
) -> Step:
    """Loss and gradients on the active support, with the five kernels of `kernel`."""
    W_enc, W_dec, b_dec = dictionary.W_enc, dictionary.W_dec, dictionary.b_dec
    n_rows, n_latents = x.shape[0], W_dec.shape[0]
    centred = dictionary.centred(x)
    support = kernel.encode_select(
        centred, W_enc, dictionary.select(dictionary.params_at(progress=progress), training=True)
    )

    u = support.value.clone().requires_grad_()
    gathered = dictionary.params_at(support.latent, progress)
    leaves = {n: v.clone().requires_grad_() for n, v in vars(gathered).items() if isinstance(v, Tensor)}
    with torch.enable_grad():
        codes, penalties = dictionary.pairs(u, SimpleNamespace(**{**vars(gathered), **leaves}))

    params = trainable(dictionary)
    grads = {name: torch.zeros_like(p) for name, p in params.items() if name not in ("W_enc", "W_dec")}
    d_W_dec: Tensor | None = None
    terms: dict[str, float] = {}
    outputs: list[Tensor] = []
    cotangents: list[Tensor] = []
    x_hat = y
    for term, (code, decoder) in dictionary.recon.items():
        f = support.with_values(codes[code].detach())
        guess = kernel.decode(f, W_dec) + b_dec
        error = guess - y
        terms[term] = float(error.pow(2).sum()) / n_rows
        g = error * (2 * weights[term] / n_rows)
        outputs.append(codes[code])
        cotangents.append(kernel.cotangent(support, g, W_dec))
        if decoder == LIVE:
            if "W_dec" in params:
                part = kernel.accumulate(f, g)
                d_W_dec = part if d_W_dec is None else d_W_dec + part
            grads["b_dec"] += g.sum(0)
        if term == "recon":
            x_hat = guess
    with torch.enable_grad():
        for term, penalty in penalties.items():
            omega = (
                torch.zeros(n_latents, dtype=u.dtype, device=u.device).index_add(0, support.latent, penalty) / n_rows
            )
            value = dictionary.reduce.get(term, torch.sum)(omega)
            terms[term] = float(value.detach())
            outputs.append(value)
            cotangents.append(torch.full_like(value, weights[term]))
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            outputs, [u, *leaves.values()], cotangents, allow_unused=True
        )

    c = torch.zeros_like(u) if found[0] is None else found[0]
    by_latent = {
        name: torch.zeros(n_latents, dtype=u.dtype, device=u.device).index_add_(0, support.latent, grad)
        for name, grad in zip(leaves, found[1:], strict=True)
        if grad is not None
    }
    for name, grad in by_latent.items():
        if name in grads:
            grads[name] += grad
    if "W_dec" in params:
        d_W_dec = torch.zeros_like(W_dec) if d_W_dec is None else d_W_dec
        if "dec_norm" in by_latent:
            d_W_dec += by_latent["dec_norm"][:, None] * W_dec / W_dec.norm(dim=1, keepdim=True)
        grads["W_dec"] = d_W_dec
    if "W_enc" in params:
        grads["W_enc"] = kernel.accumulate(support.with_values(c), centred).t()
    if dictionary.pre_bias is not None:
        summed = torch.zeros(n_latents, dtype=u.dtype, device=u.device).index_add_(0, support.latent, c)
        grads[dictionary.pre_bias] -= W_enc @ summed
    loss = sum(weights[term] * value for term, value in terms.items())
    main = support.with_values(codes[dictionary.main_code].detach()).nonzero()
    return Step(terms, loss, {name: grads[name] for name in params}, main, x_hat, len(support))


def step(
    dictionary: Dictionary,
    x: Tensor,
    y: Tensor,
    weights: dict[str, float],
    progress: float,
    kernel: ModuleType,
    last_support: int,
) -> Step:
    """The dense path when the last step's support was large, else the sparse one. The choice never depends on time."""
    if last_support > DENSE_ABOVE * x.shape[0] * dictionary.W_dec.shape[0]:
        return dense(dictionary, x, y, weights, progress)
    return sparse(dictionary, x, y, weights, progress, kernel)
