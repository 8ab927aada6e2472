"""Dictionaries whose latents are divided: four processes as one row part of four shards, and as two row parts of two."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.core import distribution
from assay.core.artefact import read_json, read_tensors
from assay.core.errors import BadOption
from assay.dictionaries import GRADIENT, SPARSE, build, class_of, config_class, load, names, verify
from assay.training import Plan, TrainConfig, sweep
from assay.training import shard as shards

WORK = Path(__file__).with_name("shard_work.py")
spec = importlib.util.spec_from_file_location("shard_work", WORK)
assert spec is not None and spec.loader is not None
work = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = work  # its class refers to itself
spec.loader.exec_module(work)

EACH = [(4, name) for name in work.CASES] + [(2, name) for name in work.SOME]


def group(out: Path, *words: str) -> subprocess.Popen[str]:
    kept = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(WORK), str(out), *words]
    return subprocess.Popen(
        command, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def finished(processes: subprocess.Popen[str]) -> None:
    said, _ = processes.communicate(timeout=400)
    assert processes.returncode == 0, said[-3000:]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("many")
    finished(group(out))
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    threads, member = torch.get_num_threads(), work.maker.Member
    work.main(out, 1, tuple(work.CASES))
    torch.set_num_threads(threads)
    work.maker.Member = member
    return out


def folder(out: Path, name: str) -> Path:
    return next(out.glob(f"*/{name}"))


@pytest.mark.parametrize(("n", "name"), EACH)
def test_shards_give_the_weights_of_one_process(one: Path, many: Path, n: int, name: str) -> None:
    mine, yours = (read_tensors(folder(out, name) / "weights.safetensors") for out in (many / str(n), one))
    assert mine.keys() == yours.keys()
    for tensor, x in mine.items():
        difference = float((x - yours[tensor]).abs().max() / yours[tensor].abs().max().clamp_min(1))
        assert difference < 1e-6, (tensor, difference)


@pytest.mark.parametrize("n", [4, 2])
def test_the_log_speaks_of_all_rows_and_latents(one: Path, many: Path, n: int) -> None:
    for name in work.CASES if n == 4 else work.SOME:
        ours, theirs = ((folder(out, name) / "log.jsonl").read_text().splitlines() for out in (many / str(n), one))
        assert len(ours) == len(theirs) == work.STEPS // 4
        for a, b in zip(map(json.loads, ours), map(json.loads, theirs), strict=True):
            for word in ("l0", "fvu", "gamma", "loss", "dead_frac", "tokens"):
                assert a[word] == pytest.approx(b[word], rel=1e-4), (name, word)


def test_the_cases_reach_what_they_are_meant_to_reach(one: Path) -> None:
    """AuxK with more dead latents than it takes, and latents to resample."""
    lines = {name: (folder(one, name) / "log.jsonl").read_text().splitlines() for name in work.CASES}
    first = {name: json.loads(found[0]) for name, found in lines.items()}
    assert first["topk"]["auxk"] > 0 and first["topk"]["dead_frac"] * work.D_SAE > 4
    assert min(first[name]["dead_frac"] for name in ("gated", "panneal", "transcoder")) > 0


def test_each_process_holds_its_latents_only(one: Path, many: Path) -> None:
    """Bytes of parameters, both moments, state and counters. topk: 12 + 12 + 1 floats a latent, three times, and a count of 8 bytes."""
    alone = read_json(one / "held-0.json")
    four, two = ([read_json(many / str(n) / f"held-{rank}.json") for rank in range(4)] for n in (4, 2))
    latent, common = 3 * 4 * (12 + 12 + 1) + 8, 3 * 4 * 12
    assert alone["topk"]["n_bytes"] == common + 82 * latent
    assert [held["topk"]["n_bytes"] for held in four] == [common + n * latent for n in (20, 21, 20, 21)]
    assert [held["topk"]["n_bytes"] for held in two] == [common + 41 * latent] * 4
    for name, held in alone.items():  # the same law for all: a latent more costs what a latent costs, the rest is small
        few, more = (four[rank][name]["n_bytes"] for rank in (0, 1))
        assert held["n_bytes"] == few + 62 * (more - few), name
        assert few - 20 * (more - few) < 0.15 * held["n_bytes"], name


@pytest.mark.parametrize("n", [4, 2])
def test_what_every_shard_holds_is_the_same_in_all_to_the_last_bit(many: Path, n: int) -> None:
    held = [read_json(many / str(n) / f"held-{rank}.json") for rank in range(4)]
    for name, found in held[0].items():
        assert "b_dec" in found["replicated"]
        assert all(other[name]["replicated"] == found["replicated"] for other in held[1:]), name


@pytest.mark.parametrize("name", ["matryoshka", "skip", "target"])
def test_the_export_is_an_ordinary_dictionary(one: Path, many: Path, name: str) -> None:
    checked = verify(folder(many / "4", name))  # golden codes and outputs were computed by the shards
    assert checked["pairs"] > 0 and checked["worst_output"] < 1e-5
    mine, yours = (load(folder(out, name)) for out in (many / "4", one))
    golden, expected = (read_tensors(folder(out, name) / "golden.safetensors") for out in (many / "4", one))
    assert (
        golden["row"].tolist() == expected["row"].tolist() and golden["latent"].tolist() == expected["latent"].tolist()
    )
    torch.testing.assert_close(mine(golden["x"]), yours(golden["x"]), atol=1e-5, rtol=1e-5)
    facts = [d.provenance["cost"] for d in (mine, yours)]
    assert facts[0]["params_trained"] == facts[1]["params_trained"]
    assert abs(facts[0]["upfront_flops"] - facts[1]["upfront_flops"]) <= 0.001 * facts[1]["upfront_flops"]


@pytest.mark.slow
def test_killed_and_started_again_they_end_at_the_same_bits(many: Path, tmp_path: Path) -> None:
    processes = group(tmp_path, "--few", "--slow")
    own = tmp_path / "2" / "own"
    deadline = time.monotonic() + 240
    while not list(own.glob("checkpoint-*")):
        assert processes.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(processes.pid, signal.SIGKILL)
    processes.communicate()
    found = sorted(p.name for p in next(own.glob("checkpoint-*")).iterdir())
    assert found == ["checksums.json", "shard-0", "shard-1", "state.json"]
    assert not (own / "topk" / "checksums.json").exists()
    with pytest.raises(BadOption, match="started with processes = 4, now it is 1"):
        work.main(tmp_path / "2", 1, work.FEW, resume=True)
    finished(group(tmp_path, "--few", "--resume"))
    for name in work.FEW:
        mine, theirs = (read_tensors(folder(out, name) / "weights.safetensors") for out in (tmp_path / "2", many / "2"))
        for tensor, x in mine.items():
            assert torch.equal(x, theirs[tensor]), (name, tensor)


# ---- without other processes ---------------------------------------------------------------------------------------

GIVEN: dict[str, dict[str, Any]] = {
    "gated": {"l1_coef": 1.0, "init_l0": 3.0}, "jumprelu": {"l0_coef": 1.0, "init_l0": 3.0}, "relu": {"l1_coef": 1.0, "init_l0": 3.0},
    "panneal": {"lp_coef": 1.0, "init_l0": 3.0}, "transcoder": {"l1_coef": 1.0, "init_l0": 3.0, "d_out": 5},
    "crosscoder": {"l1_coef": 1.0, "in_sites": (4, 8)}, "skip_transcoder": {"k": 3, "d_out": 5},
}  # fmt: skip


def example(arch: str) -> Any:
    return config_class(arch)(d_in=12, d_sae=82, **GIVEN.get(arch, {"k": 3}))


def divisible() -> list[str]:
    """Every architecture that can be trained in shards, also one that is added later."""
    layered = ("crosslayer",)  # a block of latents for each layer
    learned = [a for a in names() if class_of(a).learned_by == GRADIENT and a not in layered]
    return [arch for arch in learned if shards.shapes(example(arch)).step == SPARSE]


@pytest.mark.parametrize("arch", divisible())
@pytest.mark.parametrize("piece", [16, 1 << 22])
def test_a_shard_starts_as_its_part_of_the_whole(arch: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "PIECE", piece)
    config = example(arch)
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(50, 12, generator=rng) + 0.5
    y = torch.randn(50, 5, generator=rng) if config.d_out == 5 else x
    whole = build(config, torch.Generator().manual_seed(7), x, y).state_dict()
    parts = [shards.part_of(config, held) for held in (slice(0, 27), slice(27, 54), slice(54, 82))]
    for part in parts:
        part.init(torch.Generator().manual_seed(7), x, y)
    for name, tensor in whole.items():
        pieces = [part.state_dict()[name] for part in parts]
        axis = shards.divided_axis(pieces[0], tensor)
        together = pieces[0] if axis is None else torch.cat(pieces, axis)
        torch.testing.assert_close(together, tensor, atol=1e-7, rtol=1e-6)


def test_a_shard_is_refused_where_it_would_be_wrong(tmp_path: Path) -> None:
    def message(arch: str, init_from: Any = None, **given: Any) -> str:
        config = config_class(arch)(d_in=12, **{"d_sae": 82, **given})
        options = TrainConfig(n_tokens=64, batch_size=64, latent_shards=2)
        with pytest.raises(BadOption) as refused:
            sweep([Plan(arch, config, options, init_from)], work.stream(), tmp_path / "run", site="x", quiet=True)
        assert not (tmp_path / "run").exists()
        return str(refused.value)

    assert message("topk", k=3) == (
        "--latent-shards is 2, but there is one process; start a multiple of 2: torchrun --nproc-per-node 2 -m assay train ..."
    )
    assert "pca is not trained by gradients" in message("pca", k=3, d_sae=12)
    assert "matching_pursuit with these options steps on all latents" in message("matching_pursuit", k=3)
    assert "archetypal with these options steps on all latents" in message("archetypal", k=3)
    assert "gated with these options steps on all latents" in message("gated", l1_coef=1.0, tie_encoder=False)
    assert "wiring=perlayer has a block" in message("topk", k=3, wiring="perlayer", in_sites=(6, 6), out_sites=(6, 6))
    assert "--init starts from a whole dictionary" in message("topk", k=3, init_from=tmp_path)
    assert "d_sae=1 is less" in message("topk", k=1, d_sae=1)
    assert distribution.shards() == 1
