"""Dictionaries without `select`: which pairs rounding may put on either side, and that blocks of rows change nothing."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import BadInput
from assay.dictionaries import whole_rows
from assay.dictionaries.kmeans import Config, Kmeans
from assay.dictionaries.whole_rows import k_largest


def two_clusters(**options) -> Kmeans:
    """Centroids at +2 and -2 on the first axis, around an offset."""
    kmeans = Kmeans(Config(d_in=3, d_sae=2, **options)).double()
    with torch.no_grad():
        kmeans.W_enc.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]]))
        kmeans.W_dec.copy_(kmeans.W_enc.T)
        kmeans.get_parameter("length").fill_(2.0)
        kmeans.b_dec.copy_(torch.tensor([5.0, 1.0, -1.0]))
    return kmeans


@pytest.mark.parametrize(("distance", "near"), [(1e-6, True), (-1e-6, True), (0.05, False), (-0.05, False)])
def test_pairs_near_a_border_are_undecided_and_no_others(distance, near) -> None:
    kmeans = two_clusters()
    x = torch.tensor([[5.0 + distance, 3.0, 0.0], [7.0, 1.0, -1.0]], dtype=torch.float64)
    assert kmeans.undecided(x, 1e-4).tolist() == [[near, near], [False, False]]
    assert torch.equal(kmeans.undecided(x, 1e-4), kmeans.undecided(x, 1e-4))


def test_blocks_of_rows_give_the_same_codes(monkeypatch) -> None:
    kmeans = two_clusters(codes="triangle")
    x = 5 * torch.randn(23, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3
    whole = kmeans.encode_sparse(x)
    monkeypatch.setattr(whole_rows, "BLOCK", 9)  # four rows at a time
    parts = kmeans.encode_sparse(x)
    assert torch.equal(parts.row, whole.row)
    assert torch.equal(parts.latent, whole.latent)
    torch.testing.assert_close(parts.value, whole.value, rtol=1e-12, atol=1e-12)
    assert parts.shape == (23, 2)


def test_gains_are_refused_in_one_sentence() -> None:
    with pytest.raises(BadInput, match=r"kmeans has no gains: .*such as topk\."):
        two_clusters().gains(torch.zeros(1, 3, dtype=torch.float64))


def test_k_largest_keeps_signs_and_breaks_ties_downwards() -> None:
    f = torch.tensor([[1.0, -3.0, 2.0, 2.0, -2.0]])
    assert k_largest(f, 2).tolist() == [[0, 0, 2, 2, 0]]
    assert k_largest(f, 2, signed=True).tolist() == [[0, -3, 2, 0, 0]]


def test_the_nearest_centroid_is_not_that_of_the_nearest_direction() -> None:
    """Centroids at 1 and 10 along two axes, around an offset; x lies 3 and 4 along them."""
    kmeans = Kmeans(Config(d_in=2, d_sae=2)).double()
    with torch.no_grad():
        kmeans.W_enc.copy_(torch.eye(2))
        kmeans.W_dec.copy_(torch.eye(2))
        kmeans.get_parameter("length").copy_(torch.tensor([1.0, 10.0]))
        kmeans.b_dec.copy_(torch.tensor([5.0, -1.0]))
    x = torch.tensor([[8.0, 3.0], [5.0, 6.0], [8.0, 4.6]], dtype=torch.float64)
    squared = [(4 + 16, 9 + 36), (1 + 49, 0 + 9), (4 + 31.36, 9 + 19.36)]
    assert kmeans.encode(x).tolist() == [[1, 0] if near < far else [0, 10] for near, far in squared]
