"""A dictionary on disk: what was saved is what is loaded, and `verify` notices when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from dictionary_examples import Case

from assay import dictionaries
from assay.core import artefact
from assay.core.errors import AssayError, Corrupt, NotFound
from assay.dictionaries import Dictionary

C = 3.7  # never test a scale at 1


def saved(case: Case, folder: Path, made: Dictionary | None = None, c: float = C) -> tuple[Dictionary, torch.Tensor]:
    """A dictionary of training space written to `folder`, and raw inputs of its golden vectors."""
    made = case.made() if made is None else made
    made.scale = (c, c)
    raw = c * case.inputs(64, 7)
    dictionaries.save(made, folder, golden=raw, provenance={"site": "x"}, convention="rms1", documents=["b", "a"])
    return made, raw


def rewrite(folder: Path, name: str, **changed: torch.Tensor) -> None:
    """Put other tensors into a file and make the checksums agree again, so that only the numbers can tell."""
    artefact.write_tensors(folder / name, {**artefact.read_tensors(folder / name), **changed})
    artefact.write_checksums(folder, list(artefact.read_json(folder / "checksums.json")))


def test_the_raw_export_gives_scaled_codes_and_outputs(case, tmp_path) -> None:
    made, _ = saved(case, tmp_path)
    loaded = dictionaries.load(tmp_path)
    x = case.inputs(50, 3).float()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(C * x).double(), C * made.encode(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(loaded(C * x).double(), C * made(x), rtol=1e-4, atol=1e-4)
    assert loaded.scale == (1.0, 1.0)
    assert loaded.path == tmp_path
    assert loaded.provenance == {"site": "x"}
    assert json.loads((tmp_path / "documents.json").read_text()) == ["a", "b"]
    assert loaded.config == made.config
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_training_space_comes_back(case, tmp_path) -> None:
    made, _ = saved(case, tmp_path)
    loaded = dictionaries.load(tmp_path, space="training")
    assert loaded.scale == (C, C)
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor.double(), made.state_dict()[name], rtol=1e-6, atol=1e-7)
    x = case.inputs(50, 3).float()
    with torch.no_grad():
        torch.testing.assert_close(loaded.encode(x).double(), made.encode(x), rtol=1e-4, atol=1e-5)


def test_saving_twice_gives_the_same_bytes_of_weights(case, tmp_path) -> None:
    for name in ("one", "two"):
        saved(case, tmp_path / name)
    assert artefact.sha256_file(tmp_path / "one/weights.safetensors") == artefact.sha256_file(
        tmp_path / "two/weights.safetensors"
    )
    assert {p.name for p in (tmp_path / "one").iterdir()} == {
        "config.json", "weights.safetensors", "provenance.json", "golden.safetensors", "documents.json",
        "checksums.json",
    }  # fmt: skip


def test_saving_does_not_change_the_dictionary(case, tmp_path) -> None:
    made = case.made()
    before = {n: t.clone() for n, t in made.state_dict().items()}
    saved(case, tmp_path, made)
    assert all(torch.equal(t, before[n]) for n, t in made.state_dict().items())
    assert all(t.dtype == torch.float64 for t in made.state_dict().values())


def test_verify_passes_on_what_was_saved(case, tmp_path) -> None:
    saved(case, tmp_path)
    checked = dictionaries.verify(tmp_path)
    assert checked["arch"] == case.arch
    assert checked["rows"] == 64
    assert checked["pairs"] > 0
    assert checked["pairs_at_a_threshold"] == 0
    assert max(checked["worst_code"], checked["worst_output"]) < 1e-6


def test_verify_catches_every_altered_parameter(case, tmp_path) -> None:
    """Checksums are made to agree, so the golden vectors themselves must catch it."""
    saved(case, tmp_path)
    weights = artefact.read_tensors(tmp_path / "weights.safetensors")
    for name, tensor in weights.items():
        if name in case.plain.extra_decoders:
            continue  # read in training alone, so no code knows of it
        rewrite(tmp_path, "weights.safetensors", **{name: tensor + 0.5 * C})
        with pytest.raises(Corrupt, match="golden"):
            dictionaries.verify(tmp_path)
        rewrite(tmp_path, "weights.safetensors", **{name: tensor})
    dictionaries.verify(tmp_path)


def test_verify_catches_a_small_error_of_one_direction(case, tmp_path) -> None:
    saved(case, tmp_path)
    weights = artefact.read_tensors(tmp_path / "weights.safetensors")
    used = int(artefact.read_tensors(tmp_path / "golden.safetensors")["latent"].bincount().argmax())
    made = case.made()
    block = made.block_of(used)
    name = made.matrix_names[block][1]
    weights[name][used - made.blocks[block].latents.start] *= 1.02
    rewrite(tmp_path, "weights.safetensors", **{name: weights[name]})
    with pytest.raises(Corrupt, match="golden values differ"):
        dictionaries.verify(tmp_path)


def test_an_altered_file_is_named(case, tmp_path) -> None:
    saved(case, tmp_path)
    for name in ("weights.safetensors", "config.json", "golden.safetensors", "provenance.json", "documents.json"):
        whole = (tmp_path / name).read_bytes()
        for torn in (whole[: len(whole) // 2], whole + b" ", b""):
            (tmp_path / name).write_bytes(torn)
            with pytest.raises(Corrupt, match=name):
                dictionaries.load(tmp_path)
        (tmp_path / name).write_bytes(whole)
    dictionaries.load(tmp_path)


def test_weights_of_another_dictionary_are_refused_in_words(case, tmp_path) -> None:
    saved(case, tmp_path)
    weights = artefact.read_tensors(tmp_path / "weights.safetensors")
    rewrite(tmp_path, "weights.safetensors", b_dec=torch.zeros(5))
    with pytest.raises(Corrupt, match=r"b_dec is \[5\]"):
        dictionaries.load(tmp_path)
    rewrite(tmp_path, "weights.safetensors", b_dec=weights["b_dec"].fill_(float("nan")))
    with pytest.raises(Corrupt, match="b_dec holds values that are not finite"):
        dictionaries.load(tmp_path)
    artefact.write_tensors(tmp_path / "weights.safetensors", {"W": torch.zeros(2)})
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(Corrupt, match="it belongs to another"):
        dictionaries.load(tmp_path)


def test_an_unknown_key_in_the_config_is_named(case, tmp_path) -> None:
    saved(case, tmp_path)
    stored = artefact.read_json(tmp_path / "config.json")
    artefact.write_json(tmp_path / "config.json", {**stored, "options": {**stored["options"], "d_sea": 3}})
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(Corrupt, match=r'"d_sea" is not an option .*"d_sae"'):
        dictionaries.load(tmp_path)
    artefact.write_json(tmp_path / "config.json", {**stored, "schema": 99})
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(Corrupt, match="schema 99"):
        dictionaries.load(tmp_path)
    artefact.write_json(tmp_path / "config.json", {**stored, "arch": "gatd"})
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(AssayError, match="gatd"):
        dictionaries.load(tmp_path)


def test_a_folder_without_a_dictionary_says_what_it_is(tmp_path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        dictionaries.load(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(NotFound, match="unfinished run; finish it with --resume"):
        dictionaries.load(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "run.json").unlink()
    with pytest.raises(NotFound, match="It holds dictionaries in a"):
        dictionaries.load(tmp_path)


def test_a_configuration_that_lies_about_its_size_fills_no_memory(case, tmp_path) -> None:
    """Checksums are made to agree; the width would need terabytes."""
    if case.config.d_sae == case.config.d_in:
        pytest.skip("its width is that of its input")
    saved(case, tmp_path)
    config = artefact.read_json(tmp_path / "config.json")
    config["options"]["d_sae"] = 36 * 10**9
    if "groups" in config["options"]:
        config["options"]["groups"] = [0.25, 0.75]
    artefact.write_json(tmp_path / "config.json", config)
    artefact.write_checksums(tmp_path, list(artefact.read_json(tmp_path / "checksums.json")))
    with pytest.raises(Corrupt, match=r"the configuration beside it says|does not describe"):
        dictionaries.load(tmp_path)
