"""Dictionaries of other tools where ours are taken: `evaluate`, `verify` and `train --init`, on the model that ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from assay import dictionaries, interop
from assay.cli.main import main

WORDS = ["--threads", "1", "--quiet"]
SHORT = ["--n-tokens", "40k", "--batch-size", "512", *WORDS]


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a verb in this process: what it printed as JSON, or, with `status`, the sentence of the refusal."""

    def run(*words: object, status: int = 0) -> Any:
        threads = torch.get_num_threads()
        capsys.readouterr()
        code = main([*map(str, words), *([] if status else ["--json"])])
        torch.set_num_threads(threads)
        said = capsys.readouterr()
        assert code == status, said.err
        assert status == 0 or said.err.count("\n") == 1
        return said.err if status else json.loads(said.out.strip().splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """acts: rows of resid_post.1; relu, topk, jumprelu: trained on them; relu-sl: in SAELens' format."""
    folder = tmp_path_factory.mktemp("foreign")
    threads = torch.get_num_threads()
    words = ["harvest", "--model", "storyworld", "--site", "resid_post.1", "mlp_out.1", "--text", "storyworld:150"]
    assert main([*words, "--out", str(folder / "acts"), *WORDS]) == 0
    for arch, option in (("relu", ("--l1-coef", "0.3")), ("topk", ("--k", "8")), ("jumprelu", ("--l0-coef", "1e-3"))):
        train = ["train", "--activations", str(folder / "acts"), "--site", "resid_post.1", "--arch", arch, *option]
        assert main([*train, "--d-sae", "64", *SHORT, "--out", str(folder / arch)]) == 0
    interop.convert(folder / "relu", folder / "relu-sl", "saelens")
    torch.set_num_threads(threads)
    return folder


def relabelled(folder: Path, to: Path, **metadata: Any) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    cfg = json.loads((to / "cfg.json").read_text())
    cfg["metadata"] |= metadata
    (to / "cfg.json").write_text(json.dumps(cfg))
    return to


def fvu(result: dict[str, Any]) -> float:
    return next(o["value"] for o in result["outcomes"] if o["metric"] == "fvu" and o["split"] == "test")


def test_evaluate_takes_model_and_site_from_the_metadata(work, tmp_path, assay) -> None:
    text = ("--text", "storyworld:50", "--resamples", "200", *WORDS)
    found = assay("evaluate", work / "relu-sl", *text, "--out", tmp_path / "right")
    ours = assay("evaluate", work / "relu", *text, "--allow-train", "--out", tmp_path / "ours")
    assert fvu(found) == pytest.approx(fvu(ours), rel=1e-4)
    assert not any("reads like" in alarm for alarm in found["alarms"])
    wrong = relabelled(work / "relu-sl", tmp_path / "wrong", hook_name="blocks.1.hook_mlp_out")
    found = assay("evaluate", wrong, *text, "--out", tmp_path / "out")
    (said,) = [alarm for alarm in found["alarms"] if "reads like" in alarm]
    assert "says that it reads mlp_out.1" in said and "one of resid_post.1" in said
    assert "reads like one of resid_post.1" in (tmp_path / "out" / "report.html").read_text()
    again = assay("evaluate", "--dict", wrong, *text, "--site", "resid_post.1", "--out", tmp_path / "again")
    assert fvu(again) == pytest.approx(fvu(ours), rel=1e-4)


def test_an_fvu_above_one_is_an_alarm_in_output_and_report(work, tmp_path, assay) -> None:
    wrong = relabelled(work / "relu-sl", tmp_path / "w", hook_name="blocks.0.attn.hook_z")
    found = assay("evaluate", wrong, "--text", "storyworld:50", "--resamples", "200", *WORDS, "--out", tmp_path / "out")
    assert fvu(found) > 1
    assert any("it is farther from the activations than their mean is" in alarm for alarm in found["alarms"])
    assert any("reads like one of" in alarm for alarm in found["alarms"])
    assert "farther from the activations than their mean" in (tmp_path / "out" / "report.html").read_text()


def test_what_the_metadata_does_not_say_is_asked_for_in_one_sentence(work, tmp_path, assay) -> None:
    nameless = relabelled(work / "relu-sl", tmp_path / "a", model_name=None)
    assert "name it with --model" in assay("evaluate", nameless, "--text", "storyworld:50", status=2)
    siteless = relabelled(work / "relu-sl", tmp_path / "b", hook_name=None)
    assert "name it with --site" in assay(
        "evaluate", siteless, "--text", "storyworld:50", "--out", tmp_path / "o", status=2
    )
    unknown = relabelled(work / "relu-sl", tmp_path / "c", model_name="nobody/no-such-model")
    said = assay("evaluate", unknown, "--text", "storyworld:50", status=2)
    assert "The dictionary names that model; --model takes another place." in said
    assert "name one with --text" in assay("evaluate", work / "relu-sl", status=2)


def test_stored_activations_evaluate_a_foreign_dictionary(work, tmp_path, assay) -> None:
    wrong = relabelled(work / "relu-sl", tmp_path / "w", hook_name="blocks.1.hook_mlp_out")
    found = assay(
        "evaluate", wrong, "--activations", work / "acts", "--resamples", "200", *WORDS, "--out", tmp_path / "o"
    )
    assert any("reads like one of resid_post.1" in alarm for alarm in found["alarms"])


def test_verify_recomputes_what_a_conversion_left_beside(work, tmp_path, assay) -> None:
    (checked,) = assay("verify", work / "relu-sl")
    assert checked["rows"] == 64 and checked["format"] == "saelens"
    bare = relabelled(work / "relu-sl", tmp_path / "bare")
    (bare / "golden.safetensors").unlink()
    assert "without golden vectors" in assay("verify", bare, status=2)
    from safetensors.torch import load_file, save_file

    spoilt = relabelled(work / "relu-sl", tmp_path / "spoilt")
    state = load_file(spoilt / "sae_weights.safetensors")
    state["b_dec"] = state["b_dec"] + 0.5
    save_file(state, spoilt / "sae_weights.safetensors")
    assert "the weights were altered" in assay("verify", spoilt, status=2)


NO_TIME = ("--lr", "1e-12", "--n-tokens", "1024", "--batch-size", "512", *WORDS)  # so that it ends where it began


@pytest.mark.parametrize(
    ("source", "form", "to"),
    [
        ("relu", ("relu", "--l1-coef", "0.3"), "saelens"),
        ("relu", ("jumprelu", "--l0-coef", "1e-3", "--pre-bias"), "dictionary_learning"),
        ("topk", ("topk", "--k", "8"), "sparsify"),
        ("jumprelu", ("jumprelu", "--l0-coef", "1e-3"), "gemma_scope"),
    ],
)
def test_init_from_a_foreign_dictionary(source, form, to, work, tmp_path, assay) -> None:
    """Rows that are not of length 1 are folded, so that training, which keeps them so, does not change what it starts from."""
    from assay.interop.ours import from_dictionary

    start = dictionaries.load(work / source)
    if source != "topk":
        length = torch.linspace(0.5, 2, start.d_sae)
        start.W_dec.mul_(length[:, None])
        start.W_enc.div_(length)
        start.get_parameter("b_enc").div_(length)
        if source == "jumprelu":
            start.get_parameter("theta").div_(length)
    interop.write(start, tmp_path / "theirs", to)
    x = torch.randn(200, start.d_in, generator=torch.Generator().manual_seed(1)) * 3
    assert float(from_dictionary(start).norms.std()) > 0.1 or source == "topk"
    made = assay(
        "train", "--activations", work / "acts", "--site", "resid_post.1", "--arch", *form, "--d-sae", "64",
        "--init", tmp_path / "theirs", *NO_TIME, "--out", tmp_path / "new",
    )  # fmt: skip
    new = dictionaries.load(Path(made["out"]))
    torch.testing.assert_close(new(x), interop.open(tmp_path / "theirs")(x), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(new.W_dec.norm(dim=1), torch.ones(64), rtol=1e-4, atol=1e-4)
    assert new.provenance["init"] == str(tmp_path / "theirs")


def test_a_top_k_with_rows_of_many_lengths_is_not_trained_on(work, tmp_path, assay) -> None:
    start = dictionaries.load(work / "topk")
    start.W_dec.mul_(torch.linspace(0.5, 2, start.d_sae)[:, None])
    interop.write(start, tmp_path / "theirs", "sparsify")
    words = (
        "train",
        "--activations",
        work / "acts",
        "--site",
        "resid_post.1",
        "--arch",
        "topk",
        "--k",
        "8",
        "--d-sae",
        "64",
    )
    said = assay(*words, "--init", tmp_path / "theirs", *NO_TIME, "--out", tmp_path / "new", status=2)
    assert "would change the latents that it chooses" in said and not (tmp_path / "new").exists()
