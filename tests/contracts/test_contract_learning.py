"""What learning may do to a dictionary: which parameters move, which constraints hold, and that it repeats."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dictionary_examples import Case, whole_decoder

from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import FIT, build
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.step import trainable


def trained(case: Case, n_steps: int = 6, start: str = "init", kernels: str = "torch") -> Member:
    made = case.made(dtype=torch.float32)
    if start == "init":
        x, y = case.inputs(200).float(), case.targets(200).float()
        made = build(case.config, torch_rng(1, "init"), x, y)
    options = TrainConfig(
        n_tokens=n_steps * 32, batch_size=32, lr=0.02, lr_warmup=0, lr_decay=0, sparsity_warmup=0, kernels=kernels
    )
    member = Member("m", made, options, variance=1.0)
    for t in range(n_steps):
        member.step(t, case.inputs(32, 50 + t).float(), case.targets(32, 50 + t).float())
    return member


def test_rows_have_length_one_after_training_where_they_should(learned) -> None:
    made = trained(learned).dictionary
    lengths = whole_decoder(made).norm(dim=1)
    if made.unit_norm:
        torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=1e-5, atol=1e-5)
    else:
        assert float((lengths - 1).abs().max()) > 1e-2


def test_frozen_parameters_never_change_and_the_others_do(learned) -> None:
    before = learned.made(dtype=torch.float32)
    after = trained(learned, start="made").dictionary
    for name, tensor in before.named_parameters():
        now = after.get_parameter(name)
        if name in after.frozen:
            assert torch.equal(now, tensor), name
        else:
            assert float((now - tensor).abs().max()) > 1e-3, name


def test_only_trainable_parameters_have_gradients_and_moments(learned) -> None:
    member = trained(learned)
    names = {n for n, _ in member.dictionary.named_parameters()} - set(member.dictionary.frozen)
    assert set(trainable(member.dictionary)) == set(member.first) == set(member.second) == names


def test_training_repeats_exactly_and_writes_no_grad(learned) -> None:
    one, two = trained(learned), trained(learned)
    for name, tensor in one.dictionary.state_dict().items():
        assert torch.equal(tensor, two.dictionary.state_dict()[name])
    assert all(p.grad is None for p in one.dictionary.parameters())


def test_both_kernels_train_to_the_same_weights(learned) -> None:
    one, two = trained(learned, 4, "made", "torch"), trained(learned, 4, "made", "reference")
    for name, tensor in one.dictionary.state_dict().items():
        torch.testing.assert_close(tensor, two.dictionary.state_dict()[name], rtol=2e-3, atol=2e-3)


def test_storage_stays_latent_major_through_training(learned) -> None:
    member = trained(learned)
    for name, _ in member.dictionary.matrix_names:
        kept = [m[name] for m in (member.first, member.second) if name in m]
        for tensor in (member.dictionary.get_parameter(name), *kept):
            assert tensor.t().is_contiguous()


def test_initialisation_follows_its_generator(learned) -> None:
    x, y = learned.inputs(100).float(), learned.targets(100).float()
    made = [build(learned.config, torch_rng(seed, "init"), x, y).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(made[0][n], made[1][n]) for n in made[0])
    assert any(not torch.equal(made[0][n], made[2][n]) for n in made[0] if n.startswith("W_dec"))
    before = torch.get_rng_state()
    build(learned.config, torch_rng(3, "init"), x, y)
    assert torch.equal(torch.get_rng_state(), before), "no global randomness"


def test_initial_shapes_of_the_recipe(learned) -> None:
    """Random rows of one length, encoder tied where input and output are the same,
    b_dec near the middle of the targets."""
    x, y = learned.inputs(500).float(), learned.targets(500).float()
    made = build(learned.config, torch_rng(1, "init"), x, y)
    lengths = whole_decoder(made).norm(dim=1)
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths), rtol=1e-5, atol=0)
    if learned.config.wiring in ("sae", "crosscoder") and learned.width_out == learned.config.d_in:
        torch.testing.assert_close(made.W_enc.detach(), made.W_dec.detach().t(), rtol=0, atol=0)
    assert float((made.b_dec - y.mean(0)).norm()) < 0.2 * float(y.std(0).norm())
    assert all(not getattr(made, name).any() for name in made.vectors)


def test_fitting_does_not_depend_on_chunks(case) -> None:
    if case.cls.learned_by != FIT:
        pytest.skip("learned by gradient")
    x = case.inputs(300).float()
    whole, parts = case.cls(case.config), case.cls(case.config)
    whole.fit([x], torch_rng(0, "fit"))
    parts.fit(iter([x[:7], x[7:200], x[200:]]), torch_rng(0, "fit"))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, rtol=1e-5, atol=1e-5)


def test_a_stated_l0_at_the_start_is_met(learned) -> None:
    """Where an architecture offers `init_l0`, its biases start so that this many latents fire on the sample."""
    options = dict(learned.options)
    if "init_l0" not in {f.name for f in dataclasses.fields(learned.config)}:
        pytest.skip("no init_l0")
    x, y = learned.inputs(2000).float(), learned.targets(2000).float()
    for l0 in (2.0, 11.5):
        made = build(learned.cls.Config(**options, init_l0=l0), torch_rng(1, "init"), x, y)
        fired = made.pairs(made.pre_activations(x), made.params_at())[0]
        gate = fired["v"] if "v" in fired else fired["f"]
        assert float((gate != 0).sum(1).float().mean()) == pytest.approx(l0, rel=0.02)
    for bad in (0.0, float(learned.config.d_sae)):
        with pytest.raises(BadOption, match="--init-l0"):
            learned.cls.Config(**options, init_l0=bad)
