"""Folders of SAELens, version 6 and older, built from the description of the format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain_codes import (
    Answer,
    D,
    Example,
    F,
    K,
    State,
    abs_codes,
    gated_codes,
    gates,
    jump_codes,
    matrices,
    normed_one_threshold,
    normed_topk_codes,
    numbers,
    one_threshold,
    relu_codes,
    topk_codes,
)
from safetensors.torch import save_file
from torch import Tensor

# ---- SAELens ------------------------------------------------------------------------------------------------------


def sae(
    name: str,
    arch: str,
    architecture: str,
    codes: Callable[[Tensor, State], Tensor],
    *,
    sub: bool = True,
    names: tuple[str, ...] = ("b_enc",),
    d_out: int = D,
    skip: bool = False,
    old: bool = False,
    beside: dict[str, Any] | None = None,
    tensors: State | None = None,
    drop: tuple[str, ...] = (),
    **cfg: Any,
) -> Example:
    """A SAELens folder. `codes(u_in, state)` gives f of what the encoder reads."""
    state = {**matrices(d_out), **gates(), **(tensors or {})}
    if skip:
        state["W_skip"] = numbers(d_out, D, seed=21)
    transcoder = "transcoder" in architecture
    stored = ["W_enc", "W_dec", "b_dec", *names, *(["W_skip"] if skip else []), *(tensors or {})]
    scale = (beside or {}).get("scaling_factor", 1.0)

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {n: state[n].contiguous() for n in dict.fromkeys(stored) if n not in drop},
            folder / "sae_weights.safetensors",
        )
        common = {"d_in": D, "d_sae": F, "dtype": "float32", "device": "cpu", "normalize_activations": "none"}
        made = {"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_pre"}
        if old:
            flat = {**common, "hook_point": made["hook_name"], "model_name": "gpt2", **cfg}
            flat |= {} if architecture == "standard" else {"architecture": architecture}
            (folder / "cfg.json").write_text(json.dumps(flat))
            return
        meta = {
            "sae_lens_version": "6.54.0",
            **made,
            **({"hook_name_out": "blocks.3.hook_mlp_out"} if transcoder else {}),
        }
        full = {
            **common,
            "apply_b_dec_to_input": sub,
            "architecture": architecture,
            "reshape_activations": "none",
            **cfg,
        }
        if transcoder:
            full["d_out"] = d_out
        (folder / "cfg.json").write_text(json.dumps({**full, "metadata": meta}))
        if beside:
            (folder / "activation_scaler.json").write_text(json.dumps(beside))

    def answer(x: Tensor) -> Answer:
        how = cfg.get("normalize_activations")
        if how in ("layer_norm", "constant_norm_rescale"):
            return row_by_row(x, how, lambda z: plain(z))
        return plain(x)

    def plain(x: Tensor) -> Answer:
        z = scale * x
        f = codes(z - state["b_dec"] if sub else z, state)
        decoded = f / state["W_dec"].norm(dim=1) if cfg.get("rescale_acts_by_decoder_norm") else f
        y = decoded @ state["W_dec"] + state["b_dec"]
        return f, (y + (x @ state["W_skip"].T if skip else 0)) / scale

    facts = {"model": "gpt2", "site": "resid_pre.3", **({"target": "mlp_out.3"} if transcoder else {})}
    return Example("saelens", name, arch, write, answer, d_out, facts)


def row_by_row(x: Tensor, how: str, plain: Callable[[Tensor], Answer]) -> Answer:
    """Codes and outputs of a dictionary that sees each row normalised by itself, one row and one number at a time."""
    found = []
    for row in x.tolist():
        d = len(row)
        mean = sum(row) / d if how == "layer_norm" else 0.0
        if how == "layer_norm":
            there = back = (sum((v - mean) ** 2 for v in row) / (d - 1)) ** 0.5
            there += 1e-5
        else:
            there = back = (sum(v * v for v in row) / d) ** 0.5
        f, y = plain(torch.tensor([[(v - mean) / there for v in row]]))
        found.append((f[0], torch.tensor([v * back + mean for v in y[0].tolist()])))
    return torch.stack([f for f, _ in found]), torch.stack([y for _, y in found])


def transcoder_relu(x: Tensor, s: State) -> Tensor:
    return relu_codes(x, s)


GATES = ("b_gate", "r_mag", "b_mag")
JUMP = ("b_enc", "threshold")
NUMBER: State = {"topk_threshold": torch.tensor(0.8, dtype=torch.float64)}
SCALED = {"scaling_factor": 2.7, "has_whitening": False}
NO_SUB: dict[str, Any] = {"sub": False}

SAELENS = [
    sae("standard", "relu", "standard", relu_codes),
    sae("standard-no-sub", "relu", "standard", relu_codes, **NO_SUB),
    sae("gated", "gated", "gated", gated_codes, names=GATES),
    sae("gated-no-sub", "gated", "gated", gated_codes, names=GATES, **NO_SUB),
    sae("jumprelu", "jumprelu", "jumprelu", jump_codes, names=JUMP),
    sae("jumprelu-no-sub", "jumprelu", "jumprelu", jump_codes, names=JUMP, **NO_SUB),
    sae("topk", "topk", "topk", topk_codes, k=K),
    sae("topk-no-sub", "topk", "topk", topk_codes, k=K, **NO_SUB),
    sae("topk-normed", "topk", "topk", normed_topk_codes, k=K, rescale_acts_by_decoder_norm=True),
    sae("abstopk", "abstopk", "abstopk", abs_codes, k=K, rescale_acts_by_decoder_norm=False),
    sae("batchtopk", "batchtopk", "batchtopk", one_threshold, k=K, tensors=NUMBER),
    sae("batchtopk-normed", "batchtopk", "batchtopk", normed_one_threshold, k=K, tensors=NUMBER, rescale_acts_by_decoder_norm=True),
    sae("matryoshka", "matryoshka", "matryoshka_batchtopk", one_threshold, k=K, tensors=NUMBER, matryoshka_widths=[5, 12, F]),
    sae("transcoder", "transcoder", "transcoder", transcoder_relu, d_out=4, **NO_SUB),
    sae("transcoder-square", "transcoder", "transcoder", transcoder_relu, **NO_SUB),
    sae("skip-transcoder", "transcoder", "skip_transcoder", transcoder_relu, d_out=4, skip=True, **NO_SUB),
    sae("jumprelu-transcoder", "jumprelu", "jumprelu_transcoder", jump_codes, names=JUMP, d_out=4, **NO_SUB),
    sae("jumprelu-skip", "jumprelu", "jumprelu_skip_transcoder", jump_codes, names=JUMP, d_out=4, skip=True, **NO_SUB),
    sae("scaled", "relu", "standard", relu_codes, normalize_activations="expected_average_only_in", beside=SCALED),
    sae("scaled-gated", "gated", "gated", gated_codes, names=GATES, normalize_activations="expected_average_only_in", beside=SCALED),
    sae("scaled-jumprelu", "jumprelu", "jumprelu", jump_codes, names=JUMP, normalize_activations="expected_average_only_in", beside=SCALED),
    sae(
        "scaled-topk-normed", "topk", "topk", normed_topk_codes, k=K, rescale_acts_by_decoder_norm=True,
        normalize_activations="expected_average_only_in", beside=SCALED,
    ),
    sae(
        "scaled-batchtopk-normed", "batchtopk", "batchtopk", normed_one_threshold, k=K, rescale_acts_by_decoder_norm=True,
        normalize_activations="expected_average_only_in", beside=SCALED, tensors=NUMBER,
    ),
    sae("layer-norm-topk", "topk", "topk", topk_codes, k=K, normalize_activations="layer_norm"),
    sae("layer-norm-topk-normed", "topk", "topk", normed_topk_codes, k=K, normalize_activations="layer_norm", rescale_acts_by_decoder_norm=True),
    sae("layer-norm-no-sub", "relu", "standard", relu_codes, normalize_activations="layer_norm", **NO_SUB),
    sae("constant-norm-gated", "gated", "gated", gated_codes, names=GATES, normalize_activations="constant_norm_rescale"),
    sae("constant-norm-jumprelu", "jumprelu", "jumprelu", jump_codes, names=JUMP, normalize_activations="constant_norm_rescale"),
    sae("old-layer-norm", "relu", "standard", relu_codes, old=True, normalize_activations="layer_norm"),
    sae("old-standard", "relu", "standard", relu_codes, old=True, activation_fn_str="relu"),
    sae("old-topk", "topk", "standard", topk_codes, old=True, activation_fn_str="topk", activation_fn_kwargs={"k": K}),
    sae("old-no-sub", "relu", "standard", relu_codes, old=True, apply_b_dec_to_input=False, **NO_SUB),
    sae("old-ones", "relu", "standard", relu_codes, old=True, tensors={"scaling_factor": torch.ones(F)}),
    sae(
        "old-log-threshold", "jumprelu", "jumprelu", jump_codes, old=True, drop=("threshold",),
        names=("b_enc",), tensors={"log_threshold": matrices()["threshold"].log()},
    ),
]  # fmt: skip
