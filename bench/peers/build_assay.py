"""assay: the step of `assay train`, with its statistics; nothing else of a run is in it."""

from __future__ import annotations

from itertools import count

from worker import Asked, Feed, Trainer

from assay import __version__, dictionaries
from assay.core.randomness import torch_rng
from assay.training.member import Member
from assay.training.options import TrainConfig


def build(asked: Asked, feed: Feed) -> Trainer:
    """variant: "", or words "torch" (kernels without compiled code) and "no-clip"."""
    words = asked.variant.split()
    own = {"k": asked.k} if asked.arch in ("topk", "batchtopk", "matryoshka") else {"init_l0": float(asked.k)}
    if asked.arch in ("relu", "gated"):
        own["l1_coef"] = 0.1  # small, so that L0 stays where it started
    if asked.arch == "jumprelu":
        own["l0_coef"] = 0.001
    config = dictionaries.config_class(asked.arch)(d_in=asked.d_in, d_sae=asked.d_sae, **own)
    options = TrainConfig(
        n_tokens=10**8, batch_size=asked.batch, lr=1e-4, clip=None if "no-clip" in words else 1.0, seed=asked.seed,
        kernels=next((w for w in words if w in ("torch", "native", "reference")), "auto"),
    )  # fmt: skip
    sample = next(feed)
    dictionary = dictionaries.build(config, torch_rng(asked.seed, "init"), sample, sample)
    member = Member("race", dictionary, options, float(sample.var(0).sum()))
    steps = count(options.n_steps // 2)  # past the warm-ups

    def step() -> None:
        x = next(feed)
        member.step(next(steps), x, x)

    said = {"kernels": member.kernel.__name__.rsplit(".", 1)[-1], "clip": options.clip, "optimizer": "Adam"}
    return Trainer(
        step, lambda: len(dictionary.encode_sparse(feed.batches[0], training=True)) / asked.batch, __version__, said
    )
