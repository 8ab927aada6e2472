"""The sizes of a model, from its config alone or written out, and what follows from them: weights, widths, work. Nothing is loaded.

a block's weights   attention  d (heads + 2 kv_heads) d_head + heads d_head d     MLP  (3 where it is gated, else 2) d mlp
the model's         vocab d (twice where the head is its own) + layers x block      norms and biases are left out: under 1 %
work of a token     2 per weight that it passes, and 4 (context / 2) heads d_head in each attention (Kaplan et al. 2020, section 2.1)
handled by a token  24 d + 4 heads context in each attention, 16 mlp in each MLP: counted of what torch reads and writes without fusing
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError, BadOption, NotFound, nearest
from assay.models.sites import FAMILIES, KINDS, LENS

UNGATED = {"gpt2", "gpt_neox", "bert", "roberta", "xlm-roberta"}
HALF = {"attn_z", "attn_out", "resid_mid", "mlp_in"}  # sites after a block's attention and before its MLP
ALIASES = {
    "d_model": "d",
    "n_layers": "layers",
    "n_heads": "heads",
    "d_mlp": "mlp",
    "d_head": "head",
    "d_vocab": "vocab",
}


@dataclass(frozen=True)
class Shape:
    """d: width of the residual stream; head: width of one head; kv: heads of keys and values; tied: whether the head is the embedding;
    n_params: counted exactly where a config was read."""

    d: int
    layers: int
    heads: int
    head: int
    kv: int
    mlp: int
    vocab: int
    gated: bool = True
    tied: bool = False
    kinds: tuple[str, ...] = KINDS
    n_params: int | None = None

    @property
    def attention(self) -> int:
        """Weights of one block's attention."""
        return self.d * self.head * (2 * self.heads + 2 * self.kv)

    @property
    def feed_forward(self) -> int:
        """Weights of one block's MLP."""
        return (3 if self.gated else 2) * self.d * self.mlp

    @property
    def embedding(self) -> int:
        return self.vocab * self.d

    @property
    def weights(self) -> int:
        """All weights: exact where a config was read, else of the matrices."""
        blocks = self.layers * (self.attention + self.feed_forward)
        return self.n_params or self.embedding * (1 if self.tied else 2) + blocks

    def site(self, name: str) -> str:
        """`resid_post.3` of itself and of blocks.3.hook_resid_post. Raises NotFound in one sentence."""
        if name in ("embed", "hook_embed"):
            return "embed"
        if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", name):
            name = f"{LENS.get(match[2], match[2])}.{match[1]}"
        kind, _, layer = name.partition(".")
        if kind not in self.kinds:
            raise NotFound(
                f'"{name}" is not a site that can be planned for.{nearest(kind, ["embed", *self.kinds])} '
                f"They need a layer, 0 to {self.layers - 1}, as in resid_post.0."
            )
        if not layer.isdecimal() or int(layer) >= self.layers:
            raise NotFound(
                f'"{name}" is not a site of this model: it has layers 0 to {self.layers - 1}, as in {kind}.0.'
            )
        return f"{kind}.{int(layer)}"

    def width(self, site: str) -> int:
        """Length of the vectors at a canonical site."""
        return {"mlp_act": self.mlp, "attn_z": self.heads * self.head}.get(site.partition(".")[0], self.d)

    def passed(self, site: str) -> int:
        """Weights that a token has been multiplied with when the forward pass stops at a canonical site."""
        kind, _, layer = site.partition(".")
        if kind == "embed":
            return 0
        whole = int(layer) * (self.attention + self.feed_forward)
        if kind == "resid_pre":
            return whole
        return whole + self.attention + (0 if kind in HALF else self.feed_forward)

    def work(self, site: str, context: int) -> float:
        """Floating point operations of a token up to a canonical site, in texts of `context` tokens."""
        return 2.0 * self.passed(site) + self.attentions(site) * 2.0 * context * self.heads * self.head

    def attentions(self, site: str) -> int:
        """How many a token passes up to a canonical site."""
        kind, _, layer = site.partition(".")
        return 0 if kind == "embed" else int(layer) + (kind != "resid_pre")

    def handled(self, site: str, context: int) -> float:
        """Numbers of a token read or written outside the products up to a canonical site: norms, residuals, activations, softmax."""
        mlps = self.attentions(site) - (site.partition(".")[0] in HALF)
        return self.attentions(site) * (24.0 * self.d + 4.0 * self.heads * context) + mlps * 16.0 * self.mlp


KNOWN = {  # sizes as their configs on the Hugging Face Hub give them, for planning without a network
    "gpt2": Shape(768, 12, 12, 64, 12, 3072, 50257, gated=False, tied=True),
    "pythia-70m": Shape(512, 6, 8, 64, 8, 2048, 50304, gated=False),
    "gemma-2-2b": Shape(2304, 26, 8, 256, 4, 9216, 256_000, tied=True),
    "gemma-2-9b": Shape(3584, 42, 16, 256, 8, 14336, 256_000, tied=True),
    "llama-3-8b": Shape(4096, 32, 32, 128, 8, 14336, 128_256),
    "llama-3-70b": Shape(8192, 80, 64, 128, 8, 28672, 128_256),
}


def written(words: str) -> Shape:
    """`d=2304,layers=26,mlp=9216,vocab=256k` as a shape; heads, kv, head, mlp, vocab, gated and tied may be left out."""
    fields = [f.name for f in dataclasses.fields(Shape) if f.name not in ("kinds", "n_params")]
    given: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in words.split(","))):
        name, equals, value = part.partition("=")
        name = ALIASES.get(name.strip(), name.strip())
        if name not in fields:
            raise BadOption(
                f'--model-shape has "{part}".{nearest(name, fields)} Write d=2304,layers=26,mlp=9216,vocab=256k.'
            )
        match = re.fullmatch(r"(\d+)([kM]?)", value.strip())
        if not equals or match is None or (name not in ("gated", "tied") and int(match[1]) == 0):
            raise BadOption(
                f'--model-shape has "{part}"; a whole number is needed, as in {name}=64 (gated, tied: 0 or 1).'
            )
        given[name] = int(match[1]) * {"": 1, "k": 1000, "M": 1_000_000}[match[2]]
    for name in ("d", "layers"):
        if name not in given:
            raise BadOption(f"--model-shape is {words!r}; it needs at least {name}=, as in d=2304,layers=26.")
    heads = given.get("heads", max(1, given["d"] // given.get("head", 64)))
    head = given.get("head", max(1, given["d"] // heads))
    filled = {"heads": heads, "head": head, "kv": heads, "mlp": 4 * given["d"], "vocab": 50_000, **given}
    gated, tied = bool(given.get("gated", 1)), bool(given.get("tied", 0))
    return Shape(**{**filled, "gated": gated, "tied": tied})  # type: ignore[arg-type]


def of_config(config: Any) -> Shape:
    """The shape that a Hugging Face config describes, its weights counted on a model without storage."""
    import torch
    import transformers

    from assay.models.loading import _is_causal, _quiet

    inner = config.get_text_config()
    d, heads = int(inner.hidden_size), int(inner.num_attention_heads)
    kind = transformers.AutoModelForCausalLM if _is_causal(config) else transformers.AutoModel
    with _quiet(), torch.device("meta"):
        n_params = sum(p.numel() for p in kind.from_config(config).parameters())
    parallel = config.model_type == "gpt_neox" and bool(config.use_parallel_residual)
    known = FAMILIES.get(config.model_type) is not None
    return Shape(
        d=d,
        layers=int(inner.num_hidden_layers),
        heads=heads,
        head=int(getattr(inner, "head_dim", None) or d // heads),
        kv=int(getattr(inner, "num_key_value_heads", None) or heads),
        mlp=int(getattr(inner, "intermediate_size", None) or getattr(inner, "n_inner", None) or 4 * d),
        vocab=int(inner.vocab_size),
        gated=config.model_type not in UNGATED,
        tied=bool(getattr(config, "tie_word_embeddings", False)),
        kinds=tuple(k for k in KINDS if known and not (parallel and k == "resid_mid")),
        n_params=n_params,
    )


def shape_of(name: str) -> Shape:
    """The shape of a model by name: one whose sizes are known here, one that ships, a local folder, or a hub name, of which only
    config.json is fetched. Raises NotFound, Unreachable or BadInput in one sentence."""
    if name in KNOWN:
        return KNOWN[name]
    from assay.core import shipped
    from assay.models.loading import _config, hub_is_off

    path = Path(name).expanduser()
    if name in shipped.names():
        folder = shipped.path(name)
    elif path.is_dir():
        folder = path
    else:
        folder = _config_fetched(name, hub_is_off())
    return of_config(_config(name, folder))


def _config_fetched(name: str, offline: bool) -> Path:
    """The folder that holds the config.json of a hub model."""
    from huggingface_hub import hf_hub_download

    short = name.rpartition("/")[2].lower()
    instead = f"--model {short}, whose sizes are known here," if short in KNOWN else "--model-shape d=...,layers=..."
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise NotFound(f"The model folder {name} does not exist; give a local folder, a hub name, or --model-shape.")
    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=offline)).parent
    except Exception as error:  # a hub fails in many ways; all mean that there is no config to read
        if isinstance(error, AssayError):
            raise
        raise NotFound(
            f'The config of "{name}" cannot be read ({type(error).__name__}{", offline" if offline else ""}); give {instead} '
            f"or one of {', '.join(KNOWN)}."
        ) from None
