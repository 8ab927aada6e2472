"""A safetensors file that is put together from pieces is the file that the library writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from assay.core.artefact import read_tensors
from assay.core.pieces import assembled

RNG = torch.Generator().manual_seed(0)
TENSORS = {
    "W_enc": torch.randn(3, 7, generator=RNG).t().contiguous().t(),  # stored latent-major, written row by row
    "W_dec": torch.randn(7, 5, generator=RNG),
    "b_dec": torch.randn(5, generator=RNG),
    "threshold": torch.tensor(0.25),
    "counts": torch.arange(7),
    "on": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
}
KINDS = {name: (t.dtype, tuple(t.shape)) for name, t in TENSORS.items()}


def test_pieces_in_any_order_give_the_bytes_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with assembled(path, KINDS) as put:
        for first, last in ((4, 7), (0, 1), (1, 4)):
            put("W_enc", 1, first, TENSORS["W_enc"][:, first:last])
            put("W_dec", 0, first, TENSORS["W_dec"][first:last])
            put("counts", 0, first, TENSORS["counts"][first:last])
        for name in ("b_dec", "threshold", "on", "empty"):
            put(name, None, 0, TENSORS[name])
        assert not path.exists()
    assert path.read_bytes() == save({name: t.contiguous() for name, t in TENSORS.items()})
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_never_put_is_zero(tmp_path: Path) -> None:
    with assembled(tmp_path / "w.safetensors", KINDS) as put:
        put("b_dec", 0, 3, torch.ones(2))
    found = read_tensors(tmp_path / "w.safetensors")
    assert found["b_dec"].tolist() == [0, 0, 0, 1, 1] and not found["W_dec"].any()


def test_an_interrupted_file_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"the one before")
    with pytest.raises(KeyError), assembled(path, KINDS) as put:
        put("not one of them", None, 0, TENSORS["b_dec"])
    assert [p.name for p in tmp_path.iterdir()] == [path.name] and path.read_bytes() == b"the one before"
