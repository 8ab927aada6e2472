"""Matching of directions against brute force, and F1 by hand."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from assay.metrics.recovery import Agreement, match


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.double(), b.double()
    return ((a @ b.T) / (a.norm(dim=1)[:, None] * b.norm(dim=1))).abs()


@pytest.mark.parametrize("seed", range(8))
def test_the_matching_equals_brute_force_on_4_by_4(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    a, b = torch.randn(4, 3, generator=rng), torch.randn(4, 3, generator=rng)
    c = cosines(a, b)
    best = max(float(c[range(4), list(p)].mean()) for p in permutations(range(4)))
    assert match(a, b).mcc == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize(("d_sae", "n_true"), [(3, 5), (5, 3)])
def test_the_smaller_side_is_the_denominator(d_sae: int, n_true: int) -> None:
    rng = torch.Generator().manual_seed(7)
    a, b = torch.randn(d_sae, 4, generator=rng), torch.randn(n_true, 4, generator=rng)
    found = match(a, b)
    c = cosines(a, b)
    small, large = (c, n_true) if d_sae < n_true else (c.T, d_sae)
    best = max(float(small[range(3), list(p)].mean()) for p in permutations(range(large), 3))
    assert len(found.cosine) == 3
    assert found.mcc == pytest.approx(best, rel=1e-12)


def test_a_permuted_rescaled_negated_copy_is_recovered() -> None:
    true = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found = match(-2.5 * true[order], true)
    assert found.mcc == pytest.approx(1)
    assert found.recovered() == 1
    assert found.uniqueness == 1
    assert found.true[found.latent.argsort()].tolist() == order.tolist()


def test_share_above_and_uniqueness_by_hand() -> None:
    true = torch.eye(3)
    learned = torch.tensor([[0.0, 1.0, 0.0], [0.1, 1.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 0.0]])
    found = match(learned, true)
    # latents 0 and 1 are both nearest to direction 1, latent 2 to 2, the zero latent to none: 2 directions of 4 latents
    assert found.uniqueness == 0.5
    assert found.recovered() == pytest.approx(1 / 3)  # 1.0 with direction 1, .0995 with 0, .8 with 2
    assert found.mcc == pytest.approx((1 + 0.1 / 1.01**0.5 + 0.8) / 3)


def test_f1_by_hand_with_signed_codes_over_batches() -> None:
    matching = match(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2))  # latent 0 is direction 1 and the reverse
    f = torch.tensor([[0.0, -1.0], [2.0, 3.0], [0.0, 1.0], [0.0, 0.0]])
    true = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    agreement = Agreement(matching)
    agreement.add(f[:1], true[:1])
    agreement.add(f[1:], true[1:])
    # latent 1 with direction 0: fires on 0 1 2, present on 0 1: 2·2 / (3 + 2); latent 0 with 1: fires 1, present 2
    by_latent = dict(zip(matching.latent.tolist(), agreement.f1.tolist()))
    assert by_latent == {1: pytest.approx(0.8), 0: 0.0}


def test_f1_of_what_never_happens_is_0() -> None:
    agreement = Agreement(match(torch.eye(2), torch.eye(2)))
    agreement.add(torch.zeros(3, 2), torch.zeros(3, 2))
    assert agreement.f1.tolist() == [0, 0]
