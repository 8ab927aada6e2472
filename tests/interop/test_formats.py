"""Every format is read as its own tool means it, and ours goes out and comes back the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_examples import EXAMPLES, written
from plain_codes import D, Example, F, K, matrices, numbers, rows
from saelens_examples import SAELENS
from safetensors.torch import save_file

from assay import dictionaries, interop
from assay.core import artefact
from assay.core.errors import BadInput, NotFound
from assay.dictionaries import Dictionary, class_of
from assay.interop import parts

CLOSE = {"rtol": 2e-4, "atol": 2e-5}


def same(dictionary: Dictionary, x: torch.Tensor, f: torch.Tensor, y: torch.Tensor) -> None:
    """Codes and outputs, and that the example is no trivial one: some pairs are on, some off."""
    on = (f != 0).float().mean()
    assert 0.05 < float(on) < 0.95, float(on)
    with torch.no_grad():
        torch.testing.assert_close(dictionary.encode(x), f, **CLOSE)
        torch.testing.assert_close(dictionary(x), y, **CLOSE)


@pytest.fixture(params=EXAMPLES, ids=str)
def example(request: pytest.FixtureRequest) -> Example:
    return request.param


def test_a_foreign_file_is_read_as_its_tool_means_it(example: Example, tmp_path: Path) -> None:
    folder = written(example, tmp_path)
    assert interop.detect(folder) == example.format
    opened = interop.open(folder)
    assert opened.arch == example.arch
    x = rows(width=example.d_in)
    same(opened, x, *example.answer(x))
    for name, value in example.facts.items():
        if name != "folder":
            assert opened.provenance[name] == value
    assert opened.provenance["read_from"]["format"] == example.format
    assert opened.path == folder


def test_a_single_file_opens_too(tmp_path: Path) -> None:
    for example in EXAMPLES:
        folder = written(example, tmp_path / str(example))
        if "llama" in example.name or example.whole:
            continue  # several files belong to it
        weights = max((p for p in folder.iterdir() if p.suffix != ".json"), key=lambda p: p.stat().st_size)
        assert interop.detect(weights) == example.format
        assert interop.open(weights).d_sae == F


def test_what_is_read_becomes_ours_with_golden_vectors_of_its_source(example: Example, tmp_path: Path) -> None:
    folder = written(example, tmp_path / "theirs")
    done = interop.convert(folder, tmp_path / "ours", "assay")
    assert done["pairs"] > 60
    checked = dictionaries.verify(tmp_path / "ours")
    assert checked["rows"] == done["rows"] == 64
    golden = artefact.read_tensors(tmp_path / "ours" / "golden.safetensors")
    _, y = example.answer(golden["x"])
    off = (golden["x_hat"] - y).abs().amax(1) > 1e-3
    assert int(off.sum()) <= 1, "golden outputs are what the source computes"
    x = rows(width=example.d_in, seed=8)
    same(dictionaries.load(tmp_path / "ours"), x, *example.answer(x))
    stored = artefact.read_json(tmp_path / "ours" / "provenance.json")
    assert stored["converted"]["from"] == example.format


ACROSS_LAYERS = {"d_in": 3 * D, "d_sae": 3 * F, "d_out": 3 * D, "in_sites": (D,) * 3, "out_sites": (D,) * 3}
OURS: dict[str, dict[str, Any]] = {
    "relu": {"l1_coef": 0.1},
    "relu free": {"l1_coef": 0.1, "decoder_norm": "free"},
    "panneal": {"lp_coef": 0.1},
    "gated": {"l1_coef": 0.1},
    "gated tied": {"l1_coef": 0.1, "b_mag": "tied"},
    "gated without": {"l1_coef": 0.1, "r_mag": "off"},
    "gated transcoder": {"l1_coef": 0.1, "wiring": "transcoder", "d_out": D},
    "jumprelu": {"l0_coef": 0.1},
    "jumprelu log": {"l0_coef": 0.1, "theta": "log", "pre_bias": True},
    "topk": {"k": K},
    "topk layer norm": {"k": K, "rows": "layer_norm"},
    "relu layer norm": {"l1_coef": 0.1, "rows": "layer_norm"},
    "gated constant norm": {"l1_coef": 0.1, "rows": "constant_norm"},
    "random": {"k": K},
    "abstopk": {"k": K},
    "batchtopk": {"k": K},
    "matryoshka": {"k": K, "groups": (5.0, 7.0, 8.0)},
    "transcoder": {"l1_coef": 0.1, "d_out": 4},
    "transcoder skip": {"l1_coef": 0.1, "d_out": 4, "skip": True},
    "jumprelu transcoder": {"l0_coef": 0.1, "wiring": "transcoder", "d_out": 4, "skip": True},
    "transcoder square": {"l1_coef": 0.1, "d_out": D},
    "jumprelu square": {"l0_coef": 0.1, "wiring": "transcoder", "d_out": D, "skip": True},
    "topk transcoder": {"k": K, "wiring": "transcoder", "d_out": D},
    "skip_transcoder": {"k": K, "d_out": D},
    "relu without b_dec": {"l1_coef": 0.1},
    "jumprelu without b_dec": {"l0_coef": 0.1, "pre_bias": True},
    "topk without b_dec": {"k": K},
    "crosslayer": {"l0_coef": 0.1, **ACROSS_LAYERS},
    "crosslayer uneven": {"l0_coef": 0.1, **ACROSS_LAYERS, "in_sites": (5, 6, 7), "out_sites": (4, 6, 8)},
    "crosslayer skip": {"l0_coef": 0.1, **ACROSS_LAYERS, "skip": True},
    "relu crosslayer": {"l1_coef": 0.1, "decoder_norm": "free", "wiring": "crosslayer", **ACROSS_LAYERS},
    "gated crosslayer": {"l1_coef": 0.1, "wiring": "crosslayer", **ACROSS_LAYERS},
    "batchtopk crosslayer": {"k": K, "wiring": "crosslayer", **ACROSS_LAYERS},
    "topk crosslayer": {"k": K, "wiring": "crosslayer", **ACROSS_LAYERS},
    "topk crosslayer each": {"k": K, "scope": "block", "wiring": "crosslayer", **ACROSS_LAYERS},
    "topk crosslayer skip": {"k": K, "scope": "block", "wiring": "crosslayer", "skip": True, **ACROSS_LAYERS},
    "jumprelu perlayer": {"l0_coef": 0.1, "wiring": "perlayer", "skip": True, **ACROSS_LAYERS},
    "relu perlayer": {"l1_coef": 0.1, "decoder_norm": "free", "wiring": "perlayer", **ACROSS_LAYERS},
    "topk perlayer": {"k": K, "scope": "block", "wiring": "perlayer", **ACROSS_LAYERS},
}
RELU = {"saelens", "dictionary_learning", "openai_sae", "openmoss", "gemma_scope", "gemma_scope_2", "goodfire"}
JUMP = RELU - {"openai_sae", "goodfire"}
TOPK = {"saelens", "dictionary_learning", "sparsify", "hypothesaes", "openmoss", "qwen_scope"}
NOWHERE: set[str] = set()
CLT = {"circuit_tracer_clt", "gemma_scope_2_clt", "openmoss_clt"}
ACROSS = {"saelens", "gemma_scope", "gemma_scope_2", "circuit_tracer"}
GOES_TO = {
    "topk layer norm": {"saelens", "openai_sae"},
    "relu layer norm": {"saelens"},
    "gated constant norm": {"saelens"},
    **dict.fromkeys(("relu", "relu free", "panneal"), RELU),
    **dict.fromkeys(("gated", "gated tied", "gated without", "jumprelu", "jumprelu log"), JUMP),
    "batchtopk": {*JUMP, "hypothesaes"},
    "matryoshka": {*JUMP, "hypothesaes"},
    **dict.fromkeys(("topk", "random"), TOPK),
    "abstopk": {"saelens"},
    "relu without b_dec": {*RELU, "overcomplete"},
    "jumprelu without b_dec": {*JUMP, "overcomplete"},
    "topk without b_dec": {*TOPK, "overcomplete"},
    "gated transcoder": {*ACROSS, "openmoss"},
    "transcoder": {"saelens", "gemma_scope", "gemma_scope_2"},
    "transcoder square": {*ACROSS, "openmoss"},
    "jumprelu square": {"saelens", "gemma_scope_2", "circuit_tracer"},
    "transcoder skip": {"saelens", "gemma_scope_2"},
    "jumprelu transcoder": {"saelens", "gemma_scope_2"},
    "topk transcoder": {"sparsify", "openmoss"},
    "skip_transcoder": {"sparsify"},
    **dict.fromkeys(("crosslayer", "relu crosslayer", "gated crosslayer", "batchtopk crosslayer"), CLT),
    **dict.fromkeys(("crosslayer uneven", "crosslayer skip", "topk crosslayer", "topk perlayer"), NOWHERE),
    "topk crosslayer each": {"openmoss_clt", "eleuther_clt"},
    "topk crosslayer skip": {"eleuther_clt"},
    "jumprelu perlayer": {"circuit_tracer"},
    "relu perlayer": {"circuit_tracer"},
}


def made(name: str) -> Dictionary:
    """One of ours in a training space of its own scale, every number random and not 0."""
    arch = name.split()[0]
    cls = class_of(arch)
    dictionary = cls(cls.Config(**{"d_in": D, "d_sae": F, **OURS[name]}))
    with torch.no_grad():
        for seed, (which, parameter) in enumerate(dictionary.named_parameters()):
            around = 0.4 if which in ("b_dec", "theta") else 0.0
            parameter.copy_(numbers(*parameter.shape, seed=100 + seed, size=0.4, around=around))
        if hasattr(dictionary, "threshold"):
            dictionary.threshold.fill_(0.7)
        if "without b_dec" in name:
            dictionary.b_dec.zero_()
    dictionary.scale = (2.3, 2.3) if dictionary.pre_bias else (2.3, 3.1)
    dictionary.provenance = {"model": "gpt2", "site": "resid_post.3"}
    if dictionary.config.layered:  # a scale for each site
        dictionary.scale = (2.3, 1.9, 2.6), (3.1, 0.8, 1.7)
        names = {"site": "resid_mid.{}", "target": "mlp_out.{}"}
        dictionary.provenance |= {key: ",".join(map(site.format, range(3))) for key, site in names.items()}
    return dictionary.requires_grad_(False)


@pytest.mark.parametrize("to", interop.names())
@pytest.mark.parametrize("name", OURS)
def test_ours_goes_out_and_comes_back_or_is_refused_in_words(name: str, to: str, tmp_path: Path) -> None:
    dictionary = made(name)
    raw = 2.3 * rows(64, dictionary.d_in, seed=7)
    dictionaries.save(dictionary, tmp_path / "ours", golden=raw, provenance=dictionary.provenance)
    if to not in GOES_TO[name]:
        with pytest.raises(BadInput) as refused:
            interop.convert(tmp_path / "ours", tmp_path / "theirs", to)
        assert len(str(refused.value)) > 40 and "\n" not in str(refused.value)
        assert not (tmp_path / "theirs").exists()
        return
    interop.convert(tmp_path / "ours", tmp_path / "theirs", to)
    assert interop.detect(tmp_path / "theirs") == to
    assert not (tmp_path / "theirs" / "checksums.json").exists()
    back, ours = interop.open(tmp_path / "theirs"), dictionaries.load(tmp_path / "ours")
    x = 2.3 * rows(width=ours.d_in, seed=9)
    with torch.no_grad():
        same(back, x, ours.encode(x), ours(x))
    if ours.config.layered and to != "eleuther_clt":  # which names folders by modules
        assert {key: back.provenance[key] for key in ("site", "target")} == {
            key: ours.provenance[key] for key in ("site", "target")
        }
    golden = artefact.read_tensors(tmp_path / "theirs" / "golden.safetensors")
    assert torch.equal(golden["x"], raw)
    assert interop.inspect(tmp_path / "theirs")["golden"]["rows"] == 64


def test_golden_vectors_beside_a_foreign_file_notice_altered_weights(tmp_path: Path) -> None:
    interop.write(made("jumprelu"), tmp_path / "plain", "saelens")
    assert not (tmp_path / "plain" / "checksums.json").exists()
    interop.convert(tmp_path / "plain", tmp_path / "out", "gemma_scope_2")
    weights = artefact.read_tensors(tmp_path / "out" / "params.safetensors")
    save_file({**weights, "w_dec": 1.1 * weights["w_dec"]}, tmp_path / "out" / "params.safetensors")
    with pytest.raises(BadInput, match="golden rows come out differently"):
        interop.inspect(tmp_path / "out")


def test_the_site_goes_along_both_ways(tmp_path: Path) -> None:
    interop.write(made("relu"), tmp_path / "a", "saelens")
    meta = json.loads((tmp_path / "a" / "cfg.json").read_text())["metadata"]
    assert meta["hook_name"] == "blocks.3.hook_resid_post"
    assert interop.open(tmp_path / "a").provenance["site"] == "resid_post.3"


@pytest.mark.parametrize(
    "name", ["saelens-topk-normed", "saelens-gated", "openmoss-transcoder", "saelens-batchtopk-normed"]
)
def test_large_dictionaries_are_compared_without_a_wide_copy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "LARGE", 0)
    folder = written(next(e for e in EXAMPLES if str(e) == name), tmp_path / "theirs")
    assert interop.read(folder).double().W_enc.dtype == torch.float32
    assert interop.convert(folder, tmp_path / "ours", "assay")["pairs"] > 60
    if "gated" in name:
        interop.convert(tmp_path / "ours", tmp_path / "gemma", "gemma_scope_2")
        assert interop.inspect(tmp_path / "gemma")["golden"]["rows"] == 64


def test_an_older_top_k_says_its_k_in_the_configuration_alone(tmp_path: Path) -> None:
    old = next(e for e in EXAMPLES if e.name == "AutoEncoderTopK")
    old.write(tmp_path)
    state = torch.load(tmp_path / "ae.pt", weights_only=True)
    torch.save({n: t for n, t in state.items() if n not in ("k", "threshold")}, tmp_path / "ae.pt")
    x = rows()
    same(interop.open(tmp_path), x, *old.answer(x))


def test_whitened_inputs_are_folded(tmp_path: Path) -> None:
    """x is whitened, encoded, decoded and brought back: the folded dictionary does the same from raw x."""
    mean, matrix = numbers(D, seed=51), numbers(D, D, seed=52) + 2 * torch.eye(D)
    for name in ("standard", "standard-no-sub", "gated-no-sub", "topk-normed"):
        plain = next(e for e in SAELENS if e.name == name)
        folder = tmp_path / name
        plain.write(folder)
        cfg = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps({**cfg, "normalize_activations": "covariance_whitening"}))
        white = {"mean": mean, "matrix": matrix, "inverse_matrix": torch.linalg.inv(matrix).contiguous()}
        save_file(white, folder / "activation_whitening.safetensors")
        x = rows()
        f, y = plain.answer((x - mean) @ matrix)
        same(interop.open(folder), x, f, y @ white["inverse_matrix"] + mean)


def test_a_threshold_below_zero_is_a_plain_relu(tmp_path: Path) -> None:
    s = matrices()
    s["threshold"] = -s["threshold"]
    save_file({n.lower(): t for n, t in s.items()}, tmp_path / "params.safetensors")
    x = rows()
    f = torch.relu(x @ s["W_enc"] + s["b_enc"])
    same(interop.open(tmp_path), x, f, f @ s["W_dec"] + s["b_dec"])


def test_old_finetuning_scale_is_folded(tmp_path: Path) -> None:
    base = next(e for e in SAELENS if e.name == "old-standard")
    base.write(tmp_path)
    factor = 1 + numbers(F, seed=61, size=0.3).abs()
    tensors = artefact.read_tensors(tmp_path / "sae_weights.safetensors")
    save_file({**tensors, "scaling_factor": factor}, tmp_path / "sae_weights.safetensors")
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "finetuning_scaling_factor": True}))
    x = rows()
    f, y = base.answer(x)
    b_dec = tensors["b_dec"]
    same(interop.open(tmp_path), x, f, (f * factor) @ tensors["W_dec"] + b_dec)
    (tmp_path / "cfg.json").write_text(json.dumps({**cfg, "finetuning_scaling_factor": False}))
    same(interop.open(tmp_path), x, f, y)


def test_formats_are_found_by_listing_and_keep_the_frame() -> None:
    assert {"saelens", "gemma_scope", "gemma_scope_2", "dictionary_learning", "sparsify"} <= set(interop.names())
    for name in interop.names():
        module: Any = interop.format_of(name)
        assert module.ABOUT and isinstance(module.HOLDS, frozenset)
        assert all(callable(getattr(module, f)) for f in ("detects", "read", "write"))
    with pytest.raises(NotFound, match='Did you mean "saelens"'):
        interop.format_of("sealens")
