"""One training step's loss and gradients, from nothing but a dictionary's `select` and `pairs`.

`sparse` follows the step contract on the support S only:
  1. u on S from one dense product;  2. the codes of `pairs` at S;  3. residuals e, their cotangents g = 2 w e / B and
  alpha = g . W_dec[i] at S;  4. autograd of `pairs` over |S| numbers gives c = dL/du and the vectors' gradients;  5. dW_dec from f
  and g, dW_enc from c and x - b_pre, the biases from sums.
`dense` differentiates `Dictionary.loss` on all batch x d_sae pairs. Both give the same numbers; the dense one is faster when more
than a few per cent of the pairs are active.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from assay.core import distribution, latent_shards
from assay.dictionaries import DENSE, FROZEN, LIVE, Dictionary
from assay.kernels import Codes, Shared, Sums


@dataclass(frozen=True)
class External:
    """A loss of the main reconstruction that somebody else computes: its value, gradient [batch, d_out], and terms to log."""

    loss: float
    gradient: Tensor
    terms: dict[str, float]


Criterion = Callable[[Tensor], External]  # of x_hat [batch, d_out]
NOTHING = External(0.0, torch.zeros(()), {})


@dataclass
class Step:
    """terms: unweighted losses; grads and sums: one per trainable parameter, in the one or the other; f: the main code; x_hat [batch, d_out].

    sums: gradients of matrices that the update is to sum, where that was asked for.
    """

    terms: dict[str, float]
    loss: float
    grads: dict[str, Tensor]
    f: Codes
    x_hat: Tensor
    n_support: int
    sums: dict[str, Sums] = field(default_factory=dict[str, Sums])

    def shared(self) -> Step:
        """The same of the whole batch where its rows are split between processes: terms, loss and gradients are means over them
        and the support is counted in all, over all shards of the latents; f and x_hat stay this process's own."""
        if distribution.parts() == 1 and distribution.latent_parts() == 1:
            return self
        n_here = latent_shards.summed(torch.tensor(self.n_support, device=self.x_hat.device)).item()
        numbers = torch.tensor([self.loss, n_here, *self.terms.values()], dtype=torch.float64, device=self.x_hat.device)
        loss, n_support, *terms = (distribution.total(numbers) / distribution.parts()).tolist()
        named = dict(zip(self.terms, terms, strict=True))
        found = round(n_support * distribution.parts())
        return Step(named, loss, distribution.averaged(self.grads), self.f, self.x_hat, found)


def trainable(dictionary: Dictionary) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in dictionary.named_parameters() if name.partition(".")[0] not in dictionary.frozen}


def dense(
    dictionary: Dictionary,
    x: Tensor,
    y: Tensor,
    weights: dict[str, float],
    progress: float,
    criterion: Criterion | None = None,
) -> Step:
    """Loss and gradients by autograd over all pairs. x [batch, d_in], y [batch, d_out] in training space.

    criterion: one more loss of the main reconstruction, from outside.
    """
    params = trainable(dictionary)
    external = NOTHING
    with torch.enable_grad():
        forward = dictionary.dense_forward(x, y, progress)
        total = sum(weights[term] * value for term, value in forward.terms.items())
        assert isinstance(total, Tensor)
        pulled = total
        if criterion is not None:
            external = criterion(forward.x_hat.detach())
            pulled = total + (forward.x_hat * external.gradient).sum()
        found: tuple[Tensor | None, ...] = torch.autograd.grad(pulled, list(params.values()), allow_unused=True)
    grads = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}
    return Step(
        {term: float(value.detach()) for term, value in forward.terms.items()} | external.terms,
        float(total.detach()) + external.loss,
        grads,
        Codes.of(forward.f.detach()),
        forward.x_hat.detach(),
        int(forward.support.sum()),
    )


@torch.no_grad()
def sparse(
    dictionary: Dictionary,
    x: Tensor,
    y: Tensor,
    weights: dict[str, float],
    progress: float,
    kernel: ModuleType,
    criterion: Criterion | None = None,
    *,
    sums_from: float = math.inf,
    shared: Shared | None = None,
) -> Step:
    """Loss and gradients on the active support, with the five kernels of `kernel`; criterion as in `dense`.

    sums_from: gradients of matrices of so many elements or more may be left to the update, as `sums`. shared: of x, where other
    dictionaries read it too.
    """
    n_rows, n_latents = x.shape[0], dictionary.d_sae
    centred = dictionary.centred(x)
    wired, names = dictionary.wired, dictionary.matrix_names
    support = dictionary.support(x, training=True, progress=progress, kernel=kernel, centred=centred, shared=shared)

    latent = support.latent
    u = support.value.clone().requires_grad_()
    gathered = dictionary.params_at(latent, progress)
    leaves = {n: v.clone().requires_grad_() for n, v in vars(gathered).items() if isinstance(v, Tensor)}
    with torch.enable_grad():
        codes, penalties = dictionary.pairs(u, SimpleNamespace(**{**vars(gathered), **leaves}))

    params = trainable(dictionary)
    matrices = {name for pair in names for name in pair}
    grads = {name: torch.zeros_like(p) for name, p in params.items() if name not in matrices}
    directions = {name: W_dec for (_, name), (_, _, W_dec) in zip(names, wired, strict=True)}
    parts: dict[str, list[Tensor | Sums]] = {}  # of the matrices' gradients
    terms: dict[str, float] = {}
    outputs: list[Tensor] = []
    cotangents: list[Tensor] = []
    x_hat = y
    external = NOTHING
    for term, (code, decoder, *prefix) in dictionary.recon.items():
        here, output = support, codes[code]
        if prefix:  # only the latents below m
            here, inside = support.below(prefix[0])
            with torch.enable_grad():
                output = output[inside]
        f = here.split(output.detach())
        rows = {decoder: params[decoder]} if decoder in dictionary.extra_decoders else directions
        guess = dictionary.written([kernel.decode(p, W_dec) for p, W_dec in zip(f, rows.values(), strict=True)])
        if dictionary.skip:
            guess = guess + dictionary.skipped(x)
        error = guess - y
        terms[term] = float(torch.dot(error.flatten(), error.flatten())) / n_rows
        g = error * (2 * weights[term] / n_rows)
        if term == "recon":
            x_hat = guess
            if criterion is not None:
                external = criterion(guess)
                g = g + external.gradient
        outputs.append(output)
        whither = zip(f, dictionary.blocks, rows.values(), strict=True)
        reached = [kernel.cotangent(p, g[:, b.writes], W_dec) for p, b, W_dec in whither]
        cotangents.append(reached[0] if len(reached) == 1 else torch.cat(reached))
        if decoder != FROZEN:
            for name, p, block in zip(rows, f, dictionary.blocks, strict=True):
                if name in params:
                    parts.setdefault(name, []).append(Sums(p, g[:, block.writes]))
        if decoder == LIVE:
            if "b_dec" in grads:
                grads["b_dec"] += g.sum(0)
            for block, name in dictionary.skips:
                if name in grads:
                    grads[name] += x[:, block.reads].t() @ g[:, block.writes]
    with torch.enable_grad():
        for term, penalty in penalties.items():
            omega = by_latent(penalty, latent, n_latents) / n_rows
            omega = latent_shards.whole(distribution.mean(omega))  # of all rows and latents, where they are split
            value = dictionary.reduce.get(term, torch.sum)(omega)
            terms[term] = float(value.detach())
            outputs.append(value)
            cotangents.append(torch.full_like(value, weights[term]))
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            outputs, [u, *leaves.values()], cotangents, allow_unused=True
        )

    c = torch.zeros_like(u) if found[0] is None else found[0]
    vectors = {
        name: by_latent(grad, latent, n_latents)
        for name, grad in zip(leaves, found[1:], strict=True)
        if grad is not None
    }
    for name, grad in vectors.items():
        if name in grads:
            grads[name] += grad
    summed = by_latent(c, latent, n_latents)
    for (enc, dec), p, (block, W_enc, W_dec) in zip(names, support.split(c), wired, strict=True):
        if dec in params:
            if "dec_norm" in vectors:
                more = _through_norms(dictionary, W_dec, vectors["dec_norm"][block.latents])
                parts.setdefault(dec, []).append(more)
            elif dec not in parts:
                grads[dec] = torch.zeros_like(W_dec)
        if enc in params:
            parts[enc] = [Sums(p, centred[:, block.reads], transposed=True)]
        if dictionary.pre_bias in grads:
            grads[dictionary.pre_bias][block.reads] -= latent_shards.summed(W_enc @ summed[block.latents])
    late: dict[str, Sums] = {}
    for name, some in parts.items():
        one = some[0]
        if len(some) == 1 and isinstance(one, Sums) and params[name].numel() >= sums_from and one.fits(params[name]):
            late[name] = one
        else:
            first, *others = (part.whole(kernel.accumulate) if isinstance(part, Sums) else part for part in some)
            grads[name] = sum(others, first)
    loss = sum(weights[term] * value for term, value in terms.items()) + external.loss
    terms |= external.terms
    main = support.joined(codes[dictionary.main_code].detach()).nonzero()
    ready = {name: grads[name] for name in params if name not in late}
    return Step(terms, loss, ready, main, x_hat, len(support), late)


def by_latent(values: Tensor, latent: Tensor, n: int) -> Tensor:
    """Sums [n] of values [nnz] over the pairs of each latent, in an order that is the same in every run."""
    sums = values.new_zeros(n)
    if values.is_cuda:  # where index_add takes numbers as they come, but this sorts by index first
        return sums.index_put((latent,), values, accumulate=True)
    return sums.index_add(0, latent, values)


def _through_norms(dictionary: Dictionary, W_dec: Tensor, cotangent: Tensor) -> Tensor:
    """The gradient that reaches a block's decoder rows through their norms."""
    with torch.enable_grad():
        rows = W_dec.detach().requires_grad_()
        return torch.autograd.grad(dictionary.row_norms(rows), rows, cotangent)[0]


def step(
    dictionary: Dictionary,
    x: Tensor,
    y: Tensor,
    weights: dict[str, float],
    progress: float,
    kernel: ModuleType,
    last_support: int,
    criterion: Criterion | None = None,
    *,
    sums_from: float = math.inf,
    shared: Shared | None = None,
) -> Step:
    """The dense path when the last step's support was large for these kernels, else the sparse one; time plays no part.

    sums_from, shared: as in `sparse`.
    """
    n_pairs = x.shape[0] * distribution.parts() * dictionary.config.d_sae
    if dictionary.step == DENSE or last_support > kernel.DENSE_ABOVE * n_pairs:
        return dense(dictionary, x, y, weights, progress, criterion)
    return sparse(dictionary, x, y, weights, progress, kernel, criterion, sums_from=sums_from, shared=shared)
