"""BatchTopK to JumpReLU: the stated L0 on the rows it was set on, nearly that on others, and nothing else changed."""

from __future__ import annotations

import pytest
import torch

from assay.core.errors import BadInput, BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import Dictionary, build, config_class
from assay.training import calibrate
from assay.training.member import Member
from assay.training.options import TrainConfig

D, F, K = 12, 40, 3


@pytest.fixture(scope="module", params=["batchtopk", "matryoshka", "topk"])
def trained(request, world_of) -> Dictionary:
    config = config_class(request.param)(d_in=D, d_sae=F, k=K)
    x = world_of(4096, 1)
    options = TrainConfig(n_tokens=64 * 150, batch_size=64, lr=1e-2)
    member = Member("m", build(config, torch_rng(0, "init"), x), options, variance=float(x.var(0).sum()))
    for t in range(150):
        rows = world_of(64, 100 + t)
        member.step(t, rows, rows)
    member.dictionary.provenance = {"site": "x"}
    return member.dictionary.double()


@pytest.fixture(scope="session")
def world_of(world):
    """Planted rows with a little noise: without it the rows in which nothing is on are equal, and so are their values."""

    def draw(n: int, seed: int) -> torch.Tensor:
        return world(n, seed, 1.0) + 0.02 * torch.randn(n, D, generator=torch.Generator().manual_seed(seed))

    return draw


def z_of(dictionary: Dictionary, x: torch.Tensor) -> torch.Tensor:
    return ((x - dictionary.b_dec) @ dictionary.W_enc + dictionary.b_enc).detach()


@pytest.mark.parametrize("l0", [None, 1.0, 2.25, 6.0])
def test_one_threshold_gives_the_stated_l0(trained, world_of, l0) -> None:
    held_out = world_of(3000, 7).double()
    made = calibrate(trained, held_out, l0=l0)
    wanted = K if l0 is None else l0
    assert made.arch == "jumprelu"
    assert len(made.theta.unique()) == 1
    assert len(made.encode_sparse(held_out)) == round(wanted * 3000), "exact on the rows it was set on"
    others = world_of(6000, 8).double()
    found = len(made.encode_sparse(others)) / 6000
    print(f"{trained.arch}: L0 {found:.3f} on other rows, {wanted} asked for")
    assert found == pytest.approx(wanted, rel=0.05)


def test_what_is_on_is_the_value_it_was(trained, world_of) -> None:
    """f = z 1[z > theta] with the pre-encoder bias folded away; directions and b_dec are untouched."""
    held_out = world_of(500, 7).double()
    made, z = calibrate(trained, held_out, l0=2.0), z_of(trained, held_out)
    assert float(trained.b_dec.abs().max()) > 0.1
    assert made.pre_bias is None
    theta = float(made.theta[0])
    torch.testing.assert_close(made.encode(held_out), z * (z > theta), rtol=1e-9, atol=1e-9)
    assert torch.equal(made.W_dec, trained.W_dec)
    assert torch.equal(made.b_dec, trained.b_dec)
    on, off = z[z > theta].min(), z[z <= theta].max()
    assert theta == pytest.approx(float(on + off) / 2, rel=1e-6), "half-way between the last on and the first off"


@pytest.mark.parametrize("batch_size", [50, 64])
def test_one_threshold_a_latent_fires_each_as_often_as_in_training(trained, world_of, batch_size) -> None:
    held_out = world_of(3000, 7).double()
    counts = torch.zeros(F, dtype=torch.int64)
    for part in held_out.split(batch_size):
        counts += (trained.encode(part, training=True) != 0).sum(0)
    made = calibrate(trained, held_out, per_latent=True, batch_size=batch_size)
    assert torch.equal((made.encode(held_out) != 0).sum(0), counts)
    assert len(made.theta.unique()) > F // 2
    z = z_of(trained, held_out)
    for i in range(F):
        n = int(counts[i])
        order = z[:, i].clamp_min(0).sort(descending=True).values
        expected = order[0] if n == 0 else (order[n - 1] + order[n]) / 2
        assert float(made.theta[i]) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)
    others = world_of(6000, 8).double()
    training = sum(len(trained.encode_sparse(p, training=True)) for p in others.split(batch_size)) / 6000
    assert len(made.encode_sparse(others)) / 6000 == pytest.approx(training, rel=0.05)


def test_a_latent_that_never_fires_stays_silent(trained, world_of) -> None:
    held_out = world_of(500, 7).double()
    silent = build(trained.config).double()
    silent.load_state_dict(trained.state_dict())
    with torch.no_grad():
        silent.b_enc[5] = -1e3
        silent.b_enc[6] += 1e-4 - z_of(trained, held_out)[:, 6].max()  # at most 1e-4: positive, far below the cut
    made = calibrate(silent, held_out, per_latent=True, batch_size=50)
    assert not made.encode(held_out)[:, 5:7].any()
    assert float(made.theta[6]) == pytest.approx(1e-4, rel=1e-6)


def test_the_result_can_be_saved_and_says_where_it_is_from(trained, world_of, tmp_path) -> None:
    from assay import dictionaries

    held_out = world_of(500, 7).double()
    trained.scale = (2.5, 2.5)
    try:
        made = calibrate(trained, held_out, l0=2.0)
    finally:
        trained.scale = (1.0, 1.0)
    assert made.scale == (2.5, 2.5)
    assert made.provenance["site"] == "x"
    assert made.provenance["calibrated"] == {"arch": trained.arch, "l0": 2.0, "per_latent": False, "rows": 500}
    dictionaries.save(made, tmp_path, golden=2.5 * held_out, provenance=made.provenance)
    loaded = dictionaries.load(tmp_path)
    torch.testing.assert_close(
        loaded.encode(2.5 * held_out).double(), 2.5 * made.encode(held_out), rtol=1e-4, atol=1e-4
    )


def test_what_cannot_be_done_is_said(trained, world_of) -> None:
    x = world_of(100, 7).double()
    with pytest.raises(BadOption, match=r"--l0 is 41\.0; it must be above 0 and at most d_sae=40"):
        calibrate(trained, x, l0=41.0)
    with pytest.raises(BadOption, match=r"--l0 is 2\.0; it must be left out"):
        calibrate(trained, x, l0=2.0, per_latent=True)
    with pytest.raises(BadInput, match=r"An L0 of 39 was asked for, but only .* values a row are positive"):
        calibrate(trained, x, l0=39.0)
    with pytest.raises(BadInput, match="none were given"):
        calibrate(trained, x[:0])
    for arch, options in (("gated", {"l1_coef": 0.1}), ("abstopk", {"k": 3}), ("pca", {"k": 3, "d_sae": D})):
        other = config_class(arch)(d_in=D, **{"d_sae": F, **options})
        with pytest.raises(BadInput, match=f"A {arch} dictionary cannot be calibrated"):
            calibrate(build(other).double(), x)
