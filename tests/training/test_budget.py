"""What `assay plan` counts is what a run holds and writes; what it divides, divides; and worked examples by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assay.core.errors import BadOption
from assay.dictionaries import build, config_class
from assay.training import TrainConfig, budget
from assay.training.member import Member

RUN = Path(__file__).with_name("planned_run.py")
ARCHS = {
    "topk": {"k": 4}, "gated": {"l1_coef": 0.5}, "relu": {"l1_coef": 0.5}, "jumprelu": {"l0_coef": 0.1}, "batchtopk": {"k": 4},
    "matryoshka": {"k": 4}, "panneal": {"lp_coef": 0.5}, "frozen_encoder": {"k": 4}, "soft_frozen": {"k": 4},
    "matching_pursuit": {"k": 4}, "transcoder": {"l1_coef": 0.5, "d_out": 7},
}  # fmt: skip


def made(arch: str, d_in: int = 24, d_sae: int = 160) -> Any:
    known = config_class(arch).__dataclass_fields__
    return config_class(arch)(d_in=d_in, d_sae=d_sae, **{n: v for n, v in ARCHS[arch].items() if n in known})


@pytest.mark.parametrize("arch", ARCHS)
def test_numbers_of_a_member_are_counted_exactly(arch: str) -> None:
    config = made(arch)
    sizes = budget.sizes_of(config, l0=8)
    member = Member(arch, build(config), TrainConfig(), 1.0)
    tensors, _ = member.state()
    assert sizes.n_trained == sum(t.numel() for t in member.first.values())
    assert sizes.n_state == sum(t.numel() for n, t in tensors.items() if n.startswith("dictionary."))
    assert budget.checkpoint_bytes(sizes) == pytest.approx(sum(t.nbytes for t in tensors.values()), rel=1e-3)
    assert (sizes.d_in, sizes.d_out, sizes.d_sae) == (24, member.dictionary.d_out, 160)
    assert sizes.terms == len(member.dictionary.recon)


def test_k_is_read_and_dense_starts_are_known() -> None:
    assert budget.sizes_of(made("topk"), l0=64).l0 == 4
    assert budget.sizes_of(made("gated"), l0=64).l0 == 64
    starts = {arch: budget.sizes_of(made(arch), l0=8).starts_dense for arch in ("topk", "batchtopk", "gated", "relu")}
    assert starts == {"topk": False, "batchtopk": False, "gated": True, "relu": True}
    sparse = config_class("gated")(d_in=24, d_sae=160, l1_coef=0.5, init_l0=8.0)
    assert not budget.sizes_of(sparse, l0=8).starts_dense
    assert budget.sizes_of(made("matching_pursuit"), l0=8).dense
    with pytest.raises(BadOption, match="fitted, not trained"):
        budget.sizes_of(config_class("pca")(d_in=24, k=4), l0=8)


def job(**changed: Any) -> budget.Job:
    plain = budget.Job(budget.sizes_of(made("topk", 100, 10_000), 64), 100, 1_000_000, 1000, shuffle_rows=50_000)
    return replace(plain, **changed)


def bytes_by_name(figures: list[budget.Figure]) -> dict[str, float]:
    return {f.name: f.value for f in figures}


def test_by_hand() -> None:
    P = 2 * 100 * 10_000 + 10_000 + 100  # W_enc, W_dec, b_enc, b_dec
    held = bytes_by_name(budget.held(job()))
    assert held == {
        "dictionary": 4 * P,
        "Adam's moments": 8 * P,
        "gradients": 4 * P,
        "shuffle window": 50_000 * 100 * 4,
        "sample": 16_384 * 200 * 4,
        "columns": 22_000_000,
    }
    assert bytes_by_name(budget.held(job(store_dtype="bfloat16")))["shuffle window"] == 50_000 * 100 * 2
    step = bytes_by_name(budget.passing(job()))
    assert step["dead latents"] == 6 * 4 * 1000 * 1000  # a tenth of 10,000
    assert step["a step"] == 12 * 4 * 1000 * 100 + 150 * 1000 * 4 + 2**23 + 10_000 * 100
    assert budget.peak(job()) == sum(held.values()) + max(sum(step.values()), 8 * P)
    assert bytes_by_name(budget.disk(job()))["store, bfloat16"] == 1_000_000 * (200 + 14)
    assert bytes_by_name(budget.disk(job()))["result"] == 4 * P


def test_gradients_that_the_update_sums_take_no_memory() -> None:
    def of(arch: str, d_sae: int = 60_000, **changed: Any) -> float:
        options = {"init_l0": 8.0} if arch == "relu" else {}
        config = replace(made(arch, 100, d_sae), **options)
        planned = job(sizes=budget.sizes_of(config, 8), **changed)
        return bytes_by_name(budget.held(planned))["gradients"]

    assert of("relu") == 0 == of("topk", dead_frac=0)
    whole = 4 * (2 * 100 * 60_000 + 60_000 + 100)
    assert of("topk") == whole, "AuxK needs them while latents are dead"
    assert of("relu", kernels="torch") == of("relu", rows=2) == whole
    assert of("relu", latents=2) == whole / 2
    assert of("relu", d_sae=10_000) > 0


def test_shards_divide_the_dictionary_and_rows_the_batch() -> None:
    whole, parts = budget.passing(job()), budget.passing(job(latents=4, rows=2))
    ours, theirs = budget.held(job(latents=4)), budget.held(job())
    for name in ("dictionary", "Adam's moments", "gradients"):
        assert 4 * bytes_by_name(ours)[name] == bytes_by_name(theirs)[name]
    assert bytes_by_name(parts)["exchange"] == 2 * bytes_by_name(ours)["gradients"]
    assert "exchange" not in bytes_by_name(whole)
    assert bytes_by_name(parts)["a step"] < bytes_by_name(whole)["a step"]
    assert "sample" not in bytes_by_name(budget.held(job(on_device=True)))


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_a_real_run_holds_and_writes_what_was_planned(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, RUN, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sizes = budget.sizes_of(config_class("topk")(d_in=96, d_sae=131_072, k=8), 64)
    planned = budget.Job(sizes, 96, found["rows"], 512, shuffle_rows=8192, dead_frac=0)
    on_disk = bytes_by_name(budget.disk(planned))
    for dtype, size in found["stores"].items():
        assert size == pytest.approx(on_disk[f"store, {dtype}"], rel=0.02)
    assert found["checkpoint"] == pytest.approx(on_disk["checkpoints"] / 2, rel=0.001)
    assert found["weights"] == pytest.approx(on_disk["result"], rel=0.001)
    assert 0.75 < found["grown"] / budget.peak(planned) < 1.25, (
        f"{found['grown']:,} of {budget.peak(planned):,.0f} bytes"
    )
