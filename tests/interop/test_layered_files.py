"""Several layers as one dictionary: folded layer by layer, and refused in one sentence where the files do not make one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_examples import EXAMPLES, written
from layered_examples import N
from plain_codes import D, Example, F, numbers, rows
from safetensors.torch import load_file, save_file

from assay import dictionaries, interop
from assay.core.errors import AssayError, BadInput
from assay.interop import folding
from assay.interop.layers import Layers, layer
from assay.interop.ours import from_dictionary, to_dictionary
from assay.interop.parts import VECTORS, Rule


def example(name: str) -> Example:
    return next(e for e in EXAMPLES if str(e) == name)


def layers(rule: Rule = "jumprelu", *, crosses: bool = True, norm_in_code: bool = False, **more: Any) -> Layers:
    """Three layers of different widths, scales of their own, every number random and not 0."""
    widths_in, widths = (4, 6, 5), (3, 5, 4)
    parts = []
    for i, width in enumerate(widths_in):
        written = sum(widths[i:]) if crosses else widths[i]
        vectors = {
            name: numbers(F, seed=10 * i + j, size=0.3, around=0.6 if name == "theta" else 0.1).abs()
            for j, name in enumerate(VECTORS[rule])
        }
        skip = numbers(width, written, seed=80 + i, size=0.3)
        scale = ((1.7, 0.6, 2.2)[i], 1.0)
        W_enc, W_dec = numbers(width, F, seed=90 + i), numbers(F, written, seed=95 + i)
        b_dec = numbers(written, seed=99 + i, around=0.4)
        parts.append(
            layer(rule, W_enc, vectors, W_dec, b_dec, skip=skip, scale=scale, norm_in_code=norm_in_code, **more)
        )
    return Layers(tuple(parts), widths, crosses, out=(0.7, 1.9, 1.3))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crosses", [True, False])
@pytest.mark.parametrize("rule", ["relu", "jumprelu", "gated", "topk", "batchtopk"])
def test_folding_keeps_the_output_layer_by_layer(rule: Rule, crosses: bool) -> None:
    more = {"topk": {"k": 4}, "batchtopk": {"threshold": 0.8}}.get(rule, {})
    x = rows(80, 15, seed=1)
    for normed in (False, True):
        before = layers(rule, crosses=crosses, norm_in_code=normed and rule != "gated", **more)
        f = before.codes(x)
        y = before.predict(x, f)
        assert 0.02 < float((f != 0).float().mean()) < 0.98
        kept = folding.activation_scale(before)
        close(kept.codes(x), f)
        close(kept.predict(x, kept.codes(x)), y)
        assert kept.out == (1.0, 1.0, 1.0) and {p.scale for p in kept.parts} == {(1.0, 1.0)}
        scaled = folding.activation_scale(before, "scaled")
        s_in = torch.tensor([1.7, 0.6, 2.2]).repeat_interleave(F)
        close(scaled.codes(x) * s_in, f)
        close(scaled.predict(x, scaled.codes(x)), y)
        plain = folding.plain(before)
        close(plain.predict(x, plain.codes(x)), y)
        if rule not in ("topk", "batchtopk") or before.parts[0].norm_in_code:
            unit = folding.decoder_norm(before)
            close(unit.norms, torch.ones(N * F))
            close(unit.codes(x), f if before.parts[0].norm_in_code else f * before.norms)
            close(unit.predict(x, unit.codes(x)), y)
        if rule != "topk":
            jump = folding.as_jumprelu(plain)
            assert jump.rule == "jumprelu"
            close(jump.codes(x), plain.codes(x))


def test_folded_layers_become_one_of_ours_with_all_that_they_add_to_later_layers() -> None:
    before = layers(crosses=True)
    made = to_dictionary(before)
    x = rows(80, 15, seed=2)
    with torch.no_grad():
        close(made(x), before.predict(x, before.codes(x)))
        close(made.encode(x), before.codes(x))
    again = from_dictionary(made)
    close(again.predict(x, again.codes(x)), made(x))
    assert isinstance(again, Layers) and again.crosses
    close(again.b_dec, made.b_dec)


def test_a_threshold_of_its_own_in_each_layer_becomes_jumprelu() -> None:
    before = layers("batchtopk", threshold=0.8)
    made, x = to_dictionary(folding.activation_scale(before, "scaled")), rows(80, 15, seed=3)
    assert made.arch == "crosslayer"
    with torch.no_grad():
        close(made(x), before.predict(x, before.codes(x)))
    assert to_dictionary(before).arch == "batchtopk"


def test_inspect_says_what_the_layers_are(tmp_path: Path) -> None:
    found = interop.inspect(written(example("gemma_scope_2_clt-affine-junk"), tmp_path))
    assert found["architecture"] == f"cross-layer transcoder of {N} layers, jump_relu with skip"
    assert (found["d_in"], found["d_sae"], found["d_out"]) == (N * D, N * F, N * D)
    assert found["numbers"]["theta"][0] > 0 and found["numbers"]["zero_rows"] == 0
    assert any("play no part" in note for note in found["notes"])
    found = interop.inspect(written(example("circuit_tracer-set-relu-skip"), tmp_path / "set"))
    assert found["architecture"] == f"{N} per-layer relu transcoders, {N} with skip"


def test_a_skip_path_of_its_own_layer_goes_back_to_gemma_scope_2(tmp_path: Path) -> None:
    affine = example("gemma_scope_2_clt-affine")
    folder = written(affine, tmp_path / "theirs")
    interop.convert(folder, tmp_path / "ours", "assay")
    interop.convert(tmp_path / "ours", tmp_path / "back", "gemma_scope_2_clt")
    for i in range(N):
        one, other = (load_file(f / f"params_layer_{i}.safetensors") for f in (folder, tmp_path / "back"))
        assert set(one) == set(other)
        for name, tensor in one.items():
            close(other[name], tensor)
    assert dictionaries.load(tmp_path / "ours").config.skip
    with pytest.raises(BadInput, match="no place for the skip paths"):
        interop.convert(tmp_path / "ours", tmp_path / "no", "circuit_tracer_clt")
    with pytest.raises(
        BadInput, match="saelens holds a dictionary that predicts what it reads or a transcoder; this is a cross-layer"
    ):
        interop.convert(tmp_path / "ours", tmp_path / "no", "saelens")
    one = written(example("circuit_tracer-relu"), tmp_path / "one")
    with pytest.raises(BadInput, match="openmoss_clt holds a cross-layer transcoder; this is a transcoder"):
        interop.convert(one, tmp_path / "no", "openmoss_clt")
    assert not (tmp_path / "no").exists()


def edit(file: Path, **changed: Any) -> None:
    """Change tensors of a safetensors file, or keys of a JSON file; None takes away."""
    if file.suffix == ".json":
        found = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in {**found, **changed}.items() if v is not None}))
        return
    tensors = {k: v for k, v in {**load_file(file), **changed}.items() if v is not None}
    save_file({k: v.contiguous() for k, v in tensors.items()}, file)


def outward(folder: Path, name: str) -> None:
    target = folder.parent / f"outside-{name}"
    (folder / name).rename(target)
    os.symlink(target, folder / name)


BROKEN: list[tuple[str, Callable[[Path], Any], str]] = [
    ("circuit_tracer_clt-jumprelu", lambda f: (f / "W_enc_1.safetensors").unlink(), "no W_enc_1.safetensors; its layers belong"),
    ("circuit_tracer_clt-jumprelu", lambda f: (f / "W_dec_2.safetensors").unlink(), "no W_dec_2.safetensors"),
    ("circuit_tracer_clt-jumprelu", lambda f: (f / "W_enc_99999.safetensors").write_bytes(b""), "up to layer 99999"),
    ("circuit_tracer_clt-jumprelu", lambda f: edit(f / "W_enc_1.safetensors", threshold_1=None), "some layers have thresholds"),
    ("circuit_tracer_clt-jumprelu", lambda f: edit(f / "W_enc_1.safetensors", threshold_1=-torch.ones(F)), "negative codes"),
    ("circuit_tracer_clt-jumprelu", lambda f: edit(f / "W_enc_1.safetensors", b_enc_1=torch.full((F,), torch.nan)), "not finite"),
    ("circuit_tracer_clt-relu", lambda f: edit(f / "W_dec_0.safetensors", W_dec_0=torch.ones(F, 2, D)), "slots would be 2, but it is 3"),
    ("circuit_tracer_clt-relu", lambda f: edit(f / "W_dec_2.safetensors", W_dec_2=torch.ones(F, 1, D + 1)), "do not belong together"),
    ("circuit_tracer_clt-relu", lambda f: edit(f / "W_enc_0.safetensors", W_skip_0=torch.ones(D, D)), "nothing is left out silently"),
    ("circuit_tracer_clt-relu", lambda f: outward(f, "W_dec_1.safetensors"), "link that leads out"),
    ("circuit_tracer-set-jumprelu", lambda f: edit(f / "layer_1.safetensors", **{"activation_function.threshold": -torch.ones(F)}), "negative codes"),
    ("circuit_tracer-set-relu-skip", lambda f: edit(f / "layer_1.safetensors", W_dec=torch.ones(F, D + 1)), "do not belong together"),
    ("circuit_tracer-set-topk", lambda f: edit(f / "layer_1.safetensors", **{"activation_function.threshold": torch.ones(F)}), "different rules"),
    ("gemma_scope_2_clt-affine", lambda f: (f / "params_layer_2.safetensors").unlink(), "writes to 3 layers; all files are needed"),
    ("gemma_scope_2_clt-affine", lambda f: edit(f / "params_layer_1.safetensors", affine_skip_connection=None), "and some have none"),
    ("gemma_scope_2_clt-affine", lambda f: edit(f / "params_layer_1.safetensors", w_dec=torch.ones(F, 2, D)), "layers would be 2"),
    ("gemma_scope_2_clt-affine", lambda f: edit(f / "config.json", architecture="topk"), "jump_relu only"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", hook_points_out=["a"]), "3 hook_points_in and 1 hook_points_out"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", hook_points_in=["a", 3, "b"]), "a list of the layers' hooks"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", act_fn="layertopk"), r"topk \(k in each layer\)"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", norm_activation="token-wise"), "its own length"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", norm_activation="dataset-wise"), "the mean length at"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "config.json", use_decoder_bias=False), "use_decoder_bias is False"),
    ("openmoss_clt-jumprelu", lambda f: edit(f / "sae_weights.safetensors", **{"W_D.2": torch.ones(2, F, D)}), "sources2 would be 2"),
    ("openmoss_clt-topk", lambda f: edit(f / "config.json", top_k=F + 1), "from 1 to d_sae"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "sae.safetensors", **{"post_encs.1": torch.ones(F)}), "post_encs are not 0"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "cfg.json", k=3), "different rules"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "cfg.json", n_targets=1), "n_targets is 1, but 2 layers follow"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "cfg.json", activation="batchtopk"), "activation is batchtopk"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "cfg.json", divide_cross_layer=True), "divide_cross_layer is True"),
    ("eleuther_clt-none", lambda f: edit(f / "h.9.mlp" / "cfg.json", coalesce_topk="concat"), "coalesce_topk is concat, none"),
    ("eleuther_clt-none", lambda f: (f / "h.10.mlp" / "cfg.json").write_text("{"), "not readable JSON"),
    ("eleuther_clt-per-layer-skip", lambda f: edit(f / "h.9.mlp" / "sae.safetensors", W_dec=torch.ones(F, D)), "stacked would be"),
    ("eleuther_clt-concat-normed", lambda f: edit(f / "h.9.mlp" / "sae.safetensors", in_norm=torch.zeros(1)), "in_norm is 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "injure", "part"), BROKEN, ids=[f"{name}-{part[:24]}" for name, _, part in BROKEN])
def test_layers_that_do_not_make_one_dictionary(name: str, injure: Any, part: str, tmp_path: Path) -> None:
    folder = written(example(name), tmp_path / "theirs")
    interop.open(folder)
    injure(folder)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    for attempt in (interop.open, interop.inspect, lambda f: interop.convert(f, tmp_path / "made", "assay")):
        with pytest.raises(AssayError, match=part) as error:
            attempt(folder)
        assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_one_layer_of_several_is_named_with_its_folder(tmp_path: Path) -> None:
    folder = written(example("gemma_scope_2_clt-plain"), tmp_path)
    with pytest.raises(BadInput, match=r"whose layers belong together; name its folder, .*l0_medium"):
        interop.open(folder / "params_layer_1.safetensors")
    folder = written(example("eleuther_clt-none"), tmp_path / "e")
    with pytest.raises(BadInput, match=r"one layer of a cross-layer transcoder, .* name .*/e"):
        interop.open(folder / "h.9.mlp")


@pytest.mark.parametrize("name", ["circuit_tracer_clt-relu", "circuit_tracer-set-jumprelu"])
def test_training_starts_from_layers(name: str, tmp_path: Path) -> None:
    folder = written(example(name), tmp_path)
    opened = interop.open(folder)
    shape = {key: getattr(opened.config, key) for key in ("d_in", "d_sae", "d_out", "in_sites", "out_sites", "wiring")}
    cls = dictionaries.class_of("jumprelu")
    started = interop.start(folder, cls.Config(l0_coef=0.1, **shape))
    assert started.arch in ("jumprelu", "crosslayer")
    x = rows(80, N * D, seed=6)
    with torch.no_grad():
        close(started(x), example(name).answer(x)[1])


def test_latents_that_are_not_as_many_in_each_layer(tmp_path: Path) -> None:
    folder = written(example("circuit_tracer-set-jumprelu"), tmp_path)
    few = {
        name: tensor[: F - 4] if tensor.shape[0] == F else tensor
        for name, tensor in load_file(folder / "layer_1.safetensors").items()
    }
    save_file({name: t.contiguous() for name, t in few.items()}, folder / "layer_1.safetensors")
    with pytest.raises(BadInput, match=r"have \[20, 16, 20\] latents; assay holds as many in each layer"):
        interop.open(folder)
    assert interop.open(folder / "layer_1.safetensors").d_sae == F - 4
