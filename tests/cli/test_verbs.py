"""Each verb in a process of its own, as a user runs it; and what it answers to bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ["--n-tokens", "20k", "--batch-size", "512", "--threads", "1", "--quiet"]


def assay(*words: object, cwd: Path, status: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; the exit status must be as said, and nobody but ourselves gets a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "assay", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=300, env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
    )  # fmt: skip
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


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


def test_evaluate_writes_tables_and_a_page(work: Path) -> None:
    done = assay("evaluate", "pareto", "--out", "ev", "--resamples", 500, "--threads", 1, "--quiet", cwd=work)
    page = (work / "ev" / "report.html").read_text()
    assert "gated" in done.stdout
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "")
    for name in ("units", "outcomes", "costs", "verdicts", "examples", "histogram"):
        assert (work / "ev" / f"{name}.parquet").stat().st_size > 0
    again = assay("report", "ev", "--out", "again.html", cwd=work)
    assert "again.html" in again.stdout and (work / "again.html").exists()


def test_evaluate_as_json(work: Path) -> None:
    done = assay("evaluate", "pareto/topk_k-4_seed-0", "pareto/pca_k-4", "--out", "ev-json", "--resamples", 200,
                 "--json", "--threads", 1, "--quiet", cwd=work)  # fmt: skip
    outcomes = json.loads(done.stdout)["outcomes"]
    l0 = [o["value"] for o in outcomes if o["metric"] == "l0" and o["arm"] == "pca"]
    assert l0 and all(v == pytest.approx(4) for v in l0)
    assert any(o["metric"].startswith("loss_recovered") and o["value"] is not None for o in outcomes)


def test_train_from_text_and_resume_of_a_finished_run(work: Path) -> None:
    flags = ["--model", "storyworld", "--site", "blocks.0.hook_mlp_out", "--text", "storyworld:300", "--context", 128,
             "--arch", "topk", "--d-sae", 64, "--k", 4, "--out", "live", *TINY]  # fmt: skip
    done = assay("train", *flags, cwd=work)
    assert "mlp_out.0" in done.stdout
    weights = (work / "live" / "weights.safetensors").read_bytes()
    refused = assay("train", *flags, cwd=work, status=2)
    assert "--resume" in refused.stderr and "live-2" in refused.stderr
    assert (work / "live" / "weights.safetensors").read_bytes() == weights
    assay("verify", "live", cwd=work)


def test_verify_a_sweep_and_a_damaged_dictionary(work: Path, tmp_path: Path) -> None:
    import shutil

    done = assay("verify", "pareto", "--json", cwd=work)
    assert {found["arch"] for found in json.loads(done.stdout)} == {"gated", "relu", "topk", "pca", "raw", "random"}
    shutil.copytree(work / "pareto" / "topk_k-4_seed-0", tmp_path / "bad")
    weights = tmp_path / "bad" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(bytes(data))
    refused = assay("verify", tmp_path / "bad", cwd=work, status=2)
    assert "weights.safetensors" in refused.stderr and "altered" in refused.stderr


def test_list_and_doctor(tmp_path: Path) -> None:
    assert "gated" in assay("list", "archs", cwd=tmp_path).stdout
    assert "resid_post.1" in assay("list", "sites", cwd=tmp_path).stdout
    assert "storyworld" in assay("list", "texts", cwd=tmp_path).stdout
    assert json.loads(assay("doctor", "--json", cwd=tmp_path).stdout)["torch"][0] == "yes"


@pytest.mark.parametrize(
    "verb", ["demo", "harvest", "train", "sweep", "evaluate", "report", "verify", "list", "doctor"]
)
def test_every_verb_explains_itself(verb: str, tmp_path: Path) -> None:
    assert "usage: assay" in assay(verb, "--help", cwd=tmp_path).stdout


def test_help_of_an_architecture_shows_its_options_only(tmp_path: Path) -> None:
    topk = assay("train", "--arch", "topk", "--help", cwd=tmp_path).stdout
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
def test_bad_input_is_one_sentence_and_status_2(case: str, work: Path) -> None:
    (work / "empty.txt").write_text("")
    words, expected = BAD[case]
    before = {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()}
    said = assay(*words, cwd=work, status=2).stderr
    for part in expected:
        assert part in said, said
    if said.startswith("assay:"):
        assert said.count("\n") == 1, f"one sentence on one line: {said}"
    assert {p: p.stat().st_mtime_ns for p in before} == before, "nothing that was there may change"


def test_an_unwritable_place_is_named(work: Path) -> None:
    (work / "file").write_text("a file, not a folder")
    said = assay("train", "--activations", "acts", *TOPK, *TINY, "--out", "file/below", cwd=work, status=2).stderr
    assert "file/below" in said


def test_documents_of_the_training_are_refused(work: Path) -> None:
    import gzip

    trained = set(json.loads((work / "pareto" / "pca_k-4" / "documents.json").read_text()))
    from assay import activations

    texts = [d.text for d in activations.documents("storyworld:400") if d.id in trained][:60]
    with gzip.open(work / "seen.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    said = assay("evaluate", "pareto/pca_k-4", "--text", "seen.jsonl.gz", "--quiet", cwd=work, status=2).stderr
    assert "--allow-train" in said
