"""Changing what a model computes, at its sites, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from assay.core.errors import BadInput, BadOption
from assay.models.model import Model
from assay.models.taps import attach
from assay.models.where import Where

Keep = Tensor | Callable[[Where], Tensor] | None


@dataclass(frozen=True)
class Edit:
    """Replace the value `h` [batch, pos, d] at `site` by `fn(h, where)`, of the same shape.

    `fn` is pure and differentiable: it returns a new tensor, never writes into `h`, and treats each position on its own
    (under a key-value cache a mean over positions would see one position a step). It is also called on padding.
    """

    site: str
    fn: Callable[[Tensor, Where], Tensor]


@contextmanager
def edited(model: Model, edits: Sequence[Edit]) -> Generator[Model]:
    """Apply `edits` to every forward pass inside the block: at one site in the given order, outer blocks first.

    Works for `model.logits`, `read`, `generate`, `token_losses` and plain calls of `model.hf` with `input_ids`.
    Gradients flow through. Hooks are removed at the end of the block, also after an exception.
    """
    if isinstance(edits, Edit):
        edits = [edits]
    named = [(model.canonical(edit.site), edit) for edit in edits]
    for site, _ in named:
        model.width(site)
    step = _Step(model)
    with ExitStack() as hooks:
        hooks.callback(model.hf.register_forward_pre_hook(step.begin, with_kwargs=True).remove)
        hooks.callback(model.hf.register_forward_hook(step.end, always_call=True).remove)
        for site, edit in named:
            hooks.callback(attach(model, site, _change(edit, step)).remove)
        yield model


class _Step:
    """Keeps the `Where` of the forward pass that is under way."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.special_ids = frozenset(model.special_ids)
        self.where: Where | None = None

    def begin(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None:
            raise BadInput("An edited model needs input_ids, not embeddings: edits look at token ids.")
        mask = kwargs.get("attention_mask")
        if mask is None:
            past = kwargs.get("past_key_values")
            n_past = 0 if past is None else past.get_seq_length()
            mask = ids.new_ones(ids.shape[0], n_past + ids.shape[1])
        self.where = Where.of(ids, mask, self.special_ids, self.model._n_prompt)

    def end(self, *_: Any) -> None:
        self.where = None


def _change(edit: Edit, step: _Step) -> Callable[[Tensor], Tensor]:
    def change(h: Tensor) -> Tensor:
        if step.where is None:
            raise BadInput(
                f"{edit.site} was crossed outside a pass of the whole model; call the model, not a part of it."
            )
        new = edit.fn(h, step.where)
        if not isinstance(new, Tensor) or new.shape != h.shape:
            found = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise BadInput(
                f"The edit at {edit.site} returned {found}; a tensor {tuple(h.shape)} is needed, as it came."
            )
        return new.to(h)

    return change


def splice(
    model: Model,
    site: str,
    dictionary: Any,
    *,
    error: bool = False,
    keep: Keep = None,
    dtype: torch.dtype | None = None,
) -> AbstractContextManager[Model]:
    """Put a dictionary's reconstruction x_hat in the place of x at `site`.

    `dictionary` has `encode` and `decode` over rows [n, d], or is a callable x -> x_hat. It sees real, kept tokens
    only. `error=True` adds x - x_hat back as a constant: the value is unchanged to rounding, and gradients flow through
    the dictionary alone.
    `keep` [batch, pos] bool, or a function of `Where` that gives one: where to splice; elsewhere x passes untouched.
    `dtype`: in which type the dictionary computes (float32, or the model's float64, unless said).
    """
    width = model.width(site)
    d_in = getattr(getattr(dictionary, "config", None), "d_in", width)
    if d_in != width:
        raise BadInput(
            f"{site} of {model.name} has width {width}, but this dictionary was trained on d_in={d_in}; "
            f"it belongs to another site or model."
        )
    run: Callable[[Tensor], Tensor] = dictionary
    if hasattr(dictionary, "encode") and not hasattr(dictionary, "reconstruct"):
        run = lambda x: dictionary.decode(dictionary.encode(x))

    def fn(h: Tensor, where: Where) -> Tensor:
        chosen = _chosen(keep, where)
        x = h[chosen].to(dtype or torch.promote_types(h.dtype, torch.float32))
        if not len(x):
            return h
        x_hat = run(x)
        if x_hat.shape != x.shape:
            raise BadInput(
                f"The dictionary turned {tuple(x.shape)} at {site} into {tuple(x_hat.shape)}; it does not fit."
            )
        if error:
            x_hat = x_hat + (x - x_hat).detach()
        return h.index_put((chosen,), x_hat.to(h))

    return edited(model, [Edit(site, fn)])


def ablated(model: Model, site: str, by: Literal["zero"] | Tensor, keep: Keep = None) -> AbstractContextManager[Model]:
    """Put zeros, or one mean vector [d], in the place of every kept vector at `site`; `keep` as in `splice`."""
    width = model.width(site)
    if isinstance(by, str):
        if by != "zero":
            raise BadOption(f'The ablation is "{by}"; it must be "zero" or a mean vector of width {width}.')
        vector = torch.zeros(width)
    elif by.shape == (width,):
        vector = by
    else:
        raise BadInput(f"The mean for {site} has shape {tuple(by.shape)}; ({width},) is needed.")

    def fn(h: Tensor, where: Where) -> Tensor:
        return torch.where(_chosen(keep, where)[..., None], vector.to(h), h)

    return edited(model, [Edit(site, fn)])


def _chosen(keep: Keep, where: Where) -> Tensor:
    """bool [batch, pos]: real tokens that are kept."""
    if keep is None:
        return where.attention_mask
    mask = keep if isinstance(keep, Tensor) else keep(where)
    if mask.shape != where.token_ids.shape or mask.dtype != torch.bool:
        raise BadInput(
            f"keep is {mask.dtype} {tuple(mask.shape)}, but the text is {tuple(where.token_ids.shape)}; give one "
            f"bool a token, or a function of Where when generating."
        )
    return mask.to(where.token_ids.device) & where.attention_mask
