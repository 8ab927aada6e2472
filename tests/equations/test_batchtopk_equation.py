"""BatchTopK against plain loops written from arXiv 2412.06410: the batch's k * B largest, the threshold of inference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.core.errors import BadInput
from assay.dictionaries import config_class, load
from assay.kernels import Codes, implementation
from assay.training import TrainConfig, step, train


def arrays(dictionary) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().astype(np.float64) for n, p in dictionary.named_parameters()}


def pre(p: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """z = (x - b_dec) W_enc + b_enc."""
    z = np.zeros((len(x), len(p["b_enc"])))
    for b in range(len(x)):
        for i in range(z.shape[1]):
            z[b, i] = sum(p["W_enc"][j, i] * (x[b, j] - p["b_dec"][j]) for j in range(x.shape[1])) + p["b_enc"][i]
    return z


def batch_top(z: np.ndarray, k: int) -> np.ndarray:
    """The k * B largest positive z of the batch, ties to the lower row, then the lower latent."""
    f = np.zeros_like(z)
    pairs = sorted((-z[b, i], b, i) for b in range(len(z)) for i in range(z.shape[1]))
    for key, b, i in pairs[: k * len(z)]:
        f[b, i] = max(-key, 0.0)
    return f


@pytest.mark.parametrize("k", [1, 4, 11])
def test_training_codes_and_loss(made, rows, k) -> None:
    batchtopk, x, y = made("batchtopk", k=k), rows(30, 0), rows(30, 1)
    p = arrays(batchtopk)
    f = batch_top(pre(p, x.numpy()), k)
    if k == 4:
        assert (f != 0).sum() == 30 * k
        assert len(set((f != 0).sum(1))) > 2, "k is a mean: rows differ"
    np.testing.assert_allclose(batchtopk.encode(x, training=True).detach().numpy(), f, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(batchtopk.encode_sparse(x, training=True).dense().numpy(), f, rtol=1e-11, atol=1e-12)
    x_hat = f @ p["W_dec"] + p["b_dec"]
    terms = batchtopk.loss(x, y)
    assert set(terms) == {"recon"}
    assert float(terms["recon"]) == pytest.approx(((y.numpy() - x_hat) ** 2).sum() / 30, rel=1e-12)


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_gradients_by_hand(made, rows, kernel) -> None:
    batchtopk, x, y = made("batchtopk", k=4), rows(30, 0), rows(30, 1)
    p, B = arrays(batchtopk), 30
    f = batch_top(pre(p, x.numpy()), 4)
    g = 2 * (f @ p["W_dec"] + p["b_dec"] - y.numpy()) / B
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    expected["b_dec"] = g.sum(0)
    for b in range(B):
        for i in np.flatnonzero(f[b]):
            c = float(g[b] @ p["W_dec"][i])
            expected["W_dec"][i] += f[b, i] * g[b]
            expected["b_enc"][i] += c
            expected["W_enc"][:, i] += c * (x.numpy()[b] - p["b_dec"])
            expected["b_dec"] -= c * p["W_enc"][:, i]
    found = step.sparse(batchtopk, x, y, {"recon": 1.0}, 1.0, implementation(kernel)).grads
    assert set(found) == set(expected), "the threshold is no parameter"
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_inference_is_a_threshold_on_z(made, rows) -> None:
    batchtopk, x = made("batchtopk", k=4), rows(40, 2)
    z = pre(arrays(batchtopk), x.numpy())
    for threshold in (0.05, 0.7, 1.9):
        batchtopk.threshold.fill_(threshold)
        expected = np.where(z > threshold, z, 0.0)
        near = (np.abs(z - threshold) < 0.2) & (z > 0)
        assert (near & (z > threshold)).any()
        assert (near & (z < threshold)).any()
        assert (expected[expected != 0] >= threshold).all(), "a jump, not a shift"
        np.testing.assert_allclose(batchtopk.encode(x).detach().numpy(), expected, rtol=1e-11, atol=1e-12)
        with torch.no_grad():
            np.testing.assert_allclose(batchtopk.encode(x).numpy(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("arch", ["batchtopk", "matryoshka"])
def test_without_a_threshold_inference_is_refused_in_one_sentence(made, rows, arch) -> None:
    fresh, x = made(arch, k=4), rows(5, 0)
    calls = (fresh.encode, fresh.encode_sparse, fresh.gains, fresh)
    for call in calls:
        with pytest.raises(BadInput, match=rf"This {arch} dictionary has seen no training batch.*training=True\.$"):
            call(x)
    assert len(fresh.encode_sparse(x, training=True)) == 20
    fresh.observe(fresh.encode_sparse(x, training=True), 0)
    for call in calls:
        call(x)


def codes_of(values: list[list[float]]) -> Codes:
    """All pairs, those with value 0 too: zeros may fill a batch's quota."""
    full = torch.tensor(values, dtype=torch.float64)
    row, latent = torch.ones_like(full).nonzero(as_tuple=True)
    return Codes(row, latent, full.flatten(), (full.shape[0], full.shape[1]))


def test_the_threshold_is_a_running_mean_of_the_smallest_kept_value(made) -> None:
    batchtopk = made("batchtopk", k=4)
    assert float(batchtopk.threshold) == 0.0
    batches = [[[0.0, 3.0], [0.8, 2.0]], [[0.0, 0.4], [0.0, 9.0]], [[5.0, 1.1], [1.0, 0.0]]]
    expected = None
    for t, batch in enumerate(batches):
        batchtopk.observe(codes_of(batch), t)
        smallest = min(v for row in batch for v in row if v > 0)
        expected = smallest if expected is None else expected + 0.01 * (smallest - expected)
        assert float(batchtopk.threshold) == pytest.approx(expected, rel=1e-12)
    batchtopk.observe(codes_of([[0.0, 0.0]]), 3)
    assert float(batchtopk.threshold) == pytest.approx(expected, rel=1e-12), "a batch without codes says nothing"


def test_only_observe_moves_the_threshold(made, rows) -> None:
    batchtopk, x = made("batchtopk", k=4), rows(30, 0)
    batchtopk.observe(batchtopk.encode_sparse(x, training=True), 0)
    before = batchtopk.threshold.clone()
    step.dense(batchtopk, 3 * x, x, {"recon": 1.0}, 0.5)
    step.sparse(batchtopk, 3 * x, x, {"recon": 1.0}, 0.5, implementation("torch"))
    batchtopk.encode(3 * x, training=True)
    assert torch.equal(batchtopk.threshold, before)


def planted(n: int, seed: int) -> torch.Tensor:
    """[n, 12]: sparse sums of 24 fixed directions, off centre, not at scale 1."""
    directions = torch.nn.functional.normalize(torch.randn(24, 12, generator=torch.Generator().manual_seed(99)))
    rng = torch.Generator().manual_seed(seed)
    on = torch.rand(n, 24, generator=rng) < 0.12
    return 3.0 * ((on * (1 + torch.rand(n, 24, generator=rng))) @ directions + 0.3)


@pytest.mark.parametrize("arch", ["batchtopk", "matryoshka"])
@pytest.mark.parametrize("k", [2, 4])
def test_l0_of_inference_is_near_k_after_training(tmp_path, arch, k) -> None:
    options = TrainConfig(n_tokens=128 * 400, batch_size=128, lr=5e-3, log_every=100)
    stream = Stream(TensorSource(planted(8000, 0)), seed=0, batch_size=128)
    config = config_class(arch)(d_in=12, d_sae=40, k=k)
    trained = train(config, stream, tmp_path / "run", site="x", options=options, quiet=True)
    x = planted(6000, 1)
    inference = len(trained.encode_sparse(x)) / len(x)
    training = len(trained.encode_sparse(x, training=True)) / len(x)
    print(f"{arch} k={k}: L0 {inference:.3f} at inference, {training:.3f} in training")
    assert training == k
    assert inference == pytest.approx(k, rel=0.05)
    assert len({len(trained.encode_sparse(row[None])) for row in x[:50]}) > 1, "single rows differ in L0"
    c = load(tmp_path / "run", space="training")
    assert float(trained.threshold) == pytest.approx(c.scale[0] * float(c.threshold), rel=1e-5)
    assert c.scale[0] > 1.5
