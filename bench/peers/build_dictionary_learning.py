"""dictionary_learning: `trainer.update`, after its step 0, which sets b_dec."""

from __future__ import annotations

from importlib.metadata import version
from itertools import count

import torch
from worker import Asked, Feed, Trainer


def build(asked: Asked, feed: Feed) -> Trainer:
    from dictionary_learning import trainers
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer

    cls, own = {
        "relu": (trainers.StandardTrainer, {}),
        "gated": (trainers.GatedSAETrainer, {}),
        "jumprelu": (trainers.JumpReluTrainer, {"target_l0": float(asked.k)}),
        "topk": (trainers.TopKTrainer, {"k": asked.k}),
        "batchtopk": (trainers.BatchTopKTrainer, {"k": asked.k}),
        "matryoshka": (
            MatryoshkaBatchTopKTrainer,
            {"k": asked.k, "group_fractions": [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2]},
        ),
    }[asked.arch]
    trainer = cls(
        steps=100_000, activation_dim=asked.d_in, dict_size=asked.d_sae, layer=0, lm_name="none", device="cpu", **own
    )
    trainer.update(0, next(feed))
    steps = count(1001)

    @torch.no_grad()
    def l0() -> float:
        return float((trainer.ae.encode(feed.batches[0][:256]) != 0).sum(1).float().mean())

    return Trainer(
        lambda: trainer.update(next(steps), next(feed)),
        l0,
        version("dictionary-learning"),
        {"clip": 1.0, "optimizer": "Adam"},
    )
