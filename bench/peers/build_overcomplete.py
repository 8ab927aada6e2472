"""overcomplete: its `train_sae` over one batch, monitoring off. Its default encoder is Linear, BatchNorm, ReLU."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version
from types import ModuleType

import torch
from torch import Tensor
from worker import Asked, Feed, Trainer


def build(asked: Asked, feed: Feed) -> Trainer:
    stand_in()
    from overcomplete.sae import SAE, BatchTopKSAE, JumpSAE, TopKSAE, train_sae
    from overcomplete.sae.losses import mse_l1

    width = asked.d_in, asked.d_sae
    model, loss = {
        "relu": lambda: (SAE(*width, device="cpu"), mse_l1),
        "jumprelu": lambda: (JumpSAE(*width, device="cpu"), mse_l1),
        "topk": lambda: (TopKSAE(*width, top_k=asked.k, device="cpu"), mse),
        "batchtopk": lambda: (BatchTopKSAE(*width, top_k=asked.k * asked.batch, device="cpu"), mse),
    }[asked.arch]()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def step() -> None:
        train_sae(model, [next(feed)], loss, optimizer, nb_epochs=1, monitoring=0, device="cpu")

    @torch.no_grad()
    def l0() -> float:
        model.train()
        return float((model.encode(feed.batches[0])[1] != 0).sum(1).float().mean())

    return Trainer(step, l0, version("overcomplete"), {"clip": 1.0, "optimizer": "Adam"})


def mse(x: Tensor, x_hat: Tensor, pre_codes: Tensor, codes: Tensor, dictionary: Tensor) -> Tensor:
    return (x - x_hat).square().mean()


def stand_in() -> None:
    """Names that its data, model and plotting modules import and the training step never uses, where they are not installed."""
    for _ in range(20):
        try:
            matplotlib_as_it_was()
            importlib.import_module("overcomplete.sae")
            return
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.startswith("overcomplete"):
                raise
            module = ModuleType(missing.name)
            module.__path__ = []  # type: ignore[attr-defined]
            module.__getattr__ = anything  # type: ignore[method-assign]
            sys.modules[missing.name] = module


def anything(attribute: str) -> type:
    if attribute.startswith("__"):
        raise AttributeError(attribute)
    return type(attribute, (), {})


def matplotlib_as_it_was() -> None:
    import matplotlib
    import matplotlib.cm

    if not hasattr(matplotlib.cm, "get_cmap"):
        matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # type: ignore[attr-defined]
