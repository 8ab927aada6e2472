"""One dictionary in training: silence counted in tokens, parameters that move, statistics that equal the metrics."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import BadInput
from assay.dictionaries import build, config_class
from assay.metrics.fidelity import fvu
from assay.metrics.shrinkage import relative_reconstruction_bias
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.window import Window


def member(world, arch: str = "topk", train: dict | None = None, **options) -> Member:
    x = world(300) / 2
    options = {"topk": {"k": 3}, "random": {"k": 3}}.get(arch, {"l1_coef": 0.2}) | options
    made = build(config_class(arch)(d_in=12, d_sae=40, **options), torch.Generator().manual_seed(0), x)
    given = {"n_tokens": 3200, "batch_size": 32, "lr_warmup": 0, "lr": 0.01, **(train or {})}
    return Member("m", made, TrainConfig(**given), float(x.var(0, correction=0).sum()))


def test_silence_is_counted_in_tokens(world) -> None:
    held = member(world, train={"dead_after": 64})
    with torch.no_grad():
        held.dictionary.get_parameter("b_enc")[7] = -1e6
    for t in range(3):
        assert int(held.silent_tokens[7]) == 32 * t
        assert (7 in held.dead().tolist()) == (t >= 2)
        x = world(32, seed=t) / 2
        held.step(t, x, x)
        fired = held.dictionary.W_dec.shape[0] - int((held.silent_tokens > 0).sum())
        assert fired > 0
    assert int(held.silent_tokens[7]) == 96
    assert int(held.silent_tokens.min()) == 0


def test_a_latent_that_fires_once_in_a_batch_is_not_silent(world) -> None:
    held = member(world, k=1)
    x = torch.full((32, 12), 1e-3) + held.dictionary.b_dec.detach()
    x[4] += 5 * held.dictionary.W_dec.detach()[11]
    held.silent_tokens.fill_(1000)
    held.step(0, x, x)
    assert int(held.silent_tokens[11]) == 0


@pytest.mark.parametrize("arch", ["gated", "relu", "topk", "random"])
def test_every_trainable_parameter_moves_and_the_loss_falls(world, arch) -> None:
    held = member(world, arch, train={"sparsity_warmup": 0})
    before = {n: p.detach().clone() for n, p in held.dictionary.named_parameters()}
    losses = []
    for t in range(60):
        x = world(32, seed=t) / 2
        held.step(t, x, x)
        losses.append(held.window.terms["loss"])
        held.window = Window(12)
    for name, parameter in held.dictionary.named_parameters():
        moved = float((parameter.detach() - before[name]).abs().max())
        assert (moved > 1e-3) == (name not in held.dictionary.frozen), name
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_auxk_is_part_of_the_loss_and_revives(world) -> None:
    """Latents that never fire come to life with AuxK and stay as they are without it."""
    moved = {}
    for coef in (0.0, 0.5):
        held = member(world, auxk_coef=coef, train={"dead_after": 32})
        dead = torch.arange(20)
        with torch.no_grad():
            held.dictionary.W_enc[:, dead] *= 1e-4  # too faint to be among the k largest
        before = held.dictionary.W_dec.detach()[dead].clone()
        for t in range(10):
            x = world(32, seed=t) / 2
            held.step(t, x, x)
        moved[coef] = float((held.dictionary.W_dec.detach()[dead] - before).abs().max())
        terms = held.window.terms
        assert terms["loss"] == pytest.approx(terms["recon"] + coef * terms["auxk"], rel=1e-5)
        assert (terms["auxk"] > 0) == (coef > 0)
    assert moved[0.0] < 1e-5 < 1e-2 < moved[0.5]


def test_the_window_equals_the_metrics(world) -> None:
    held = member(world, train={"n_tokens": 320, "lr": 1e-30})
    xs = [world(32, seed=t) / 2 for t in range(4)]
    for t, x in enumerate(xs):
        held.step(t, x, x)
    x = torch.cat(xs)
    with torch.no_grad():
        f = held.dictionary.encode(x)
        x_hat = held.dictionary.decode(f)
        recon = float(held.dictionary.loss(x)["recon"])
    line = held.report(4)
    assert line["step"] == 4
    assert line["tokens"] == 128
    assert line["l0"] == pytest.approx(float((f != 0).sum()) / 128)
    assert line["fvu"] == pytest.approx(fvu(x, x_hat), rel=1e-5)
    assert line["gamma"] == pytest.approx(relative_reconstruction_bias(x, x_hat), rel=1e-5)
    assert line["recon"] == pytest.approx(recon, rel=1e-5)
    assert line["loss"] == pytest.approx(recon + line["auxk"] / 32, rel=1e-5)
    assert line["dead_frac"] == pytest.approx(float((held.silent_tokens >= 32).float().mean()))
    assert line["lr"] == pytest.approx(1e-30)
    assert held.window.n_rows == 0, "a report starts a new window"


def test_the_window_does_not_depend_on_batches(world) -> None:
    x = world(120)
    x_hat = x * 0.8 + 0.1
    whole, parts = Window(12), Window(12)
    whole.add(x, x_hat, 300, {}, 0.0)
    for part, guess in zip(x.split(7), x_hat.split(7), strict=True):
        parts.add(part, guess, 0, {}, 0.0)
    for name in ("fvu", "gamma"):
        assert parts.summary()[name] == pytest.approx(whole.summary()[name], rel=1e-6)  # float32 inside a batch
    assert whole.summary()["l0"] == 2.5
    assert Window(12).summary()["fvu"] is None


def test_the_window_holds_far_from_the_origin(world) -> None:
    """Residual streams have means far above their spread: what is left after subtracting must still be right."""
    x = world(4096) + 100.0
    x_hat = x + 0.3 * world(4096, seed=1)
    window = Window(12)
    for part, guess in zip(x.split(512), x_hat.split(512), strict=True):
        window.add(part, guess, 0, {}, 0.0)
    assert window.summary()["fvu"] == pytest.approx(fvu(x, x_hat), rel=2e-3)


def test_state_and_restore_continue_exactly(world) -> None:
    for arch in ("gated", "topk"):
        one, two = member(world, arch), member(world, arch)
        for t in range(3):
            one.step(t, world(32, seed=t), world(32, seed=t))
        tensors, numbers = one.state()
        two.restore({n: t.clone() for n, t in tensors.items()}, numbers)
        for held in (one, two):
            held.step(3, world(32, seed=3), world(32, seed=3))
        after, other = one.state(), two.state()
        assert all(torch.equal(t, other[0][n]) for n, t in after[0].items())
        timeless = [{k: v for k, v in n.items() if k != "seconds"} for _, n in (after, other)]
        assert timeless[0] == timeless[1]


def test_a_loss_that_is_not_finite_names_step_and_remedy(world) -> None:
    held = member(world)
    x = world(32)
    x[3, 2] = float("nan")
    with pytest.raises(BadInput, match=r"m: the loss is nan at step 17; .*--lr"):
        held.step(17, x, x)


def test_a_gradient_that_is_not_finite_stops_before_a_checkpoint_can_hold_it(world) -> None:
    """The loss may still be finite when its gradient overflows; the step after would be too late."""
    held = member(world, "relu")
    x = 3e16 * world(32)
    assert float(x.pow(2).sum()) < float("inf")
    with pytest.raises(BadInput, match=r"the gradient is not finite at step 5 \(the loss was \d"):
        held.step(5, x, x)
