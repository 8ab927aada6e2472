"""Resampling gives the dead latents new directions, and touches nothing else: no write may go into a copy."""

from __future__ import annotations

import pytest
import torch

from assay.dictionaries import build, config_class
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.resample import resample

DEAD = torch.tensor([0, 5, 6, 30])
ALIVE = torch.tensor([i for i in range(40) if i not in (0, 5, 6, 30)])


def member(arch: str, world, **options) -> tuple[Member, torch.Tensor]:
    """A dictionary of 40 latents with moments that are nowhere 0, and 500 rows in training space."""
    x = world(500) / 2
    made = build(config_class(arch)(d_in=12, d_sae=40, l1_coef=0.2, **options), torch.Generator().manual_seed(0), x)
    held = Member("m", made, TrainConfig(n_tokens=3200, batch_size=32), 1.0)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensors in (dict(made.named_parameters()), held.first, held.second):
            for name, tensor in tensors.items():
                tensor.add_(0.1 + 0.05 * torch.randn(tensor.shape, generator=rng))
                if name == "W_dec" and made.unit_norm and tensor is made.W_dec:
                    tensor.div_(tensor.norm(dim=1, keepdim=True))
    return held, x


def parts(held: Member) -> dict[str, torch.Tensor]:
    """Everything that could change, latents first."""
    made = held.dictionary
    named = {f"{kind} {n}": t for kind, ts in (("first", held.first), ("second", held.second)) for n, t in ts.items()}
    named |= {n: t.detach() for n, t in made.named_parameters()}
    return {n: (t.t() if "W_enc" in n else t).clone() for n, t in named.items()}


@pytest.mark.parametrize(("arch", "options"), [("gated", {}), ("relu", {}), ("relu", {"decoder_norm": "free"})])
def test_exactly_the_dead_change(world, arch, options) -> None:
    held, x = member(arch, world, **options)
    before = parts(held)
    resample(held.dictionary, DEAD, x, x, torch.Generator().manual_seed(2), [held.first, held.second])
    for name, after in parts(held).items():
        if name.endswith("b_dec"):
            assert torch.equal(after, before[name]), name
            continue
        assert torch.equal(after[ALIVE], before[name][ALIVE]), name
        changed = (after[DEAD] != before[name][DEAD]).reshape(4, -1).all(1)
        assert bool(changed.all()), f"{name}: a dead row did not change; was it written into a copy?"
        if name.startswith(("first", "second")) or after.dim() == 1:
            assert not after[DEAD].any(), name


@pytest.mark.parametrize(("arch", "options"), [("gated", {}), ("relu", {}), ("relu", {"decoder_norm": "free"})])
def test_new_directions_are_inputs(world, arch, options) -> None:
    """The decoder row is an input less b_dec, normalised; the encoder column the same at a fifth of the living
    length."""
    held, x = member(arch, world, **options)
    made = held.dictionary
    living_enc = made.W_enc.detach()[:, ALIVE].norm(dim=0).mean()
    living_dec = made.W_dec.detach()[ALIVE].norm(dim=1).mean()
    resample(made, DEAD, x, x, torch.Generator().manual_seed(2), [held.first, held.second])
    W_dec, W_enc = made.W_dec.detach()[DEAD], made.W_enc.detach()[:, DEAD].t()
    candidates = torch.nn.functional.normalize(x - made.b_dec.detach())
    nearest = (torch.nn.functional.normalize(W_dec) @ candidates.T).max(1)
    torch.testing.assert_close(nearest.values, torch.ones(4), rtol=1e-5, atol=1e-5)
    expected = torch.ones(4) if made.unit_norm else living_dec.expand(4)
    torch.testing.assert_close(W_dec.norm(dim=1), expected)
    torch.testing.assert_close(W_enc.norm(dim=1), (0.2 * living_enc).expand(4))
    source = made.centred(x[nearest.indices]).detach()
    cosine = torch.nn.functional.cosine_similarity(W_enc, source)
    torch.testing.assert_close(cosine, torch.ones(4), rtol=1e-5, atol=1e-5)


def test_inputs_are_drawn_in_proportion_to_the_squared_loss(world) -> None:
    """Many draws on six inputs; the squared loss is the fourth power of the residual's length."""
    held, _ = member("relu", world)
    made, n_dead = held.dictionary, 36
    with torch.no_grad():
        made.b_enc.fill_(-1e6)  # nothing fires, x_hat = b_dec
        made.b_dec.zero_()
    lengths = torch.tensor([1.0, 2.0, 0.5, 1.5, 1.2, 1e-3])
    x = torch.diag(torch.ones(12))[:6] * lengths[:, None]
    counts = torch.zeros(6)
    for seed in range(200):
        resample(made, torch.arange(n_dead), x, x, torch.Generator().manual_seed(seed), [held.first, held.second])
        counts += made.W_dec.detach()[:n_dead, :6].round().sum(0)
        with torch.no_grad():
            made.b_enc.fill_(-1e6)
    expected = lengths.double() ** 4 / (lengths.double() ** 4).sum()
    found = counts.double() / counts.sum()
    spread = (expected * (1 - expected) / (200 * n_dead)).sqrt()
    assert bool(((found - expected).abs() <= 4 * spread + 1e-9).all()), (found, expected)


def test_nothing_dead_changes_nothing_and_everything_dead_is_finite(world) -> None:
    held, x = member("gated", world)
    before = parts(held)
    resample(held.dictionary, DEAD[:0], x, x, torch.Generator().manual_seed(2), [held.first, held.second])
    assert all(torch.equal(t, before[n]) for n, t in parts(held).items())
    resample(held.dictionary, torch.arange(40), x, x, torch.Generator().manual_seed(2), [held.first, held.second])
    assert all(bool(torch.isfinite(t).all()) for t in parts(held).values())
    torch.testing.assert_close(held.dictionary.W_dec.detach().norm(dim=1), torch.ones(40))


def test_a_member_resamples_its_dead_and_counts_them_anew(world) -> None:
    held, x = member("gated", world)
    held.silent_tokens.fill_(3)
    held.silent_tokens[DEAD] = held.options.dead_tokens
    assert held.dead().tolist() == DEAD.tolist()
    before = parts(held)
    assert held.resample(20, x, x) == 4
    assert held.last_resample == 20
    assert held.silent_tokens[DEAD].tolist() == [0] * 4
    assert held.silent_tokens[ALIVE].tolist() == [3] * 36
    assert torch.equal(parts(held)["W_dec"][ALIVE], before["W_dec"][ALIVE])
    assert held.resample(40, x, x) == 0
    assert held.last_resample == 20, "the rate dips only when something was resampled"


def test_when_and_whom(world) -> None:
    held, _ = member("gated", world)
    assert [t for t in range(100) if held.wants_resampling(t)] == [20, 40, 60]
    x = world(500)
    topk = build(config_class("topk")(d_in=12, d_sae=40, k=3), torch.Generator().manual_seed(0), x)
    other = Member("m", topk, TrainConfig(n_tokens=3200, batch_size=32), 1.0)
    assert not any(other.wants_resampling(t) for t in range(100)), "topk revives by AuxK"
