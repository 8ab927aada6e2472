"""Sites, wirings and thresholds from the command line: what starts from what, and what is refused in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from assay import activations, dictionaries, interop
from assay.cli.main import main

TINY = ["--n-tokens", "2048", "--batch-size", "256", "--threads", "1", "--quiet"]
TOPK = ["--arch", "topk", "--d-sae", "64", "--k", "4"]
L1 = ["--d-sae", "64", "--l1-coef", "1"]
OUT = ["--site", "mlp_in.1", "--target", "mlp_out.1"]
WIDE = ["--site", "mlp_in.1", "--target", "mlp_act.1"]  # 96 -> 384
MADE = {  # name -> what makes it
    "sae": ["--site", "mlp_in.1", *TOPK],
    "batch": ["--site", "mlp_in.1", "--arch", "batchtopk", "--d-sae", "64", "--k", "4"],
    "transcoder": [*OUT, "--arch", "transcoder", *L1],
    "of topk": [*OUT, *TOPK],
    "of topk, wide": [*WIDE, *TOPK],
    "skip": [*OUT, "--arch", "skip_transcoder", "--d-sae", "64", "--k", "4"],
    "crosscoder": ["--site", "mlp_in.1,resid_post.1", "--arch", "crosscoder", *L1],
    "crosslayer": ["--site", "mlp_in.0,mlp_in.1", "--target", "mlp_out.0,mlp_out.1", "--arch", "crosslayer", "--d-sae", "64"],
}  # fmt: skip


def call(*words: str) -> int:
    threads = torch.get_num_threads()
    try:
        return main(list(words))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores of the same stories cut at different lengths, and a dictionary of each wiring."""
    folder = tmp_path_factory.mktemp("sites")
    before = Path.cwd()
    os.chdir(folder)
    try:
        shared = ["--model", "storyworld", "--text", "storyworld:60", "--threads", "1", "--quiet"]
        sites = ["mlp_in.0", "mlp_in.1", "mlp_out.0", "mlp_out.1", "mlp_act.1", "resid_post.1"]
        assert call("harvest", *shared, "--context", "64", "--site", *sites, "--out", "acts") == 0
        assert call("harvest", *shared, "--context", "32", "--site", "resid_post.1", "--out", "other") == 0
        for name, words in MADE.items():
            given = [*words, *needed(words)]
            assert call("train", "--activations", "acts", *given, *TINY, "--out", name) == 0, name
    finally:
        os.chdir(before)
    return folder


def needed(words: list[str]) -> list[str]:
    """What an architecture besides needs, so that the table above stays readable."""
    return ["--l0-coef", "1"] if "crosslayer" in words else []


@pytest.fixture
def train(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `assay train` on the store; what it said, and nothing changed in what was there."""
    monkeypatch.chdir(work)

    def run(*words: str, status: int = 0, verb: str = "train") -> str:
        capsys.readouterr()
        store = ["--activations", "acts", *TINY, "--out", str(tmp_path / "out")] if verb == "train" else []
        before = {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()}
        code = call(verb, *store, *words)
        said = capsys.readouterr().err
        assert code == status, said
        if status:
            assert said.startswith("assay:") and said.count("\n") == 1, f"one sentence on one line: {said}"
        assert {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()} == before
        return said

    return run


@pytest.mark.parametrize("name", [name for name in MADE if name != "sae"])
def test_init_from_the_same_wiring(name: str, work: Path, train: Callable[..., str], tmp_path: Path) -> None:
    train(*MADE[name], *needed(MADE[name]), "--init", name, "--seed", "1", "--lr", "1e-6")
    old, new = dictionaries.load(work / name), dictionaries.load(tmp_path / "out")
    assert new.config.wiring == old.config.wiring
    for (_, _, was), (_, _, now) in zip(old.wired, new.wired, strict=True):
        torch.testing.assert_close(now, was, rtol=1e-2, atol=1e-3)  # another seed, hardly trained: the old directions
    assert json.loads((tmp_path / "out" / "config.json").read_text())["arch"] == old.arch


@pytest.mark.parametrize(
    ("init", "name", "expected"),
    [
        ("sae", "of topk", ["sae", "transcoder"]),
        ("of topk", "sae", ["transcoder", "sae"]),
        ("sae", "of topk, wide", ["sae", "transcoder"]),
        ("of topk", "of topk, wide", ["(96, 64, 96)", "(96, 64, 384)"]),
        ("of topk", "transcoder", ["topk", "transcoder"]),
        ("transcoder", "skip", ["transcoder", "skip_transcoder"]),
        ("transcoder", "crosscoder", ["transcoder", "crosscoder"]),
        ("sae", "crosslayer", ["sae", "crosslayer"]),
    ],
)
def test_init_from_another_wiring_is_refused(init: str, name: str, expected: list[str], train) -> None:
    said = train(*MADE[name], *needed(MADE[name]), "--init", init, status=2)
    assert f"--init {init}" in said
    for part in expected:
        assert part in said, said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([*WIDE, "--arch", "kmeans", "--d-sae", "64"], ["transcoder", "it predicts what it reads"]),
        ([*OUT, "--arch", "pca", "--k", "4"], ["transcoder", "it predicts what it reads"]),
        ([*OUT, "--arch", "raw", "--k", "4"], ["transcoder", "it predicts what it reads"]),
        ([*WIDE, "--arch", "pca", "--k", "4"], ["transcoder", "it predicts what it reads"]),
        ([*WIDE, "--arch", "matching_pursuit", "--d-sae", "64", "--k", "4"], ["transcoder", "it predicts what it reads"]),
        ([*WIDE, "--arch", "crosscoder", *L1], ["crosscoder"]),
        (["--site", "mlp_in.1", "--arch", "transcoder", *L1], ["--target"]),
        (["--site", "mlp_in.1", "--arch", "crosscoder", *L1], ["several sites"]),
        (["--site", "mlp_in.1", "--arch", "batchtopk", "--d-sae", "64", "--k", "65"], ["--k is 65", "--d-sae 64"]),
        (["--site", "mlp_in.1", "--arch", "matching_pursuit", "--d-sae", "64", "--k", "65"], ["--k is 65", "--d-sae 64"]),
        (["--site", "mlp_in.1", "--arch", "nmf", "--d-sae", "16", "--k", "17"], ["--k is 17"]),
        (["--site", "mlp_in.1", "--arch", "nmf", "--d-sae", "16", "--k", "4"], ["non-negative", "row 0 holds -", "--shift split"]),
        (["--join", "other", "--site", "acts:resid_post.1,other:resid_post.1", "--arch", "crosscoder", *L1],
         ["acts and other do not hold the same tokens", "token_id from row", "--context"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(words: list[str], expected: list[str], train) -> None:
    said = train(*words, status=2)
    for part in expected:
        assert part in said, said


def test_nmf_reads_signed_data_where_it_is_told_how(train, tmp_path: Path) -> None:
    train("--site", "mlp_in.1", "--arch", "nmf", "--d-sae", "16", "--k", "4", "--shift", "split")
    assert dictionaries.load(tmp_path / "out").arch == "nmf"


@pytest.mark.parametrize("to", ["gemma_scope", "saelens"])
def test_a_batch_topk_is_exported_with_the_threshold_that_keeps_its_l0(
    to: str, work: Path, train, tmp_path: Path
) -> None:
    train("batch", str(tmp_path / "there"), "--to", to, verb="convert")
    old, new = dictionaries.load(work / "batch"), interop.open(tmp_path / "there")
    x = activations.Stream(activations.Joined.open(Path("acts")), ["mlp_in.1"], seed=3, batch_size=2000)
    rows = x.sample(2000, "held")["mlp_in.1"].float()
    was, now = (made.encode(rows) for made in (old, new))
    assert 2 < float((was != 0).sum(1).double().mean()) < 8
    assert float(((was != 0) == (now != 0)).double().mean()) > 0.9999
    torch.testing.assert_close(now, was, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "to", "expected"),
    [
        ("sae", "gemma_scope", ["cannot represent the rule topk", "jumprelu"]),
        ("sae", "circuit_tracer", ["a transcoder", "predicts what it reads"]),
        ("of topk", "circuit_tracer", ["cannot represent the rule topk"]),
    ],
)
def test_an_export_that_would_change_l0_is_refused(
    name: str, to: str, expected: list[str], train, tmp_path: Path
) -> None:
    """k per row is not a threshold: a file that holds thresholds only cannot have the same L0."""
    said = train(name, str(tmp_path / "there"), "--to", to, status=2, verb="convert")
    for part in expected:
        assert part in said, said
    assert not (tmp_path / "there").exists()
