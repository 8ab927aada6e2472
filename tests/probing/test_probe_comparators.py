"""Rivals are fitted without labels, once, and read back; a user's own dictionary of such a kind takes their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from assay.probing import comparators
from assay.probing.comparators import LINEAR, TOKENWISE


@pytest.mark.parametrize("arch", [*LINEAR, *TOKENWISE])
def test_each_rival_is_fitted_once_and_read_back(tmp_path: Path, arch: str) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(700, 12, generator=rng) * torch.linspace(0.2, 3, 12) + 0.5
    made = comparators.fit(arch, lambda: x, 12, 0, tmp_path)
    again = comparators.fit(arch, lambda: pytest.fail("fitted again"), 12, 0, tmp_path)
    assert made.named.subject == again.named.subject and made.seconds == again.seconds > 0
    codes = made.named.dictionary.encode_sparse(x)
    assert codes.shape == (700, made.named.dictionary.d_sae) and bool(torch.isfinite(codes.value).all())
    other = comparators.fit(arch, lambda: x.flip(1), 12, 0, tmp_path / "other")
    assert other.named.subject != made.named.subject


def test_what_another_run_with_this_cache_fitted_meanwhile_is_taken(tmp_path: Path) -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    theirs = []

    def meanwhile() -> torch.Tensor:
        theirs.append(comparators.fit("pca", lambda: x, 8, 0, tmp_path))
        return x.flip(1)

    made = comparators.fit("pca", meanwhile, 8, 0, tmp_path)
    assert made.named.subject == theirs[0].named.subject and made.seconds == theirs[0].seconds


def test_linear_rivals_give_all_their_codes_and_principal_components_lose_nothing(tmp_path: Path) -> None:
    x = torch.randn(300, 8) @ torch.randn(8, 8) + 1.0
    found = comparators.fit("pca", lambda: x, 8, 0, tmp_path)
    z = found.codes(x)
    assert torch.allclose(z.mean(0), torch.zeros(8), atol=1e-4)
    centred = x - x.mean(0)
    assert torch.allclose(z.square().sum(1), centred.square().sum(1), rtol=1e-3)
    assert bool((z.var(0).diff() <= 1e-4).all())  # the largest first
