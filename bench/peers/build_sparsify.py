"""sparsify: it has no trainer for activations, so the methods of its SparseCoder are called in the order of its own trainer's step."""

from __future__ import annotations

from importlib.metadata import version

import torch
from worker import Asked, Feed, Trainer


def build(asked: Asked, feed: Feed) -> Trainer:
    """variant "adam": Adam in place of its default, schedule-free signum."""
    from sparsify.config import SparseCoderConfig, TrainConfig
    from sparsify.sparse_coder import SparseCoder

    settings = TrainConfig(SparseCoderConfig(num_latents=asked.d_sae, k=asked.k, activation="topk"))
    coder = SparseCoder(asked.d_in, settings.sae, "cpu", dtype=torch.float32)
    coder.b_dec.data = next(feed).mean(0)
    size = (asked.d_sae / 2**14) ** 0.5
    if asked.variant == "adam":
        optimizer = torch.optim.Adam(coder.parameters(), lr=2e-4 / size)
    else:
        from schedulefree import ScheduleFreeWrapper
        from sparsify.sign_sgd import SignSGD

        optimizer = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=5e-3 / size), momentum=0.95)
        optimizer.train()
    silent = torch.zeros(asked.d_sae, dtype=torch.long)
    fired = torch.zeros(asked.d_sae, dtype=torch.bool)

    def step() -> None:
        x = next(feed)
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x=x, y=x, dead_mask=None, total_variance=(x - x.mean(0)).pow(2).sum())
        fired[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        (out.fvu + out.multi_topk_fvu / 8).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()
        silent.add_(len(x))
        silent[fired] = 0
        fired.zero_()

    said = {"clip": None, "optimizer": "Adam" if asked.variant == "adam" else "signum, schedule-free"}
    return Trainer(step, lambda: float(asked.k), version("eai-sparsify"), said)
