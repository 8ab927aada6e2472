"""Files that are hardly more than tensors: overcomplete, Goodfire, Qwen Scope. What they leave out lies beside them as read_as.json.

As in `foreign_examples`, each states its codes and outputs by the other tool's own equation, in plain tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_codes import (
    Answer,
    Example,
    F,
    K,
    State,
    jump_codes,
    matrices,
    numbers,
    one_threshold,
    relu_codes,
    topk_codes,
)
from torch import Tensor


def goodfire() -> Example:
    m = matrices()

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {"encoder_linear.weight": m["W_enc"].T.contiguous(), "encoder_linear.bias": m["b_enc"]}
        state |= {"decoder_linear.weight": m["W_dec"].T.contiguous(), "decoder_linear.bias": m["b_dec"]}
        torch.save(state, folder / "Llama-3.1-8B-Instruct-SAE-l19.pth")

    def answer(x: Tensor) -> Answer:
        f = relu_codes(x, m)
        return f, f @ m["W_dec"] + m["b_dec"]

    facts = {"site": "resid_post.19", "model": "meta-llama/Llama-3.1-8B-Instruct"}
    return Example("goodfire", "relu", "relu", write, answer, facts=facts)


def qwen(name: str, folder: str, **beside: Any) -> Example:
    m = matrices()

    def write(base: Path) -> None:
        place = base / folder
        place.mkdir(parents=True, exist_ok=True)
        state = {"W_enc": m["W_enc"].T.contiguous(), "W_dec": m["W_dec"].T.contiguous()}
        torch.save({**state, "b_enc": m["b_enc"], "b_dec": m["b_dec"]}, place / "layer7.sae.pt")
        if beside:
            (place / "read_as.json").write_text(json.dumps(beside))

    def answer(x: Tensor) -> Answer:
        f = topk_codes(x, m)
        return f, f @ m["W_dec"] + m["b_dec"]

    facts = {"site": "resid_post.7", "folder": folder}
    return Example("qwen_scope", name, "topk", write, answer, facts=facts)


def complete(
    name: str,
    arch: str,
    codes: Callable[[Tensor, State], Tensor],
    encoder: str = "linear",
    dictionary: str = "plain",
    **beside: Any,
) -> Example:
    """encoder: linear, batch norm, alone (encoder.weight), tied; dictionary: plain, free (rows of any length), archetypal."""
    m = matrices()
    s: State = {"b_enc": m["b_enc"], "threshold": m["threshold"]}
    gain = torch.tensor(0.4)
    state: State = {"dictionary.multiplier": gain}
    if dictionary == "archetypal":
        weights, points, relax = numbers(F, 11, seed=51), numbers(11, 6, seed=52), numbers(F, 6, seed=53, size=0.2)
        state |= {"dictionary.W": weights, "dictionary.C": points, "dictionary.Relax": relax}
        positive = torch.relu(weights)
        s["W_dec"] = (positive / positive.sum(1, keepdim=True) @ points + relax) * gain.exp()
    else:
        rows = m["W_dec"] if dictionary == "free" else 1.01 * m["W_dec"] / m["W_dec"].norm(dim=1, keepdim=True)
        state["dictionary._weights"] = rows  # not quite of length 1, as after an update
        s["W_dec"] = (rows if dictionary == "free" else rows / rows.norm(dim=1, keepdim=True)) * gain.exp()
    s["W_enc"] = s["W_dec"].T if encoder == "tied" else m["W_enc"]
    if encoder == "tied":
        state |= {"encoder.bias": s["b_enc"], "encoder.tied_to._weights": state["dictionary._weights"]}
        state |= {"encoder.tied_to.multiplier": gain}
    elif encoder == "alone":
        state["encoder.weight"], s["b_enc"] = m["W_enc"].T, torch.zeros(F)
    else:
        state |= {"encoder.final_block.0.weight": m["W_enc"].T, "encoder.final_block.0.bias": m["b_enc"]}
    if arch == "jumprelu":
        state["thresholds"] = m["threshold"].log()
    norm: State = {}
    if encoder == "batch norm":
        norm = {"weight": numbers(F, seed=61, around=1.2, size=0.2), "bias": numbers(F, seed=62)}
        norm |= {"running_mean": numbers(F, seed=63), "running_var": numbers(F, seed=64, around=0.9, size=0.2).abs()}
        state |= {f"encoder.final_block.1.{key}": value for key, value in norm.items()}
        state["encoder.final_block.1.num_batches_tracked"] = torch.tensor(9)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({key: value.contiguous() for key, value in state.items()}, folder / "model.pt")
        if beside:
            (folder / "read_as.json").write_text(json.dumps(beside))

    def answer(x: Tensor) -> Answer:
        here = dict(s)
        if norm:  # the library's own order: linear, then normalised by what it kept
            pre = (x @ s["W_enc"] + s["b_enc"] - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt()
            here |= {"W_enc": torch.eye(F), "b_enc": torch.zeros(F)}
            x = pre * norm["weight"] + norm["bias"]
        f = codes(x, here)
        return f, f @ s["W_dec"]

    return Example("overcomplete", name, arch, write, answer)


BARE = [
    goodfire(),
    qwen("by-name", "models--Qwen--SAE-Res-Qwen3-1.7B-Base-W32K-L0_4"),
    qwen("told", "anywhere", k=K),
    complete("relu", "relu", relu_codes, rule="relu"),
    complete("topk", "topk", topk_codes, rule="topk", k=K),
    complete("topk-norm", "topk", topk_codes, "batch norm", rule="topk", k=K),
    complete("jump", "jumprelu", jump_codes),
    complete("jump-norm-free", "jumprelu", jump_codes, "batch norm", "free"),
    complete("batch", "batchtopk", one_threshold, rule="batchtopk", threshold=0.8),
    complete("alone", "topk", topk_codes, "alone", rule="topk", k=K),
    complete("tied", "topk", topk_codes, "tied", rule="topk", k=K),
    complete("archetypal", "topk", topk_codes, "linear", "archetypal", rule="topk", k=K),
]
