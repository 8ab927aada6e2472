"""A run killed at any moment and resumed ends at the same bytes as one that was left alone."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from killable_run import N_STEPS, log, plans, processes, run, stream

from assay.core import artefact
from assay.core.errors import Corrupt
from assay.dictionaries import names
from assay.training import TrainConfig, checkpoint, sweep

GRADIENT = ("gated", "relu", "topk")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = processes().Process(target=run, args=(str(out),))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return out


def until(happens: Callable[[], object], alive: Callable[[], bool]) -> bool:
    """Wait for something; False when the process ended first."""
    while alive():
        if happens():
            return True
        time.sleep(0.0005)
    return False


def stop(out: Path, resume: bool, when: Callable[[], object], delay: float, how: signal.Signals) -> int:
    """Start or resume the run, send a signal at the given moment, and return the exit status."""
    process = processes().Process(target=run, args=(str(out), resume))
    process.start()
    if until(when, process.is_alive):
        time.sleep(delay)
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, how)
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def steps(out: Path) -> int:
    """Steps in the latest checkpoint."""
    return max([int(p.name.removeprefix("checkpoint-")) for p in out.glob("checkpoint-*")], default=0)


def same_as(whole: Path, out: Path) -> None:
    for plan in plans():
        ours, theirs = out / plan.name, whole / plan.name
        assert (ours / "weights.safetensors").read_bytes() == (theirs / "weights.safetensors").read_bytes(), plan.name
        assert (ours / "golden.safetensors").read_bytes() == (theirs / "golden.safetensors").read_bytes(), plan.name
        if plan.arch in GRADIENT:
            assert log(ours) == log(theirs), plan.name
    assert (
        {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()} == {"run.json", *(p.name for p in plans())}
    )


def test_everything_that_must_be_repeated_happens_in_this_run(whole) -> None:
    for arch in ("gated", "relu"):
        dead = {line["step"]: line["dead_frac"] for line in log(whole / arch)}
        assert dead[40] > 0, f"{arch}: nothing is dead before resampling at step 45"
        rates = {line["step"]: line["lr"] for line in log(whole / arch)}
        assert rates[48] < rates[40], f"{arch}: no dip, so nothing was resampled"
    assert sum(line["auxk"] > 0 for line in log(whole / "topk")) > 3, "topk: AuxK was never active"
    l0 = [line["l0"] / 96 for line in log(whole / "relu")]
    assert max(l0) > 0.06 > min(l0), "relu: both the dense and the sparse path should be taken"
    assert set(GRADIENT) <= set(names())


def test_killed_again_and_again(whole, tmp_path) -> None:
    """Before the first checkpoint, inside the writing of one, and at random moments: the same bytes in the end."""
    out, dice = tmp_path / "run", random.Random(0)

    def writing() -> object:
        return steps(out) >= 10 and list(out.glob(".checkpoint-*.partial"))

    def onward(n: int) -> Callable[[], bool]:
        return lambda: steps(out) >= n

    moments: list[tuple[Callable[[], object], float]] = [
        (lambda: (out / "gated" / "log.jsonl").exists() or steps(out) > 0, 0.0),
        (writing, 0.0),
        (onward(20), dice.uniform(0, 0.05)),
        (lambda: steps(out) >= 30 and list(out.glob(".checkpoint-*.partial")), 0.001),
        (onward(45), dice.uniform(0, 0.05)),
        (onward(65), dice.uniform(0, 0.05)),
        (onward(N_STEPS), dice.uniform(0, 0.02)),
    ]
    killed = 0
    for number, (when, delay) in enumerate(moments):
        status = stop(out, number > 0, when, delay, signal.SIGKILL)
        assert status in (-signal.SIGKILL, 0)
        killed += status == -signal.SIGKILL
    assert killed >= 5, "the run was too quick to be killed"
    assert stop(out, True, lambda: False, 0.0, signal.SIGKILL) == 0
    same_as(whole, out)


def test_killed_before_the_first_checkpoint(whole, tmp_path) -> None:
    out = tmp_path / "run"
    assert stop(out, False, lambda: (out / "run.json").exists(), 0.0, signal.SIGKILL) == -signal.SIGKILL
    for plan in plans():  # lines that were logged before anything was saved must not be counted twice
        if plan.arch in GRADIENT:
            (out / plan.name).mkdir(exist_ok=True)
            (out / plan.name / "log.jsonl").write_text('{"step": 8, "tokens": 512}\n{"step": 16, "tok')
    if steps(out):
        checkpoint.remove(out)
    assert stop(out, True, lambda: False, 0.0, signal.SIGKILL) == 0
    same_as(whole, out)


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_polite_stop_saves_and_says_so(whole, tmp_path, how) -> None:
    out = tmp_path / "run"
    assert stop(out, False, lambda: steps(out) >= 20, 0.01, how) == 7
    said = (tmp_path / "said").read_text()
    assert f"Stopped after step {steps(out)} of {N_STEPS}" in said
    assert "--resume" in said
    assert stop(out, True, lambda: False, 0.0, signal.SIGKILL) == 0
    same_as(whole, out)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run with a checkpoint in it."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    assert stop(out, False, lambda: steps(out) >= 10, 0.0, signal.SIGINT) == 7
    return out


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "state"])
def test_a_damaged_checkpoint_is_named_and_not_read(stopped, tmp_path, damage) -> None:
    out = shutil.copytree(stopped, tmp_path / "run")
    folder = checkpoint.all_of(out)[-1]
    target = folder / ("state.json" if damage == "state" else "1.safetensors")
    content = target.read_bytes()
    if damage == "missing":
        target.unlink()
    else:
        target.write_bytes(
            {"truncated": content[:-100], "altered": content[:-1] + bytes([content[-1] ^ 1]), "state": content[:40]}[
                damage
            ]
        )
    with pytest.raises(Corrupt, match=str(target)):
        sweep(plans(), stream(), out, site="x", resume=True, quiet=True)
    assert not (out / "gated" / "weights.safetensors").exists()


def test_resuming_with_other_threads_is_refused(stopped, tmp_path) -> None:
    import torch

    from assay.core.errors import BadOption

    out = shutil.copytree(stopped, tmp_path / "run")
    torch.set_num_threads(2)
    with pytest.raises(BadOption, match="threads = 1, now it is 2"):
        sweep(plans(), stream(), out, site="x", resume=True, quiet=True)


def test_a_run_killed_while_it_tidied_up_is_complete(whole, tmp_path) -> None:
    """All dictionaries are written and the last checkpoint is half removed:
    nothing is lost and nothing is trained again."""
    out = shutil.copytree(whole, tmp_path / "run")
    (out / f"checkpoint-{N_STEPS:09d}").mkdir()
    (out / f"checkpoint-{N_STEPS:09d}" / "0.safetensors").write_bytes(b"half")
    made = sweep(plans(), stream(), out, site="x", resume=True, quiet=True)
    assert [m.arch for m in made] == [p.arch for p in plans()]
    same_as(whole, out)


def test_a_checkpoint_is_whole_or_absent_and_only_the_latest_stays(tmp_path, monkeypatch) -> None:
    import torch

    members = {"a": ({"w": torch.arange(3.0)}, {"n": 1})}
    checkpoint.write(tmp_path, 5, members)
    checkpoint.write(tmp_path, 10, members)
    assert [p.name for p in checkpoint.all_of(tmp_path)] == ["checkpoint-000000010"]

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact, "write_json", full_disk)
    with pytest.raises(Exception, match="disk"):
        checkpoint.write(tmp_path, 15, members)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000000010"], "a full disk leaves the last good state"
    found = checkpoint.read(tmp_path)
    assert found is not None
    step, state = found
    assert step == 10
    assert state["a"][0]["w"].tolist() == [0.0, 1.0, 2.0]
    assert state["a"][1] == {"n": 1}
    assert checkpoint.read(tmp_path / "nowhere") is None
    assert TrainConfig().checkpoint_every > 0
