"""The soft-frozen control: rows stay within their cone, and go to the nearest point of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import build
from assay.dictionaries.soft_frozen import Config, SoftFrozen
from assay.training.member import Member
from assay.training.options import TrainConfig


def turned(angles: list[float], min_cosine: float) -> SoftFrozen:
    """A dictionary whose row i is turned by angles[i] radians away from its start."""
    made = build(Config(d_in=6, d_sae=len(angles), k=2, min_cosine=min_cosine), torch_rng(0, "x")).double()
    assert isinstance(made, SoftFrozen)
    start = made.start.numpy()
    rng = np.random.default_rng(1)
    rows = []
    for s, angle in zip(start, angles, strict=True):
        t = rng.normal(size=6)
        t -= (t @ s) * s
        rows.append(np.cos(angle) * s + np.sin(angle) * t / np.linalg.norm(t))
    with torch.no_grad():
        made.W_dec.copy_(torch.from_numpy(np.stack(rows)))
    return made


@pytest.mark.parametrize("min_cosine", [0.8, 0.3, 0.0])
def test_a_row_outside_its_cone_goes_to_the_nearest_unit_vector_inside(min_cosine) -> None:
    border = float(np.arccos(min_cosine))
    angles = [0.0, 0.5 * border, border - 1e-3, border + 1e-3, border + 0.4, 3.0]
    made = turned(angles, min_cosine)
    before, start = made.W_dec.detach().numpy().copy(), made.start.numpy().copy()
    made.constrain()
    after = made.W_dec.detach().numpy()
    cosine = (after * start).sum(1)
    np.testing.assert_array_equal(after[:3], before[:3])
    np.testing.assert_allclose(cosine[3:], min_cosine, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), 1.0, atol=1e-6)
    others = np.random.default_rng(2).normal(size=(20_000, 6))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    for i in range(3, 6):
        inside = others[others @ start[i] >= min_cosine]
        assert (inside @ before[i]).max() <= after[i] @ before[i] + 1e-6, "no vector of the cone is nearer"
    np.testing.assert_array_equal(made.start.numpy(), start)


def test_training_keeps_every_row_in_its_cone_and_some_reach_its_border() -> None:
    x = torch.randn(200, 6, generator=torch_rng(0, "rows")) * torch.linspace(0.3, 3, 6) + 1
    made = build(Config(d_in=6, d_sae=9, k=2), torch_rng(0, "init"), x)
    assert isinstance(made, SoftFrozen)
    assert torch.equal(made.start, made.W_dec)
    start = made.start.clone()
    options = TrainConfig(n_tokens=60 * 50, batch_size=50, lr=0.05, lr_warmup=0, lr_decay=0)
    member = Member("m", made, options, variance=1.0)
    for t in range(60):
        member.step(t, x[:50] if t % 2 else x[50:100], x[:50] if t % 2 else x[50:100])
    cosine = (made.W_dec.detach() * start).sum(1)
    assert float(cosine.min()) == pytest.approx(0.8, abs=1e-5)
    assert float(cosine.max()) < 1 - 1e-4, "rows do move"
    assert torch.equal(made.start, start)


def test_bad_cosines_are_refused() -> None:
    for bad in (-0.1, 1.5):
        with pytest.raises(BadOption, match="--min-cosine"):
            Config(d_in=6, d_sae=9, k=2, min_cosine=bad)
    with pytest.raises(BadOption, match="--wiring is 'crosslayer'"):
        Config(d_in=6, d_sae=8, k=2, wiring="crosslayer")
