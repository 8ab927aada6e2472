"""circuit-tracer's per-layer transcoders: a folder of layer_0.safetensors, layer_1.safetensors, ... and config.yaml; one file is read.

W_enc [d_sae, d_in] and W_dec [d_sae, d_out] with a latent in each row, b_enc, b_dec. activation_function.threshold (one a latent, or
one number) makes a JumpReLU, else it is a ReLU; `activation: topk` with `k` in config.yaml a TopK. W_skip is applied as x W_skip^T.
Nothing is subtracted. Its JumpReLU is pre 1[pre > theta] and its TopK takes values as they are, both without a relu: a threshold below
0 would pass negative codes and is refused; a row with fewer than k positive pre-activations would, and is 0 there here. config.yaml says model and hooks; of it only lines `name: value` are read.

Cross-layer sets (W_enc_0.safetensors, W_dec_0.safetensors, ...) are named and refused.
Source: circuit-tracer 0.5, transcoder/single_layer_transcoder.py and activation_functions.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop.foreign_files import MOST_JSON, fit, inside, is_there, safetensors_names, safetensors_of, whole
from assay.interop.parts import Parts, Rule
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, lens, threshold_of

ABOUT = "circuit-tracer: layer_N.safetensors + config.yaml, one layer at a time"
HOLDS = frozenset({"relu", "jumprelu"})
CONFIG, THETA = "config.yaml", "activation_function.threshold"
SHAPES = {"W_enc": "d_sae d_in", "W_dec": "d_sae d_out", "b_enc": "d_sae", "b_dec": "d_out"}
LAYER = re.compile(r"layer_(\d+)\.safetensors")


def _layers(path: Path) -> list[Path]:
    files = [path] if path.is_file() else list(path.glob("*.safetensors")) if path.is_dir() else []
    return sorted(
        (f for f in files if LAYER.fullmatch(f.name) and f.is_file()), key=lambda f: int(f.stem.split("_")[1])
    )


def _cross(path: Path) -> bool:
    return path.is_dir() and (path / "W_enc_0.safetensors").is_file() and (path / "W_dec_0.safetensors").is_file()


def detects(path: Path) -> bool:
    """A folder of layers, or one layer's file."""
    layers = _layers(path)
    return _cross(path) or (bool(layers) and safetensors_names(layers[0]) >= set(SHAPES))


def read(path: Path) -> Parts:
    """The parts of one layer. Raises BadInput naming the layers where there are several."""
    if _cross(path):
        raise BadInput(
            f"{path} is a cross-layer transcoder of circuit-tracer; its layers belong together and are not read yet."
        )
    layers = _layers(path)
    if len(layers) != 1:
        raise BadInput(
            f"{path} holds {len(layers)} layers, each a dictionary of its own; name one, such as {layers[0]}."
        )
    file = inside(layers[0].parent, layers[0].name)
    said = yaml_lines(file.parent)
    tensors = safetensors_of(file)
    sizes: dict[str, int] = {}
    one = THETA in tensors and tensors[THETA].dim() == 0
    fit(tensors, file, sizes, SHAPES, may={THETA: "" if one else "d_sae", "W_skip": "d_out d_in", "k": ""})
    rule: Rule = "jumprelu" if THETA in tensors else "topk" if said.get("activation") == "topk" else "relu"
    k = None
    if rule == "topk":
        number = said.get("k", "")
        k = whole(int(number) if number.isdecimal() and len(number) < 12 else number, "k", file.parent / CONFIG)
    vectors = {"b_enc": tensors["b_enc"]}
    if rule == "jumprelu":
        vectors["theta"] = tensors[THETA].expand(sizes["d_sae"]).clone()
        if bool((vectors["theta"] < 0).any()):
            raise BadInput(
                f"{file}: some thresholds are below 0, where circuit-tracer passes negative codes; no dictionary here does."
            )
    layer = file.stem.split("_")[1]
    hooks = [said.get(name) for name in ("feature_input_hook", "feature_output_hook")]
    return Parts(
        rule=rule,
        W_enc=tensors["W_enc"].t(),
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        vectors=vectors,
        transcoder=True,
        k=k,
        W_skip=tensors["W_skip"].t() if "W_skip" in tensors else None,
        facts=facts(
            format="circuit_tracer",
            architecture=f"{rule} transcoder{' with skip' if 'W_skip' in tensors else ''}",
            scale=RAW,
            threshold=threshold_of(rule, k),
            b_dec=NOT_SUBTRACTED,
            model=said.get("model_name"),
            site=f"blocks.{layer}.{hooks[0]}" if hooks[0] else None,
            target=f"blocks.{layer}.{hooks[1]}" if hooks[1] else None,
            notes=("a row with fewer than k positive pre-activations has negative codes there, and none here",)
            if rule == "topk"
            else (),
        ),
    )


def yaml_lines(folder: Path) -> dict[str, str]:
    """The plain `name: value` lines of config.yaml; anything deeper is passed over."""
    if not is_there(folder, CONFIG):
        return {}
    file = inside(folder, CONFIG)
    if file.stat().st_size > MOST_JSON:
        raise BadInput(f"{file} is larger than any configuration; it is not read.")
    found: dict[str, str] = {}
    for line in file.read_text(errors="replace").splitlines():
        if match := re.fullmatch(r"([A-Za-z_]\w*):[ \t]+(.{1,300})", line.rstrip()):
            found[match[1]] = match[2].strip().strip("\"'")
    return found


@torch.no_grad()
def write(parts: Parts, folder: Path) -> None:
    """Write layer_N.safetensors and config.yaml, N from the site. Raises BadInput for a dictionary that is no transcoder."""
    if not parts.transcoder:
        raise BadInput("circuit-tracer holds transcoders only, and this dictionary predicts what it reads.")
    if parts.d_in != parts.d_out:
        raise BadInput(
            f"circuit-tracer holds one width; this transcoder has d_in={parts.d_in} and d_out={parts.d_out}."
        )
    tensors = {"W_enc": parts.W_enc.t(), "W_dec": parts.W_dec, "b_enc": parts.vectors["b_enc"], "b_dec": parts.b_dec}
    if "theta" in parts.vectors:
        tensors[THETA] = parts.vectors["theta"]
    if parts.W_skip is not None:
        tensors["W_skip"] = parts.W_skip.t()
    hooks = [lens(parts.facts.get(name)) or "" for name in ("site", "target")]
    named = [re.fullmatch(r"blocks\.(\d+)\.(.+)", hook) for hook in hooks]
    layer = named[0][1] if named[0] else "0"
    lines = ["model_kind: transcoder_set"]
    values = {"model_name": str(parts.facts.get("model") or "")}
    values |= {
        f"feature_{side}_hook": match[2] for side, match in zip(("input", "output"), named, strict=True) if match
    }
    lines += [f'{name}: "{value}"' for name, value in values.items() if re.fullmatch(r"[\w./:-]+", value)]
    artefact.write_tensors(folder / f"layer_{layer}.safetensors", {name: t.float() for name, t in tensors.items()})
    artefact.atomic_write(folder / CONFIG, ("\n".join(lines) + "\n").encode())
