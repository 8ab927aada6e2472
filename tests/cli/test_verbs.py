"""Each verb in a process of its own, as a user runs it; and what it answers to bad input."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from assay import activations
from assay.cli.main import VERBS, main
from assay.core import artefact, shipped

TINY = ["--n-tokens", "20k", "--batch-size", "512", "--threads", "1", "--quiet"]


def assay(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "assay", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Inside:
    """The same command line, called in this process: quicker, for what is refused."""

    def __init__(self, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.chdir(cwd)
        self.capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> str:
        """Everything it printed; the exit status must be as said, and a refusal shows no traceback."""
        self.capsys.readouterr()
        threads = torch.get_num_threads()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:  # the parser's own refusals and --help
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            torch.set_num_threads(threads)
        said = self.capsys.readouterr()
        text = said.err if status else said.out
        assert code == status, f"{words}: {code}\n{said.out}\n{said.err}"
        assert "Traceback" not in said.err
        return text or said.out


@pytest.fixture
def inside(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Inside:
    return Inside(work, monkeypatch, capsys)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a harvest and a small sweep in it."""
    cwd = tmp_path_factory.mktemp("cli")
    assay("harvest", "--model", "storyworld", "--site", "resid_post.1", "--text", "storyworld:400", "--context", 128,
          "--out", "acts", "--threads", 1, "--quiet", cwd=cwd)  # fmt: skip
    assay("sweep", "--activations", "acts", "--d-sae", 128, "--lr", "3e-3", "--out", "pareto", *TINY,
          "--try", "gated l1-coef=1,3", "--try", "relu l1-coef=1,4", "--try", "topk k=4,8", cwd=cwd)  # fmt: skip
    return cwd


def test_harvest_says_what_it_wrote(work: Path) -> None:
    manifest = json.loads((work / "acts" / "manifest.json").read_text())
    assert manifest["complete"] and list(manifest["sites"]) == ["resid_post.1"]


def test_sweep_makes_every_dictionary_and_the_controls(work: Path) -> None:
    made = {p.parent.name for p in (work / "pareto").glob("*/config.json")}
    assert {
        "gated_l1-coef-1_seed-0",
        "relu_l1-coef-4_seed-0",
        "topk_k-8_seed-0",
        "pca_k-4",
        "raw_k-8",
        "random_k-4_seed-0",
    } <= made
    assert not list((work / "pareto").glob("checkpoint-*")), "a finished run keeps no checkpoint"


def test_evaluate_writes_tables_and_a_page(work: Path, inside: Inside) -> None:
    said = inside("evaluate", "pareto", "--out", "ev", "--resamples", 500, "--quiet")
    page = (work / "ev" / "report.html").read_text()
    assert "gated" in said and "beats" in said
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    for name in ("units", "outcomes", "costs", "verdicts", "examples", "histogram"):
        assert (work / "ev" / f"{name}.parquet").stat().st_size > 0
    assert "again.html" in inside("report", "ev", "--out", "again.html")
    assert (work / "again.html").exists()


def test_evaluate_as_json(inside: Inside) -> None:
    said = inside(
        "evaluate",
        "pareto/topk_k-4_seed-0",
        "pareto/pca_k-4",
        "--out",
        "ev-json",
        "--resamples",
        200,
        "--json",
        "--quiet",
    )
    outcomes = json.loads(said)["outcomes"]
    l0 = [o["value"] for o in outcomes if o["metric"] == "l0" and o["arm"] == "pca"]
    assert l0 and all(v == pytest.approx(4) for v in l0)
    assert any(o["metric"].startswith("loss_recovered") and o["value"] is not None for o in outcomes)


def test_train_from_text_and_an_existing_result(work: Path, inside: Inside) -> None:
    flags = ["--model", "storyworld", "--site", "blocks.0.hook_mlp_out", "--text", "storyworld:300", "--context", 128,
             "--arch", "topk", "--d-sae", 64, "--k", 4, "--out", "live", *TINY]  # fmt: skip
    assert "mlp_out.0" in inside("train", *flags)
    weights = (work / "live" / "weights.safetensors").read_bytes()
    refused = inside("train", *flags, status=2)
    assert "--resume" in refused and "live-2" in refused
    assert (work / "live" / "weights.safetensors").read_bytes() == weights
    inside("verify", "live")


def test_verify_a_sweep_and_a_damaged_dictionary(work: Path, inside: Inside, tmp_path: Path) -> None:
    found = json.loads(inside("verify", "pareto", "--json"))
    assert {each["arch"] for each in found} == {"gated", "relu", "topk", "pca", "raw", "random"}
    shutil.copytree(work / "pareto" / "topk_k-4_seed-0", tmp_path / "bad")
    weights = tmp_path / "bad" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(bytes(data))
    refused = inside("verify", tmp_path / "bad", status=2)
    assert "weights.safetensors" in refused and "altered" in refused


def test_list_and_doctor(inside: Inside) -> None:
    assert "gated" in inside("list", "archs")
    assert "resid_post.1" in inside("list", "sites")
    assert "storyworld" in inside("list", "texts")
    assert json.loads(inside("doctor", "--json"))["torch"][0] == "yes"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, inside: Inside) -> None:
    assert "usage: assay" in inside(verb, "--help")


def test_help_of_an_architecture_shows_its_options_only(inside: Inside) -> None:
    topk = inside("train", "--arch", "topk", "--help")
    assert "--arch.k " in topk and "l1-coef" not in topk.split("options")[-1]


STORY = ["--model", "storyworld", "--site", "resid_post.1"]
TOPK = ["--arch", "topk", "--d-sae", "64", "--k", "4"]

BAD = {
    "no such verb": (["trane"], ["train"]),
    "no such architecture": (["train", "--arch", "gatd"], ["gated"]),
    "no architecture": (["train", *STORY, "--text", "storyworld:50"], ["--arch"]),
    "missing text": (["train", *STORY, "--text", "absent.jsonl", *TOPK], ["absent.jsonl"]),
    "empty text": (["train", *STORY, "--text", "empty.txt", *TOPK], ["empty.txt"]),
    "unknown model": (["train", "--model", "./no/such/model", "--site", "embed", "--text", "storyworld:50", *TOPK], ["no/such/model"]),
    "unknown site": (["train", "--model", "storyworld", "--site", "resid_pst.1", "--text", "storyworld:50", *TOPK], ["resid_post"]),
    "layer too high": (["train", "--model", "storyworld", "--site", "resid_post.99", "--text", "storyworld:50", *TOPK], ["99"]),
    "no network": (["train", "--model", "google/gemma-2-2b", "--site", "resid_post.1", "--text", "storyworld:50", *TOPK], ["gemma-2-2b"]),
    "no network for text": (["train", *STORY, "--text", "roneneldan/TinyStories", *TOPK], ["roneneldan/TinyStories"]),
    "unknown option": (["train", *STORY, "--text", "storyworld:50", *TOPK, "--lrr", "3"], ["--lr"]),
    "k above d_sae": (["train", *STORY, "--text", "storyworld:50", "--arch", "topk", "--d-sae", "64", "--k", "65"], ["--k", "65"]),
    "negative penalty": (["train", *STORY, "--text", "storyworld:50", "--arch", "gated", "--d-sae", "64", "--l1-coef", "-1"], ["--l1-coef"]),
    "penalty not finite": (["train", *STORY, "--text", "storyworld:50", "--arch", "gated", "--d-sae", "64", "--l1-coef", "nan"], ["--l1-coef"]),
    "learning rate 0": (["train", *STORY, "--text", "storyworld:50", *TOPK, "--lr", "0"], ["--lr"]),
    "init of another width": (["train", "--activations", "acts", *TOPK, "--init", "pareto/topk_k-4_seed-0", *TINY], ["--init", "64"]),
    "unknown key in a try": (["sweep", "--activations", "acts", "--d-sae", "64", "--try", "gated l1-cof=1"], ["l1_coef"]),
    "store that is no store": (["train", "--activations", "pareto", *TOPK], ["pareto"]),
    "site not in the store": (["train", "--activations", "acts", "--site", "resid_post.0", *TOPK], ["resid_post.1"]),
    "not a dictionary": (["evaluate", "acts"], ["acts"]),
    "absent dictionary": (["evaluate", "nowhere"], ["nowhere"]),
    "resume of nothing": (["train", "--activations", "acts", *TOPK, "--resume", "--out", "nothing"], ["nothing"]),
    "report of nothing": (["report", "nowhere"], ["nowhere"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_status_2(case: str, work: Path, inside: Inside) -> None:
    (work / "empty.txt").write_text("")
    words, expected = BAD[case]
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()}
    said = inside(*words, status=2)
    for part in expected:
        assert part in said, said
    if said.startswith("assay:"):
        assert said.count("\n") == 1, f"one sentence on one line: {said}"
    assert {p: p.stat().st_mtime_ns for p in before} == before, "nothing that was there may change"


def test_bad_input_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "assay", "train", "--arch", "gatd"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith('assay: "gatd"') and done.stderr.count("\n") == 1


def test_an_unwritable_place_is_named(work: Path, inside: Inside) -> None:
    (work / "file").write_text("a file, not a folder")
    assert "file/below" in inside("train", "--activations", "acts", *TOPK, *TINY, "--out", "file/below", status=2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_the_run_can_be_resumed(
    work: Path, inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.core import artefact

    write = artefact.write_tensors

    def full(path: Path, *rest: Any, **more: Any) -> None:
        if path.name == "weights.safetensors":
            with artefact.storage(path), open("/dev/full", "wb") as device:
                device.write(b"x" * 100_000)
                device.flush()
        write(path, *rest, **more)

    flags = ["train", "--activations", "acts", *TOPK, *TINY, "--out", "full"]
    with monkeypatch.context() as patched:
        patched.setattr(artefact, "write_tensors", full)
        said = inside(*flags, status=2)
    assert "disk" in said and "full" in said
    inside(*flags, "--resume")
    inside("verify", "full")


def test_activations_with_nan_are_refused_with_their_origin(work: Path, inside: Inside, tmp_path: Path) -> None:
    model = tmp_path / "broken-model"
    shutil.copytree(shipped.path("storyworld"), model)
    tensors = artefact.read_tensors(model / "model.safetensors")
    name = next(n for n in tensors if n.endswith("h.0.mlp.c_proj.bias"))
    tensors[name][3] = float("nan")
    artefact.write_tensors(model / "model.safetensors", tensors, {"format": "pt"})
    said = inside(
        "harvest",
        "--model",
        model,
        "--site",
        "resid_post.1",
        "--text",
        "storyworld:20",
        "--out",
        tmp_path / "nan",
        status=2,
    )
    assert "resid_post.1" in said and "document" in said


def test_documents_of_the_training_are_refused(work: Path, inside: Inside) -> None:
    trained = set(json.loads((work / "pareto" / "pca_k-4" / "documents.json").read_text()))
    texts = [d.text for d in activations.documents("storyworld:400") if d.id in trained][:60]
    with gzip.open(work / "seen.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    assert "--allow-train" in inside("evaluate", "pareto/pca_k-4", "--text", "seen.jsonl.gz", "--quiet", status=2)


def test_a_misspelt_flag_names_the_nearest(inside) -> None:
    for words, meant in (
        (("train", "--arch", "gated", "--l1-coeff", "2"), "l1-coef"),
        (("evaluate", "x", "--max-document", "3"), "max-documents"),
        (("sweep", "--seed-s", "3"), "seeds"),
    ):
        said = inside(*words, status=2)
        assert "is not a flag of assay" in said
        assert meant in said
        assert len(said.strip().splitlines()) == 1
