"""A run whose codes are sparse from the start never holds B x F floats, its first step not either: the largest new tensor of a step is
counted, operation by operation, for every architecture that is trained by gradients and on every kernels that run here."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assay import kernels
from assay.dictionaries import DENSE, GRADIENT, build, class_of, config_class, names
from assay.kernels import screening
from assay.training import TrainConfig
from assay.training import member as members
from assay.training.first_support import first_support
from assay.training.member import Member
from largest_tensor import Largest

B, D, F = 512, 32, 4096
BLOCK = 1 << 17  # 32 rows of latents, and as many numbers as W_enc has
OPTIONS: dict[str, dict[str, Any]] = {
    "crosscoder": {"in_sites": (16, 16)},
    "crosslayer": {"in_sites": (16, 16), "out_sites": (16, 16)},
}
GIVEN = {"k": 8, "l1_coef": 0.5, "l0_coef": 0.5, "lp_coef": 0.5}
RUNS = [n for n in kernels.IMPLEMENTATIONS if n in ("torch", "native")]


def sparse_archs() -> list[str]:
    """Those that train on the support that `select` names."""
    return [a for a in names() if class_of(a).learned_by == GRADIENT and made(a).step != DENSE]


def made(arch: str, quiet: bool = True) -> Any:
    """A dictionary of which few latents are on, unless not `quiet`."""
    known = config_class(arch).__dataclass_fields__
    given = {name: value for name, value in GIVEN.items() if name in known} | OPTIONS.get(arch, {})
    dictionary = build(config_class(arch)(d_in=D, d_sae=F, **given), torch.Generator().manual_seed(0))
    with torch.no_grad():
        level = dictionary.pre_activations(batch())[:64].flatten().sort().values
        for name in dictionary.vectors if quiet and "k" not in given else ():
            if name in ("b_gate", "b_enc"):
                getattr(dictionary, name).fill_(-float(level[int(0.99 * len(level))]))
    return dictionary


def batch() -> torch.Tensor:
    return 20 * torch.nn.functional.normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)))


def member(dictionary: Any, kernel: str) -> Member:
    return Member("one", dictionary, TrainConfig(n_tokens=100 * B, batch_size=B, kernels=kernel, dead_after=10**9), 1.0)


@pytest.mark.parametrize("kernel", RUNS)
@pytest.mark.parametrize("arch", sparse_archs())
def test_no_step_holds_rows_times_latents(arch: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels.implementation("torch"), "BLOCK", BLOCK)
    monkeypatch.setattr(screening, "BLOCK", BLOCK)
    run, x = member(made(arch), kernel), batch()
    for t in range(2):
        with Largest() as largest:
            run.step(t, x, x)
        assert run.n_support is not None and 0 < run.n_support < 0.05 * B * F
        assert largest.elements <= B * F / 4, (
            f"step {t}: {largest.operation} made {largest.elements:,}; B x F is {B * F:,}"
        )


def test_the_count_sees_a_dense_step(monkeypatch: pytest.MonkeyPatch) -> None:
    run, x = member(made("relu", quiet=False), "torch"), batch()
    with Largest() as largest:
        run.step(0, x, x)
    assert largest.elements >= B * F
    assert len(sparse_archs()) >= 10


@pytest.mark.parametrize("arch", ["topk", "gated", "relu"])
def test_the_first_support_is_about_what_it_will_be(arch: str) -> None:
    dictionary, x = made(arch, quiet=False), batch()
    kernel = kernels.implementation("torch")
    guessed = first_support(dictionary, x, 0.0, kernel)
    with torch.no_grad():
        found = len(dictionary.support(x, training=True, progress=0.0, kernel=kernel))
    assert guessed == pytest.approx(found, rel=0.05)
    assert guessed == B * 8 if arch == "topk" else guessed > 0.4 * B * F


def test_a_resumed_run_does_not_guess_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, x = member(made("topk"), "torch"), batch()
    first.step(0, x, x)
    second = member(made("topk"), "torch")
    second.restore(*first.state())
    assert second.n_support == first.n_support == 8 * B

    def never(*_: Any) -> int:
        raise AssertionError("a support that is known was guessed")

    monkeypatch.setattr(members, "first_support", never)
    second.step(1, x, x)
