"""--target-l0: the closed loop lands where it was told, from weights far off on either side, and resumes bit for bit."""

from __future__ import annotations

import json
import math

import pytest
import torch

from assay.core.errors import BadOption
from assay.dictionaries import build, config_class
from assay.training import Plan, TrainConfig, sweep
from assay.training.controller import EVERY, FAST, SLOW, SOON, Controller
from assay.training.member import Member


def run(stream, folder, arch: str, target: float | None, resume: bool = False, **options) -> tuple[list[dict], dict]:
    given = TrainConfig(
        n_tokens=64 * 1000, batch_size=64, lr=3e-3, target_l0=target, log_every=50, checkpoint_every=47, resample_at=()
    )
    plan = Plan("m", config_class(arch)(d_in=12, d_sae=40, **options), given)
    (made,) = sweep([plan], stream(n=6000, batch_size=64), folder, site="x", quiet=True, resume=resume)
    lines = [json.loads(line) for line in (folder / "m" / "log.jsonl").read_text().splitlines()]
    return lines, made.state_dict()


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("relu", {"l1_coef": 0.1}),
        ("relu", {"l1_coef": 10.0}),
        ("gated", {"l1_coef": 0.1}),
        ("gated", {"l1_coef": 10.0}),
        ("jumprelu", {"l0_coef": 0.02}),
        ("jumprelu", {"l0_coef": 0.1}),
    ],
    ids=str,
)
def test_training_lands_at_the_target(stream, tmp_path, arch, options) -> None:
    log, _ = run(stream, tmp_path / "run", arch, 3.0, **options)
    print(arch, options, [(round(line["l0"], 2), round(line["penalty_factor"], 2)) for line in log[1::2]])
    assert log[-1]["l0"] == pytest.approx(3.0, rel=0.1)
    assert abs(math.log(log[-1]["penalty_factor"])) > math.log(1.5), "the weight that was given is not the one it needs"
    assert log[0]["penalty_factor"] == 1.0, "nothing happens during the sparsity warm-up"
    assert not any("--target-l0" in line.get("warning", "") for line in log)


def test_a_target_that_was_missed_is_said_at_the_end(stream, tmp_path) -> None:
    log, _ = run(stream, tmp_path / "run", "relu", 3.0, l1_coef=1e-4)
    assert log[-1]["penalty_factor"] == 100.0
    assert f"L0 is {log[-1]['l0']:.4g}, not the 3 of --target-l0; train longer" in log[-1]["warning"]
    assert not any("warning" in line for line in log[:-1])


def after(controller: Controller, *l0: float) -> list[float]:
    """The factor after EVERY steps of 10 rows at each of these L0."""
    found = []
    for value in l0:
        for _ in range(EVERY):
            controller.see(round(10 * value), 10, 1.0)
        found.append(controller.factor)
    return found


def test_the_law_by_hand() -> None:
    assert after(Controller(8.0), 16.0, 16.0) == pytest.approx(
        [math.exp((SLOW + FAST) * math.log(2)), math.exp((2 * SLOW + FAST) * math.log(2))]
    )
    assert after(Controller(8.0), 4.0) == pytest.approx([math.exp(-(SLOW + FAST) * math.log(2))])
    assert after(Controller(8.0), 800.0) == pytest.approx([math.exp(SLOW + FAST)]), "an error counts as 1 at most"
    assert after(Controller(8.0), 8.0, 8.0) == [1.0, 1.0]


def test_it_waits_while_l0_is_on_its_way_and_not_while_it_leaves() -> None:
    near = 16.0 * 2 ** (-2 / SOON)  # twice the pace that arrives within SOON updates
    for start, on_its_way, away in ((16.0, near, 17.0), (4.0, 4.0 * 2 ** (3 / SOON), 3.5)):
        held, pushed = Controller(8.0), Controller(8.0)
        after(held, start)
        before = held.total
        after(held, round(on_its_way, 1))
        assert held.total == before
        after(pushed, start, away)
        assert abs(pushed.total) > abs(before)


def test_limits_and_the_warm_up() -> None:
    assert after(Controller(8.0), *[500.0] * 60)[-1] == 100.0
    assert after(Controller(8.0), *[0.0] * 60)[-1] == 0.01
    quiet = Controller(8.0)
    for _ in range(100):
        quiet.see(500, 10, 0.99)
    assert (quiet.factor, quiet.n_steps) == (1.0, 0)


def test_only_penalties_are_weighed(stream, tmp_path) -> None:
    """With the factor at 5 a step of Gated equals one with five times l1_coef: recon and aux keep their weight 1."""
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    made = []
    for coef, factor in ((0.2, 5.0), (1.0, 1.0)):
        config = config_class("gated")(d_in=12, d_sae=40, l1_coef=coef)
        options = TrainConfig(n_tokens=6400, batch_size=64, sparsity_warmup=0, target_l0=3.0)
        member = Member("m", build(config, torch.Generator().manual_seed(1), x), options, 1.0)
        assert member.controller is not None
        member.controller.factor = factor
        member.step(5, x, x)
        made.append(member.dictionary.state_dict())
    for name, tensor in made[0].items():
        torch.testing.assert_close(tensor, made[1][name], rtol=1e-5, atol=1e-7)


def test_a_resumed_run_is_the_same_bit_for_bit(stream, tmp_path) -> None:
    whole, weights = run(stream, tmp_path / "whole", "gated", 3.0, l1_coef=0.1)
    report = Member.report

    def stopping(self, t):
        if t == 350:
            raise KeyboardInterrupt
        return report(self, t)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "report", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(stream, tmp_path / "torn", "gated", 3.0, l1_coef=0.1)
    lines, resumed = run(stream, tmp_path / "torn", "gated", 3.0, resume=True, l1_coef=0.1)
    assert [line["penalty_factor"] for line in lines] == [line["penalty_factor"] for line in whole]
    assert [line["l0"] for line in lines] == [line["l0"] for line in whole]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("arch", "options", "target", "message"),
    [
        ("topk", {"k": 3}, 3.0, r"--target-l0 is 3, but m \(topk\) has no sparsity penalty"),
        ("gated", {"l1_coef": 0.1, "train": "rescale_shift"}, 3.0, r"m \(gated\) has no sparsity penalty"),
        ("relu", {"l1_coef": 0.0}, 3.0, r"the penalty of m \(relu\) has weight 0"),
        ("relu", {"l1_coef": 0.1}, 40.0, r"--target-l0 is 40; it must be below the 40 latents"),
        ("relu", {"l1_coef": 0.1}, -1.0, r"--target-l0 is -1.0; it must be positive"),
    ],
)
def test_a_target_that_nothing_could_reach_is_refused(stream, tmp_path, arch, options, target, message) -> None:
    with pytest.raises(BadOption, match=message):
        run(stream, tmp_path / "run", arch, target, **options)
