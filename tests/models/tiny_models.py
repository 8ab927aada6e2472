"""Tiny random models of every family in the table, with no weight left at a value that hides mistakes (0 or 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from assay.models import Model

N_LAYERS, D, VOCAB = 3, 16, 61

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": D,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**COMMON, "num_key_value_heads": 2}
GEMMA = {**GROUPED, "head_dim": 6}  # heads side by side are wider than the model
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 14,
    "patch_size": 14,
}


def _gpt2() -> Any:
    config = hf.GPT2Config(
        vocab_size=VOCAB, n_embd=D, n_layer=N_LAYERS, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    )
    return hf.GPT2LMHeadModel(config)


def _gemma3_with_eyes() -> Any:
    config = hf.Gemma3Config(
        text_config={**GEMMA, **WINDOW, "query_pre_attn_scalar": 6},
        vision_config=VISION,
        mm_tokens_per_image=1,
        image_token_index=60,
        boi_token_index=59,
        eoi_token_index=58,
    )
    return hf.Gemma3ForConditionalGeneration(config)


BUILDERS: dict[str, Callable[[], Any]] = {
    "gpt2": _gpt2,
    "neox-parallel": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, use_parallel_residual=True)),
    "neox-sequential": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**COMMON, use_parallel_residual=False)),
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED, attention_bias=True, mlp_bias=True)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=4)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED, head_dim=6)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**GEMMA)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GEMMA, **WINDOW, query_pre_attn_scalar=6)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GEMMA, **WINDOW, query_pre_attn_scalar=6)),
    "gemma3-with-eyes": _gemma3_with_eyes,
    "bert": lambda: hf.BertModel(hf.BertConfig(**COMMON), add_pooling_layer=False),
    "roberta": lambda: hf.RobertaModel(hf.RobertaConfig(**COMMON), add_pooling_layer=False),
}
CAUSAL = [name for name in BUILDERS if name not in ("bert", "roberta")]


@torch.no_grad()
def scramble(net: torch.nn.Module, seed: int = 0) -> None:
    """Random weights of a healthy size; biases and norm weights too."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=rng)
        if parameter.ndim > 1:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.3 * noise)


_made: dict[str, Model] = {}


def tiny_model(family: str) -> Model:
    """The tiny model of a family; one object for the whole session."""
    if family not in _made:
        net = BUILDERS[family]()
        scramble(net)
        _made[family] = Model(net, None, f"tiny-{family}")
    return _made[family]


def n_hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def output(model: Model, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits, or for an encoder its last hidden state."""
    return model.logits(ids, mask) if model.is_causal_lm else model.forward(ids, mask).last_hidden_state


def models_with_hooks() -> list[str]:
    return [name for name, model in _made.items() if n_hooks(model)]
