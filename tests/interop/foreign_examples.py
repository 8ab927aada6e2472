"""Files of other tools built from the descriptions of their formats alone, with what they must compute.

Each example writes a folder and states its codes and outputs by the other tool's own equation, written here once more in plain tensors:
nothing of assay is used. All biases are random and not 0, rows of W_dec have different lengths, and d_sae is not d_in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bare_examples import BARE
from layered_examples import LAYERED
from plain_codes import (
    Answer,
    D,
    Example,
    F,
    K,
    State,
    gated_codes,
    gates,
    jump_codes,
    largest,
    matrices,
    numbers,
    one_threshold,
    relu_codes,
    topk_codes,
)
from saelens_examples import SAELENS, row_by_row
from safetensors.torch import save_file
from torch import Tensor

# ---- Gemma Scope --------------------------------------------------------------------------------------------------


def gemma(name: str, folder: str, *, d_out: int = D, root: float = 1.0, lower: bool = False, **facts: Any) -> Example:
    s = matrices(d_out)

    def write(base: Path) -> None:
        place = base / folder
        place.mkdir(parents=True, exist_ok=True)
        arrays = {(n.replace("W_", "w_") if lower else n): t.numpy() for n, t in s.items()}
        np.savez(place / "params.npz", **arrays)

    def answer(x: Tensor) -> Answer:
        pre = x @ (s["W_enc"] / root) + s["b_enc"]
        f = torch.relu(pre) * (pre > s["threshold"])
        return f, f @ (s["W_dec"] * root) + s["b_dec"]

    return Example("gemma_scope", name, "jumprelu", write, answer, d_out, {**facts, "folder": folder})


GEMMA = [
    gemma(
        "res", "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82", site="resid_post.12", model="google/gemma-2-2b"
    ),
    gemma("att", "gemma-scope-9b-it-att/layer_3/width_16k/average_l0_9", site="attn_z.3", model="google/gemma-2-9b-it"),
    gemma("mlp-lower", "gemma-scope-27b-pt-mlp/layer_0/width_16k/average_l0_9", lower=True, site="mlp_out.0"),
    gemma("embedding", "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", root=D**0.5, site="embed"),
    gemma(
        "transcoder",
        "gemma-scope-2b-pt-transcoders/layer_4/width_16k/average_l0_5",
        d_out=4,
        site="mlp_in.4",
        target="mlp_out.4",
    ),
]


def gemma2(
    name: str, folder: str, *, d_out: int = D, affine: bool = False, config: bool = True, **facts: Any
) -> Example:
    s = matrices(d_out)
    stored = {n.lower(): t for n, t in s.items()}
    if affine:
        stored["affine_skip_connection"] = numbers(D, d_out, seed=31)

    def write(base: Path) -> None:
        place = base / folder
        place.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in stored.items()}, place / "params.safetensors")
        if config:
            cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-270m", "affine_connection": affine}
            cfg |= {"hf_hook_point_in": "model.layers.5.output", "hf_hook_point_out": "model.layers.5.output"}
            if "transcoder" in folder:
                cfg |= {"hf_hook_point_out": "model.layers.5.mlp.output"}
            (place / "config.json").write_text(json.dumps(cfg))

    def answer(x: Tensor) -> Answer:
        pre = x @ s["W_enc"] + s["b_enc"]
        f = torch.relu(pre) * (pre > s["threshold"])
        y = f @ s["W_dec"] + s["b_dec"]
        return f, y + (x @ stored["affine_skip_connection"] if affine else 0)

    return Example("gemma_scope_2", name, "jumprelu", write, answer, d_out, {**facts, "folder": folder})


GEMMA2 = [
    gemma2("resid", "resid_post/layer_5_width_16k_l0_small", site="model.layers.5.output", model="google/gemma-3-270m"),
    gemma2("no-config", "mlp_out_all/layer_5_width_16k_l0_big", config=False, site="mlp_out.5"),
    gemma2(
        "affine", "transcoder_all/layer_5_width_16k_l0_small_affine", affine=True, target="model.layers.5.mlp.output"
    ),
    gemma2(
        "affine-wide",
        "transcoder/layer_5_width_16k_l0_small_affine",
        d_out=4,
        affine=True,
        config=False,
        target="mlp_out.5",
    ),
]


# ---- dictionary_learning ------------------------------------------------------------------------------------------


def dl(name: str, arch: str, state: State, codes: Callable[[Tensor], Tensor], sub: bool, **trainer: Any) -> Example:
    decoder = state["decoder.weight"].T if "decoder.weight" in state else state["W_dec"]
    b_dec = next(state[n] for n in ("bias", "decoder.bias", "decoder_bias", "b_dec") if n in state)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({n: t.clone() for n, t in state.items()}, folder / "ae.pt")
        made = {
            "dict_class": name,
            "activation_dim": D,
            "dict_size": F,
            "lm_name": "gpt2",
            "submodule_name": "resid_post_layer_3",
        }
        (folder / "config.json").write_text(json.dumps({"trainer": {**made, **trainer}, "buffer": {"io": "out"}}))

    def answer(x: Tensor) -> Answer:
        f = codes(x - b_dec if sub else x)
        return f, f @ decoder + b_dec

    return Example("dictionary_learning", name, arch, write, answer, facts={"model": "gpt2", "site": "resid_post.3"})


def dl_examples() -> list[Example]:
    m, g = matrices(), gates()
    linear = {"encoder.weight": m["W_enc"].T.contiguous(), "decoder.weight": m["W_dec"].T.contiguous()}
    biased = {**linear, "encoder.bias": m["b_enc"]}
    plain = {n: m[n] for n in ("W_enc", "b_enc", "W_dec", "b_dec")}
    k: State = {"k": torch.tensor(K, dtype=torch.int)}
    unset, one = torch.tensor(-1.0), torch.tensor(0.8)
    gated = {
        **linear,
        "decoder_bias": m["b_dec"],
        "r_mag": g["r_mag"],
        "gate_bias": g["b_gate"],
        "mag_bias": g["b_mag"],
    }
    nested = {**plain, **k, "threshold": one, "group_sizes": torch.tensor([5, 7, 8])}
    return [
        dl("AutoEncoder", "relu", {**biased, "bias": m["b_dec"]}, lambda z: relu_codes(z, m), True),
        dl("AutoEncoderNew", "relu", {**biased, "decoder.bias": m["b_dec"]}, lambda z: relu_codes(z, m), False),
        dl("GatedAutoEncoder", "gated", gated, lambda z: gated_codes(z, {**m, **g}), True),
        dl("JumpReluAutoEncoder", "jumprelu", {**plain, "threshold": m["threshold"]}, lambda z: jump_codes(z, m), False, norm_factor=3.1),
        dl("AutoEncoderTopK", "topk", {**biased, "b_dec": m["b_dec"], **k, "threshold": unset}, lambda z: topk_codes(z, m), True, k=K),
        dl("BatchTopKSAE", "batchtopk", {**biased, "b_dec": m["b_dec"], **k, "threshold": one}, lambda z: one_threshold(z, m), True, k=K),
        dl("MatryoshkaBatchTopKSAE", "matryoshka", nested, lambda z: one_threshold(z, m), True, k=K),
    ]  # fmt: skip


# ---- sparsify -----------------------------------------------------------------------------------------------------


def sparse(name: str, arch: str, hookpoint: str, *, transcode: bool = False, skip: bool = False, **cfg: Any) -> Example:
    m = matrices()
    stored = {"encoder.weight": m["W_enc"].T, "encoder.bias": m["b_enc"], "W_dec": m["W_dec"], "b_dec": m["b_dec"]}
    if skip:
        stored["W_skip"] = numbers(D, D, seed=41)

    def write(base: Path) -> None:
        place = base / hookpoint
        place.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in stored.items()}, place / "sae.safetensors")
        full = {
            "activation": "topk",
            "expansion_factor": 32,
            "normalize_decoder": True,
            "num_latents": F,
            "k": K,
            "multi_topk": False,
        }
        full |= {"skip_connection": skip, "transcode": transcode, "d_in": D, **cfg}
        (place / "cfg.json").write_text(json.dumps(full))

    def answer(x: Tensor) -> Answer:
        pre = (x if transcode else x - m["b_dec"]) @ m["W_enc"] + m["b_enc"]
        f = largest(pre, K, pre.abs()) if cfg.get("signed") else largest(torch.relu(pre), K)
        return f, f @ m["W_dec"] + m["b_dec"] + (x @ stored["W_skip"].T if skip else 0)

    return Example("sparsify", name, arch, write, answer, facts={"folder": hookpoint})


SPARSIFY = [
    sparse("sae", "topk", "layers.3"),
    sparse("signed", "abstopk", "layers.3", signed=True),
    sparse("sae-skip", "skip_transcoder", "layers.3", skip=True),
    sparse("transcoder", "topk", "layers.3.mlp", transcode=True),
    sparse("skip-transcoder", "skip_transcoder", "layers.3.mlp", transcode=True, skip=True),
]

# ---- HypotheSAEs, OpenAI --------------------------------------------------------------------------------------------


def hypothesis(name: str, arch: str, codes: Callable[[Tensor, State], Tensor], **config: Any) -> Example:
    m = matrices()
    state = {"input_bias": m["b_dec"], "neuron_bias": m["b_enc"], "threshold": torch.tensor(0.8)}
    state |= {"encoder.weight": m["W_enc"].T.contiguous(), "decoder.weight": m["W_dec"].T.contiguous()}
    full = {"input_dim": D, "m_total_neurons": F, "k_active_neurons": K, "aux_k": None, "multi_k": None}
    full |= {"dead_neuron_threshold_steps": 256, "prefix_lengths": None, "use_batch_topk": False, **config}

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"config": full, "state_dict": state}, folder / f"SAE_M={F}_K={K}.pt")

    def answer(x: Tensor) -> Answer:
        f = codes(x - m["b_dec"], m)
        return f, f @ m["W_dec"] + m["b_dec"]

    return Example("hypothesaes", name, arch, write, answer)


HYPOTHESAES = [
    hypothesis("topk", "topk", topk_codes),
    hypothesis("prefixes", "topk", topk_codes, prefix_lengths=[5, F]),
    hypothesis("batch", "batchtopk", one_threshold, use_batch_topk=True),
    hypothesis("batch-prefixes", "matryoshka", one_threshold, use_batch_topk=True, prefix_lengths=[5, 12, F]),
]


def openai(activation: str) -> Example:
    m = matrices()

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "pre_bias": m["b_dec"],
            "latent_bias": m["b_enc"],
            "stats_last_nonzero": torch.zeros(F, dtype=torch.long),
        }
        state |= {"encoder.weight": m["W_enc"].T.contiguous(), "decoder.weight": m["W_dec"].T.contiguous()}
        inner = {} if activation == "ReLU" else {"k": K, "postact_fn": "ReLU"}
        torch.save({**state, "activation": activation, "activation_state_dict": inner}, folder / "autoencoder.pt")

    def answer(x: Tensor) -> Answer:
        f = relu_codes(x - m["b_dec"], m)
        return f, f @ m["W_dec"] + m["b_dec"]

    def layer_normed(x: Tensor) -> Answer:
        def plain(z: Tensor) -> Answer:
            f = topk_codes(z - m["b_dec"], m)
            return f, f @ m["W_dec"] + m["b_dec"]

        return row_by_row(x, "layer_norm", plain)

    return Example(
        "openai_sae", activation.lower(), activation.lower(), write, answer if activation == "ReLU" else layer_normed
    )


# ---- OpenMOSS and Llama Scope ---------------------------------------------------------------------------------------


def moss(
    name: str, arch: str, act: str, *, c_in: float = 1.0, c_out: float = 1.0, normed: bool = False, out: str = "hook_in"
) -> Example:
    """c = sqrt(D) / mean length; with `normed` act sees pre * ||W_D_i|| and its codes are divided by that again."""
    m = matrices()
    wise = (c_in, c_out) != (1.0, 1.0)
    hooks = ("hook_in", out)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"W_E": m["W_enc"], "b_E": m["b_enc"], "W_D": m["W_dec"], "b_D": m["b_dec"]}
        if act == "jumprelu":
            tensors["activation_function.log_jumprelu_threshold"] = m["threshold"].log()
        for hook, c in zip(hooks, (c_in, c_out), strict=True):  # what was never set is whatever was in memory
            tensors[f"dataset_average_activation_norm.{hook}"] = torch.tensor(D**0.5 / c if wise else float("nan"))
        save_file(tensors, folder / "sae_weights.safetensors")
        cfg = {
            "sae_type": "sae",
            "d_model": D,
            "expansion_factor": F / D,
            "act_fn": act,
            "top_k": K,
            "use_decoder_bias": True,
        }
        cfg |= {"norm_activation": "dataset-wise" if wise else "inference", "sparsity_include_decoder_norm": normed}
        (folder / "config.json").write_text(json.dumps({**cfg, "hook_point_in": hooks[0], "hook_point_out": hooks[1]}))

    def answer(x: Tensor) -> Answer:
        n = m["W_dec"].norm(dim=1) if normed else torch.ones(F)
        pre = ((c_in * x) @ m["W_enc"] + m["b_enc"]) * n
        kept = {"relu": torch.relu(pre), "topk": largest(torch.relu(pre), K)}.get(
            act, torch.relu(pre) * (pre > m["threshold"])
        )
        y = ((kept / n) @ m["W_dec"] + m["b_dec"]) / c_out
        return kept if act == "topk" else kept / n, y  # assay's top-k codes carry the norm by which they are chosen

    facts = {"site": hooks[0], **({"target": out} if out != hooks[0] else {})}
    return Example("openmoss", name, arch, write, answer, facts=facts)


def llama_scope(normed: bool) -> Example:
    m = matrices()
    mean, raw = 1.9, 0.55
    c = D**0.5 / mean

    def write(base: Path) -> None:
        folder = base / "Llama3_1-8B-Base-L7R-8x"
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        tensors = {
            "encoder.weight": m["W_enc"].T,
            "encoder.bias": m["b_enc"],
            "decoder.weight": m["W_dec"].T,
            "decoder.bias": m["b_dec"],
        }
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "checkpoints" / "final.safetensors")
        cfg = {
            "d_model": D,
            "d_sae": F,
            "act_fn": "jumprelu",
            "jump_relu_threshold": raw,
            "norm_activation": "dataset-wise",
        }
        cfg |= {
            "dataset_average_activation_norm": {"in": mean, "out": mean},
            "sparsity_include_decoder_norm": normed,
            "top_k": 50,
        }
        cfg |= {"use_decoder_bias": True, "apply_decoder_bias_to_pre_encoder": False}
        hook = "blocks.7.hook_resid_post"
        (folder / "hyperparams.json").write_text(json.dumps({**cfg, "hook_point_in": hook, "hook_point_out": hook}))

    def answer(x: Tensor) -> Answer:
        pre = (c * x) @ m["W_enc"] + m["b_enc"]
        on = (pre * m["W_dec"].norm(dim=1) if normed else pre) > raw * c
        f = torch.relu(pre) * on
        return f, (f @ m["W_dec"] + m["b_dec"]) / c

    name = f"llama-scope{'-normed' if normed else ''}"
    facts = {"folder": "Llama3_1-8B-Base-L7R-8x", "site": "resid_post.7"}
    return Example("openmoss", name, "jumprelu", write, answer, facts=facts)


OPENMOSS = [
    moss("relu", "relu", "relu"),
    moss("jumprelu", "jumprelu", "jumprelu"),
    moss("jumprelu-scaled-normed", "jumprelu", "jumprelu", c_in=1.7, c_out=1.7, normed=True),
    moss("topk-scaled-normed", "topk", "topk", c_in=1.7, c_out=1.7, normed=True),
    moss("transcoder", "jumprelu", "jumprelu", c_in=1.7, c_out=0.6, normed=True, out="hook_out"),
    llama_scope(False),
    llama_scope(True),
]


# ---- circuit-tracer -------------------------------------------------------------------------------------------------


def traced(
    name: str,
    arch: str,
    codes: Callable[[Tensor, State], Tensor],
    *,
    skip: bool = False,
    theta: str = "",
    topk: bool = False,
) -> Example:
    m = matrices()
    stored = {"W_enc": m["W_enc"].T, "W_dec": m["W_dec"], "b_enc": m["b_enc"], "b_dec": m["b_dec"]}
    if theta:
        stored["activation_function.threshold"] = m["threshold"] if theta == "each" else torch.tensor(0.8)
    if skip:
        stored["W_skip"] = numbers(D, D, seed=71)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({n: t.contiguous() for n, t in stored.items()}, folder / "layer_3.safetensors")
        lines = [
            'model_name: "google/gemma-2-2b"',
            "model_kind: transcoder_set",
            "feature_input_hook: ln2.hook_normalized",
        ]
        lines += [
            "feature_output_hook: hook_mlp_out",
            *(["activation: topk", f"k: {K}"] if topk else []),
            "transcoders:",
            "  - a",
        ]
        (folder / "config.yaml").write_text("\n".join(lines))

    def answer(x: Tensor) -> Answer:
        f = codes(x, m)
        return f, f @ m["W_dec"] + m["b_dec"] + (x @ stored["W_skip"].T if skip else 0)

    facts = {"site": "mlp_in.3", "target": "mlp_out.3", "model": "google/gemma-2-2b"}
    return Example("circuit_tracer", name, arch, write, answer, facts=facts)


TRACED = [
    traced("relu", "transcoder", relu_codes),
    traced("relu-skip", "transcoder", relu_codes, skip=True),
    traced("jumprelu", "jumprelu", jump_codes, theta="each"),
    traced("jumprelu-one", "jumprelu", one_threshold, theta="one", skip=True),
    traced("topk", "topk", topk_codes, topk=True),
]

EXAMPLES = [
    *SAELENS,
    *GEMMA,
    *GEMMA2,
    *dl_examples(),
    *SPARSIFY,
    *HYPOTHESAES,
    openai("ReLU"),
    openai("TopK"),
    *OPENMOSS,
    *TRACED,
    *LAYERED,
    *BARE,
]


def written(example: Example, base: Path) -> Path:
    """Write the example's files and return the dictionary's folder."""
    example.write(base)
    return base / example.facts.get("folder", "")
