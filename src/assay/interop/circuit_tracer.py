"""circuit-tracer's per-layer transcoders: a folder of layer_0.safetensors, layer_1.safetensors, ... and config.yaml.

The folder is one dictionary of all its layers (`Layers`); a file that is named, or the only one of its folder, is that layer's alone.

W_enc [d_sae, d_in] and W_dec [d_sae, d_out] with a latent in each row, b_enc, b_dec. activation_function.threshold (one a latent, or
one number) makes a JumpReLU, else it is a ReLU; `activation: topk` with `k` in config.yaml a TopK. W_skip is applied as x W_skip^T.
Nothing is subtracted. Its JumpReLU is pre 1[pre > theta] and its TopK takes values as they are, both without a relu: a threshold below
0 would pass negative codes and is refused; a row with fewer than k positive pre-activations would, and is 0 there here. config.yaml says model and hooks; of it only lines `name: value` are read.

Source: circuit-tracer 0.5, transcoder/single_layer_transcoder.py and activation_functions.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from assay.core import artefact
from assay.core.errors import BadInput
from assay.interop import folding
from assay.interop.foreign_files import MOST_JSON, fit, inside, is_there, safetensors_names, safetensors_of, whole
from assay.interop.layers import Layers, of_each, one_width, sites
from assay.interop.parts import Parts, Rule
from assay.interop.site_names import NOT_SUBTRACTED, RAW, facts, lens, threshold_of

ABOUT = "circuit-tracer: layer_N.safetensors + config.yaml, one layer or all"
HOLDS = frozenset({"relu", "jumprelu"})
WIRINGS = ("transcoder", "perlayer")
CONFIG, THETA = "config.yaml", "activation_function.threshold"
SHAPES = {"W_enc": "d_sae d_in", "W_dec": "d_sae d_out", "b_enc": "d_sae", "b_dec": "d_out"}
LAYER = re.compile(r"layer_(\d+)\.safetensors")


def _layers(path: Path) -> list[Path]:
    files = [path] if path.is_file() else list(path.glob("*.safetensors")) if path.is_dir() else []
    return sorted(
        (f for f in files if LAYER.fullmatch(f.name) and f.is_file()), key=lambda f: int(f.stem.split("_")[1])
    )


def detects(path: Path) -> bool:
    """A folder of layers, or one layer's file."""
    layers = _layers(path)
    return bool(layers) and safetensors_names(layers[0]) >= set(SHAPES)


def read(path: Path) -> Parts | Layers:
    """The parts of a layer, or of all layers of a folder."""
    found = [_layer(inside(file.parent, file.name)) for file in _layers(path)]
    if len(found) == 1:
        return found[0]
    if {p.rule for p in found} == {"relu", "jumprelu"}:  # a relu is a threshold of 0
        found = [folding.as_jumprelu(p) for p in found]
    said = [p.facts["read_from"] for p in found]
    skips = sum(p.W_skip is not None for p in found)
    return Layers(
        parts=tuple(found),
        widths=tuple(p.d_out for p in found),
        crosses=False,
        facts=facts(
            format="circuit_tracer",
            architecture=f"{len(found)} per-layer {found[0].rule} transcoders{f', {skips} with skip' if skips else ''}",
            scale=RAW,
            threshold=threshold_of(found[0].rule, found[0].k),
            b_dec=NOT_SUBTRACTED,
            model=found[0].facts.get("model"),
            site=sites([p.facts.get("site") for p in found]),
            target=sites([p.facts.get("target") for p in found]),
            notes=tuple(said[0]["notes"]),
        ),
    )


def _layer(file: Path) -> Parts:
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
    reads, writes = (said.get(name) for name in ("feature_input_hook", "feature_output_hook"))
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
            site=f"blocks.{layer}.{reads}" if reads else None,
            target=f"blocks.{layer}.{writes}" if writes else None,
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
def write(parts: Parts | Layers, folder: Path) -> None:
    """Write layer_N.safetensors, N from the sites, and config.yaml."""
    if isinstance(parts, Layers):
        one_width(parts, "circuit-tracer")
    elif parts.d_in != parts.d_out:
        raise BadInput(
            f"circuit-tracer holds one width; this transcoder has d_in={parts.d_in} and d_out={parts.d_out}."
        )
    each = parts.parts if isinstance(parts, Layers) else (parts,)
    reads, writes = (hooks(parts.facts.get(name), len(each)) for name in ("site", "target"))
    for number, p in zip(reads[1], each, strict=True):
        tensors = {"W_enc": p.W_enc.t(), "W_dec": p.W_dec, "b_enc": p.vectors["b_enc"], "b_dec": p.b_dec}
        if "theta" in p.vectors:
            tensors[THETA] = p.vectors["theta"]
        if p.W_skip is not None:
            tensors["W_skip"] = p.W_skip.t()
        artefact.write_tensors(folder / f"layer_{number}.safetensors", {name: t.float() for name, t in tensors.items()})
    write_yaml(folder, "transcoder_set", parts.facts.get("model"), reads[0], writes[0])


def hooks(joined: object, n: int) -> tuple[str | None, list[int]]:
    """The hook that n sites have in common and their layers, by TransformerLens' names; (None, [0, 1, ...]) where they do not say."""
    named = [re.fullmatch(r"blocks\.(\d+)\.(.+)", lens(site) or "") for site in of_each(joined, n)]
    numbers = [int(m[1]) for m in named if m]
    if len(numbers) < n or len({m[2] for m in named if m}) > 1 or len(set(numbers)) < n:
        return None, list(range(n))
    return (named[0] or [""] * 3)[2], numbers


def write_yaml(folder: Path, kind: str, model: object, reads: str | None, writes: str | None) -> None:
    """config.yaml: what kind of set it is, and of model and hooks what is known."""
    values = {"model_name": str(model or ""), "feature_input_hook": reads or "", "feature_output_hook": writes or ""}
    lines = [f"model_kind: {kind}"]
    lines += [f'{name}: "{value}"' for name, value in values.items() if re.fullmatch(r"[\w./:-]+", value)]
    artefact.atomic_write(folder / CONFIG, ("\n".join(lines) + "\n").encode())
