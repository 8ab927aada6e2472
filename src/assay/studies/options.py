"""What every study can be told; the defaults suit the model and the text that ship, on a laptop."""

from __future__ import annotations

from assay.core.config import config, require
from assay.core.errors import BadOption

SHIPPED = "storyworld"
SITE = "resid_post.1"  # of the shipped model


@config
class Options:
    """Model, text, sizes. A study adds its own fields and may change defaults."""

    model: str = SHIPPED
    """Model to read: a hub name, a local folder, or storyworld."""
    site: str | None = None
    """Site to take apart; resid_post.1 for storyworld."""
    text: str | None = None
    """Text to train and measure on (90 % train, 5 % validation, 5 % test by document); storyworld for the model storyworld."""
    text_column: str = "text"
    """The column or key that holds the text."""
    heldout: str | None = None
    """Other text to measure on, halved into validation and test."""
    context: int | None = None
    """Longest sequence in tokens; the model's own when not given."""
    seeds: int = 3
    """Seeds of each dictionary; from three on verdicts speak of architectures."""
    d_sae: int | None = None
    """Latents of each dictionary; four times the site's width when not given."""
    n_tokens: int = 200_000
    """Rows that each dictionary is trained on."""
    batch_size: int = 512
    """Rows in one step; at this size many short steps converge sooner than few long ones."""
    lr: float = 3e-3
    """Peak learning rate."""
    max_documents: int = 240
    """Held-out documents that are measured, half of them for choosing baselines."""
    resamples: int = 10_000
    """Bootstrap resamples of an interval."""
    seed: int = 0
    """First seed, and the seed of everything else random."""
    device: str = "cpu"
    """Where to compute."""
    dtype: str = "float32"
    """Number format of the model."""

    def __post_init__(self) -> None:
        for name in ("seeds", "n_tokens", "batch_size", "max_documents", "resamples"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        require(self.d_sae is None or self.d_sae > 0, "d_sae", self.d_sae, "a positive number of latents")
        require(
            self.n_tokens >= self.batch_size,
            "n_tokens",
            self.n_tokens,
            f"at least one batch (--batch-size {self.batch_size})",
        )

    @property
    def chosen_site(self) -> str:
        """Raises `BadOption` where a model of the user's own comes without a site."""
        if self.site is None and self.model != SHIPPED:
            raise BadOption(f"--model {self.model} needs a --site; assay list sites --model {self.model} names them.")
        return self.site or SITE

    @property
    def chosen_text(self) -> str:
        """Raises `BadOption` where a model of the user's own comes without text."""
        if self.text is None and self.model != SHIPPED:
            raise BadOption(f"--model {self.model} needs a --text to train and measure on.")
        return self.text or SHIPPED


@config
class Sparsities(Options):
    """Options of the studies that run through sparsities. An architecture uses the one of these that it has."""

    archs: tuple[str, ...] = ()
    """Architectures to stand beside the baseline; all that encode a site by itself when not given."""
    k: tuple[int, ...] = (4, 8, 16, 32)
    """Active latents of architectures that are told so, and of the controls."""
    l1_coef: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Penalties of architectures that have one; the baseline also gets half of the smallest, so that it spans the others."""
    lp_coef: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """The same for a penalty whose exponent falls."""
    l0_coef: tuple[float, ...] = (0.25, 1.0, 4.0, 16.0)
    """Penalties of architectures that count active latents: about the square of the smallest code worth keeping."""
    target_l0: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)
    """L0 to which architectures with such an option are steered."""
    init_l0: float = 16.0
    """L0 at the start of architectures whose biases can be set so; the penalty then has less far to go."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "l1_coef", "lp_coef", "l0_coef", "target_l0"):
            values = getattr(self, name)
            require(len(values) > 0 and all(v > 0 for v in values), name, values, "one positive number or more")
        require(self.init_l0 > 0, "init_l0", self.init_l0, "positive")


@config
class WithOwn(Sparsities):
    """Options of the studies in which dictionaries of the user's own can take part."""

    dict: tuple[str, ...] = ()
    """Dictionaries of yours to stand beside those of the study, of any format: folder, file, hf://org/repo/path, a release's name."""
