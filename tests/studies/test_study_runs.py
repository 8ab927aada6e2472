"""Studies at toy size: what is on disk, what a second run does, and that added measurements equal their definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_studies import TOY

from assay import dictionaries, evaluation, report, studies
from assay.core.errors import BadOption
from assay.core.outcome import Results
from assay.metrics.shrinkage import latent_bias_sums
from assay.studies import bench as benches
from assay.studies import recovery
from assay.studies.bench import Bench, still_moving
from assay.worlds import planted

PAGE_WORDS = ("The study", "Published".lower(), "claim: ")


def options(name: str, **more: Any) -> Any:
    return studies.study(name).Options(**(TOY | more))


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "shrinkage"
    studies.run("shrinkage", options("shrinkage", fires=3), out, quiet=True)
    return out


def test_a_study_leaves_tables_and_its_record(shrunk: Path) -> None:
    record = json.loads((shrunk / "results" / "study.json").read_text())
    assert record["word"] in ("reproduced", "not reproduced", "cannot be told here")
    assert "these dictionaries only" in record["sentence"]
    assert [panel["name"] for panel in record["panels"]] == ["gamma", "latents"]
    arms = {series["arm"] for series in record["panels"][0]["series"]}
    assert {"gated", "relu", "topk", "gated: first version (wrong)", "relu: first version (wrong)"} == arms
    found = Results.load(shrunk / "results")
    assert {"baseline", "method", "control"} == {o.role for o in found.outcomes}
    right = {o.subject: o.value for o in found.outcomes if o.metric == "gamma" and o.split == "test"}
    for o in found.outcomes:
        if o.metric == "gamma_first_version" and o.split == "test":
            assert o.value == pytest.approx((right[o.subject] / (2 - right[o.subject])) ** 0.5)


def test_gamma_latent_by_latent_equals_its_definition(shrunk: Path) -> None:
    asked = options("shrinkage", fires=3)
    readings = Bench("shrinkage", asked, shrunk, quiet=True).readings()
    dictionary = dictionaries.load(shrunk / "dictionaries" / "gated_l1-coef-2.0_seed-0")
    total, fired = torch.zeros(2, 48, dtype=torch.float64), torch.zeros(48, dtype=torch.int64)
    with torch.no_grad():
        for reading in readings.batches(readings.members(1)):
            codes = dictionary.encode_sparse(reading.x)
            x_hat = dictionary.decode(codes)
            total += torch.stack(
                latent_bias_sums(reading.x, x_hat, codes.row, codes.latent, codes.value, dictionary.W_dec)
            )
            fired += torch.bincount(codes.latent, minlength=48)
    units = Results.load(shrunk / "results").units.where(metric="gamma_latent", arm="gated")
    subject = next(o.subject for o in Results.load(shrunk / "results").outcomes if o.options.get("l1_coef") == 2.0)
    mine = units.where(subject=subject)
    shown = [int(unit.split("/")[1]) for unit in mine["unit"]]
    assert sorted(shown) == [i for i in range(48) if fired[i] >= 3 and total[1, i] > 0]
    np.testing.assert_allclose(mine["num"], total[0][shown], rtol=1e-5)
    np.testing.assert_allclose(mine["den"], total[1][shown], rtol=1e-5)


def test_a_second_run_reads_and_a_different_one_is_refused(shrunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in shrunk.rglob("weights.safetensors")}
    monkeypatch.setattr(evaluation, "evaluate", lambda *_, **__: pytest.fail("it was measured before"))
    found = studies.run("shrinkage", options("shrinkage", fires=3), shrunk, quiet=True)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert found.claim.sentence == json.loads((shrunk / "results" / "study.json").read_text())["sentence"]
    with pytest.raises(BadOption, match=r"was started with lr = 0.003, now it is 0.001"):
        studies.run("shrinkage", options("shrinkage", fires=3, lr=1e-3), shrunk, quiet=True)
    with pytest.raises(BadOption, match="holds the study shrinkage, not pareto"):
        studies.run("pareto", options("pareto"), shrunk, quiet=True)


def test_a_run_that_died_while_measuring_goes_on_from_its_dictionaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(benches.evaluation, "evaluate", _die)
        with pytest.raises(RuntimeError):
            studies.run("pareto", options("pareto", archs=("gated",)), tmp_path / "p", quiet=True)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "p").rglob("weights.safetensors")}
    found = studies.run("pareto", options("pareto", archs=("gated",)), tmp_path / "p", quiet=True)
    assert before and {p: p.stat().st_mtime_ns for p in before} == before
    roles = {o.arm: o.role for o in found.results.outcomes}
    assert roles["relu"] == roles["relu-1.5x"] == "baseline" and roles["gated"] == "method"
    widths = {
        json.loads((p.parent / "config.json").read_text())["options"]["d_sae"] for p in before if "1.5x" in str(p)
    }
    assert widths == {72}


def _die(*_: Any, **__: Any) -> None:
    raise RuntimeError("no light")


def test_the_page_shows_the_study_in_both_themes(shrunk: Path) -> None:
    page = report.build([shrunk / "results"], shrunk / "report.html").read_text()
    assert all(word in page for word in PAGE_WORDS)
    assert "var(--arm-0)" in page and "prefers-color-scheme:dark" in page
    assert "first version (wrong)" in page
    assert (shrunk / "pictures" / "shrinkage-0-gamma.png").stat().st_size > 5000


def test_whether_a_run_had_settled_is_read_from_its_log(tmp_path: Path) -> None:
    def entry(*gammas: float) -> Any:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        lines = [{"tokens": 100 * (i + 1), "gamma": g} for i, g in enumerate(gammas)]
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return evaluation.Entry("gated", "method", type("D", (), {"path": folder})())

    quiet = entry(0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.985, 0.99)
    moving = entry(0.2, 0.4, 0.6, 0.7, 0.8, 0.81, 0.82, 0.83, 0.9, 0.95)
    assert still_moving([quiet], "gated", "gamma", 0.02) == ""
    assert "moved by 0.12" in still_moving([quiet, moving], "gated", "gamma", 0.02)
    assert still_moving([moving], "relu", "gamma", 0.02) == ""
    assert "too short" in still_moving([entry(0.2, 0.9)], "gated", "gamma", 0.02)


def test_a_world_as_a_source_of_rows() -> None:
    world = planted.World(planted.Config(d=8, n_true=12, l0=2), seed=3)
    source = recovery.WorldSource(world, 10_000)
    rows = np.array([0, 5, 4095, 4096, 9000])
    x = source.fetch(rows, ["x"])["x"]
    whole = torch.cat([world.batch(i, 4096).x for i in range(3)])
    assert torch.equal(x, whole[rows]) and source.table.n_rows == 10_000


TINY_WORLDS = {
    "d": 12, "n_true": 24, "l0": 1.5, "n_trees": 1, "n_tokens": 4096, "fit_tokens": 2048, "batch_size": 256, "d_sae": 12,
    "eval_tokens": 1000, "resamples": 200, "seeds": 5, "k": (2, 4), "l1_coef": (1.0, 4.0), "archs": ("gated", "topk"), "init_l0": 3.0,
}  # fmt: skip


@pytest.mark.slow
def test_recovery_measures_every_method_against_the_truth(tmp_path: Path) -> None:
    asked = recovery.Options(**TINY_WORLDS)
    found = studies.run("recovery", asked, tmp_path / "r", quiet=True)
    roles = {o.arm: o.role for o in found.results.outcomes}
    assert {
        "gated": "method",
        "topk": "method",
        "relu": "baseline",
        "ica": "baseline",
        "random": "control",
        "pca": "control",
    }.items() <= roles.items()
    mcc = [o for o in found.results.outcomes if o.metric == "mcc" and o.split == "test"]
    assert mcc and all(o.n_seeds == 5 and 0 < o.value <= 1 for o in mcc if o.value is not None)
    assert any(v.arm == "gated" and v.metric == "mcc" and v.n_units == 5 for v in found.results.verdicts)
    assert "5 seeds" in found.claim.sentence
    report.build([tmp_path / "r" / "results"], tmp_path / "r" / "report.html")
    assert studies.run("recovery", asked, tmp_path / "r", quiet=True).claim == found.claim


def test_the_size_of_the_benchmark_is_an_option() -> None:
    original = recovery.world_config(recovery.Options(size="synthsaebench"))
    assert (original.d, original.n_true, original.l0, original.n_trees, original.depth) == (768, 16_384, 34, 128, 3)
    flat = recovery.world_config(recovery.Options(correlation=0.0, n_trees=0, n_true=64))
    assert (flat.n_trees, flat.correlation, flat.n_true, flat.d) == (0, 0.0, 64, 64)
