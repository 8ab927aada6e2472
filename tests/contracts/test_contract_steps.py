"""The step contract in float64: the loss under autograd on all pairs, and the engine on the support,
are the same numbers."""

from __future__ import annotations

import pytest
import torch
from dictionary_examples import Case, whole_skip

from assay.dictionaries import Dictionary
from assay.dictionaries.base import chosen
from assay.kernels import IMPLEMENTATIONS, Above, implementation
from assay.training import step

PROGRESS = 0.4
TIGHT = {"rtol": 1e-11, "atol": 1e-12}


def problem(case: Case) -> tuple[Dictionary, torch.Tensor, torch.Tensor, dict[str, float]]:
    """Non-zero biases everywhere, y != x, and a different weight for each term."""
    made = case.made()
    assert all(bool((p != 0).all()) for p in made.parameters())
    terms = made.weights(0.7)
    weights = {term: weight * (1 + 0.3 * i) for i, (term, weight) in enumerate(terms.items())}
    return made, case.inputs(24, 5), case.targets(24, 5), weights


def by_autograd(made: Dictionary, x, y, weights) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    terms = made.loss(x, y, progress=PROGRESS)
    params = {n: p for n, p in made.named_parameters() if n not in made.frozen}
    total = sum(weights[t] * v for t, v in terms.items())
    found = torch.autograd.grad(total, list(params.values()), allow_unused=True)
    return terms, {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), found, strict=True)}


@pytest.mark.parametrize("kernel", IMPLEMENTATIONS)
def test_the_engine_gives_the_gradients_of_the_loss(learned, kernel) -> None:
    made, x, y, weights = problem(learned)
    terms, expected = by_autograd(made, x, y, weights)
    done = step.sparse(made, x, y, weights, PROGRESS, implementation(kernel))
    assert set(done.grads) == set(expected)
    for name, grad in expected.items():
        assert bool((grad != 0).any()), f"{name} gets no gradient here, so nothing was tested"
        torch.testing.assert_close(done.grads[name], grad, **TIGHT, msg=lambda m, n=name: f"{n}: {m}")
    assert done.terms == pytest.approx({t: float(v) for t, v in terms.items()}, rel=1e-12)
    assert done.loss == pytest.approx(sum(weights[t] * float(v) for t, v in terms.items()), rel=1e-12)


def test_the_dense_path_gives_the_same_step(learned) -> None:
    made, x, y, weights = problem(learned)
    one = step.dense(made, x, y, weights, PROGRESS)
    two = step.sparse(made, x, y, weights, PROGRESS, implementation("torch"))
    assert one.grads.keys() == two.grads.keys()
    for name in one.grads:
        torch.testing.assert_close(one.grads[name], two.grads[name], **TIGHT, msg=lambda m, n=name: f"{n}: {m}")
    assert one.terms == pytest.approx(two.terms, rel=1e-12)
    assert one.loss == pytest.approx(two.loss, rel=1e-12)
    assert one.n_support == two.n_support
    torch.testing.assert_close(one.x_hat, two.x_hat, **TIGHT)
    torch.testing.assert_close(one.f.dense(), two.f.dense(), **TIGHT)
    torch.testing.assert_close(one.f.dense(), made.encode(x, training=True).detach(), **TIGHT)
    torch.testing.assert_close(one.x_hat, made.reconstruct(x, one.f).detach(), **TIGHT)


def test_each_term_alone_reaches_the_same_parameters(learned) -> None:
    """One term at a time, so that an error of one cannot hide behind another."""
    made, x, y, weights = problem(learned)
    for term in weights:
        alone = {t: float(t == term) for t in weights}
        _, expected = by_autograd(made, x, y, alone)
        done = step.sparse(made, x, y, alone, PROGRESS, implementation("torch"))
        for name, grad in expected.items():
            torch.testing.assert_close(done.grads[name], grad, **TIGHT, msg=lambda m, n=name, t=term: f"{t}, {n}: {m}")


def test_a_batch_in_which_nothing_fires(learned) -> None:
    made, x, y, weights = problem(learned)
    with torch.no_grad():
        for _, W_enc, _ in made.wired:
            W_enc.zero_()
        for name in made.vectors:
            getattr(made, name).fill_(0.0 if made.signed else -1.0)
    _, expected = by_autograd(made, x, y, weights)
    empty = (made.b_dec + x @ whole_skip(made)).detach()
    for kernel in IMPLEMENTATIONS:
        done = step.sparse(made, x, y, weights, PROGRESS, implementation(kernel))
        assert (done.n_support, len(done.f)) == (0, 0)
        torch.testing.assert_close(done.x_hat, empty, **TIGHT)
        for name, grad in expected.items():
            torch.testing.assert_close(done.grads[name], grad, **TIGHT)


def test_weights_name_exactly_the_terms_of_the_loss(learned) -> None:
    made = learned.made()
    terms = set(made.loss(learned.inputs(5), learned.targets(5)))
    for ramp in (0.0, 0.5, 1.0):
        assert set(made.weights(ramp)) == terms
    whole = [w for t, w in made.weights(0.0).items() if t == "recon" or t.startswith("prefix")]
    assert sum(whole) == pytest.approx(1.0), "the reconstruction is normalised once, in however many prefixes"
    penalties = terms - set(made.recon)
    assert all(made.weights(0.0)[t] == 0.0 for t in penalties), "sparsity warm-up starts from no penalty"
    assert all(made.weights(0.5)[t] == pytest.approx(0.5 * made.weights(1.0)[t]) for t in penalties)


def test_loss_defaults_to_predicting_the_input(learned) -> None:
    if learned.width_out != learned.config.d_in:
        pytest.skip("predicts another width")
    made, x = learned.made(), learned.inputs(9)
    one, two = made.loss(x), made.loss(x, x)
    assert {t: float(v) for t, v in one.items()} == {t: float(v) for t, v in two.items()}
    assert float(made.loss(x, learned.targets(9))["recon"]) != float(one["recon"])


def test_outside_the_support_nothing_happens(learned) -> None:
    """Perturb the latents that one token leaves out: loss, codes and gradients do not notice (the law of DESIGN,
    section 3)."""
    made = learned.made()
    weights = made.weights(0.7)
    x, y = learned.inputs(6)[2:3], learned.targets(6)[2:3]
    on = chosen(made.pre_activations(x), made.select(made.params_at(progress=PROGRESS), True), made.blocks)[0]
    if bool(on.all()):
        pytest.skip("every latent is in the support")
    terms, grads = by_autograd(made, x, y, weights)
    for (enc, dec), block in zip(made.matrix_names, made.blocks, strict=True):
        if enc in grads:
            assert not grads[enc][:, ~on[block.latents]].any()
        if dec in grads:
            assert not grads[dec][~on[block.latents]].any()
    for name in set(made.vectors) & set(grads):
        assert not grads[name][~on].any(), name
    with torch.no_grad():
        moved = [(W_enc, ~on[block.latents]) for block, W_enc, _ in made.wired]
        for tensor, off in [*moved, *((made.get_parameter(name), ~on) for name in made.vectors)]:
            noise = 1e-7 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            tensor.add_(noise * off)
        for block, _, W_dec in made.wired:
            W_dec.mul_(torch.where(on[block.latents], 1.0, 3.0)[:, None])
        after = made.loss(x, y, progress=PROGRESS)
        still = chosen(made.pre_activations(x), made.select(made.params_at(progress=PROGRESS), True), made.blocks)[0]
    assert torch.equal(on, still)
    assert {t: float(v) for t, v in after.items()} == {t: float(v.detach()) for t, v in terms.items()}


def test_pairs_below_a_threshold_are_zero_with_their_derivatives(learned) -> None:
    """Above may choose a superset, so `pairs` itself must be 0 on every pair that it leaves out."""
    made = learned.made()
    selection = made.select(made.params_at(), True)
    if not isinstance(selection, Above):
        pytest.skip("its selection is the equation")
    u = 2 * torch.randn(50, learned.config.d_sae, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u = u.requires_grad_()
    off = u <= selection.threshold
    assert bool(off.any())
    assert not bool(off.all())
    codes, penalties = made.pairs(u, made.params_at())
    for name, value in {**codes, **penalties}.items():
        assert not value[off].any(), name
        wanted = [u, *(getattr(made, v) for v in made.vectors)]
        found = torch.autograd.grad(value[off].sum(), wanted, retain_graph=True, allow_unused=True)
        assert all(g is None or not g.any() for g in found), name
        assert value[~off].any(), name


def test_pairs_do_not_depend_on_shape(learned) -> None:
    """The same function on all pairs and on gathered ones: elementwise, so the engine may call it flat."""
    made = learned.made()
    u = torch.randn(7, learned.config.d_sae, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    row, latent = torch.tensor([0, 2, 2, 6]), torch.tensor([3, 0, 39, 17])
    with torch.no_grad():
        whole, gathered = made.pairs(u, made.params_at()), made.pairs(u[row, latent], made.params_at(latent))
    for dense, flat in zip(whole, gathered, strict=True):
        assert dense.keys() == flat.keys()
        for name in dense:
            torch.testing.assert_close(flat[name], dense[name].expand_as(u)[row, latent], rtol=0, atol=0)


def test_the_switch_between_paths_depends_on_the_last_support_alone(learned, monkeypatch) -> None:
    made, x, y, weights = problem(learned)
    taken: list[str] = []
    monkeypatch.setattr(step, "dense", lambda *a, **_: taken.append("dense"))
    monkeypatch.setattr(step, "sparse", lambda *a, **_: taken.append("sparse"))
    for kernel in map(implementation, IMPLEMENTATIONS):
        taken.clear()
        border = int(kernel.DENSE_ABOVE * len(x) * made.d_sae)
        for last in (0, border, border + 1, len(x) * made.d_sae):
            step.step(made, x, y, weights, PROGRESS, kernel, last)
        assert taken == ["sparse", "sparse", "dense", "dense"]
