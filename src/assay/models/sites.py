"""The one table of sites: where each family of models keeps each of the values that research talks about.

    embed          token embedding, before positions are added (Gemma: after its scaling by sqrt(d))
    resid_pre.L    residual stream that enters block L
    attn_z.L       heads of block L side by side, before the output projection [n_heads * d_head]
    attn_out.L     what attention adds to the stream (Gemma 2 and 3: after their post-norm, since that is what is added)
    resid_mid.L    stream between attention and MLP
    mlp_in.L       what the MLP reads: resid_mid after its norm, with the norm's weight and bias
    mlp_act.L      what the MLP's last projection reads (gated MLPs: activation(gate) * up)
    mlp_out.L      what the MLP adds to the stream (Gemma 2 and 3: after their post-norm)
    resid_post.L   stream that leaves block L, which is resid_pre.L+1

Pre-norm families, attention first: resid_mid = resid_pre + attn_out and resid_post = resid_mid + mlp_out. GPT-NeoX with
parallel attention has no resid_mid: resid_post = resid_pre + attn_out + mlp_out. BERT normalises after adding:
resid_mid = norm(resid_pre + attn_out) and resid_post = norm(resid_mid + mlp_out); there mlp_in has the value of
resid_mid, but editing mlp_in changes only what the MLP reads.

TransformerLens names mean what they mean there before its weight processing (`from_pretrained_no_processing`). Two
deviations: `attn.hook_z` has its heads side by side here, and the `hook_normalized` of a norm includes the norm's
weight (TransformerLens leaves the weight of an RMS norm out).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Side = Literal["in", "out", "stream"]

KINDS = ("resid_pre", "attn_z", "attn_out", "resid_mid", "mlp_in", "mlp_act", "mlp_out", "resid_post")

#: Kinds whose vectors live in the residual stream's own space.
STREAM_WIDE = frozenset({"resid_pre", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post"})


@dataclass(frozen=True)
class Tap:
    """A side of a module.

    `in`: what this module alone reads. `out`: what it returns. `stream`: what it reads and the block also adds to
    later, as one and the same tensor, so that an edit has to be written into that tensor.
    """

    path: str
    side: Side

    def __str__(self) -> str:
        return f"{self.path}:{self.side}"


@dataclass(frozen=True)
class Family:
    """Paths below the base model; those of `sites` and `lens` lie below a block and end in the side of `Tap`."""

    name: str
    blocks: str
    embed: str
    sites: Mapping[str, str]
    lens: Mapping[str, str] = field(default_factory=dict)  # TransformerLens name below blocks.L -> tap below the block
    lens_top: Mapping[str, str] = field(default_factory=dict)  # TransformerLens name -> tap below the base model
    causal: bool = True


GPT2 = Family(
    name="gpt2",
    blocks="h",
    embed="wte:out",
    sites={
        "resid_pre": ":in",
        "attn_z": "attn.c_proj:in",
        "attn_out": "attn:out",
        "resid_mid": "ln_2:stream",
        "mlp_in": "mlp:in",
        "mlp_act": "mlp.c_proj:in",
        "mlp_out": "mlp:out",
        "resid_post": ":out",
    },
    lens={"ln1.hook_normalized": "ln_1:out", "mlp.hook_pre": "mlp.c_fc:out"},
    lens_top={"hook_pos_embed": "wpe:out", "ln_final.hook_normalized": "ln_f:out"},
)

NEOX = Family(
    name="gpt_neox",
    blocks="layers",
    embed="embed_in:out",
    sites={
        "resid_pre": ":in",
        "attn_z": "attention.dense:in",
        "attn_out": "attention:out",
        "resid_mid": "post_attention_layernorm:stream",
        "mlp_in": "mlp:in",
        "mlp_act": "mlp.dense_4h_to_h:in",
        "mlp_out": "mlp:out",
        "resid_post": ":out",
    },
    lens={"ln1.hook_normalized": "input_layernorm:out", "mlp.hook_pre": "mlp.dense_h_to_4h:out"},
    lens_top={"ln_final.hook_normalized": "final_layer_norm:out"},
)

LLAMA = Family(  # Mistral, Qwen 2 and 3 and Gemma 1 are built alike
    name="llama",
    blocks="layers",
    embed="embed_tokens:out",
    sites={
        "resid_pre": ":in",
        "attn_z": "self_attn.o_proj:in",
        "attn_out": "self_attn:out",
        "resid_mid": "post_attention_layernorm:stream",
        "mlp_in": "mlp:in",
        "mlp_act": "mlp.down_proj:in",
        "mlp_out": "mlp:out",
        "resid_post": ":out",
    },
    lens={"ln1.hook_normalized": "input_layernorm:out", "mlp.hook_pre": "mlp.gate_proj:out"},
    lens_top={"ln_final.hook_normalized": "norm:out"},
)

GEMMA2 = Family(  # Gemma 3 too; a norm before and one after each half of the block
    name="gemma2",
    blocks="layers",
    embed="embed_tokens:out",
    sites={
        **LLAMA.sites,
        "attn_out": "post_attention_layernorm:out",
        "resid_mid": "pre_feedforward_layernorm:stream",
        "mlp_out": "post_feedforward_layernorm:out",
    },
    lens=LLAMA.lens,
    lens_top=LLAMA.lens_top,
)

BERT = Family(
    name="bert",
    blocks="encoder.layer",
    embed="embeddings.word_embeddings:out",
    sites={
        "resid_pre": ":in",
        "attn_z": "attention.output.dense:in",
        "attn_out": "attention.output.dense:out",
        "resid_mid": "attention:out",
        "mlp_in": "intermediate:in",
        "mlp_act": "output.dense:in",
        "mlp_out": "output.dense:out",
        "resid_post": ":out",
    },
    lens={  # TransformerLens has the sums before the norms under resid_mid and resid_post
        "hook_resid_mid": "attention.output.LayerNorm:in",
        "hook_resid_post": "output.LayerNorm:in",
        "hook_normalized_resid_post": ":out",
        "mlp.hook_pre": "intermediate.dense:out",
    },
    causal=False,
)

FAMILIES: dict[str, Family] = {  # config.model_type -> family
    "gpt2": GPT2,
    "gpt_neox": NEOX,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": LLAMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA2,
    "gemma3_text": GEMMA2,
    "bert": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
}

#: TransformerLens names below `blocks.L.`, for every family that does not say otherwise in `lens`.
LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "attn_z",
    "mlp.hook_post": "mlp_act",
    "ln2.hook_normalized": "mlp_in",
}
