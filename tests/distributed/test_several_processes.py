"""Two processes that divide every batch give the weights of one, survive a kill, and harvest the same bytes."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from assay.core.artefact import read_tensors

WORK = Path(__file__).with_name("work.py")
spec = importlib.util.spec_from_file_location("distributed_work", WORK)
assert spec is not None and spec.loader is not None
work = importlib.util.module_from_spec(spec)
spec.loader.exec_module(work)


BOUNDS = {
    "panneal": 1e-5
}  # |f|^p has no finite slope at 0: the rows of one process in another order are 2e-6 apart already


def torchrun(*words: str | Path, n: int = 2) -> subprocess.Popen[str]:
    """The group of processes, as a user starts it."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(n),
        *map(str, words),
    ]
    kept = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        command, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def finished(group: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = group.communicate(timeout=240)
    assert (group.returncode == 0) == (status == 0), said[-3000:]
    return said


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    finished(torchrun(WORK, out))
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "run"
    threads = torch.get_num_threads()
    work.main(out, resume=False, slow=False)
    torch.set_num_threads(threads)
    return out


def apart(a: Path, b: Path) -> dict[str, float]:
    """The largest difference of each tensor, relative to its largest entry (to 1 where that is smaller)."""
    mine, yours = (read_tensors(folder / "weights.safetensors") for folder in (a, b))
    assert mine.keys() == yours.keys()
    return {
        name: float((x - yours[name]).abs().max() / yours[name].abs().max().clamp_min(1)) for name, x in mine.items()
    }


@pytest.mark.parametrize("arch", sorted(work.ARCHS))
def test_two_processes_give_the_weights_of_one(one: Path, two: Path, arch: str) -> None:
    differences = apart(two / arch, one / arch)
    print(arch, {name: f"{value:.0e}" for name, value in differences.items()})
    assert max(differences.values()) < BOUNDS.get(arch, 1e-6)


def test_the_log_speaks_of_the_whole_batch(one: Path, two: Path) -> None:
    import json

    for arch in work.ARCHS:
        ours, theirs = ((out / arch / "log.jsonl").read_text().splitlines() for out in (two, one))
        assert len(ours) == len(theirs) == work.STEPS // 5
        for a, b in zip(map(json.loads, ours), map(json.loads, theirs), strict=True):
            for name in ("l0", "fvu", "gamma", "loss", "dead_frac", "tokens"):
                assert a[name] == pytest.approx(b[name], rel=1e-4), (arch, name)


def test_killed_and_started_again_they_end_at_the_same_bits(two: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    group = torchrun(WORK, out, "--slow")
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoint-*")):
        assert group.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    workers = subprocess.run(["pgrep", "-f", f"{WORK.name} {out}"], capture_output=True, text=True).stdout.split()
    victims = [int(p) for p in workers if int(p) != group.pid]
    os.kill(victims[-1], signal.SIGKILL)  # one of the two; the group ends the other
    finished(group, status=1)
    assert not (out / "topk" / "checksums.json").exists()
    finished(torchrun(WORK, out, "--resume"))
    for arch in work.ARCHS:
        mine, theirs = (read_tensors(folder / arch / "weights.safetensors") for folder in (out, two))
        for name, x in mine.items():
            assert torch.equal(x, theirs[name]), (arch, name)


def test_they_harvest_the_bytes_of_one(tmp_path: Path) -> None:
    words = [
        "harvest",
        "--model",
        "storyworld",
        "--site",
        "resid_post.0",
        "--text",
        "storyworld:60",
        "--threads",
        "1",
        "--quiet",
    ]
    alone = subprocess.run(
        [sys.executable, "-m", "assay", *words, "--out", str(tmp_path / "one")],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert alone.returncode == 0
    said = finished(torchrun("-m", "assay", *words, "--out", tmp_path / "two"))
    assert said.count("rows of resid_post.0") == 1  # one of them talks
    found = {p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.safetensors")}
    assert len(found) >= 2
    for path in found:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "--activations", "nowhere", "--arch", "topk", "--d-sae", "8", "--k", "2"], "name it with --out"),
        (["evaluate", "nowhere"], "runs in one process"),
    ],
)
def test_what_cannot_be_done_together_is_said_once(words: list[str], said: str) -> None:
    kept = os.environ | {"WORLD_SIZE": "2", "RANK": "0"}
    done = subprocess.run([sys.executable, "-m", "assay", *words], env=kept, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    silent = subprocess.run(
        [sys.executable, "-m", "assay", *words], env=kept | {"RANK": "1"}, capture_output=True, text=True
    )
    assert silent.returncode == 2 and silent.stderr == ""
