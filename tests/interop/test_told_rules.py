"""What a file leaves out is asked for in words, taken from the command line or from read_as.json beside it, and never guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign_examples import EXAMPLES, written
from plain_codes import D, Example, F, K, rows
from test_formats import made, same

from assay import interop
from assay.cli.main import main
from assay.core.errors import BadInput, BadOption
from assay.interop.told import Told


def example(name: str) -> Example:
    return next(e for e in EXAMPLES if str(e) == name)


def test_the_rule_is_asked_for_and_what_was_found_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topk = example("overcomplete-topk")
    folder = written(topk, tmp_path / "o")
    (folder / "read_as.json").unlink()
    assert interop.detect(folder) == "overcomplete"
    with pytest.raises(
        BadInput, match=r"a linear encoder and a plain dictionary, 20 latents over width 6\. Which rule"
    ):
        interop.open(folder)
    assert main(["convert", str(folder), str(tmp_path / "out"), "--to", "assay"]) == 2
    assert "add --rule relu, --rule topk --k K, --rule batchtopk --threshold T to assay" in capsys.readouterr().err
    assert main(["convert", str(folder), str(tmp_path / "out"), "--to", "assay", "--rule", "topk"]) == 2
    assert "Its k stands nowhere in it" in capsys.readouterr().err
    assert main(["inspect", str(folder), "--rule", "batchtopk"]) == 2
    assert "The threshold of its batch top-k stands nowhere in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    words = ["--rule", "topk", "--k", str(K)]
    assert main(["inspect", str(folder), *words]) == 0
    assert "topk, a linear encoder and a plain dictionary, read as topk" in capsys.readouterr().out
    assert main(["convert", str(folder), str(tmp_path / "out"), "--to", "assay", *words]) == 0
    x = rows(seed=4)
    same(interop.open(tmp_path / "out"), x, *topk.answer(x))


def test_a_threshold_is_asked_for_and_told(tmp_path: Path) -> None:
    batch = example("overcomplete-batch")
    folder = written(batch, tmp_path / "o")
    (folder / "read_as.json").unlink()
    interop.convert(folder, tmp_path / "out", "assay", told=Told("batchtopk", threshold=0.8))
    x = rows(seed=4)
    same(interop.open(tmp_path / "out"), x, *batch.answer(x))


def test_the_command_line_comes_before_what_lies_beside_the_file_or_in_its_name(tmp_path: Path) -> None:
    for name in ("qwen_scope-by-name", "qwen_scope-told"):
        folder = written(example(name), tmp_path / name)
        assert interop.open(folder).config.k == K
        assert interop.read(folder, told=Told(k=7)).k == 7
    assert interop.inspect(tmp_path / "qwen_scope-by-name" / example("qwen_scope-by-name").facts["folder"])[
        "model"
    ] == ("Qwen/Qwen3-1.7B-Base")
    (folder / "read_as.json").unlink()
    with pytest.raises(
        BadInput, match=r"20 latents over width 6, in no folder with a name such as .*Its k stands nowhere"
    ):
        interop.open(folder)


def test_odd_words_are_refused(tmp_path: Path) -> None:
    folder = written(example("overcomplete-jump"), tmp_path / "o")
    with pytest.raises(BadInput, match="so its rule is jumprelu, not topk"):
        interop.inspect(folder, Told("topk", 3))
    for told, part in (
        ({"rule": "topc"}, 'Did you mean "topk"'),
        ({"k": 0}, "--k is 0"),
        ({"threshold": float("nan")}, "--threshold is nan"),
    ):
        with pytest.raises(BadOption, match=part):
            Told(**told)
    for beside in (
        {"rule": "x"},
        {"k": "4"},
        {"k": -1},
        {"threshold": "x"},
        {"threshold": True},
        {"rule": ["topk"]},
        {"threshold": 0},
    ):
        (folder / "read_as.json").write_text(json.dumps(beside))
        with pytest.raises(BadInput, match=r"read_as\.json"):
            interop.open(folder)
    plain = written(example("sparsify-sae"), tmp_path / "s")
    with pytest.raises(BadOption, match="says its rule itself"):
        interop.inspect(plain, Told("topk", 3))


def test_overcomplete_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder = written(example("overcomplete-topk-norm"), tmp_path / "o")
    file = folder / "model.pt"
    state = torch.load(file, weights_only=True)
    final = "encoder.final_block."
    for changed, part in (
        ({f"{final}1.running_var": -torch.ones(F)}, "numbers below 0"),
        ({"encoder.mlp_blocks.0.0.weight": torch.ones(D, D)}, "nothing is left out silently"),
        ({f"{final}1.running_mean": None, f"{final}1.running_var": None}, "nothing is left out silently"),
        ({f"{final}0.weight": None, f"{final}0.bias": None}, "without a linear encoder"),
        ({"Q": torch.ones(4)}, "without a linear encoder"),
        ({"dictionary._weights": torch.ones(F, D + 1)}, "do not belong together"),
        ({"dictionary._weights": torch.full((F, D), torch.nan)}, "not finite"),
        ({"dictionary.multiplier": torch.tensor(1e4)}, r"exp\(dictionary\.multiplier\) is inf"),
    ):
        torch.save({k: v for k, v in {**state, **changed}.items() if v is not None}, file)
        with pytest.raises(BadInput, match=part):
            interop.open(folder)


def test_what_overcomplete_has_no_place_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no place for the decoder bias b_dec"):
        interop.write(made("topk"), tmp_path / "a", "overcomplete")
    with pytest.raises(
        BadInput, match="overcomplete holds a dictionary that predicts what it reads; this is a transcoder"
    ):
        interop.write(made("topk transcoder"), tmp_path / "b", "overcomplete")
    interop.write(made("topk without b_dec"), tmp_path / "c", "overcomplete")
    said = json.loads((tmp_path / "c" / "read_as.json").read_text())
    assert said == {"rule": "topk", "k": K, "class": "TopKSAE", "normalization": "identity"}


def test_several_layers_of_qwen_scope_are_named(tmp_path: Path) -> None:
    folder = written(example("qwen_scope-by-name"), tmp_path)
    (folder / "layer11.sae.pt").write_bytes((folder / "layer7.sae.pt").read_bytes())
    with pytest.raises(
        BadInput, match=r"holds 2 layers, each a dictionary of its own; name one, such as .*layer11\.sae\.pt"
    ):
        interop.open(folder)
    assert interop.open(folder / "layer7.sae.pt").provenance["site"] == "resid_post.7"
