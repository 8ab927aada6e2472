"""Cross-layer transcoders and sets of per-layer transcoders of other tools, built from the descriptions of their formats.

As in `foreign_examples`, each states its codes and outputs by the other tool's own equation, layer by layer and pair of layers by pair,
in plain tensors. All biases are random and not 0, and every layer's numbers are its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from plain_codes import Answer, D, Example, F, K, State, largest, numbers
from safetensors.torch import save_file
from torch import Tensor

N = 3  # layers
Rule = str


def model(seed: int = 0) -> State:
    """W_enc [N, D, F], W_dec [N, N, F, D] from layer to layer (0 to earlier ones), b_enc, b_dec, theta, skip [N, D, D]."""
    W_dec = numbers(N, N, F, D, seed=seed + 202)
    for i in range(N):
        W_dec[i, :i] = 0
    return {
        "W_enc": numbers(N, D, F, seed=seed + 201),
        "W_dec": W_dec,
        "b_enc": numbers(N, F, seed=seed + 203),
        "b_dec": numbers(N, D, seed=seed + 204, around=0.4),
        "theta": numbers(N, F, seed=seed + 205, size=0.3, around=0.7).abs(),
        "skip": numbers(N, D, D, seed=seed + 206, size=0.3),
    }


def one_code(pre: Tensor, rule: Rule, theta: Tensor) -> Tensor:
    if rule == "topk":
        return largest(torch.relu(pre), K)
    return torch.relu(pre) * (pre > theta) if rule == "jumprelu" else torch.relu(pre)


def in_layers(x: Tensor, s: State, rule: Rule, skip: bool = False, across: bool = True) -> Answer:
    """Codes and outputs of x [n, N * D]."""
    f = [one_code(x[:, D * i : D * i + D] @ s["W_enc"][i] + s["b_enc"][i], rule, s["theta"][i]) for i in range(N)]
    y: list[Tensor] = []
    for m in range(N):
        total = s["b_dec"][m] + (x[:, D * m : D * m + D] @ s["skip"][m] if skip else 0)
        for i in range(m + 1):
            if across or i == m:
                total = total + f[i] @ s["W_dec"][i, m]
        y.append(total)
    return torch.cat(f, dim=1), torch.cat(y, dim=1)


def example(format: str, name: str, arch: str, write: Any, answer: Any, **facts: Any) -> Example:
    return Example(format, name, arch, write, answer, N * D, facts, d_in=N * D, whole=True)


def stored(tensors: State, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous().clone() for name, t in tensors.items()}, file)


# ---- circuit-tracer -------------------------------------------------------------------------------------------------

YAML = 'model_name: "google/gemma-2-2b"\nmodel_kind: {}\nfeature_input_hook: hook_resid_mid\nfeature_output_hook: hook_mlp_out\n'
RESID_MLP = {"site": "resid_mid.0,resid_mid.1,resid_mid.2", "target": "mlp_out.0,mlp_out.1,mlp_out.2"}


def traced_clt(rule: Rule) -> Example:
    s = model()

    def write(folder: Path) -> None:
        for i in range(N):
            enc = {f"W_enc_{i}": s["W_enc"][i].T, f"b_enc_{i}": s["b_enc"][i], f"b_dec_{i}": s["b_dec"][i]}
            if rule == "jumprelu":
                enc[f"threshold_{i}"] = s["theta"][i]
            stored(enc, folder / f"W_enc_{i}.safetensors")
            stored({f"W_dec_{i}": s["W_dec"][i, i:].transpose(0, 1)}, folder / f"W_dec_{i}.safetensors")
        (folder / "config.yaml").write_text(YAML.format("cross_layer_transcoder"))

    arch = "crosslayer" if rule == "jumprelu" else "relu"
    facts = {**RESID_MLP, "model": "google/gemma-2-2b"}
    return example("circuit_tracer_clt", rule, arch, write, lambda x: in_layers(x, s, rule), **facts)


def traced_set(rule: Rule, arch: str, skip: bool = False, mixed: bool = False) -> Example:
    s = model(1000)

    def write(folder: Path) -> None:
        for i in range(N):
            layer = {
                "W_enc": s["W_enc"][i].T,
                "W_dec": s["W_dec"][i, i],
                "b_enc": s["b_enc"][i],
                "b_dec": s["b_dec"][i],
            }
            if rule == "jumprelu" and not (mixed and i == 1):
                layer["activation_function.threshold"] = s["theta"][i]
            if skip:
                layer["W_skip"] = s["skip"][i].T
            stored(layer, folder / f"layer_{i}.safetensors")
        more = f"activation: topk\nk: {K}\n" if rule == "topk" else ""
        (folder / "config.yaml").write_text(YAML.format("transcoder_set") + more)

    means = {**s, "theta": s["theta"] * torch.tensor([[1.0], [0.0], [1.0]])} if mixed else s
    name = f"set-{rule}{'-skip' if skip else ''}{'-mixed' if mixed else ''}"
    return example(
        "circuit_tracer", name, arch, write, lambda x: in_layers(x, means, rule, skip, across=False), **RESID_MLP
    )


# ---- Gemma Scope 2 ----------------------------------------------------------------------------------------------------


def gemma_clt(affine: bool, junk: bool = False) -> Example:
    s = model(2000)
    place = f"clt/width_262k_l0_medium{'_affine' if affine else ''}"

    def write(base: Path) -> None:
        for i in range(N):
            w_dec = s["W_dec"][i].clone()
            if junk:  # slots of earlier layers play no part
                w_dec[:i] = 7.0
            layer = {
                "w_enc": s["W_enc"][i],
                "w_dec": w_dec.transpose(0, 1),
                "b_enc": s["b_enc"][i],
                "b_dec": s["b_dec"][i],
            }
            layer |= {"threshold": s["theta"][i]}
            if affine:
                layer["affine_skip_connection"] = s["skip"][i]
            stored(layer, base / place / f"params_layer_{i}.safetensors")
        cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-270m", "affine_connection": affine}
        (base / place / "config.json").write_text(json.dumps(cfg))

    name = f"{'affine' if affine else 'plain'}{'-junk' if junk else ''}"
    facts = {"folder": place, "model": "google/gemma-3-270m"}
    return example(
        "gemma_scope_2_clt", name, "crosslayer", write, lambda x: in_layers(x, s, "jumprelu", affine), **facts
    )


# ---- OpenMOSS -----------------------------------------------------------------------------------------------------------


def moss_clt(rule: Rule, *, scaled: bool = False, normed: bool = False) -> Example:
    s = model(3000)
    c, out = ([1.7, 0.6, 2.1], [0.8, 1.4, 0.5]) if scaled else ([1.0] * N, [1.0] * N)
    hooks = [f"blocks.{i}.hook_resid_mid" for i in range(N)], [f"blocks.{i}.hook_mlp_out" for i in range(N)]

    def write(folder: Path) -> None:
        tensors = {"W_E": s["W_enc"], "b_E": s["b_enc"]}
        tensors |= {f"W_D.{m}": s["W_dec"][: m + 1, m] for m in range(N)} | {
            f"b_D.{m}": s["b_dec"][m] for m in range(N)
        }
        if rule == "jumprelu":
            tensors["activation_function.log_jumprelu_threshold"] = s["theta"].log()
        for names, scales in zip(hooks, (c, out), strict=True):
            for hook, scale in zip(names, scales, strict=True):
                mean = D**0.5 / scale if scaled else float("nan")
                tensors[f"dataset_average_activation_norm.{hook}"] = torch.tensor(mean)
        stored(tensors, folder / "sae_weights.safetensors")
        cfg = {"sae_type": "clt", "d_model": D, "expansion_factor": F / D, "act_fn": rule, "top_k": K}
        cfg |= {"norm_activation": "dataset-wise" if scaled else "inference", "sparsity_include_decoder_norm": normed}
        cfg |= {"hook_points_in": hooks[0], "hook_points_out": hooks[1], "use_decoder_bias": True}
        (folder / "config.json").write_text(json.dumps(cfg))

    def answer(x: Tensor) -> Answer:
        f: list[Tensor] = []
        y = [s["b_dec"][m] for m in range(N)]
        for i in range(N):
            n = s["W_dec"][i, i:].pow(2).sum((0, 2)).sqrt() if normed else torch.ones(F)
            pre = (c[i] * x[:, D * i : D * i + D] @ s["W_enc"][i] + s["b_enc"][i]) * n
            kept = one_code(pre, rule, s["theta"][i])
            f.append(
                kept if rule == "topk" else kept / n
            )  # assay's top-k codes carry the norm by which they are chosen
            for m in range(i, N):
                y[m] = y[m] + (kept / n) @ s["W_dec"][i, m]
        return torch.cat(f, dim=1), torch.cat([y[m] / out[m] for m in range(N)], dim=1)

    arch = {"jumprelu": "crosslayer"}.get(rule, rule)
    name = f"{rule}{'-scaled' if scaled else ''}{'-normed' if normed else ''}"
    return example("openmoss_clt", name, arch, write, answer, **RESID_MLP)


# ---- EleutherAI ---------------------------------------------------------------------------------------------------------


def eleuther_clt(layout: str, *, skip: bool = False, normed: bool = False, scaled: bool = False) -> Example:
    """`none`: each layer holds the decoders, biases and skips to all its targets; else a target holds those of its sources."""
    s = model(4000)
    if layout == "concat":  # all sources share the decoder of a target
        s["W_dec"] = torch.stack([s["W_dec"][0]] * N)
    biases, skips = numbers(N, N, D, seed=71, around=0.4), numbers(N, N, D, D, seed=72, size=0.3)
    scales = 1 + numbers(N, N, F, seed=73, size=0.3).abs() if scaled else torch.ones(N, N, F)
    c, out = ([1.7, 0.6, 2.1], [0.8, 1.4, 0.5]) if normed else ([1.0] * N, [1.0] * N)

    def write(folder: Path) -> None:
        for i in range(N):
            tensors = {"encoder.weight": s["W_enc"][i].T, "encoder.bias": s["b_enc"][i]}
            if layout == "none":
                for j in range(N - i):
                    tensors |= {f"W_decs.{j}": s["W_dec"][i, i + j], f"b_decs.{j}": biases[i, i + j]}
                    tensors |= {f"W_skips.{j}": skips[i, i + j].T} if skip else {}
                    tensors |= {f"post_enc_scales.{j}": scales[i, i + j]} if scaled else {}
            else:
                rows = s["W_dec"][0, i] if layout == "concat" else s["W_dec"][: i + 1, i].flatten(0, 1)
                tensors |= {"W_dec": rows, "b_dec": biases[i, i], **({"W_skip": skips[i, i].T} if skip else {})}
            tensors |= {f"post_encs.{j}": torch.zeros(F) for j in range(N - i)}
            if normed:
                tensors |= {"in_norm": torch.tensor([D**0.5 / c[i]]), "out_norm": torch.tensor([D**0.5 / out[i]])}
            stored(tensors, folder / f"h.{8 + i}.mlp" / "sae.safetensors")  # 8, 9, 10: in natural order
            cfg = {"activation": "topk", "num_latents": F, "k": K, "transcode": True, "n_targets": N - i, "d_in": D}
            cfg |= {
                "skip_connection": skip,
                "normalize_io": normed,
                "coalesce_topk": layout,
                "post_encoder_scale": scaled,
            }
            (folder / f"h.{8 + i}.mlp" / "cfg.json").write_text(json.dumps({**cfg, "topk_coalesced": False}))

    def answer(x: Tensor) -> Answer:
        z = [c[i] * x[:, D * i : D * i + D] for i in range(N)]
        f = [largest(torch.relu(z[i] @ s["W_enc"][i] + s["b_enc"][i]), K) for i in range(N)]
        y = [torch.zeros(len(x), D) for _ in range(N)]
        for m in range(N):
            for i in range(m + 1):
                y[m] += (f[i] * scales[i, m]) @ s["W_dec"][i, m]
                if layout == "none" or i == m:
                    y[m] += biases[i, m] + (z[i] @ skips[i, m] if skip else 0)
        return torch.cat(f, dim=1), torch.cat([y[m] / out[m] for m in range(N)], dim=1)

    name = f"{layout}{'-skip' if skip else ''}{'-normed' if normed else ''}{'-scaled' if scaled else ''}"
    return example("eleuther_clt", name, "topk", write, answer, site="h.8.mlp:in,h.9.mlp:in,h.10.mlp:in")


LAYERED = [
    traced_clt("relu"),
    traced_clt("jumprelu"),
    traced_set("relu", "relu", skip=True),
    traced_set("jumprelu", "jumprelu"),
    traced_set("jumprelu", "jumprelu", mixed=True),
    traced_set("topk", "topk"),
    gemma_clt(False),
    gemma_clt(True),
    gemma_clt(True, junk=True),
    moss_clt("relu"),
    moss_clt("jumprelu"),
    moss_clt("jumprelu", scaled=True, normed=True),
    moss_clt("topk"),
    moss_clt("topk", scaled=True, normed=True),
    eleuther_clt("none"),
    eleuther_clt("none", skip=True, normed=True, scaled=True),
    eleuther_clt("per-layer", skip=True),
    eleuther_clt("concat", normed=True),
]
