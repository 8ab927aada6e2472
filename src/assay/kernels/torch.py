"""The five kernels in plain torch on the active pairs only: no tensor of B x F floats beyond one block of rows.

The weight gradients are an embedding bag over the transposed pairs: sorted by latent, latent i is a bag of the rows it is on in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.adam import adam

from assay.kernels.codes import Codes
from assay.kernels.origin import Origin
from assay.kernels.selection import Above, BatchTop, Selection, Top, keys, uncut

BLOCK = 1 << 21  # elements of u in memory at once: 8 MiB of float32
DENSE_ABOVE = 0.06  # measured at d=512: both cost the same at 13, 10 and 6 per cent for F = 512, 4096 and 16384
SUMS_FROM = math.inf  # `update` takes whole gradients
BLOCK_ON_GPU = 1 << 26  # a product of few rows would read all of W_enc for little work
ROWS_BYTES = 1 << 19  # of a matrix that are worked on together
GROUP = 32  # neighbouring latents of which only the largest key is looked at first
SPARSER = 64  # one key in so many tells how large the largest of a batch are


def encode_select(
    x: Tensor, W_enc: Tensor, selection: Selection, origin: Origin | None = None, *, block: int | None = None
) -> Codes:
    """u = x @ W_enc at the chosen pairs, a block of rows at a time; block: elements of u in one, by default for x's device."""
    B, n_latents = x.shape[0], W_enc.shape[1]
    block = block or (BLOCK if x.device.type == "cpu" else BLOCK_ON_GPU)
    rows_per_block = max(1, block // n_latents)
    rows: list[Tensor] = []
    latents: list[Tensor] = []
    values: list[Tensor] = []
    floor = 0.0  # BatchTop: no pair at or below this key can be among the B * k largest
    for start in range(0, max(B, 1), rows_per_block):  # an empty batch is one empty block
        u = x[start : start + rows_per_block] @ W_enc
        if isinstance(selection, Top):
            row, latent = _top(uncut(u, selection), selection.k)
        elif isinstance(selection, Above):
            row, latent = (u > selection.threshold).nonzero(as_tuple=True)
        else:
            key = uncut(u, selection)
            floor = floor or _surely_below(key, B * selection.k)
            row, latent = (key > floor).nonzero(as_tuple=True)
        rows.append(row + start)
        latents.append(latent)
        values.append(u[row, latent])
        if isinstance(selection, BatchTop):
            rows, latents, values, floor = _keep_largest(rows, latents, values, selection, B * selection.k)
    return Codes(_joined(rows), _joined(latents), _joined(values), (B, n_latents))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _top(key: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Row and latent of the k largest positive keys of each row, ties to the lower index."""
    n = min(k + 1, key.shape[1])
    value, index = _largest(key, n)
    if n > k:  # torch.topk breaks ties as it likes: redo the rows where the k-th and the next are equal
        tied = ((value[:, k - 1] == value[:, k]) & (value[:, k] > 0)).nonzero().flatten()
        if tied.numel():
            index[tied] = torch.sort(key[tied], dim=-1, descending=True, stable=True).indices[:, :n]
    index = index[:, :k].sort(dim=-1).values
    on = key.gather(-1, index) > 0
    return on.nonzero(as_tuple=True)[0], index[on]


def _largest(key: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """key.topk(n) of each row. The n largest lie in the n groups of largest maximum, or equal what lies there."""
    n_rows, n_latents = key.shape
    if n_latents % GROUP or n_latents < 2 * n * GROUP:
        return key.topk(n, dim=-1)
    groups = key.view(n_rows, -1, GROUP)
    best = groups.amax(-1).topk(n, dim=-1).indices
    near = groups.gather(1, best.unsqueeze(-1).expand(-1, -1, GROUP)).flatten(1)
    value, at = near.topk(n, dim=-1)
    return value, best.gather(1, at // GROUP) * GROUP + at % GROUP


def _surely_below(key: Tensor, n: int) -> float:
    """A number that at least n keys exceed, near the n-th largest as a sample of them suggests; 0 where that cannot be had."""
    sample = key.flatten()[::SPARSER]
    n_above = 2 * n // SPARSER + 32
    if n_above > sample.numel():
        return 0.0
    guess = float(sample.topk(n_above).values[-1])
    return guess if guess > 0 and int((key > guess).sum()) >= n else 0.0


def _keep_largest(
    rows: list[Tensor], latents: list[Tensor], values: list[Tensor], selection: BatchTop, n: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor], float]:
    row, latent, value = torch.cat(rows), torch.cat(latents), torch.cat(values)
    if row.numel() <= n:
        return [row], [latent], [value], 0.0
    bias = None if selection.key_bias is None else selection.key_bias[latent]
    key = keys(value, BatchTop(selection.k, bias, selection.signed))
    cut = key.topk(n).values[-1]
    above, tied = key > cut, (key == cut).nonzero().flatten()
    keep = above.clone()
    keep[tied[: n - int(above.sum())]] = True  # pairs are in row order, so the first are the lower ones
    return [row[keep]], [latent[keep]], [value[keep]], float(cut.detach())  # a later tie has a higher index and loses


def decode(codes: Codes, W_dec: Tensor) -> Tensor:
    return F.embedding_bag(
        codes.latent, W_dec, codes.pointers[:-1], mode="sum", per_sample_weights=codes.value.to(W_dec.dtype)
    )


def cotangent(codes: Codes, g: Tensor, W_dec: Tensor) -> Tensor:
    with torch.enable_grad():
        weight = torch.zeros_like(codes.value, dtype=W_dec.dtype).requires_grad_()
        bag = F.embedding_bag(codes.latent, W_dec.detach(), codes.pointers[:-1], mode="sum", per_sample_weights=weight)
        return torch.autograd.grad(bag, weight, g)[0]


def accumulate(codes: Codes, g: Tensor) -> Tensor:
    order, start = codes.by_latent
    value = codes.value[order].to(g.dtype)
    return F.embedding_bag(codes.row[order], g, start, mode="sum", per_sample_weights=value)


def update(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    clip: float | None,
    unit_rows: tuple[str, ...] = (),
) -> float:
    """As `reference.update`, with torch's fused Adam; grads are changed."""
    for name in unit_rows:
        for rows, grad in zip(_slices(params[name]), _slices(grads[name]), strict=True):
            along = torch.linalg.vecdot(grad, rows) / torch.linalg.vecdot(rows, rows)
            grad.addcmul_(along.unsqueeze(1), rows, value=-1)
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads.values()])))
    if clip is not None and norm > clip:
        for grad in grads.values():
            grad.mul_(clip / (norm + 1e-6))
    names = list(params)
    # Adam is elementwise: latent-major W_enc is handed over as the contiguous matrix that it is stored as.
    adam(
        [_plain(params[n]) for n in names],
        [_plain(grads[n], params[n]) for n in names],
        [_plain(first[n]) for n in names],
        [_plain(second[n]) for n in names],
        [],
        [torch.tensor(float(step - 1), device=params[n].device) for n in names],
        fused=True,
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=lr,
        weight_decay=0.0,
        eps=eps,
        maximize=False,
    )
    for name in unit_rows:
        for rows in _slices(params[name]):
            rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True))
    return norm


def _slices(matrix: Tensor) -> tuple[Tensor, ...]:
    """Rows that fit a cache together, on a CPU."""
    return (matrix,) if matrix.device.type != "cpu" else matrix.split(max(1, ROWS_BYTES // (4 * matrix.shape[1])))


def _plain(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The contiguous storage order of a tensor, as a view; `like` gives the order when the tensor's own may differ."""
    order = tensor if like is None else like
    transposed = order.dim() == 2 and not order.is_contiguous()
    view = tensor.t() if transposed else tensor
    return view if like is None else view.contiguous()
