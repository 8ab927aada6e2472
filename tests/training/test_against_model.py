"""Training against the model: the outside loss is KL(clean || spliced), its gradient is right, and it does what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.functional import log_softmax

from assay import models
from assay.activations import TensorSource, documents, of_split, pack
from assay.core.errors import BadInput, BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import build, config_class, load
from assay.kernels import implementation
from assay.models import Model
from assay.training import ModelStream, TrainConfig, train
from assay.training.step import NOTHING, External, dense, sparse

SITE = "resid_post.1"


@pytest.fixture(scope="module")
def stream() -> ModelStream:
    model = models.load("storyworld")
    blocks = pack(of_split(documents("storyworld:60"), "train"), model, context=64, quiet=True)
    return ModelStream(model, blocks, SITE, seed=3, batch_size=256)


def test_the_step_takes_an_outside_loss_on_both_paths() -> None:
    """Adding c ||y_hat - t||^2 from outside is the same as adding it by hand, for every parameter."""
    rng = torch_rng(0, "x")
    x, y, t = (torch.randn(20, 6, generator=rng).double() for _ in range(3))
    for arch, options in (("gated", {"l1_coef": 0.3}), ("topk", {"k": 3})):
        made = build(config_class(arch)(d_in=6, d_sae=16, **options), rng, x.float()).double()
        weights = made.weights(1.0)

        def outside(y_hat: torch.Tensor, t: torch.Tensor = t) -> External:
            return External(float(0.7 * (y_hat - t).pow(2).sum()), 1.4 * (y_hat - t), {"kl": 9.0})

        terms = made.dense_forward(x, y, 1.0)
        total = sum(weights[n] * v for n, v in terms.terms.items()) + 0.7 * (terms.x_hat - t).pow(2).sum()
        names = [n for n, _ in made.named_parameters()]
        expected = dict(zip(names, torch.autograd.grad(total, list(made.parameters())), strict=True))
        for done in (
            dense(made, x, y, weights, 1.0, outside),
            sparse(made, x, y, weights, 1.0, implementation("torch"), outside),
        ):
            assert done.loss == pytest.approx(float(total.detach()), rel=1e-12)
            assert done.terms["kl"] == 9.0
            for name, grad in expected.items():
                torch.testing.assert_close(done.grads[name], grad, rtol=1e-10, atol=1e-12)
    assert NOTHING.loss == 0


def test_kl_is_zero_for_a_perfect_reconstruction_and_its_gradient_is_right(stream) -> None:
    x = stream.batch(0)[SITE]
    value, gradient = stream.kl(x)
    assert value == pytest.approx(0.0, abs=1e-6)
    assert float(gradient.norm()) < 1e-4
    rng = torch.Generator().manual_seed(0)
    y_hat = x + 0.3 * x.std() * torch.randn(x.shape, generator=rng)
    value, gradient = stream.kl(y_hat)
    assert value > 0.01
    way = gradient / gradient.norm()
    step = 1e-2
    up, down = stream.kl(y_hat + step * way)[0], stream.kl(y_hat - step * way)[0]
    assert (up - down) / (2 * step) == pytest.approx(float(gradient.norm()), rel=1e-2)


def test_kl_is_that_of_the_models_own_predictions(stream) -> None:
    """Recomputed with a hook of our own: clean and spliced distributions at kept tokens, clean first."""
    x = stream.batch(1)[SITE]
    y_hat = 0.5 * x
    ids, mask, keep, _ = stream._latest
    model = stream.model
    layer = model.hf.transformer.h[1] if hasattr(model.hf, "transformer") else model.hf.model.layers[1]

    def halve(module, args, output):
        h = output[0] if isinstance(output, tuple) else output
        h = torch.where(keep[..., None], 0.5 * h, h)
        return (h, *output[1:]) if isinstance(output, tuple) else h

    with torch.no_grad():
        clean = log_softmax(model.hf(input_ids=ids, attention_mask=mask).logits[keep].double(), -1)
        handle = layer.register_forward_hook(halve)
        spliced = log_softmax(model.hf(input_ids=ids, attention_mask=mask).logits[keep].double(), -1)
        handle.remove()
    expected = float((clean.exp() * (clean - spliced)).sum(-1).mean())
    assert stream.kl(y_hat)[0] == pytest.approx(expected, rel=1e-4)


def test_weights_of_the_two_losses(stream) -> None:
    """kl: (MSE + beta alpha KL) / (1 + beta) with alpha = MSE / KL, so both parts have the ratio beta; end_to_end: beta KL."""
    x = stream.batch(2)[SITE]
    c, beta = 2.5, 3.0
    y = x / c
    y_hat = 0.8 * y
    value, gradient = stream.kl(c * y_hat)
    error = float((y_hat - y).pow(2).sum(-1).mean())
    got = stream.external(y_hat, y, c, "kl", beta)
    assert got.loss == pytest.approx(beta / (1 + beta) * error, rel=1e-4)
    torch.testing.assert_close(got.gradient, beta / (1 + beta) * error / (value + 1e-8) * c * gradient)
    alone = stream.external(y_hat, y, c, "end_to_end", beta)
    assert alone.loss == pytest.approx(beta * value, rel=1e-5)
    torch.testing.assert_close(alone.gradient, beta * c * gradient)
    assert got.terms == alone.terms == {"kl": pytest.approx(value)}


def test_blocks_are_used_once_an_epoch_and_by_step_alone(stream) -> None:
    n = len(stream._useful)
    seen = [int(b) for step in range(n) for b in stream.chosen(step)][: n * stream.per_batch]
    assert sorted(seen[:n]) == sorted(stream._useful.tolist())
    assert stream.chosen(5).tolist() == stream.chosen(5).tolist()
    rows = stream.row_ids(4)
    assert len(rows) == len(stream.batch(4)[SITE])
    assert not stream.source.table.special[rows].any()


def run(stream: ModelStream, out: Path, against: str, init: Path | None = None, **more: object) -> Path:
    d = stream.width(SITE)
    options = TrainConfig(
        n_tokens=256 * 40,
        batch_size=256,
        lr=1e-3,
        seed=3,
        against=against,
        log_every=10,
        **more,  # type: ignore[arg-type]
    )
    train(
        config_class("topk")(d_in=d, d_sae=192, k=8),
        stream,
        out,
        site=SITE,
        options=options,
        init_from=init,
        quiet=True,
    )
    return out


@pytest.mark.parametrize("against", ["kl", "end_to_end"])
def test_it_lowers_the_models_loss_below_what_reconstruction_reaches(stream, tmp_path, against) -> None:
    first = run(stream, tmp_path / "first", "activations")
    more = run(stream, tmp_path / "more", "activations", init=first)
    tuned = run(stream, tmp_path / "tuned", against, init=first)

    def mean_kl(path: Path) -> float:
        dictionary = load(path)
        with torch.no_grad():
            return sum(stream.kl(dictionary(stream.batch(1000 + i)[SITE]))[0] for i in range(4)) / 4

    assert mean_kl(tuned) < 0.9 * mean_kl(more)


def test_only_one_dictionary_with_a_model_and_one_site(stream, tmp_path) -> None:
    from assay.activations import Stream

    rows = Stream(TensorSource({SITE: torch.randn(600, 8)}), batch_size=256)
    with pytest.raises(BadOption, match="--against kl needs the model"):
        train(
            config_class("topk")(d_in=8, d_sae=16, k=2), rows, tmp_path / "a", site=SITE,
            options=TrainConfig(n_tokens=512, batch_size=256, against="kl"), quiet=True,
        )  # fmt: skip
    with pytest.raises(BadOption, match="name one of each"):
        ModelStream(stream.model, stream.blocks, "resid_post.0,resid_post.1", seed=0, batch_size=256)
    network = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    )
    with pytest.raises(BadInput, match="train by reconstruction alone"):
        ModelStream(Model(network, stream.model.tokenizer, name="bert"), stream.blocks, SITE, seed=0, batch_size=256)
