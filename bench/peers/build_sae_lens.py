"""SAELens: `SAETrainer.step` with Adam, clipping at 1 and its firing statistics."""

from __future__ import annotations

import importlib
from importlib.metadata import version

import torch
from worker import Asked, Feed, Trainer

NAMES = {
    "relu": "standard",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "batchtopk",
    "matryoshka": "matryoshka_batchtopk",
}
CLASSES = {
    "relu": "Standard",
    "gated": "Gated",
    "jumprelu": "JumpReLU",
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "matryoshka": "MatryoshkaBatchTopK",
}


def build(asked: Asked, feed: Feed) -> Trainer:
    """variant "sparse": its sparse activations, for topk; they raise on CPU unless the rescaling by decoder norms is off."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    module = importlib.import_module(f"sae_lens.saes.{NAMES[asked.arch]}_sae")
    stem = CLASSES[asked.arch]
    own: dict[str, object] = {"k": asked.k} if "topk" in NAMES[asked.arch] else {}
    if asked.arch == "matryoshka":
        own["matryoshka_widths"] = [asked.d_sae // part for part in (16, 8, 4, 2)]
    if asked.variant == "sparse":
        own |= {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False}
    config = getattr(module, f"{stem}TrainingSAEConfig")(
        d_in=asked.d_in, d_sae=asked.d_sae, device="cpu", dtype="float32", **own
    )
    sae = getattr(module, f"{stem}TrainingSAE")(config)
    settings = SAETrainerConfig(total_training_samples=10**9, train_batch_size_samples=asked.batch, lr_end=3e-5)
    trainer = SAETrainer(cfg=settings, sae=sae, data_provider=feed)

    def step() -> None:
        trainer.maybe_reset_sparsity()
        trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1

    @torch.no_grad()
    def l0() -> float:
        f = sae.encode(feed.batches[0][:256])
        return float(((f.to_dense() if f.is_sparse else f) != 0).sum(1).float().mean())

    return Trainer(
        step,
        l0,
        version("sae-lens"),
        {"clip": 1.0, "optimizer": "Adam"} | ({"variant": asked.variant} if asked.variant else {}),
    )
