"""Whole runs: a sweep equals its members alone, what is logged and written, what is refused,
and starting from a dictionary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay import dictionaries
from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.core.errors import BadInput, BadOption, NotFound
from assay.dictionaries import config_class
from assay.training import Plan, TrainConfig, scale_of, sweep, train


def options(**given) -> TrainConfig:
    return TrainConfig(**{"n_tokens": 960, "batch_size": 32, "lr": 0.01, "log_every": 10, **given})


def config(arch: str, d_sae: int = 40, **given):
    given = {"topk": {"k": 3}, "random": {"k": 3}, "raw": {"k": 3}, "pca": {"k": 3}}.get(arch, {"l1_coef": 0.2}) | given
    given |= {} if arch in ("raw", "pca") else {"d_sae": d_sae}
    return config_class(arch)(d_in=12, **given)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_sweep_equals_its_members_alone(stream, tmp_path) -> None:
    plans = [
        Plan("gated", config("gated"), options()),
        Plan("relu-seed-1", config("relu"), options(seed=1, order_seed=0)),
        Plan("topk", config("topk"), options(beta1=0.5)),
        Plan("pca", config("pca"), options()),
    ]
    sweep(plans, stream(), tmp_path / "all", site="x", quiet=True)
    for plan in plans:
        train(plan.config, stream(), tmp_path / plan.name, site="x", options=plan.options, quiet=True)
        together = dictionaries.load(tmp_path / "all" / plan.name).state_dict()
        for name, tensor in dictionaries.load(tmp_path / plan.name).state_dict().items():
            torch.testing.assert_close(together[name], tensor, rtol=1e-6, atol=1e-7)
    assert {p.name for p in (tmp_path / "all").iterdir()} == {"run.json", *(p.name for p in plans)}


def test_two_runs_are_identical_and_seeds_differ(stream, tmp_path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        train(
            config("gated"), stream(), tmp_path / name, site="x", options=options(seed=seed, order_seed=0), quiet=True
        )
    assert weights(tmp_path / "one") == weights(tmp_path / "two") != weights(tmp_path / "three")


def test_what_a_run_leaves_behind(stream, tmp_path) -> None:
    ticks: list[str] = []
    made = train(
        config("gated"), stream(), tmp_path / "run", site="x", options=options(), quiet=True,
        facts={"model": "toy"}, on_tick=lambda name, line, bar: ticks.append(name),
    )  # fmt: skip
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "run.json", "log.jsonl", "config.json", "weights.safetensors", "provenance.json", "golden.safetensors",
        "documents.json", "checksums.json",
    }  # fmt: skip
    log = lines(tmp_path / "run")
    assert [line["step"] for line in log] == [10, 20, 30]
    assert [line["tokens"] for line in log] == [320, 640, 960]
    assert set(log[0]) == {
        "step", "tokens", "l0", "fvu", "gamma", "tokens_per_second", "recon", "aux", "l1", "loss", "dead_frac", "lr",
    }  # fmt: skip
    assert log[-1]["fvu"] < log[0]["fvu"]
    assert ticks == ["."] * 3
    assert made.provenance["site"] == "x"
    assert made.provenance["model"] == "toy"
    assert made.provenance["cost"]["upfront_tokens"] == 960
    assert made.provenance["cost"]["params_trained"] == 12 * 40 * 2 + 12 + 3 * 40
    assert made.provenance["init"] is None
    assert made.provenance["train"]["lr"] == 0.01
    assert dictionaries.verify(tmp_path / "run")["arch"] == "gated"
    scale = json.loads((tmp_path / "run" / "config.json").read_text())["scale"]
    assert scale["convention"] == "rms1"
    assert scale["c_in"] == scale["c_out"] != 1.0


def test_the_result_reads_raw_activations(stream, world, tmp_path) -> None:
    """Far from scale 1 and off centre, the export still reconstructs raw rows; its training space is at rms 1."""
    far = stream(scale=40.0)
    made = train(config("topk"), far, tmp_path / "run", site="x", options=options(n_tokens=6400), quiet=True)
    x = world(500, scale=40.0)
    fvu = float((made(x) - x).pow(2).sum() / (x - x.mean(0)).pow(2).sum())
    assert fvu < 0.6
    inside = dictionaries.load(tmp_path / "run", space="training")
    c = inside.scale[0]
    assert float((x / c).pow(2).mean()) == pytest.approx(1.0, rel=0.1)
    torch.testing.assert_close(c * inside.encode(x / c), made.encode(x), rtol=1e-3, atol=1e-2)


def test_scale_conventions() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert scale_of(x, "none") == 1.0
    assert scale_of(x, "rms1") == pytest.approx((25 / 4) ** 0.5)
    assert scale_of(x, "norm1") == pytest.approx((25 / 2) ** 0.5)


def test_predicting_another_site_with_its_own_scale(stream, tmp_path) -> None:
    both = stream(target=True)
    made = train(
        config("relu", decoder_norm="free", d_out=7, l1_coef=1e-3), both, tmp_path / "run", site="x", target="y",
        options=options(n_tokens=12_800), quiet=True,
    )  # fmt: skip
    batch = both.batch(0)
    y_hat = made(batch["x"])
    fvu = float((y_hat - batch["y"]).pow(2).sum() / (batch["y"] - batch["y"].mean(0)).pow(2).sum())
    assert fvu < 0.3
    c_in, c_out = dictionaries.load(tmp_path / "run", space="training").scale
    assert c_in / c_out > 1.5


@pytest.mark.parametrize("arch", ["gated", "topk", "relu"])
def test_starting_from_a_dictionary_adopts_its_function(stream, tmp_path, arch) -> None:
    """Another data scale, the same codes on raw rows before the first step (here: a step too small to matter)."""
    old = train(config(arch), stream(), tmp_path / "old", site="x", options=options(), quiet=True)
    still = options(n_tokens=32, lr=1e-30, lr_warmup=0)
    new = train(
        config(arch),
        stream(seed=5, scale=11.0),
        tmp_path / "new",
        site="x",
        options=still,
        init_from=tmp_path / "old",
        quiet=True,
    )
    assert (
        json.loads((tmp_path / "new/config.json").read_text())["scale"]["c_in"]
        > 2 * (json.loads((tmp_path / "old/config.json").read_text())["scale"]["c_in"])
    )
    x = stream().batch(3)["x"]
    torch.testing.assert_close(new.encode(x), old.encode(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(new(x), old(x), rtol=1e-4, atol=1e-4)
    assert new.provenance["init"] == str(tmp_path / "old")


def test_starting_from_another_kind_is_refused(stream, tmp_path) -> None:
    train(config("relu"), stream(), tmp_path / "old", site="x", options=options(), quiet=True)
    others = (config("gated"), config("relu", d_sae=41), config("relu", decoder_norm="free"))
    for number, other in enumerate(others):
        with pytest.raises(BadOption, match="--init"):
            train(
                other,
                stream(),
                tmp_path / f"{number}",
                site="x",
                options=options(),
                init_from=tmp_path / "old",
                quiet=True,
            )


def test_an_existing_folder_is_refused_and_kept(stream, tmp_path) -> None:
    train(config("topk"), stream(), tmp_path / "run", site="x", options=options(), quiet=True)
    before = weights(tmp_path / "run")
    with pytest.raises(BadOption, match=r"already holds a result; .*--resume.*run-2"):
        train(config("topk"), stream(), tmp_path / "run", site="x", options=options(seed=1, order_seed=0), quiet=True)
    assert weights(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"lr": 0.02}, "lr = 0.01, now it is 0.02"), ({"n_tokens": 1920}, "n_tokens = 960"), ({"seed": 4}, "seed = 0")],
)
def test_resuming_with_other_options_names_the_option(stream, tmp_path, changed, named) -> None:
    train(config("topk"), stream(), tmp_path / "run", site="x", options=options(), quiet=True)
    with pytest.raises(BadOption, match=named):
        train(config("topk"), stream(), tmp_path / "run", site="x", options=options(**changed), resume=True, quiet=True)
    with pytest.raises(BadOption, match=r"options\.k = 3, now it is 4"):
        train(config("topk", k=4), stream(), tmp_path / "run", site="x", options=options(), resume=True, quiet=True)
    with pytest.raises(BadOption, match=r"stream\.source\.n_rows = 2000, now it is 1999"):
        train(config("topk"), stream(n=1999), tmp_path / "run", site="x", options=options(), resume=True, quiet=True)


def test_resuming_what_never_began_is_refused(stream, tmp_path) -> None:
    with pytest.raises(NotFound, match="holds no run to resume"):
        train(config("topk"), stream(), tmp_path / "none", site="x", options=options(), resume=True, quiet=True)


def test_resuming_a_finished_run_gives_it_back_without_training(stream, tmp_path) -> None:
    plans = [Plan("a", config("topk"), options()), Plan("b", config("raw"), options())]
    sweep(plans, stream(), tmp_path / "run", site="x", quiet=True)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()}
    made = sweep(plans, stream(), tmp_path / "run", site="x", resume=True, quiet=True)
    assert [m.path.name for m in made] == ["a", "b"]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_plans_that_contradict_each_other_are_refused(stream, tmp_path) -> None:
    one = Plan("a", config("topk"), options())
    with pytest.raises(BadOption, match='both "a"'):
        sweep([one, Plan("a", config("gated"), options())], stream(), tmp_path / "x", site="x", quiet=True)
    with pytest.raises(BadOption, match="n_tokens cannot differ"):
        sweep([one, Plan("b", config("gated"), options(n_tokens=64))], stream(), tmp_path / "x", site="x", quiet=True)
    with pytest.raises(BadOption, match="nothing to train"):
        sweep([], stream(), tmp_path / "x", site="x", quiet=True)
    assert not (tmp_path / "x").exists()


def test_a_stream_of_another_batch_size_is_refused(stream, tmp_path) -> None:
    """Else steps, tokens and costs would be counted in batches that were never read."""
    with pytest.raises(BadOption, match=r"batches of 64 rows, but batch_size is 32"):
        train(config("topk"), stream(batch_size=64), tmp_path / "x", site="x", options=options(), quiet=True)


def test_a_wrong_width_names_site_and_widths(stream, tmp_path) -> None:
    wrong = config_class("topk")(d_in=13, d_sae=40, k=3)
    with pytest.raises(BadOption, match=r"d_in=13, but the activations at x have width 12"):
        train(wrong, stream(), tmp_path / "x", site="x", options=options(), quiet=True)


def test_activations_that_are_not_finite_stop_with_their_origin(world, tmp_path) -> None:
    x = world(2000)
    x[1234, 5] = float("inf")
    source = TensorSource(x, documents=[f"{i // 100:016x}" for i in range(2000)])
    with pytest.raises(BadInput, match=rf"inf at document {12:016x}, .*row 1234, dimension 5"):
        train(
            config("topk"),
            Stream(source, batch_size=32, split=None),
            tmp_path / "x",
            site="x",
            options=options(),
            quiet=True,
        )


def test_a_run_that_diverges_says_at_which_step(stream, tmp_path) -> None:
    with pytest.raises(BadInput, match=r"is .* at step \d+; .*--lr"):
        train(
            config("relu", decoder_norm="free"), stream(), tmp_path / "x", site="x",
            options=options(lr=1e19, lr_warmup=0), quiet=True,
        )  # fmt: skip


def test_the_kernels_can_be_chosen(stream, tmp_path) -> None:
    for name in ("reference", "torch"):
        train(
            config("topk"), stream(), tmp_path / name, site="x", options=options(kernels=name, n_tokens=160), quiet=True
        )
    one, two = (dictionaries.load(tmp_path / n).state_dict() for n in ("reference", "torch"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-3)
    with pytest.raises(BadOption, match="not a kernel implementation"):
        train(config("topk"), stream(), tmp_path / "x", site="x", options=options(kernels="fast"), quiet=True)
