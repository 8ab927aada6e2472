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
    "gated": {"": {"l1_coef": 0.3}},
    "relu": {
        "unit": {"l1_coef": 0.3},
        "free": {"l1_coef": 0.3, "decoder_norm": "free"},
        "free to 7": {"l1_coef": 0.3, "decoder_norm": "free", "d_out": 7},
    },
    "topk": {"": {"k": 5}, "k of all": {"k": D_SAE, "k_aux": 3}},
    "random": {"": {"k": 5}},
    "raw": {"": {"k": 4, "d_sae": D_IN}},
    "pca": {"": {"k": 4, "d_sae": D_IN}},
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
                    if name == "W_dec" and made.unit_norm:
                        parameter.div_(parameter.norm(dim=1, keepdim=True))
        return made.to(dtype)

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


CASES = [case_of(arch, variant, options) for arch, by in OPTIONS.items() for variant, options in by.items()]
