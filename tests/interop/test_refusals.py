"""What a format, or assay, cannot hold is refused in one sentence that names the part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign_examples import EXAMPLES, written
from plain_codes import D, F
from saelens_examples import SAELENS
from safetensors.torch import save_file
from test_formats import made

from assay import interop
from assay.core import artefact
from assay.core.errors import AssayError, BadInput, NotFound
from assay.dictionaries import class_of


def test_a_negative_threshold_of_circuit_tracer_is_refused(tmp_path: Path) -> None:
    layer = next(e for e in EXAMPLES if str(e) == "circuit_tracer-jumprelu")
    layer.write(tmp_path)
    tensors = artefact.read_tensors(tmp_path / "layer_3.safetensors")
    tensors["activation_function.threshold"][4] = -0.1
    save_file(tensors, tmp_path / "layer_3.safetensors")
    with pytest.raises(BadInput, match="passes negative codes"):
        interop.open(tmp_path)


def test_a_layer_that_is_named_opens_alone_and_the_folder_as_a_set(tmp_path: Path) -> None:
    layer = next(e for e in EXAMPLES if str(e) == "circuit_tracer-relu")
    layer.write(tmp_path)
    (tmp_path / "layer_12.safetensors").write_bytes((tmp_path / "layer_3.safetensors").read_bytes())
    assert interop.open(tmp_path / "layer_12.safetensors").provenance["site"] == "mlp_in.12"
    both = interop.open(tmp_path)
    assert both.config.wiring == "perlayer" and both.d_sae == 2 * F
    assert both.provenance["site"] == "mlp_in.3,mlp_in.12"


def test_what_no_format_holds_is_refused_with_its_part(tmp_path: Path) -> None:
    for arch, options, part in (
        ("gated", {"l1_coef": 0.1, "tie_encoder": False}, "encoders of their own"),
        ("crosscoder", {"l1_coef": 0.1, "in_sites": (2, 4)}, "several sites"),
        ("matching_pursuit", {"k": 3}, "no encoder that is one matrix"),
        ("batchtopk", {"k": 3}, "none was learned yet"),
    ):
        cls = class_of(arch)
        with pytest.raises(BadInput, match=part):
            interop.write(cls(cls.Config(d_in=D, d_sae=F, **options)), tmp_path / arch, "saelens")
        assert not (tmp_path / arch).exists()


def test_what_a_foreign_file_says_and_ours_cannot_hold_is_refused(tmp_path: Path) -> None:
    base = next(e for e in SAELENS if e.name == "standard")
    for changed, part in (
        ({"normalize_activations": "expected_average_only_in"}, "the factor is not there"),
        ({"normalize_activations": "covariance_whitening"}, r"put the run's activation_whitening.safetensors"),
        ({"normalize_activations": "other"}, "not known"),
        ({"architecture": "matching_pursuit"}, "its pursuit stops by"),
        ({"architecture": "temporal"}, "earlier tokens"),
        ({"architecture": "nothing"}, "known are standard"),
    ):
        base.write(tmp_path)
        cfg = json.loads((tmp_path / "cfg.json").read_text())
        (tmp_path / "cfg.json").write_text(json.dumps({**cfg, **changed}))
        with pytest.raises(BadInput, match=part):
            interop.open(tmp_path)
    for name, file, changed, part in (
        ("openmoss-relu", "config.json", {"norm_activation": "token-wise"}, "every row by its own length"),
        ("openmoss-relu", "config.json", {"norm_activation": "dataset-wise"}, "it was never set"),
        ("openmoss-relu", "config.json", {"use_glu_encoder": True}, "use_glu_encoder is True"),
        ("openmoss-relu", "config.json", {"sae_type": "clt"}, "of one site are read"),
    ):
        folder = written(next(e for e in EXAMPLES if str(e) == name), tmp_path / name)
        cfg = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**cfg, **changed}))
        with pytest.raises(BadInput, match=part):
            interop.open(folder)
    folder = written(next(e for e in EXAMPLES if e.format == "openai_sae"), tmp_path / "openai")
    content = torch.load(folder / "autoencoder.pt", weights_only=True)
    torch.save(
        {**content, "activation": "TopK", "activation_state_dict": {"k": 4, "postact_fn": "Identity"}},
        folder / "autoencoder.pt",
    )
    with pytest.raises(BadInput, match="TopK with a relu after it"):
        interop.open(folder)
    groupmax = next(e for e in EXAMPLES if str(e) == "sparsify-sae")
    folder = written(groupmax, tmp_path / "s")
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**cfg, "activation": "groupmax"}))
    with pytest.raises(BadInput, match="groupmax takes one latent of each of k groups"):
        interop.open(folder)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        interop.open(tmp_path / "nowhere")
    with pytest.raises(
        NotFound,
        match="holds no dictionary that is known; formats are assay, circuit_tracer, circuit_tracer_clt, dictionary_learning",
    ):
        interop.open(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(NotFound, match="unfinished run"):
        interop.open(tmp_path)


def test_a_transcoder_never_subtracts_b_dec(tmp_path: Path) -> None:
    base = next(e for e in SAELENS if e.name == "transcoder-square")
    base.write(tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "apply_b_dec_to_input": True}))
    with pytest.raises(BadInput, match="b_dec lies at another site"):
        interop.open(tmp_path)


def test_an_existing_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(AssayError, match="already holds a result"):
        interop.write(made("relu"), tmp_path / "out", "saelens")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
