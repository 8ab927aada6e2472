"""`Codes`: pairs in row order, CSR through pointers."""

from __future__ import annotations

import torch

from assay.kernels import Codes


def test_dense_and_back() -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 3.0]])
    codes = Codes.of(dense)
    assert codes.row.tolist() == [0, 2, 2]
    assert codes.latent.tolist() == [1, 0, 2]
    assert codes.value.tolist() == [2.0, -1.0, 3.0]
    assert codes.pointers.tolist() == [0, 1, 1, 3]
    assert len(codes) == 3
    assert torch.equal(codes.dense(), dense)


def test_firing_means_not_zero() -> None:
    codes = Codes(torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([0.0, -2.0, 1.0]), (2, 3)).nonzero()
    assert codes.latent.tolist() == [2, 1]
    assert codes.with_values(torch.tensor([5.0, 6.0])).dense().tolist() == [[0.0, 0.0, 5.0], [0.0, 6.0, 0.0]]


def test_no_pairs() -> None:
    codes = Codes.of(torch.zeros(2, 3))
    assert (len(codes), codes.pointers.tolist(), codes.dense().tolist()) == (0, [0, 0, 0], [[0.0] * 3] * 2)
    assert Codes.of(torch.zeros(0, 3)).pointers.tolist() == [0]
