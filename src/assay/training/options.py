"""The options of a training run that are not the architecture's."""

from __future__ import annotations

from typing import Literal

from assay.core.config import config, require


@config
class TrainConfig:
    """How to train. Fractions are of the run's length."""

    n_tokens: int = 2_000_000
    """Rows of activations to train on; more than the text holds means several epochs."""
    batch_size: int = 2048
    """Rows in one step."""
    lr: float = 1e-3
    """Peak learning rate of Adam."""
    beta1: float | None = None
    """Adam's first coefficient; the architecture's own recipe when not given (0 for gated and relu, 0.9 for topk)."""
    beta2: float = 0.999
    """Adam's second coefficient."""
    lr_warmup: float = 0.02
    """Fraction of the run over which the learning rate rises from 0."""
    lr_decay: float = 0.2
    """Fraction at the end over which the learning rate falls to 0."""
    sparsity_warmup: float = 0.1
    """Fraction over which the sparsity penalty rises from 0."""
    target_l0: float | None = None
    """L0 to arrive at: the weight of the sparsity penalty (gated, relu, jumprelu) is moved by up to x100 until L0 is this."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; None does not clip."""
    scale: Literal["none", "rms1", "norm1"] = "rms1"
    """Training space: x / C with E x_j^2 = 1 (rms1), E ||x||^2 = 1 (norm1), or C = 1 (none). Penalty weights belong to it."""
    resample_at: tuple[float, ...] = (0.2, 0.4, 0.6)
    """Moments of the run at which dead latents of architectures that resample are given new directions; empty for never."""
    init_resample: bool = False
    """With --init: latents that never fire on a sample of the new data count as dead from the start, and are revived."""
    dead_after: int | None = None
    """Tokens without firing after which a latent counts as dead; 10M, or a tenth of the run where that is less."""
    against: Literal["activations", "kl", "end_to_end"] = "activations"
    """What is minimised: the error of reconstruction; that and the model's KL, to fine-tune; the KL alone. The last two need --model."""
    kl_weight: float = 1.0
    """Weight of the model's KL: relative to the reconstruction error with kl, absolute with end_to_end."""
    seed: int = 0
    """Seed of the initialisation and of resampling."""
    order_seed: int | None = None
    """Seed of the order of the rows; the same as --seed when not given. A sweep shares one order between its seeds."""
    shuffle_rows: int = 1 << 18
    """Rows that are shuffled together; they are held in memory."""
    log_every: int = 50
    """Steps between two lines of log.jsonl."""
    checkpoint_every: int = 500
    """Steps between two checkpoints."""
    kernels: str = "auto"
    """Implementation of the kernels: auto (the fastest here, or what ASSAY_KERNELS says), reference, torch, native, triton or triton_bf16."""
    device: str = "cpu"
    """Device that trains."""
    latent_shards: int = 1
    """Among how many processes the latents of a dictionary are divided, when torchrun starts several; the others divide the rows."""

    def __post_init__(self) -> None:
        for name in ("n_tokens", "batch_size", "shuffle_rows", "log_every", "checkpoint_every", "latent_shards"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        require(self.lr > 0, "lr", self.lr, "positive")
        require(self.beta1 is None or 0 <= self.beta1 < 1, "beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "beta2", self.beta2, "in [0, 1)")
        for name in ("lr_warmup", "lr_decay", "sparsity_warmup"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a fraction between 0 and 1")
        require(self.lr_warmup + self.lr_decay <= 1, "lr_warmup", self.lr_warmup, "at most 1 - --lr-decay")
        require(self.target_l0 is None or self.target_l0 > 0, "target_l0", self.target_l0, "positive")
        require(self.kl_weight > 0, "kl_weight", self.kl_weight, "positive")
        require(self.clip is None or self.clip > 0, "clip", self.clip, "positive")
        require(all(0 < a < 1 for a in self.resample_at), "resample_at", self.resample_at, "moments between 0 and 1")
        require(self.dead_after is None or self.dead_after > 0, "dead_after", self.dead_after, "positive")
        require(
            self.n_tokens >= self.batch_size,
            "n_tokens",
            self.n_tokens,
            f"at least one batch (--batch-size {self.batch_size})",
        )

    @property
    def n_steps(self) -> int:
        return self.n_tokens // self.batch_size

    @property
    def dead_tokens(self) -> int:
        return self.dead_after if self.dead_after is not None else min(10_000_000, self.n_tokens // 10)

    @property
    def stream_seed(self) -> int:
        return self.seed if self.order_seed is None else self.order_seed
