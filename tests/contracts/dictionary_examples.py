"""One table: small options for every architecture, with the variants that behave differently.
A new file adds its lines here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.core.randomness import torch_rng
from assay.dictionaries import FIT, GRADIENT, Dictionary, build, class_of

D_IN, D_SAE = 12, 40

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "gated": {
        "": {"l1_coef": 0.3},
        "live": {"l1_coef": 0.3, "aux_decoder": "live"},
        "no r_mag": {"l1_coef": 0.3, "r_mag": "off"},
        "tied b_mag": {"l1_coef": 0.3, "b_mag": "tied"},
        "untied": {"l1_coef": 0.3, "tie_encoder": False},
        "rescale shift": {"l1_coef": 0.3, "train": "rescale_shift"},
        "no auxiliary": {"l1_coef": 0.3, "auxiliary": "none"},
        "straight through": {"l1_coef": 0.3, "auxiliary": "straight_through", "bandwidth": 0.7},
        "l0": {"l1_coef": 0.3, "auxiliary": "l0", "bandwidth": 0.7},
        "own decoder": {"l1_coef": 0.3, "auxiliary": "own_decoder"},
        "own decoder, transcoder": {"l1_coef": 0.3, "auxiliary": "own_decoder", "wiring": "transcoder", "d_out": 7},
        "untied, straight through": {
            "l1_coef": 0.3,
            "tie_encoder": False,
            "auxiliary": "straight_through",
            "bandwidth": 0.7,
        },
    },
    "jumprelu": {
        "": {"l0_coef": 0.3, "bandwidth": 0.7},
        "log": {"l0_coef": 0.3, "bandwidth": 0.7, "theta": "log"},
        "pre bias, to input": {"l0_coef": 0.3, "bandwidth": 0.7, "pre_bias": True, "to_input": True},
        "target": {"l0_coef": 0.3, "bandwidth": 0.7, "penalty": "target", "l0_target": 6.0},
        "frequency": {"l0_coef": 0.3, "bandwidth": 0.7, "penalty": "frequency", "omega0": 0.2},
        "tanh": {"l0_coef": 0.3, "penalty": "tanh", "pre_coef": 0.1, "theta": "log"},
        "tanh alone": {"l0_coef": 0.3, "bandwidth": 0.7, "penalty": "tanh", "pre_coef": 0},
    },
    "relu": {
        "unit": {"l1_coef": 0.3},
        "free": {"l1_coef": 0.3, "decoder_norm": "free"},
        "free to 7": {"l1_coef": 0.3, "decoder_norm": "free", "d_out": 7},
    },
    "topk": {
        "": {"k": 5},
        "k of all": {"k": D_SAE, "k_aux": 3},
        "transcoder": {"k": 5, "d_out": 7, "wiring": "transcoder"},
        "crosslayer": {"k": 5, "wiring": "crosslayer", "in_sites": (4, 8), "out_sites": (7, 2), "d_out": 9},
        "crosslayer, skip, k of each layer": {
            "k": 5,
            "wiring": "crosslayer",
            "in_sites": (4, 8),
            "out_sites": (7, 2),
            "d_out": 9,
            "skip": True,
            "scope": "block",
        },
        "perlayer, skip": {
            "k": 5,
            "wiring": "perlayer",
            "in_sites": (4, 8),
            "out_sites": (7, 2),
            "d_out": 9,
            "skip": True,
        },
    },
    "transcoder": {"": {"l1_coef": 0.3, "d_out": 7}, "to its own width": {"l1_coef": 0.3}},
    "skip_transcoder": {"": {"k": 5, "d_out": 7}},
    "crosslayer": {"": {"l0_coef": 0.05, "bandwidth": 0.5, "in_sites": (4, 8), "out_sites": (7, 2), "d_out": 9}},
    "crosscoder": {"": {"l1_coef": 0.3, "in_sites": (4, 3, 5)}},
    "random": {"": {"k": 5}},
    "batchtopk": {"": {"k": 5}},
    "matryoshka": {"": {"k": 5}, "sizes": {"k": 4, "groups": (7, 13, 20), "k_aux": 3}},
    "abstopk": {"": {"k": 5}},
    "panneal": {"": {"lp_coef": 0.3, "anneal_start": 0.2, "anneal_end": 0.8, "p_end": 0.3}},
    "raw": {"": {"k": 4, "d_sae": D_IN}},
    "pca": {"": {"k": 4, "d_sae": D_IN}},
    "ica": {"": {"k": 4, "d_sae": D_IN}, "fewer": {"k": 3, "d_sae": 9}},
    "kmeans": {"onehot": {"batch_size_fit": 64}, "triangle": {"codes": "triangle", "k": 6, "batch_size_fit": 64}},
    "nmf": {"split": {"k": 4, "shift": "split", "batch_size_fit": 64}},
    "sparse_coding": {"": {"k": 4, "batch_size_fit": 64}},
    "soft_frozen": {"": {"k": 5}, "free to turn": {"k": 5, "min_cosine": 0.0}},
    "frozen_encoder": {"": {"k": 5}},
    "shuffled": {"": {"k": 5}},
    "matching_pursuit": {"": {"k": 5}},
    "archetypal": {"": {"k": 5, "n_candidates": 44, "delta": 0.5}},
}


@dataclass(frozen=True)
class Case:
    """An architecture with example options, and dictionaries made from them."""

    arch: str
    variant: str
    options: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return f"{self.arch} {self.variant}".strip().replace(" ", "-")

    @property
    def cls(self) -> type[Dictionary]:
        return class_of(self.arch)

    @property
    def config(self) -> Any:
        return self.cls.Config(**dict(self.options))

    @property
    def plain(self) -> Dictionary:
        """A dictionary with these options whose parameters do not matter."""
        return self.cls(self.config)

    @property
    def learned_by_gradient(self) -> bool:
        return self.cls.learned_by == GRADIENT

    def made(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Dictionary:
        """A dictionary with no parameter at a special value:
        random non-zero biases, encoder untied from the decoder."""
        rng = torch_rng(seed, "made")
        x = self.inputs(200, seed)
        made = build(self.config, rng, x.float(), None if self.width_out == D_IN else self.targets(200, seed).float())
        if self.cls.learned_by == FIT:
            made.fit([x.float()], rng)
        elif self.learned_by_gradient:
            with torch.no_grad():
                for name, parameter in made.named_parameters():
                    noise = 0.3 * torch.randn(parameter.shape, generator=rng)
                    parameter.copy_(1.5 * noise - 0.1 if parameter.dim() == 1 else parameter + noise)
                    if name.startswith("W_dec") and made.unit_norm:
                        parameter.div_(parameter.norm(dim=1, keepdim=True))
            made.observe(made.encode_sparse(x, training=True), 0)
        return made.to(dtype)

    @property
    def has_gains(self) -> bool:
        return "test_gains_are_finite_differences" not in self.cls.exceptions

    @property
    def width_out(self) -> int:
        return dict(self.options).get("d_out", D_IN)

    def inputs(self, n: int, seed: int = 0, width: int = D_IN) -> Tensor:
        """Activations [n, d_in], float64, of unequal variances and a mean that is not 0."""
        rng = torch_rng(seed, "inputs")
        spread = torch.linspace(0.5, 2.0, width, dtype=torch.float64)
        return torch.randn(n, width, generator=rng, dtype=torch.float64) * spread + 0.4

    def targets(self, n: int, seed: int = 0) -> Tensor:
        """What is to be predicted [n, d_out]: not the input."""
        return self.inputs(n, seed + 1000, self.width_out)


def case_of(arch: str, variant: str, options: dict[str, Any]) -> Case:
    return Case(arch, variant, tuple({"d_in": D_IN, "d_sae": D_SAE, **options}.items()))


def whole_encoder(made: Dictionary) -> Tensor:
    """[d_in, d_sae]: all blocks in one matrix, 0 where nothing is wired."""
    whole = torch.zeros(made.d_in, made.d_sae, dtype=made.b_dec.dtype)
    for block, W_enc, _ in made.wired:
        whole[block.reads, block.latents] = W_enc.detach()
    return whole


def whole_decoder(made: Dictionary) -> Tensor:
    """[d_sae, d_out]: all blocks in one matrix, 0 where nothing is wired."""
    whole = torch.zeros(made.d_sae, made.d_out, dtype=made.b_dec.dtype)
    for block, _, W_dec in made.wired:
        whole[block.latents, block.writes] = W_dec.detach()
    return whole


def whole_skip(made: Dictionary) -> Tensor:
    """[d_in, d_out]: the skip paths of all blocks in one matrix, 0 where nothing is wired or there is none."""
    whole = torch.zeros(made.d_in, made.d_out, dtype=made.b_dec.dtype)
    for block, name in made.skips:
        whole[block.reads, block.writes] = made.get_parameter(name).detach()
    return whole


CASES = [case_of(arch, variant, options) for arch, by in OPTIONS.items() for variant, options in by.items()]

# Tests about the step on a support, which a dictionary that steps densely does not take.
ON_A_SUPPORT = {
    "test_the_engine_gives_the_gradients_of_the_loss",
    "test_the_dense_path_gives_the_same_step",
    "test_each_term_alone_reaches_the_same_parameters",
    "test_a_batch_in_which_nothing_fires",
    "test_outside_the_support_nothing_happens",
    "test_pairs_below_a_threshold_are_zero_with_their_derivatives",
    "test_the_switch_between_paths_depends_on_the_last_support_alone",
}
