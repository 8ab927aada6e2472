"""Adapting a dictionary to new data (`--init`): what is adopted, state buffers included, what reviving does, and that it pays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay import dictionaries
from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.core.errors import BadOption
from assay.dictionaries import Dictionary, config_class
from assay.training import TrainConfig, train
from assay.training.member import Member

D, F = 12, 40
OPTIONS = {
    "gated": {"l1_coef": 1.0},
    "relu": {"l1_coef": 1.0},
    "panneal": {"lp_coef": 0.5},
    "topk": {"k": 3},
    "batchtopk": {"k": 3},
    "matryoshka": {"k": 3},
    "abstopk": {"k": 3},
}


def world(n: int, seed: int, turned: bool = False) -> torch.Tensor:
    """[n, 12]: sparse sums of 16 directions off centre; `turned`: half of the directions are others, and so is the middle."""
    rng = torch.Generator().manual_seed(99)
    old, new = (torch.nn.functional.normalize(torch.randn(16, D, generator=rng)) for _ in range(2))
    directions = torch.cat([old[:8], new[8:]]) if turned else old
    rng = torch.Generator().manual_seed(seed)
    on = torch.rand(n, 16, generator=rng) < 0.12
    scale, middle = (7.0, -0.5) if turned else (3.0, 0.3)
    x = (on * (1 + torch.rand(n, 16, generator=rng))) @ directions + 0.02 * torch.randn(n, D, generator=rng)
    return scale * (x + middle)


def stream(turned: bool = False) -> Stream:
    return Stream(TensorSource(world(4000, 1, turned)), seed=0, batch_size=64)


def options(n_steps: int = 200, **given) -> TrainConfig:
    return TrainConfig(**{"n_tokens": 64 * n_steps, "batch_size": 64, "lr": 0.01, "log_every": 50, **given})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(arch) -> the folder of a dictionary of the first world, made once."""
    torch.set_num_threads(1)
    made: dict[str, Path] = {}

    def folder(arch: str) -> Path:
        if arch not in made:
            made[arch] = tmp_path_factory.mktemp("old") / arch
            config = config_class(arch)(d_in=D, d_sae=F, **OPTIONS[arch])
            train(config, stream(), made[arch], site="x", options=options(400), quiet=True)
        return made[arch]

    return folder


def adapted(folder: Path, arch: str, out: Path, **given) -> Dictionary:
    config = config_class(arch)(d_in=D, d_sae=F, **OPTIONS[arch])
    return train(config, stream(turned=True), out, site="x", options=options(**given), init_from=folder, quiet=True)


def fvu(dictionary: Dictionary, x: torch.Tensor) -> float:
    return float((dictionary(x) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


@pytest.mark.parametrize("arch", OPTIONS)
def test_adapting_lowers_the_loss_on_the_new_data(trained, tmp_path, arch) -> None:
    folder, x = trained(arch), world(3000, 5, turned=True)
    before = fvu(dictionaries.load(folder), x)
    after = fvu(adapted(folder, arch, tmp_path / "new"), x)
    print(f"{arch}: FVU on the new data {before:.3f} -> {after:.3f}")
    assert after < 0.7 * before
    assert dictionaries.verify(tmp_path / "new")["arch"] == arch


@pytest.mark.parametrize("arch", ["batchtopk", "matryoshka"])
def test_the_threshold_is_adopted_in_the_new_scale(trained, tmp_path, arch) -> None:
    """One step too small to matter on rows of more than twice the scale: the raw-space threshold moves by a hundredth of its way."""
    old = dictionaries.load(trained(arch))
    new = adapted(trained(arch), arch, tmp_path / "new", n_steps=1, lr=1e-30, lr_warmup=0, lr_decay=0)
    scale = [json.loads((d.path / "config.json").read_text())["scale"]["c_in"] for d in (old, new)]
    assert scale[1] > 1.5 * scale[0]
    torch.testing.assert_close(new.W_enc, old.W_enc, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(new.b_enc, old.b_enc, rtol=1e-4, atol=1e-4)
    x = stream(turned=True).batch(0)["x"]
    smallest = float(old.encode_sparse(x, training=True).value.min())
    expected = float(old.threshold) + 0.01 * (smallest - float(old.threshold))
    assert float(new.threshold) == pytest.approx(expected, rel=1e-3)
    assert abs(smallest / float(old.threshold) - 1) > 0.1


def revived(arch: str, n_dead: int = 6, **given) -> tuple[Member, torch.Tensor]:
    """A member after `revive` on the new data, whose first latents never fire on it; and the sample."""
    x = world(2000, 5, turned=True) / 7
    made = dictionaries.build(config_class(arch)(d_in=D, d_sae=F, **OPTIONS[arch]), sample=x)
    with torch.no_grad():
        if arch == "gated":
            made.b_gate[:n_dead] = -1e3
        elif arch == "abstopk":  # signed: only what is always small never fires
            made.W_enc[:, :n_dead] = 0.0
        else:
            made.b_enc[:n_dead] = -1e3
    member = Member("m", made, options(dead_after=5000, **given), variance=1.0)
    member.revive(x, x)
    return member, x


@pytest.mark.parametrize("arch", OPTIONS)
def test_reviving_reaches_latents_that_are_silent_on_the_new_data(arch) -> None:
    before = revived(arch)[0]
    made = before.dictionary
    if made.dead_latents == "resample":
        assert not before.dead().numel(), "they were given new directions"
        assert before.last_resample == 0
        bias = made.b_gate if arch == "gated" else made.b_enc
        assert not bias[:6].any()
        torch.testing.assert_close(made.W_dec[:6].norm(dim=1), torch.ones(6))
    else:
        assert set(range(6)) <= set(before.dead().tolist()), "AuxK takes them from the first step on"
        x = world(64, 8, turned=True) / 7
        weights = made.W_enc[:, :6].clone()
        if arch != "abstopk":
            with torch.no_grad():
                made.b_enc[:6] = -0.1
        before.step(0, x, x)
        assert before.window.terms["auxk"] > 0
        assert bool((made.W_enc[:, :6] != weights).any())
    living = dictionaries.build(made.config, sample=world(2000, 5, turned=True) / 7)
    if made.dead_latents == "resample":
        assert torch.equal(living.W_dec[6:], made.W_dec[6:]), "living latents are left alone"


def test_with_and_without_reviving_differ_only_when_asked(trained, tmp_path) -> None:
    """The option is off unless given, belongs to --init, and is kept in the record of the run."""
    folder = tmp_path / "dead"
    old = dictionaries.load(trained("relu"), space="training")
    with torch.no_grad():
        old.b_enc[:20] = -50.0
    dictionaries.save(old, folder, golden=world(64, 3), provenance={"site": "x"}, convention="rms1")
    plain = adapted(folder, "relu", tmp_path / "plain", resample_at=())
    again = adapted(folder, "relu", tmp_path / "again", resample_at=(), init_resample=True)
    x = world(3000, 5, turned=True)
    silent = [int((~(d.encode(x) != 0).any(0)).sum()) for d in (plain, again)]
    print(f"silent latents: {silent[0]} without, {silent[1]} with; FVU {fvu(plain, x):.3f}, {fvu(again, x):.3f}")
    assert silent[0] >= 20 > silent[1]
    assert again.provenance["train"]["init_resample"] is True
    assert plain.provenance["train"]["init_resample"] is False
    config = config_class("relu")(d_in=D, d_sae=F, l1_coef=1.0)
    with pytest.raises(BadOption, match="--init-resample revives latents of a dictionary that is given by --init"):
        train(config, stream(), tmp_path / "x", site="x", options=options(init_resample=True), quiet=True)


class Stop(Exception):
    pass


@pytest.mark.parametrize("arch", ["batchtopk", "matryoshka", "panneal", "abstopk"])
def test_a_stopped_run_continues_with_its_state(trained, tmp_path, arch) -> None:
    """Buffers are in the checkpoint: stopped in the middle (here of an adaptation with reviving) and resumed, bit for bit."""
    config = config_class(arch)(d_in=D, d_sae=F, **OPTIONS[arch])
    given = {
        "site": "x", "options": options(120, log_every=10, checkpoint_every=25, init_resample=True),
        "init_from": trained(arch), "quiet": True,
    }  # fmt: skip

    def stop(name: str, line: dict, bar: object) -> None:
        if line["step"] == 70:
            raise Stop

    train(config, stream(turned=True), tmp_path / "whole", **given)
    with pytest.raises(Stop):
        train(config, stream(turned=True), tmp_path / "cut", on_tick=stop, **given)
    assert list((tmp_path / "cut").glob("checkpoint-000000050"))
    train(config, stream(turned=True), tmp_path / "cut", resume=True, **given)
    one, two = ((tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "cut"))
    assert one == two
