"""Matching pursuit against plain loops; its gradient against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay import dictionaries
from assay.core import artefact
from assay.core.errors import BadOption, Corrupt
from assay.dictionaries.matching_pursuit import Config, MatchingPursuit


def pursuit(k: int, seed: int = 0) -> MatchingPursuit:
    """d_in 6, d_sae 11, unit rows, an offset."""
    rng = torch.Generator().manual_seed(seed)
    made = MatchingPursuit(Config(d_in=6, d_sae=11, k=k)).double()
    with torch.no_grad():
        made.W_dec.copy_(torch.nn.functional.normalize(torch.randn(11, 6, generator=rng, dtype=torch.float64)))
        made.b_dec.copy_(torch.linspace(-0.5, 1, 6))
    return made


def by_loops(x: np.ndarray, D: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    f = np.zeros((len(x), len(D)))
    for row in range(len(x)):
        r = x[row] - b
        for _ in range(k):
            products = [sum(D[i, j] * r[j] for j in range(len(r))) for i in range(len(D))]
            i = int(np.argmax(products))
            c = max(0.0, products[i])
            f[row, i] += c
            r = r - c * D[i]
    return f


@pytest.mark.parametrize("k", [1, 2, 5])
def test_codes_outputs_and_loss(rows, k) -> None:
    made, x, y = pursuit(k), rows(12, 0), rows(12, 1)
    D, b = made.W_dec.detach().numpy(), made.b_dec.detach().numpy()
    f = by_loops(x.numpy(), D, b, k)
    x_hat = f @ D + b
    np.testing.assert_allclose(made.encode(x).detach().numpy(), f, atol=1e-12)
    np.testing.assert_allclose(made.encode_sparse(x).dense().numpy(), f, atol=1e-12)
    np.testing.assert_allclose(made(x).detach().numpy(), x_hat, atol=1e-12)
    terms = made.loss(x, y)
    assert set(terms) == {"recon"}
    assert float(terms["recon"].detach()) == pytest.approx(((x_hat - y.numpy()) ** 2).sum(1).mean(), rel=1e-12)


def test_the_residual_only_shrinks(rows) -> None:
    x = rows(50, 2)
    left = [float((pursuit(k)(x) - x).pow(2).sum().detach()) for k in (1, 2, 4, 8)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.7 * left[0]


def test_a_latent_may_be_chosen_twice_and_a_row_may_stop() -> None:
    made = MatchingPursuit(Config(d_in=2, d_sae=3, k=3)).double()
    with torch.no_grad():
        made.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 0.0]]))
    f = made.encode(torch.tensor([[1.0, 3.0], [-1.0, -1.0]], dtype=torch.float64)).detach().numpy()
    # x.d = (1, 2.6): r = (-1.08, 1.44), products (-1.08, 0): no more to add
    np.testing.assert_allclose(f, [[0.0, 2.6, 0.0], [0.0, 0.0, 0.0]], atol=1e-12)
    with torch.no_grad():
        made.W_dec.copy_(torch.tensor([[1.0, 0.0], [-0.6, 0.8], [0.0, 0.0]]))
    f = made.encode(torch.tensor([[1.0, 3.0]], dtype=torch.float64)).detach().numpy()
    # first latent 1: 1.8, r = (2.08, 1.56); then latent 0: 2.08, r = (0, 1.56); then latent 1 again: 1.248
    np.testing.assert_allclose(f, [[2.08, 1.8 + 1.248, 0.0]], atol=1e-12)
    with torch.no_grad():
        made.W_dec.copy_(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]))
    # every product is negative: nothing is added, rather than a negative code
    assert not made.encode(torch.tensor([[-1.0, -1.0]], dtype=torch.float64)).any()


def test_the_gradient_runs_through_every_step(rows) -> None:
    made, x, y = pursuit(4), rows(7, 3), rows(7, 4)
    loss = made.loss(x, y)["recon"]
    grads = dict(zip(("W_dec", "b_dec"), torch.autograd.grad(loss, [made.W_dec, made.b_dec]), strict=True))
    for name, grad in grads.items():
        parameter, found = made.get_parameter(name), torch.zeros_like(grad)
        for index in np.ndindex(*parameter.shape):
            with torch.no_grad():
                sides = []
                for step in (1e-6, -2e-6):
                    parameter[index] += step
                    sides.append(float(made.loss(x, y)["recon"]))
                parameter[index] += 1e-6
                found[index] = (sides[0] - sides[1]) / 2e-6
        torch.testing.assert_close(grad, found, rtol=1e-5, atol=1e-6)
    assert bool((grads["W_dec"] != 0).any())


def test_there_is_no_encoder_matrix() -> None:
    made = pursuit(3)
    assert {n for n, _ in made.named_parameters()} == {"W_dec", "b_dec"}
    assert torch.equal(made.W_enc, made.W_dec.t())
    assert torch.equal(made.encoder_vector(4), made.W_dec[4])
    assert made.step == dictionaries.DENSE


def test_verify_catches_an_altered_row(tmp_path, rows) -> None:
    dictionaries.save(pursuit(3), tmp_path, golden=rows(64, 0).float(), provenance={})
    dictionaries.verify(tmp_path)
    weights = artefact.read_tensors(tmp_path / "weights.safetensors")
    weights["W_dec"][5] *= 1.02
    artefact.write_tensors(tmp_path / "weights.safetensors", weights)
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(Corrupt, match="golden"):
        dictionaries.verify(tmp_path)


def test_another_wiring_is_refused() -> None:
    with pytest.raises(BadOption, match="--wiring is 'transcoder'"):
        Config(d_in=6, d_sae=11, k=2, wiring="transcoder")
