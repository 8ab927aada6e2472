"""What both sides are told, and how to tell it to each: one recipe, three pairs of a trainer of theirs and an architecture of ours.

Conventions that already agree, so that nothing is converted: squared error summed over dimensions and averaged over rows, L1 summed over
latents and averaged over rows, unit decoder rows with the parallel part of the gradient removed, Adam's epsilon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay import dictionaries
from assay.dictionaries import Dictionary
from assay.training import TrainConfig

VARIANTS = {  # of ours; all but the first start and train by assay's own recipe
    "same": "their start and recipe",
    "unclipped": "no clipping",
    "clipped": "gradient clipped at 1",
    "few": "no clipping, about 32 latents on at the start",
}


@dataclass(frozen=True)
class Recipe:
    """Lengths in steps. Penalties and k belong to the space in which E x_j^2 = 1."""

    n_steps: int = 1600
    batch: int = 512
    d_sae: int = 512
    lr: float = 3e-3
    warmup: int = 80  # the rate rises
    decay: int = 320  # the rate falls, at the end
    sparsity_warmup: int = 160  # the penalty rises
    dead: int = 160  # of silence, after which AuxK counts a latent as dead
    gated_l1: float = 3.0
    relu_l1: float = 2.5
    k: int = 8
    n_documents: int = 2400

    def shorter(self, n_steps: int) -> Recipe:
        """The same over fewer steps."""
        lengths = {
            n: round(getattr(self, n) * n_steps / self.n_steps) for n in ("warmup", "decay", "sparsity_warmup", "dead")
        }
        return replace(self, n_steps=n_steps, **lengths)


@dataclass(frozen=True)
class Peer:
    """A trainer of dictionary_learning and the architecture of ours that it should equal."""

    arch: str
    trainer: str
    option: dict[str, str]  # option of ours -> field of the recipe
    names: dict[str, str]  # parameter of ours -> of theirs; matrices are transposed
    same: dict[str, Any]  # our training options that are fixed in their trainer

    def config(self, recipe: Recipe, d: int, variant: str = "same") -> Any:
        """Our options of the architecture."""
        chosen: dict[str, Any] = {"init_l0": 32.0} if variant == "few" and self.arch != "topk" else {}
        chosen |= {option: getattr(recipe, named) for option, named in self.option.items()}
        return dictionaries.config_class(self.arch)(d_in=d, d_sae=recipe.d_sae, **chosen)

    def ours(self, recipe: Recipe, seed: int, variant: str) -> TrainConfig:
        """Our options of the run."""
        n = recipe.n_steps
        # theirs counts the batch at hand before it asks which latents are dead, ours after
        equal = {**self.same, "dead_after": (recipe.dead - 1) * recipe.batch}
        changes = {"same": equal, "unclipped": {"clip": None}, "clipped": {"clip": 1.0}, "few": {"clip": None}}
        return TrainConfig(
            n_tokens=n * recipe.batch,
            batch_size=recipe.batch,
            lr=recipe.lr,
            lr_warmup=recipe.warmup / n,
            lr_decay=recipe.decay / n,
            sparsity_warmup=recipe.sparsity_warmup / n,
            scale="rms1",
            seed=seed,
            order_seed=seed,
            log_every=1,
            checkpoint_every=n,
            **changes[variant],
        )

    def theirs(self, recipe: Recipe, seed: int, variance: float, penalty: float) -> dict[str, Any]:
        """Their constructor's arguments; `penalty` scales their L1, `variance` is that of the rows, summed over dimensions.

        Their rate is 0 in step 0, so their schedule runs one call ahead of the steps: hence the n + 1.
        """
        n = recipe.n_steps + 1
        shared = {
            "steps": n,
            "lr": recipe.lr,
            "warmup_steps": recipe.warmup + 1,
            "decay_start": n - recipe.decay,
            "seed": seed,
        }
        if (
            self.arch == "topk"
        ):  # their AuxK is divided by a variance, but the error beside it is not: ours multiplies it back
            return {**shared, "k": recipe.k, "auxk_alpha": variance / 32}
        coefficient = penalty * getattr(recipe, self.option["l1_coef"])
        return {**shared, "l1_penalty": coefficient, "sparsity_warmup_steps": recipe.sparsity_warmup}

    def attributes(self, recipe: Recipe) -> dict[str, Any]:
        """Constants of their trainer that its constructor does not take: 10 million rows, more than these runs have."""
        return {"dead_feature_threshold": recipe.dead * recipe.batch} if self.arch == "topk" else {}

    @torch.no_grad()
    def adopted(
        self, config: Any, stored: dict[str, Tensor], when: str, dtype: torch.dtype = torch.float32
    ) -> Dictionary:
        """Their weights, `before` or `after` training, in a dictionary of ours, in training space."""
        dictionary = dictionaries.class_of(self.arch)(config).to(dtype)
        assert set(self.names) == set(dict(dictionary.named_parameters()))
        for mine, yours in self.names.items():
            tensor = stored[f"{when}.{yours}"]
            dictionary.get_parameter(mine).copy_(tensor.t() if tensor.dim() == 2 else tensor)
        return dictionary.requires_grad_(False)


MATRICES = {"W_enc": "encoder.weight", "W_dec": "decoder.weight"}
PEERS = {
    "gated": Peer(
        "gated",
        "GatedSAETrainer",
        {"l1_coef": "gated_l1"},
        {**MATRICES, "b_dec": "decoder_bias", "b_gate": "gate_bias", "r_mag": "r_mag", "b_mag": "mag_bias"},
        {"beta1": 0.0, "clip": None, "resample_at": ()},
    ),
    "relu": Peer(
        "relu",
        "StandardTrainer",
        {"l1_coef": "relu_l1"},
        {**MATRICES, "b_dec": "bias", "b_enc": "encoder.bias"},
        {"beta1": 0.9, "clip": None, "resample_at": ()},
    ),
    "topk": Peer(
        "topk",
        "TopKTrainer",
        {"k": "k"},
        {**MATRICES, "b_dec": "b_dec", "b_enc": "encoder.bias"},
        {"beta1": 0.9, "clip": 1.0},
    ),
}
