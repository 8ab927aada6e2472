"""Reading stops where it may, whatever the family, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import BUILDERS, output
from torch import Tensor

from assay.core.errors import BadInput, NotFound
from assay.models import read


@pytest.mark.parametrize("family", BUILDERS)
def test_nothing_runs_after_the_last_needed_site(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    ran: list[str] = []
    handles = [m.register_forward_hook(lambda *_, n=n: ran.append(n)) for n, m in model.hf.named_modules()]
    try:
        early = read(model, ids, None, ["attn_out.1", "resid_pre.1"])
        stopped, ran[:] = list(ran), []
        whole = read(model, ids, None, ["attn_out.1", "resid_pre.1"], stop=False)
    finally:
        for handle in handles:
            handle.remove()
    assert any(".0.mlp" in n or "layer.0.intermediate" in n for n in stopped)
    assert not any(
        part in n for n in stopped for part in (".2.", ".1.mlp", "layer.1.intermediate", "head", "embed_out")
    )
    assert any(".2." in n for n in ran)
    for site, h in early.items():
        assert torch.equal(h, whole[site])
    output(model, ids)  # and the next pass is an ordinary one


def test_values_come_under_the_names_that_were_asked_for(tiny: Any, ids: Tensor) -> None:
    model = tiny("gpt2")
    names = ["blocks.1.mlp.hook_post", "mlp_act.1", "transformer.h.1.mlp.c_proj:in", "transformer.h.1.mlp.act"]
    v = read(model, ids, None, names)
    assert list(v) == names
    assert all(torch.equal(h, v["mlp_act.1"]) for h in v.values())


ALIASES = {
    "hook_embed": "embed",
    "blocks.1.hook_resid_pre": "resid_pre.1",
    "blocks.1.hook_resid_mid": "resid_mid.1",
    "blocks.1.hook_resid_post": "resid_post.1",
    "blocks.1.hook_attn_out": "attn_out.1",
    "blocks.1.attn.hook_z": "attn_z.1",
    "blocks.1.hook_mlp_out": "mlp_out.1",
    "blocks.1.mlp.hook_post": "mlp_act.1",
    "blocks.1.ln2.hook_normalized": "mlp_in.1",
}


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_transformer_lens_names_are_aliases(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    assert {alias: model.canonical(alias) for alias in ALIASES} == ALIASES
    extra = read(
        model, ids, None, ["blocks.1.ln1.hook_normalized", "blocks.1.mlp.hook_pre", "ln_final.hook_normalized"]
    )
    assert extra["blocks.1.mlp.hook_pre"].shape[-1] == model.width("mlp_act.1")


def test_the_lens_names_of_bert_mean_the_sums_before_the_norms(tiny: Any, ids: Tensor) -> None:
    model = tiny("bert")
    names = ["resid_pre.1", "attn_out.1", "resid_mid.1", "mlp_out.1", "resid_post.1"]
    lens = ["hook_resid_mid", "hook_resid_post", "hook_normalized_resid_post"]
    v = read(model, ids, None, [*names, *(f"blocks.1.{n}" for n in lens)])
    assert torch.equal(v["blocks.1.hook_resid_mid"], v["resid_pre.1"] + v["attn_out.1"])
    assert torch.equal(v["blocks.1.hook_resid_post"], v["resid_mid.1"] + v["mlp_out.1"])
    assert torch.equal(v["blocks.1.hook_normalized_resid_post"], v["resid_post.1"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resid_pst.1", r'Did you mean "resid_post.L"\?.*0 to 2'),
        ("resid_post.3", "names layer 3.*layers 0 to 2"),
        ("resid_post.-1", "needs a layer.*0 to 2"),
        ("resid_post", "needs a layer.*0 to 2"),
        ("blocks.3.hook_resid_post", "names layer 3.*layers 0 to 2"),
        ("blocks.1.hook_resid_pst", 'Did you mean "hook_resid_post"'),
        ("blocks.1.hook_mlp_in", "resid_mid.1.*mlp_in.1"),
        ("model.layers.1.mpl", 'Did you mean "model.layers.1.mlp"'),
        ("model.layers", "name one of them"),
        ("model.layers.1.mlp:middle", ":in.*:out"),
        ("model.embed_tokens:in", "int64"),
        ("model.rotary_emb", "not one vector a token|crossed|carries"),
        ("", "not a site"),
    ],
)
def test_an_unknown_site_is_refused_with_the_nearest(name: str, says: str, tiny: Any, ids: Tensor) -> None:
    with pytest.raises(NotFound, match=says):
        read(tiny("llama"), ids, None, [name])


def test_a_site_that_a_pass_crosses_never_or_twice_is_refused(tiny: Any) -> None:
    model = tiny("gemma3-with-eyes")
    with pytest.raises(NotFound, match="crossed 0 times"):
        model.width("model.vision_tower.encoder.layers.0.mlp")
    with pytest.raises(NotFound, match="crossed 2 times"):  # the sinus of both kinds of attention
        model.width("model.language_model.rotary_emb")


def test_an_unknown_family_is_read_by_module_paths(ids: Tensor) -> None:
    import transformers as hf

    from assay.models import Model

    config = hf.OPTConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, ffn_dim=20, word_embed_proj_dim=16
    )
    model = Model(hf.OPTForCausalLM(config), None, "tiny-opt")
    assert model.sites() == []
    assert model.width("lm_head") == 61
    with pytest.raises(NotFound, match=r'type "opt".*dotted'):
        model.canonical("resid_post.1")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (torch.zeros(3, dtype=torch.int64), r"\[batch, pos\]"),
        (torch.zeros(1, 3), "float32"),
        (torch.zeros(1, 0, dtype=torch.int64), "at least one token"),
        (torch.full((1, 3), 61), "61 tokens"),
        (torch.full((1, 3), -1), "another tokenizer"),
        (torch.ones(1, 65, dtype=torch.int64), "65 tokens.*at most 64"),
    ],
)
def test_bad_ids_are_refused_in_words(bad: Tensor, says: str, tiny: Any) -> None:
    for call in (lambda m: m.logits(bad), lambda m: read(m, bad, None, ["embed"])):
        with pytest.raises(BadInput, match=says):
            call(tiny("gpt2"))


def test_bad_masks_and_lists_are_refused_in_words(tiny: Any, ids: Tensor) -> None:
    model = tiny("gpt2")
    with pytest.raises(BadInput, match="attention_mask"):
        model.logits(ids, torch.ones(2, 3))
    for sites in ([], "embed"):
        with pytest.raises(BadInput, match="list"):
            read(model, ids, None, sites)
