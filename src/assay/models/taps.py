"""Hooks at the sites of a model: how a value is seen and replaced, whichever side of whichever module it is at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from assay.core.errors import NotFound

if TYPE_CHECKING:
    from assay.models.model import Model


def attach(
    model: Model, site: str, change: Callable[[Tensor], Tensor | None], *, writes: bool = True
) -> RemovableHandle:
    """Call `change(h)` whenever the site's value `h` passes; a returned tensor takes its place, None leaves it.

    `site` is canonical. Hooks at one site run in the order in which they were attached. `writes=False` promises that
    `change` only looks.
    """
    tap = model._sites.tap(site)
    module = model._sites.module(tap)
    if tap.side == "out":

        def after(_module: Any, _args: Any, output: Any) -> Any:
            whole = not isinstance(output, tuple)
            h = output if whole else output[0]
            new = change(_vectors(h, site))
            return None if new is None else new if whole else (new, *output[1:])

        return module.register_forward_hook(after)

    shared = writes and tap.side == "stream"

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = None if args else next(iter(kwargs))
        h = _vectors(args[0] if name is None else kwargs[name], site)
        if shared:
            # The block holds this very tensor and adds to it later: writing into it reaches both readers, exactly.
            # `change` sees a copy, so that what autograd keeps of it stays as it was.
            new = change(h.clone())
            if new is not None:
                h.copy_(new)
            return None
        new = change(h)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if name is None else (args, {**kwargs, name: new})

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _vectors(h: Any, site: str) -> Tensor:
    if not isinstance(h, Tensor) or h.ndim != 3 or not h.is_floating_point():
        found = f"{h.dtype} {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
        raise NotFound(f'"{site}" carries {found}, not vectors [batch, pos, d]; name another module or side.')
    return h


def probe(model: Model, site: str) -> int:
    """Width of a site, by a forward pass over a few tokens.

    Raises `NotFound` where a pass does not cross the site exactly once with one vector a token.
    """
    shapes: list[tuple[int, ...]] = []

    def see(h: Tensor) -> None:
        shapes.append(tuple(h.shape))

    ids = torch.full((2, min(3, model.context)), model.bos_id or 0)
    handle = attach(model, site, see, writes=False)
    try:
        with torch.no_grad():
            model.forward(ids)
    finally:
        handle.remove()
    if len(shapes) != 1:
        raise NotFound(
            f'"{site}" is crossed {len(shapes)} times in one forward pass of {model.name}; a site is crossed once. '
            f"Name another module."
        )
    if shapes[0][:2] != tuple(ids.shape):
        raise NotFound(
            f'"{site}" carries {shapes[0]} for {tuple(ids.shape)} tokens, not one vector a token; name another module.'
        )
    return shapes[0][-1]
