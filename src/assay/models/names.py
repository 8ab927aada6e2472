"""From the name of a site to its place in one model: canonical names, TransformerLens aliases, dotted module paths."""

from __future__ import annotations

import difflib
import re
from typing import Any

from torch import nn

from assay.core.errors import NotFound, nearest
from assay.models.sites import KINDS, LENS, NEOX, Family, Tap


class Sites:
    """The sites of one model: names, aliases, and the tap of each."""

    def __init__(self, hf: Any, family: Family | None, n_layers: int, model_name: str) -> None:
        config = hf.config
        self._modules = dict(hf.named_modules())
        self._n_layers = n_layers
        self._model_name = model_name
        self._model_type = str(getattr(config, "model_type", type(hf).__name__))
        self._family = family
        self._base = _base_path(hf)
        self._parallel = family is NEOX and bool(config.use_parallel_residual)
        absent = {"resid_mid"} if self._parallel else set()
        self.kinds = tuple(k for k in KINDS if family is not None and k not in absent)

    def names(self) -> list[str]:
        """Every named site, in the order of the forward pass."""
        if self._family is None:
            return []
        return ["embed", *(f"{kind}.{layer}" for layer in range(self._n_layers) for kind in self.kinds)]

    def canonical(self, name: str) -> str:
        """`resid_post.3` of `resid_post.3`, of `blocks.3.hook_resid_post`; `a.b:out` of the dotted path `a.b`.

        Raises `NotFound` with the nearest name and the range of layers.
        """
        if self._family is not None:
            if name in ("embed", "hook_embed"):
                return "embed"
            if name in self._family.lens_top:
                return self._join(self._family.lens_top[name])
            kind, dot, layer = name.partition(".")
            if kind in KINDS:
                self._check(name, kind, layer if dot else None)
                return f"{kind}.{int(layer)}"
            if match := re.fullmatch(r"blocks\.(-?\d+)\.(.+)", name):
                return self._of_lens(name, match[1], match[2])
        return self._of_path(name)

    def tap(self, canonical: str) -> Tap:
        """Where a canonical name lives; the path counts from the Hugging Face model."""
        kind, _, layer = canonical.partition(".")
        if self._family is not None and kind == "embed" and not layer:
            full = self._join(self._family.embed)
        elif self._family is not None and kind in KINDS:
            full = self._below_block(int(layer), self._family.sites[kind])
        else:
            full = canonical
        path, _, side = full.rpartition(":")
        return Tap(path, side)  # type: ignore[arg-type]

    def module(self, tap: Tap) -> nn.Module:
        return self._modules[tap.path]

    def _join(self, below: str) -> str:
        return f"{self._base}.{below}" if self._base else below

    def _below_block(self, layer: int, below: str) -> str:
        assert self._family is not None
        block = self._join(f"{self._family.blocks}.{layer}")
        return f"{block}{below}" if below.startswith(":") else f"{block}.{below}"

    def _check(self, name: str, kind: str, layer: str | None) -> None:
        layers = f"layers 0 to {self._n_layers - 1}"
        if kind not in self.kinds:
            raise NotFound(
                f'"{name}" does not exist in {self._model_name}: its attention and MLP run in parallel and both read '
                f"the stream that enters the block; use resid_pre or resid_post."
            )
        if layer is None or not layer.isdecimal():
            raise NotFound(f'"{name}" needs a layer, as in "{kind}.0"; {self._model_name} has {layers}.')
        if int(layer) >= self._n_layers:
            raise NotFound(f'"{name}" names layer {int(layer)}, but {self._model_name} has {layers}.')

    def _of_lens(self, name: str, layer: str, below: str) -> str:
        assert self._family is not None
        if below == "hook_mlp_in":
            raise NotFound(
                f'"{name}" is the stream before its norm in TransformerLens; say resid_mid.{layer} for that, '
                f"or mlp_in.{layer} for what the MLP reads after the norm."
            )
        if below in self._family.lens:
            self._check(name, self.kinds[0], layer)
            return self._of_path(self._below_block(int(layer), self._family.lens[below]))
        if below in LENS:
            self._check(name, LENS[below], layer)
            return f"{LENS[below]}.{int(layer)}"
        raise NotFound(f'"{name}" is not a site.{nearest(below, [*LENS, *self._family.lens])}')

    def _of_path(self, name: str) -> str:
        path, colon, side = name.rpartition(":")
        if not colon:
            path, side = name, "out"
        if side not in ("in", "out"):
            raise NotFound(f'"{name}" ends in ":{side}"; a module path ends in ":in" or ":out".')
        if path and path not in self._modules and self._join(path) in self._modules:
            path = self._join(path)  # counted from the part below the head, as sparsify counts
        module = self._modules.get(path) if path else None
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            raise NotFound(
                f'"{name}" is a list of modules; name one of them, such as "{path}.{next(iter(module._modules))}".'
            )
        if module is None:
            raise NotFound(self._unknown(name, path))
        return f"{path}:{side}"

    def _unknown(self, name: str, path: str) -> str:
        close = difflib.get_close_matches(path, [m for m in self._modules if m], n=1)
        guess = f' Did you mean "{close[0]}"?' if close else ""
        if self._family is None:
            return (
                f'"{name}" is not a module of {self._model_name}, and models of type "{self._model_type}" have no row '
                f"in the table of sites, so that only dotted module paths are known.{guess}"
            )
        if "." in path and path.split(".")[0] in self._modules:
            return f'"{name}" is not a module of {self._model_name}.{guess}'
        kind = name.partition(".")[0]
        known = ["embed", *(f"{k}.L" for k in self.kinds)]
        return (
            f'"{name}" is not a site of {self._model_name}.{nearest(f"{kind}.L", known)} L is a layer from 0 to '
            f"{self._n_layers - 1}; TransformerLens names and dotted module paths are taken too."
        )


def _base_path(hf: Any) -> str:
    """Path from the Hugging Face model to the part that holds embeddings and blocks."""
    base = str(getattr(hf, "base_model_prefix", ""))
    path = base if base and isinstance(getattr(hf, base, None), nn.Module) else ""
    inner = getattr(hf, path) if path else hf
    if isinstance(getattr(inner, "language_model", None), nn.Module):  # models that also see
        path = f"{path}.language_model" if path else "language_model"
    return path
