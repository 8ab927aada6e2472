"""JumpReLU thresholds along a run: the log says whether they can move and did, and the last line warns where they did not."""

from __future__ import annotations

import json

import pytest
import torch

from assay.dictionaries import config_class
from assay.training import Plan, TrainConfig, sweep


def log_of(stream, folder, train: dict | None = None, **options) -> tuple[list[dict], torch.Tensor]:
    given = {"n_tokens": 32 * 300, "batch_size": 32, "lr": 3e-3, "log_every": 100, **(train or {})}
    config = config_class("jumprelu")(d_in=12, d_sae=40, l0_coef=1.0, **options)
    (made,) = sweep([Plan("m", config, TrainConfig(**given))], stream(batch_size=32), folder, site="x", quiet=True)
    theta = made.thresholds(made.params_at()) / 3.0
    return [json.loads(line) for line in (folder / "m" / "log.jsonl").read_text().splitlines()], theta


def test_the_default_moves_thresholds(stream, tmp_path) -> None:
    log, theta = log_of(stream, tmp_path / "run")
    assert all(0 < line["window_frac"] < 0.2 for line in log)
    assert [line["moved_frac"] for line in log] == sorted(line["moved_frac"] for line in log)
    assert log[-1]["moved_frac"] > 0.7
    assert log[-1]["l0"] < 0.5 * log[0]["l0"]
    assert not any("warning" in line for line in log)
    assert float(theta.std()) > 0.05


@pytest.mark.parametrize(
    ("options", "train", "said"),
    [
        ({"bandwidth": 1e-5}, {}, "give a wider --bandwidth"),
        ({"theta": "log", "theta_init": 0.01}, {"lr": 3e-4}, "train longer or raise --lr"),
        ({}, {"lr": 1e-5}, "train longer or raise --lr"),
    ],
    ids=["narrow window", "log theta", "small steps"],
)
def test_what_does_not_move_is_said_once_at_the_end(stream, tmp_path, options, train, said) -> None:
    log, _ = log_of(stream, tmp_path / "run", train, **options)
    assert log[-1]["warning"].startswith("thresholds do not move"), log[-1]
    assert said in log[-1]["warning"]
    assert not any("warning" in line for line in log[:-1])


def test_resuming_writes_the_same_lines(stream, tmp_path) -> None:
    """What has moved is counted from the start of the run, not from where it was resumed."""
    from assay.training import loop

    whole, _ = log_of(stream, tmp_path / "whole", {"checkpoint_every": 100})
    report = loop.Member.report

    def stopping(self, t):
        if t == 200:
            raise KeyboardInterrupt
        return report(self, t)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Member, "report", stopping)
        with pytest.raises(KeyboardInterrupt):
            log_of(stream, tmp_path / "torn", {"checkpoint_every": 100})
    config = config_class("jumprelu")(d_in=12, d_sae=40, l0_coef=1.0)
    options = TrainConfig(n_tokens=32 * 300, batch_size=32, lr=3e-3, log_every=100, checkpoint_every=100)
    sweep([Plan("m", config, options)], stream(batch_size=32), tmp_path / "torn", site="x", quiet=True, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "torn/m/log.jsonl").read_text().splitlines()]
    for one, two in zip(whole, lines, strict=True):
        assert {k: v for k, v in one.items() if k != "tokens_per_second"} == {
            k: v for k, v in two.items() if k != "tokens_per_second"
        }
