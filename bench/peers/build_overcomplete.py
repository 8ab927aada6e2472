"""overcomplete: its `train_sae` over one batch, monitoring off. Its default encoder is Linear, BatchNorm, ReLU."""

from __future__ import annotations

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
    """Names that its data and plotting modules import and the training step never uses."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.datasets", "timm"):
        try:
            __import__(name)
        except ImportError:
            module = ModuleType(name)
            module.__path__ = []  # type: ignore[attr-defined]
            module.__getattr__ = lambda attribute: type(attribute, (), {})  # type: ignore[method-assign]
            sys.modules[name] = module
    import matplotlib
    import matplotlib.cm

    if not hasattr(matplotlib.cm, "get_cmap"):
        matplotlib.cm.get_cmap = matplotlib.colormaps.get_cmap  # type: ignore[attr-defined]
