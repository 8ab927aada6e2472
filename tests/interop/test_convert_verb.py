"""`assay convert` and `assay inspect` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from foreign_examples import EXAMPLES, written
from plain_codes import Example, rows
from test_formats import made

from assay import dictionaries, interop
from assay.cli.main import main

TOPK = next(e for e in EXAMPLES if str(e) == "sparsify-skip-transcoder")
JUMP: Example = next(e for e in EXAMPLES if str(e) == "gemma_scope-res")


def test_convert_prints_what_it_found_and_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(JUMP, tmp_path / "g")
    assert main(["convert", str(folder), str(tmp_path / "out"), "--to", "saelens"]) == 0
    said = capsys.readouterr().out
    for line in (
        "format                  gemma_scope",
        "architecture            jumprelu, read as jumprelu",
        "widths                  d_in 6, d_sae 20, d_out 6",
        "model                   google/gemma-2-2b",
        "site                    resid_post.12",
        "scale                   none: reads raw activations",
        "threshold               one a latent, on when pre > theta",
        "b_dec                   added by the decoder only; the encoder reads x as it is",
        "written as saelens. 64 golden rows",
    ):
        assert line in said
    cfg = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert cfg["architecture"] == "jumprelu" and cfg["apply_b_dec_to_input"] is False
    assert cfg["metadata"]["hook_name"] == "blocks.12.hook_resid_post"


def test_convert_to_ours_verifies_and_says_how_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(TOPK, tmp_path / "s")
    assert main(["convert", str(folder), str(tmp_path / "ours"), "--to", "assay", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["found"]["site"] == "layers.3.mlp:in" and found["found"]["target"] == "layers.3.mlp:out"
    assert found["written"]["rows"] == 64
    assert main(["verify", str(tmp_path / "ours")]) == 0
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "ours"), str(folder)]) == 0
    said = capsys.readouterr().out
    assert "64 rows recomputed, as they were" in said and "skip_transcoder" in said
    provenance = json.loads((tmp_path / "ours" / "provenance.json").read_text())
    assert provenance["converted"]["command"].startswith("assay convert ")


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(TOPK, tmp_path / "s")
    for words, part in (
        (["convert", str(folder), str(tmp_path / "o"), "--to", "sealens"], 'Did you mean "saelens"'),
        (
            ["convert", str(folder), str(tmp_path / "o"), "--to", "gemma_scope"],
            "gemma_scope cannot represent the rule topk",
        ),
        (["convert", str(tmp_path / "no"), str(tmp_path / "o"), "--to", "saelens"], "does not exist"),
        (["convert", str(folder), str(folder), "--to", "sparsify"], "already holds a result"),
        (["inspect", str(tmp_path)], "holds no dictionary that is known"),
        (["inspect"], "No dictionary was given"),
    ):
        assert main(words) == 2, words
        captured = capsys.readouterr()
        assert part in captured.err and captured.err.count("\n") == 1
        assert not (tmp_path / "o").exists()


def test_the_help_names_every_format() -> None:
    from assay.cli.convert import Flags
    from assay.cli.parsing import help_of

    said = help_of(Flags)["to"].replace(",", " ").replace(".", " ").split()
    assert {"assay", *interop.names()} <= set(said)


def test_inspect_says_numbers_and_takes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interop.write(made("batchtopk"), tmp_path / "dl", "dictionary_learning")
    assert main(["inspect", str(tmp_path / "dl"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["arch"] == "batchtopk" and found["numbers"]["threshold"] == pytest.approx(0.7 * 2.3)
    assert found["threshold"] == "one number for all latents, on when pre > threshold"
    assert found["numbers"]["zero_rows"] == 0 and found["numbers"]["decoder_norm"][0] > 0


def test_a_dictionary_that_only_assay_holds_can_be_inspected(tmp_path: Path) -> None:
    cls = dictionaries.class_of("matching_pursuit")
    dictionary = cls(cls.Config(d_in=6, d_sae=20, k=3))
    dictionary.W_dec.data.normal_()
    dictionaries.save(dictionary, tmp_path / "mp", golden=rows(32), provenance={"site": "resid_post.1"})
    found = interop.inspect(tmp_path / "mp")
    assert found["arch"] == "matching_pursuit" and found["verified"]["rows"] == 32 and "numbers" not in found


def test_evaluation_reads_foreign_dictionaries_in_place(tmp_path: Path) -> None:
    from assay.cli.opening import entries

    folder = written(JUMP, tmp_path / "g")
    (entry,) = entries([folder], ())
    assert entry.dictionary.provenance["site"] == "resid_post.12"
