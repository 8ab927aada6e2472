"""Matryoshka against plain loops written from arXiv 2503.17547: nested reconstructions of one BatchTopK code, their mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_batchtopk_equation import arrays, batch_top, pre

from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import build, config_class
from assay.kernels import implementation
from assay.training import step
from assay.training.member import Member
from assay.training.options import TrainConfig

GROUPS = (2, 4, 5)  # of 11 latents: prefixes 2, 6, 11


def errors(p: dict[str, np.ndarray], f: np.ndarray, y: np.ndarray) -> dict[int, float]:
    """m -> mean over rows of ||y - (f_:m W_dec_:m + b_dec)||^2."""
    found = {}
    for m in (2, 6, 11):
        total = 0.0
        for b in range(len(y)):
            for j in range(y.shape[1]):
                total += (y[b, j] - p["b_dec"][j] - sum(f[b, i] * p["W_dec"][i, j] for i in range(m))) ** 2
        found[m] = total / len(y)
    return found


def test_terms_and_loss(made, rows) -> None:
    matryoshka, x, y = made("matryoshka", k=4, groups=GROUPS), rows(30, 0), rows(30, 1)
    p = arrays(matryoshka)
    expected = errors(p, batch_top(pre(p, x.numpy()), 4), y.numpy())
    terms = matryoshka.loss(x, y)
    assert {t: float(v) for t, v in terms.items()} == pytest.approx(
        {"recon": expected[11], "prefix_2": expected[2], "prefix_6": expected[6]}, rel=1e-11
    )
    for found in (
        step.dense(matryoshka, x, y, matryoshka.weights(1.0), 1.0),
        step.sparse(matryoshka, x, y, matryoshka.weights(1.0), 1.0, implementation("torch")),
    ):
        assert found.loss == pytest.approx(sum(expected.values()) / 3, rel=1e-11), "normalised once: a plain mean"


@pytest.mark.parametrize("kernel", ["reference", "torch"])
def test_gradients_by_hand(made, rows, kernel) -> None:
    """g of a prefix reaches its own latents only; alpha and dW_dec sum over the prefixes that hold a latent."""
    matryoshka, x, y = made("matryoshka", k=4, groups=GROUPS), rows(30, 0), rows(30, 1)
    p, B = arrays(matryoshka), 30
    f = batch_top(pre(p, x.numpy()), 4)
    expected = {n: np.zeros_like(a) for n, a in p.items()}
    for m in (2, 6, 11):
        g = 2 / 3 * (f[:, :m] @ p["W_dec"][:m] + p["b_dec"] - y.numpy()) / B
        expected["b_dec"] += g.sum(0)
        for b in range(B):
            for i in range(m):
                if f[b, i] == 0:
                    continue
                c = float(g[b] @ p["W_dec"][i])
                expected["W_dec"][i] += f[b, i] * g[b]
                expected["b_enc"][i] += c
                expected["W_enc"][:, i] += c * (x.numpy()[b] - p["b_dec"])
                expected["b_dec"] -= c * p["W_enc"][:, i]
    found = step.sparse(matryoshka, x, y, matryoshka.weights(1.0), 1.0, implementation(kernel)).grads
    for name, grad in found.items():
        np.testing.assert_allclose(grad.numpy(), expected[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_a_prefix_gives_no_gradient_to_the_latents_after_it(made, rows) -> None:
    matryoshka, x, y = made("matryoshka", k=4, groups=GROUPS), rows(30, 0), rows(30, 1)
    alone = {"recon": 0.0, "prefix_2": 0.0, "prefix_6": 1.0}
    grads = step.sparse(matryoshka, x, y, alone, 1.0, implementation("torch")).grads
    for latents in (grads["W_dec"], grads["W_enc"].t(), grads["b_enc"][:, None]):
        assert not latents[6:].any()
        assert latents[:6].any(1).all()


def test_auxk_sees_the_residual_of_the_whole_code(made, rows) -> None:
    """The member hands y - x_hat of the whole code to AuxK, and gives AuxK the weight auxk_coef against a mean of weight 1."""
    config = config_class("matryoshka")(d_in=6, d_sae=11, k=2, groups=GROUPS, auxk_coef=0.7, k_aux=3)
    x, y = rows(30, 0).float(), rows(30, 1).float()
    matryoshka = build(config, torch_rng(0, "init"), x)
    p = arrays(matryoshka)
    f = batch_top(pre(p, x.double().numpy()), 2)
    member = Member("m", matryoshka, TrainConfig(n_tokens=3000, batch_size=30, dead_after=30), variance=2.5)
    dead = [1, 8, 10]
    member.silent_tokens[dead] = 30
    residual = y.double().numpy() - f @ p["W_dec"] - p["b_dec"]
    z = np.maximum(pre(p, x.double().numpy())[:, dead], 0)
    error = ((residual - z @ p["W_dec"][dead]) ** 2).sum(1).mean()
    aux = 2.5 * error / residual.var(0).sum()
    member.step(0, x, y)
    terms = member.window.terms
    assert terms["auxk"] == pytest.approx(aux, rel=1e-4)
    whole = errors(p, f, y.double().numpy())
    assert terms["loss"] == pytest.approx(sum(whole.values()) / 3 + 0.7 * aux, rel=1e-4)


@pytest.mark.parametrize(
    ("groups", "d_sae", "prefixes"),
    [
        (None, 64, (2, 6, 14, 30, 64)),
        (None, 4096, (128, 384, 896, 1920, 4096)),
        (None, 3, (1, 3)),
        ((0.2, 0.8), 20, (4, 20)),
        ((1.0,), 20, (20,)),
        ((5, 15), 20, (5, 20)),
        ((0.3, 0.3, 0.4), 10, (3, 6, 10)),
    ],
)
def test_prefixes_of_shares_and_sizes(groups, d_sae, prefixes) -> None:
    given = {} if groups is None else {"groups": groups}
    config = config_class("matryoshka")(d_in=6, d_sae=d_sae, k=1, **given)
    assert config.prefixes == prefixes
    matryoshka = build(config)
    assert [e[2] if len(e) == 3 else d_sae for e in matryoshka.recon.values()] == [d_sae, *prefixes[:-1]]
    assert matryoshka.weights(0.3) == {t: 1 / len(prefixes) for t in matryoshka.recon}


@pytest.mark.parametrize("groups", [(), (0.5, 0.6), (5, 5), (-1, 21), (2.5, 17.5), (0.0, 1.0)])
def test_groups_that_do_not_add_up_are_refused(groups) -> None:
    with pytest.raises(
        BadOption, match=r"--groups is .*shares that sum to 1, or whole numbers that sum to --d-sae 20\."
    ):
        config_class("matryoshka")(d_in=6, d_sae=20, k=1, groups=groups)


def test_one_group_is_batchtopk(made, rows) -> None:
    one, plain = made("matryoshka", k=4, groups=(1.0,)), made("batchtopk", k=4)
    x, y = rows(30, 0), rows(30, 1)
    with torch.no_grad():
        for name, parameter in one.named_parameters():
            assert torch.equal(parameter, plain.get_parameter(name))
    found = [step.sparse(d, x, y, d.weights(1.0), 1.0, implementation("torch")) for d in (one, plain)]
    assert found[0].loss == found[1].loss
    assert all(torch.equal(found[0].grads[n], g) for n, g in found[1].grads.items())
