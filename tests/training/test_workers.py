"""Dictionaries that are stepped side by side: each once, threads divided by what is to be done, one rounding of the batch for all."""

from __future__ import annotations

import pytest
import torch

from assay import kernels
from assay.dictionaries import config_class
from assay.kernels import screening
from assay.training import Plan, TrainConfig, sweep, workers
from assay.training.member import Member
from assay.training.workers import turns


def member(d_sae: int) -> Member:
    from assay.dictionaries import build

    made = build(config_class("topk")(d_in=12, d_sae=d_sae, k=3), torch.Generator().manual_seed(0), torch.zeros(4, 12))
    return Member(f"{d_sae}", made, TrainConfig(n_tokens=960, batch_size=32), 1.0)


@pytest.mark.parametrize(
    ("n", "threads", "expected"),
    [
        (1, 2, [(1, 2)]),
        (2, 2, [(2, 1)]),
        (3, 2, [(1, 2), (2, 1)]),
        (5, 4, [(1, 4), (4, 1)]),
        (6, 4, [(2, 2), (4, 1)]),
        (3, 16, [(3, 5)]),
        (8, 4, [(8, 1)]),
    ],
)
def test_whoever_is_left_over_shares_all_threads(n, threads, expected, monkeypatch) -> None:
    monkeypatch.setattr(workers, "SMALL", 0)
    members = [member(20 + i) for i in range(n)]
    found = turns(members, threads)
    assert [(len(some), inside) for some, inside in found] == expected
    order = [one.dictionary.d_sae for some, _ in found for one in some]
    assert order == sorted((20 + i for i in range(n)), reverse=True)


def test_small_dictionaries_get_one_thread_each() -> None:
    assert [(len(some), inside) for some, inside in turns([member(20), member(30), member(40)], 2)] == [(3, 1)]


@pytest.mark.parametrize("small", [0, 1 << 60])
def test_everyone_is_called_once_and_the_first_error_is_raised(small, monkeypatch) -> None:
    monkeypatch.setattr(workers, "SMALL", small)
    members, before = [member(20 + i) for i in range(5)], torch.get_num_threads()
    called: list[str] = []
    with workers.workers(members) as on_all:
        on_all(lambda one: called.append(one.name))
        on_all(lambda one: called.append(one.name))
    assert sorted(called) == sorted(2 * [one.name for one in members])
    assert torch.get_num_threads() == before

    def refuse(one: Member) -> None:
        raise ValueError(one.name)

    with pytest.raises(ValueError, match="24"), workers.workers(members) as on_all:
        on_all(refuse)
    assert torch.get_num_threads() == before


@pytest.mark.skipif("native" not in kernels.IMPLEMENTATIONS, reason="the native kernels were not compiled here")
def test_a_sweep_rounds_each_batch_once_and_equals_its_members_alone(stream, tmp_path, monkeypatch) -> None:
    """Encoders with a pre-encoder bias, without one, and with a threshold read the same integers."""
    from assay.kernels import native

    monkeypatch.setattr(screening, "SCREEN_FROM", dict.fromkeys(kernels.library.NEEDS, 1))
    monkeypatch.setattr(screening, "SAMPLE", 16)
    monkeypatch.setattr(workers, "SMALL", 0)
    monkeypatch.setattr(native, "DENSE_ABOVE", 1.0)
    times: list[int] = []
    made = screening.Rounded.of
    monkeypatch.setattr(screening.Rounded, "of", lambda y: times.append(len(y)) or made(y))
    asked = TrainConfig(n_tokens=640, batch_size=32, lr=0.01, kernels="native")
    plans = [
        Plan("topk", config_class("topk")(d_in=12, d_sae=40, k=3), asked),
        Plan("relu", config_class("relu")(d_in=12, d_sae=30, l1_coef=0.3, decoder_norm="free"), asked),
        Plan("batchtopk", config_class("batchtopk")(d_in=12, d_sae=50, k=3), asked),
    ]

    def run(name: str, some: list[Plan]) -> int:
        times.clear()
        sweep(some, stream(), tmp_path / name, site="x", quiet=True)
        return len(times)

    alone = [run(plan.name, [plan]) for plan in plans]
    n_steps = 20
    assert min(alone) >= n_steps, "all are screened"
    together = run("all", plans)
    assert together == sum(alone) - 2 * n_steps
    for plan in plans:
        both = [tmp_path / place / "weights.safetensors" for place in (f"all/{plan.name}", f"{plan.name}/{plan.name}")]
        assert both[0].read_bytes() == both[1].read_bytes(), plan.name
