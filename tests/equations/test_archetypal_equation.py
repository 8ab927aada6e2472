"""Archetypal dictionaries against plain loops; where their parameters may lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.core.errors import BadInput, BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import build
from assay.dictionaries.archetypal import Archetypal, Config, centroids
from assay.training.member import Member
from assay.training.options import TrainConfig


def archetypal(seed: int = 0, **options) -> Archetypal:
    """d_in 6, d_sae 5, 8 candidates; every parameter and the candidates random."""
    made = Archetypal(Config(**{"d_in": 6, "d_sae": 5, "n_candidates": 8, "k": 2, **options})).double()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*made.parameters(), made.candidates):
            tensor.copy_(torch.randn(tensor.shape, generator=rng, dtype=torch.float64))
    return made


def values(made: Archetypal) -> dict[str, np.ndarray]:
    return {n: t.detach().numpy().copy() for n, t in made.state_dict().items()}


def decoder(v: dict[str, np.ndarray]) -> np.ndarray:
    D = np.zeros_like(v["relaxation"])
    for i in range(len(D)):
        mixture = sum(v["mixing"][i, c] * v["candidates"][c] for c in range(len(v["candidates"])))
        D[i] = np.exp(v["log_scale"]) * (mixture + v["relaxation"][i])
    return D


def test_directions_codes_and_loss(rows) -> None:
    made, x, y = archetypal(), rows(9, 0), rows(9, 1)
    v = values(made)
    D = decoder(v)
    np.testing.assert_allclose(made.W_dec.detach().numpy(), D, atol=1e-12)
    f = np.zeros((9, 5))
    for b in range(9):
        z = [(x[b].numpy() - v["b_dec"]) @ v["W_enc"][:, i] + v["b_enc"][i] for i in range(5)]
        for i in sorted(range(5), key=lambda i: -z[i])[:2]:
            f[b, i] = max(0.0, z[i])
    np.testing.assert_allclose(made.encode(x).detach().numpy(), f, atol=1e-12)
    x_hat = f @ D + v["b_dec"]
    np.testing.assert_allclose(made(x).detach().numpy(), x_hat, atol=1e-12)
    loss = float(made.loss(x, y)["recon"].detach())
    assert loss == pytest.approx(((x_hat - y.numpy()) ** 2).sum(1).mean(), rel=1e-12)


def test_the_gradient_reaches_what_makes_the_decoder_and_not_the_candidates(rows) -> None:
    made, x, y = archetypal(), rows(9, 0), rows(9, 1)
    names = [n for n, _ in made.named_parameters()]
    assert set(names) == {"W_enc", "b_enc", "b_dec", "mixing", "relaxation", "log_scale"}
    grads = torch.autograd.grad(made.loss(x, y)["recon"], list(made.parameters()))
    for name, grad in zip(names, grads, strict=True):
        parameter, found = made.get_parameter(name), torch.zeros_like(grad)
        for index in np.ndindex(*parameter.shape):
            with torch.no_grad():
                parameter[index] += 1e-6
                up = float(made.loss(x, y)["recon"])
                parameter[index] -= 2e-6
                down = float(made.loss(x, y)["recon"])
                parameter[index] += 1e-6
            found[index] = (up - down) / 2e-6
        torch.testing.assert_close(grad, found, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_the_constraints() -> None:
    made = archetypal(delta=1.5)
    with torch.no_grad():
        made.mixing[0] = -1.0  # nothing left of it
        made.relaxation[1] = torch.tensor([0.3, 0, 0, 0, 0, 0])  # inside
        made.relaxation[2] = torch.tensor([0, 3.0, 4.0, 0, 0, 0])  # outside
    before = values(made)
    made.constrain()
    after = values(made)
    for i in range(5):
        kept = [max(0.0, w) for w in before["mixing"][i]]
        expected = [w / sum(kept) for w in kept] if sum(kept) else [1 / 8] * 8
        np.testing.assert_allclose(after["mixing"][i], expected, atol=1e-12)
        length = np.linalg.norm(before["relaxation"][i])
        np.testing.assert_allclose(after["relaxation"][i], before["relaxation"][i] * min(1, 1.5 / length), atol=1e-12)
    np.testing.assert_allclose(after["relaxation"][2], [0, 0.9, 1.2, 0, 0, 0], atol=1e-12)
    for name in ("candidates", "log_scale", "W_enc", "b_enc", "b_dec"):
        np.testing.assert_array_equal(after[name], before[name])


def sample(n: int = 300) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch_rng(0, "x")) * torch.linspace(0.5, 2, 6) + 1.0


def test_the_start() -> None:
    x = sample()
    options = Config(d_in=6, d_sae=5, n_candidates=8, k=2)
    one, two, other = (build(options, torch_rng(seed, "init"), x) for seed in (0, 0, 1))
    assert all(torch.equal(one.state_dict()[n], two.state_dict()[n]) for n in one.state_dict())
    assert not torch.equal(one.candidates, other.candidates)
    torch.testing.assert_close(one.b_dec.detach(), x.mean(0))
    distance = torch.cdist(x - x.mean(0), one.candidates)
    means = torch.stack([(x - x.mean(0))[distance.argmin(1) == c].mean(0) for c in range(8)])
    assert float((means - one.candidates).norm(dim=1).max()) < 0.25, "each candidate is the middle of its rows"
    lengths = one.candidates.norm(dim=1)
    torch.testing.assert_close(one.W_dec.detach(), one.candidates[:5] / lengths.mean())
    torch.testing.assert_close(one.W_enc.detach().norm(dim=0), torch.ones(5))
    with pytest.raises(BadInput, match=r"--n-candidates is 8, but the sample has 7 rows"):
        build(options, torch_rng(0, "init"), x[:7])
    with pytest.raises(BadOption, match="--n-candidates"):
        Config(d_in=6, d_sae=5, n_candidates=4, k=2)


def test_training_stays_inside_and_leaves_the_candidates() -> None:
    x = sample(256)
    made = build(Config(d_in=6, d_sae=5, n_candidates=8, k=2, delta=0.2), torch_rng(0, "init"), x)
    candidates = made.candidates.clone()
    first = float(made.loss(x)["recon"].detach())
    member = Member("m", made, TrainConfig(n_tokens=256 * 80, batch_size=256, lr=0.02, dead_after=300), variance=1.0)
    for t in range(80):
        member.step(t, x, x)
    assert torch.equal(made.candidates, candidates)
    assert float(made.mixing.min().detach()) >= 0
    torch.testing.assert_close(made.mixing.detach().sum(1), torch.ones(5))
    lengths = made.relaxation.detach().norm(dim=1)
    assert 0.19 < float(lengths.max()) < 0.2 + 1e-6
    off_diagonal = made.mixing.detach() * (1 - torch.eye(5, 8))
    assert float(off_diagonal.max()) > 0.01, "weights that start at 0 can grow"
    assert float(made.loss(x)["recon"].detach()) < 0.8 * first


def test_centroids_are_k_means() -> None:
    rows = torch.cat([torch.zeros(20, 2), torch.ones(20, 2), torch.tensor([4.0, -4.0]).expand(20, 2)])
    found = centroids(rows + 0.01 * torch.randn(60, 2, generator=torch_rng(0, "n")), 3, 0)
    for middle in ((0.0, 0.0), (1.0, 1.0), (4.0, -4.0)):
        assert float((found - torch.tensor(middle)).norm(dim=1).min()) < 0.02
