"""Each site is what the table says it is.

The block's equations, recomputed from its weights, hold between the sites; and with one site replaced, all equations
but its own still hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import BUILDERS, CAUSAL, N_LAYERS, D, output
from torch import Tensor
from torch.nn import functional

from assay.models import Edit, Model, ablated, edited, read, splice

L = 1  # the middle block
close = lambda a, b: torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
Values = dict[str, Tensor]


def block_of(model: Model, layer: int = L) -> Any:
    """The block, found without the table of sites."""
    kinds = ("GPT2Block", "Layer", "DecoderLayer")
    found = [m for m in model.hf.modules() if type(m).__name__.endswith(kinds) and "Siglip" not in type(m).__name__]
    assert len(found) == N_LAYERS
    return found[layer]


def equations(family: str, model: Model) -> dict[str, Callable[[Values], Tensor]]:
    """site -> its value, from the values of the sites before it; written from the papers' equations."""
    b = block_of(model)
    if family == "gpt2":
        return {
            "attn_out": lambda v: b.attn.c_proj(v["attn_z"]),
            "resid_mid": lambda v: v["resid_pre"] + v["attn_out"],
            "mlp_in": lambda v: b.ln_2(v["resid_mid"]),
            "mlp_act": lambda v: functional.gelu(b.mlp.c_fc(v["mlp_in"]), approximate="tanh"),
            "mlp_out": lambda v: b.mlp.c_proj(v["mlp_act"]),
            "resid_post": lambda v: v["resid_mid"] + v["mlp_out"],
        }
    if family.startswith("neox"):
        parallel = family == "neox-parallel"
        found = {
            "attn_out": lambda v: b.attention.dense(v["attn_z"]),
            "resid_mid": lambda v: v["resid_pre"] + v["attn_out"],
            "mlp_in": lambda v: b.post_attention_layernorm(v["resid_pre" if parallel else "resid_mid"]),
            "mlp_act": lambda v: functional.gelu(b.mlp.dense_h_to_4h(v["mlp_in"])),
            "mlp_out": lambda v: b.mlp.dense_4h_to_h(v["mlp_act"]),
            "resid_post": lambda v: v["resid_pre"] + v["attn_out"] + v["mlp_out"],
        }
        if parallel:
            del found["resid_mid"]
        else:
            found["resid_post"] = lambda v: v["resid_mid"] + v["mlp_out"]
        return found
    if family in ("bert", "roberta"):
        return {
            "attn_out": lambda v: b.attention.output.dense(v["attn_z"]),
            "resid_mid": lambda v: b.attention.output.LayerNorm(v["resid_pre"] + v["attn_out"]),
            "mlp_in": lambda v: v["resid_mid"],
            "mlp_act": lambda v: functional.gelu(b.intermediate.dense(v["mlp_in"])),
            "mlp_out": lambda v: b.output.dense(v["mlp_act"]),
            "resid_post": lambda v: b.output.LayerNorm(v["resid_mid"] + v["mlp_out"]),
        }
    gemma = family.startswith("gemma")
    act = (lambda x: functional.gelu(x, approximate="tanh")) if gemma else functional.silu
    two_norms = gemma and family != "gemma"
    same = lambda x: x
    before_mlp = b.pre_feedforward_layernorm if two_norms else b.post_attention_layernorm
    after_attn = b.post_attention_layernorm if two_norms else same
    after_mlp = b.post_feedforward_layernorm if two_norms else same
    return {
        "attn_out": lambda v: after_attn(b.self_attn.o_proj(v["attn_z"])),
        "resid_mid": lambda v: v["resid_pre"] + v["attn_out"],
        "mlp_in": lambda v: before_mlp(v["resid_mid"]),
        "mlp_act": lambda v: act(b.mlp.gate_proj(v["mlp_in"])) * b.mlp.up_proj(v["mlp_in"]),
        "mlp_out": lambda v: after_mlp(b.mlp.down_proj(v["mlp_act"])),
        "resid_post": lambda v: v["resid_mid"] + v["mlp_out"],
    }


def values(model: Model, ids: Tensor, layer: int = L) -> Values:
    sites = [s for s in model.sites() if s.endswith(f".{layer}")]
    return {name.partition(".")[0]: h for name, h in read(model, ids, None, sites).items()}


@pytest.mark.parametrize("family", BUILDERS)
def test_the_equations_of_a_block_hold_between_its_sites(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    v = values(model, ids)
    for site, of in equations(family, model).items():
        close(v[site], of(v))


@pytest.mark.parametrize("family", BUILDERS)
def test_resid_post_is_the_next_blocks_input(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    seen: list[Tensor] = []
    hook = lambda _m, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"])
    handle = block_of(model, L + 1).register_forward_pre_hook(hook, with_kwargs=True)
    v = read(model, ids, None, [f"resid_post.{L}", f"resid_pre.{L + 1}"], stop=False)
    handle.remove()
    assert torch.equal(v[f"resid_post.{L}"], v[f"resid_pre.{L + 1}"])
    assert torch.equal(v[f"resid_post.{L}"], seen[0])


@pytest.mark.parametrize("family", BUILDERS)
def test_embed_is_the_token_embedding(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    rows = model.hf.get_input_embeddings().weight[ids]
    close(read(model, ids, None, ["embed"])["embed"], rows * (D**0.5 if family.startswith("gemma") else 1.0))
    with ablated(model, "embed", "zero"):
        v = read(model, ids, None, ["embed", "resid_pre.0"])
        assert not v["embed"].any()
    if family == "gpt2":
        close(v["resid_pre.0"], model.hf.transformer.wpe.weight[:9].expand(2, -1, -1))
    elif family in CAUSAL:
        assert not v["resid_pre.0"].any()
    else:
        e, first = model.hf.embeddings, 0 if family == "bert" else 1  # roberta counts positions from its padding id + 1
        close(
            v["resid_pre.0"],
            e.LayerNorm(e.position_embeddings.weight[first : first + 9] + e.token_type_embeddings.weight[0]).expand(
                2, -1, -1
            ),
        )


@pytest.mark.parametrize("how", ["zero", "random"])
@pytest.mark.parametrize("family", BUILDERS)
def test_replacing_a_site_breaks_its_own_equation_and_no_other(family: str, how: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    laws = equations(family, model)
    clean, clean_out = values(model, ids), output(model, ids)
    order = [k for k in clean]
    for site in order:
        rng = torch.Generator().manual_seed(2)
        value = torch.randn(clean[site].shape, generator=rng) * (how == "random")
        with edited(model, [Edit(f"{site}.{L}", lambda h, where, value=value: value)]):
            v, out = values(model, ids), output(model, ids)
        assert torch.equal(v[site], value), site  # not merely close: no rounding, whatever the site
        for other, of in laws.items():
            if other != site:
                close(v[other], of(v))
        upstream = {"attn_z": ["resid_pre"]}.get(site, order[: order.index(site)] if site != "resid_pre" else [])
        for other in upstream:
            assert torch.equal(v[other], clean[other]), (site, other)
        assert ((v["attn_z"] - clean["attn_z"]).abs().max() > 1e-3) == (site in ("resid_pre", "attn_z"))
        assert (out - clean_out).abs().max() > 1e-3, site


@pytest.mark.parametrize("family", CAUSAL)
def test_replacing_the_last_stream_gives_the_head_of_it(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    last = f"resid_post.{N_LAYERS - 1}"
    vector = torch.randn(D, generator=torch.Generator().manual_seed(3))
    with ablated(model, last, vector):
        got = model.logits(ids)
    base = model.hf.get_decoder() if hasattr(model.hf, "get_decoder") else model.hf.base_model
    norm = {"gpt2": "ln_f", "neox-parallel": "final_layer_norm", "neox-sequential": "final_layer_norm"}
    expected = model.hf.get_output_embeddings()(getattr(base, norm.get(family, "norm"))(vector))
    if family == "gemma2":
        expected = 30 * torch.tanh(expected / 30)
    close(got, expected.expand_as(got))


@pytest.mark.parametrize("family", BUILDERS)
def test_splicing_with_its_error_leaves_the_output_unchanged(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    before = output(model, ids)
    for site in ["embed", *(s for s in model.sites() if s.endswith(f".{L}"))]:
        width = model.width(site)
        W = torch.randn(width, width, generator=torch.Generator().manual_seed(4)) / width**0.5
        with splice(model, site, lambda x, W=W: x @ W + 0.5, error=True):
            close(output(model, ids), before)
        with splice(model, site, lambda x, W=W: x @ W + 0.5):
            assert (output(model, ids) - before).abs().max() > 1e-2, site


@pytest.mark.parametrize("family", BUILDERS)
def test_width_is_that_of_what_is_read(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    for site, h in read(model, ids, None, model.sites()).items():
        assert h.shape == (2, 9, model.width(site)), site


def test_parallel_attention_has_no_stream_in_the_middle(tiny: Any) -> None:
    model = tiny("neox-parallel")
    assert not any(s.startswith("resid_mid") for s in model.sites())
    with pytest.raises(ValueError, match="parallel"):
        model.canonical("resid_mid.1")
    with pytest.raises(ValueError, match="parallel"):
        model.canonical("blocks.1.hook_resid_mid")
