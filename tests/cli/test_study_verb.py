"""assay study from the command line: each study at toy size, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from assay import studies
from assay.cli.main import main

TOY = [
    "--text", "storyworld:300", "--context", "64", "--n-tokens", "8k", "--batch-size", "256", "--d-sae", "48", "--max-documents", "24",
    "--resamples", "200", "--seeds", "1", "--k", "4", "8", "--l1-coef", "2", "6", "--archs", "gated", "--threads", "1", "--quiet",
]  # fmt: skip
WORLDS = [
    "--d", "12", "--n-true", "24", "--l0", "1.5", "--n-trees", "1", "--n-tokens", "2048", "--fit-tokens", "1024", "--batch-size", "256",
    "--d-sae", "12", "--eval-tokens", "500", "--resamples", "200", "--seeds", "2", "--k", "2", "4", "--l1-coef", "1", "4", "--archs", "gated",
    "--init-l0", "3", "--threads", "1", "--quiet",
]  # fmt: skip


MORE = {
    "stability": ["--seeds", "2"],
    "adaptation": ["--other-text", "storyworld:tense=future:200", "--start-tokens", "8k"],
}


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command line in this process; its exit status must be as said. What it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, status: int = 0) -> str:
        threads = torch.get_num_threads()
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            torch.set_num_threads(threads)
        said = capsys.readouterr()
        assert code == status, f"{words}: {code}\n{said.out}\n{said.err}"
        assert "Traceback" not in said.err
        return said.err if status else said.out

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", studies.names())
def test_every_study_ends_with_a_table_and_its_claim(name: str, say, tmp_path: Path) -> None:
    toy = WORLDS if name == "recovery" else [*TOY, *MORE.get(name, [])]
    out = str(tmp_path / name)
    said = say("study", name, *toy, "--out", out)
    lines = [line for line in said.splitlines() if line.startswith("claim: ")]
    scope = (
        "nothing was compared" if name == "stability" else "these dictionaries only"
    )  # two of the five seeds it needs
    assert len(lines) == 1 and scope in lines[0]
    page = (tmp_path / name / "report.html").read_text()
    assert "The study" in page and "claim: " in page and "http://" not in page.replace("http://www.w3.org", "")
    again = json.loads(say("study", name, *toy, "--out", out, "--json"))
    assert again["claim"] == lines[0] and again["word"] in lines[0]


def test_studies_are_listed_and_explain_themselves(say) -> None:
    listed = say("list", "studies")
    for name in studies.names():
        assert studies.about(name) in listed
    assert "--near" in say("study", "shrinkage", "--help")
    assert "usage: assay study" in say("study", "--help")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["study", "paretto"], ["paretto", "pareto"]),
        (["study"], ["Name a study", "pareto"]),
        (["study", "pareto", "--model", "./my-model"], ["--site"]),
        (["study", "pareto", "--model", "./my-model", "--site", "resid_post.1"], ["--text"]),
        (["study", "pareto", "--archs", "gatd", "--text", "storyworld:50"], ["gatd", "gated"]),
        (["study", "pareto", "--archs", "random", "--text", "storyworld:50"], ["random", "control"]),
        (["study", "pareto", "--seeds", "0"], ["--seeds", "0"]),
        (["study", "pareto", "--l1-coef", "-1"], ["--l1-coef"]),
        (["study", "shrinkage", "--near", "0"], ["--near"]),
        (["study", "recovery", "--correlation", "1"], ["--correlation"]),
        (["study", "recovery", "--l0", "500"], ["--l0"]),
        (["study", "auxiliary", "--bandwidth", "0"], ["--bandwidth"]),
        (["study", "adaptation", "--text", "storyworld"], ["--other-text is missing"]),
        (["study", "adaptation", "--text", "gone.jsonl", "--other-text", "storyworld"], ["gone.jsonl"]),
        (["study", "adaptation", "--text", "storyworld:tens=past", "--other-text", "storyworld"], ["tens", "tense"]),
        (["study", "adaptation", "--archs", "topk", "gated"], ["--archs", "one architecture"]),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    words: list[str], expected: list[str], say, tmp_path: Path
) -> None:
    said = say(*words, status=2)
    for part in expected:
        assert part in said, said
    assert said.startswith("assay:") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
