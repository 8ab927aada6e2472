"""Every dictionary: one file an architecture, found by listing this folder.

names() -> ["gated", "pca", ...]        config_class("gated")(d_in=64, d_sae=512, l1_coef=0.5)
build(config, rng, sample) -> Dictionary        load(path) -> Dictionary        save(dictionary, folder)
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from assay.core.errors import NotFound, nearest
from assay.dictionaries.base import DENSE, FIT, FROZEN, GIVEN, GRADIENT, LIVE, SPARSE, Dictionary
from assay.dictionaries.files import load, save, verify

NOT_ARCHITECTURES = {
    "base", "conversions", "files", "fitting", "initialisation", "options", "rescaling", "rows", "whole_rows", "wiring",
}  # fmt: skip

__all__ = [
    "DENSE", "FIT", "FROZEN", "GIVEN", "GRADIENT", "LIVE", "SPARSE", "Dictionary", "build", "class_of", "config_class", "load", "names",
    "save", "verify",
]  # fmt: skip


def __getattr__(name: str) -> ModuleType:
    if name in names():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module 'assay.dictionaries' has no attribute {name!r}")


def names() -> list[str]:
    """The architectures: the files of this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in NOT_ARCHITECTURES)


def class_of(arch: str) -> type[Dictionary]:
    """The class of an architecture; an unknown name raises `NotFound` with the nearest."""
    if arch not in names():
        raise NotFound(f'"{arch}" is not an architecture.{nearest(arch, names())}')
    module = importlib.import_module(f"{__name__}.{arch}")
    return next(
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Dictionary) and c.__module__ == module.__name__
    )


def config_class(arch: str) -> Any:
    """The `Config` of an architecture."""
    return class_of(arch).Config


def build(
    config: Any, rng: torch.Generator | None = None, sample: Tensor | None = None, target: Tensor | None = None
) -> Dictionary:
    """A dictionary ready for training, initialised from `rng` and a sample [n, d_in] of activations in training space.

    target [n, d_out] is what it shall predict, its own input when not given. Without a sample the biases that depend on data
    are 0. The file that defines `config` is the architecture.
    """
    dictionary = class_of(type(config).__module__.rsplit(".", 1)[-1])(config)
    if dictionary.learned_by == GRADIENT:
        x = torch.zeros(2, config.d_in) if sample is None else sample
        if target is not None:
            y = target
        else:
            y = x if dictionary.d_out == config.d_in else torch.zeros(2, dictionary.d_out)
        dictionary.init(rng or torch.Generator().manual_seed(0), x, y)
    return dictionary
