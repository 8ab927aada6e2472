"""A model with its tokenizer and its sites: what every other room is handed."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

import torch
from torch import Tensor

from assay.core import heap
from assay.core.errors import BadInput
from assay.models.names import Sites
from assay.models.sites import FAMILIES, STREAM_WIDE
from assay.models.taps import probe
from assay.models.where import Where


class Model:
    """A Hugging Face model, frozen and in evaluation mode, seen through its sites.

    `hf` is the plain module: its numerics are those of transformers. Weights are frozen, so no graph is kept unless an
    edit brings a tensor that needs gradients; to fine-tune, call `model.hf.requires_grad_(True)`.
    """

    def __init__(self, hf: Any, tokenizer: Any = None, name: str = "model", source: str | None = None) -> None:
        heap.keep_freed()  # every pass begins with activations as large as the last one's
        self.hf: Any = hf.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.name = name
        """Short, for messages and tables."""
        self.source = name if source is None else source
        """What `load` takes to open it again: hub name, shipped name or absolute folder."""
        config = hf.config.get_text_config()
        family = FAMILIES.get(hf.config.model_type)
        self.family: str | None = family.name if family else None
        """Row of the table of sites; None: only dotted module paths are known."""
        self.n_layers = int(config.num_hidden_layers)
        self.d_model = int(config.hidden_size)
        self.vocab_size = int(config.vocab_size)
        self.context = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        """Most tokens in one text."""
        self._counts_from_ids = hf.config.model_type in ("roberta", "xlm-roberta")
        if self._counts_from_ids:  # padding is where the ids say so, and positions start behind the padding id
            self.context -= config.pad_token_id + 1
        self.is_causal_lm = hf.get_output_embeddings() is not None and (family is None or family.causal)
        self._config = config
        self._sites = Sites(hf, family, self.n_layers, name)
        self._widths: dict[str, int] = {}
        self._options = frozenset(inspect.signature(hf.forward).parameters)
        self._n_prompt: int | None = None  # while generating: columns before this one are the prompt

    def __repr__(self) -> str:
        kind = "causal LM" if self.is_causal_lm else "encoder"
        family = self.family or self.hf.config.model_type
        return f"Model({self.name}: {family} {kind}, {self.n_layers} layers, d_model {self.d_model})"

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    # Tokens with a meaning of their own

    @property
    def bos_id(self) -> int | None:
        """The token that starts a text (encoders: [CLS]); None where the tokenizer has none."""
        return self._special("bos", "cls")

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text (encoders: [SEP])."""
        return self._special("eos", "sep")

    @property
    def pad_id(self) -> int:
        """An id to fill padded columns with; the mask hides them, so that any id will do."""
        return next((i for i in (self._special("pad"), self.eos_id) if i is not None), 0)

    @property
    def stop_ids(self) -> set[int]:
        """Tokens after which the model's own generation settings stop."""
        settings = getattr(self.hf, "generation_config", None)
        given = getattr(settings, "eos_token_id", None)
        given = self.eos_id if given is None else given
        return set() if given is None else set(given) if isinstance(given, list | tuple) else {int(given)}

    @property
    def special_ids(self) -> set[int]:
        """BOS, EOS, padding, separators and the like. The unknown token stands for text, so it is not among them."""
        marks = {i for i in map(self._special, ("bos", "eos", "cls", "sep")) if i is not None}
        if self.tokenizer is None:
            return marks
        return marks | (set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id})

    def _special(self, *kinds: str) -> int | None:
        source = self._config if self.tokenizer is None else self.tokenizer
        ids = (getattr(source, f"{kind}_token_id", None) for kind in kinds)
        return next((int(i) for i in ids if isinstance(i, int)), None)

    # Sites

    def sites(self) -> list[str]:
        """Every named site, in the order of the forward pass. Aliases and dotted module paths work besides."""
        return self._sites.names()

    def canonical(self, site: str) -> str:
        """The one name of a site, of an alias or of a dotted module path. Raises `NotFound`."""
        return self._sites.canonical(site)

    def width(self, site: str) -> int:
        """Length of the vectors at a site, measured by a tiny forward pass where the table does not say it."""
        site = self.canonical(site)
        if site not in self._widths:
            in_table = site.partition(".")[0] in STREAM_WIDE
            self._widths[site] = self.d_model if in_table else probe(self, site)
        return self._widths[site]

    def weights_hash(self) -> str:
        """SHA-256 over names, types, shapes and bytes of the weights as they are now."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.hf.state_dict().items()):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    # Running

    def logits(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Next-token logits [batch, pos, vocab]. Raises `BadInput` for encoders, which have none."""
        self.require_causal("logits")
        return self.forward(input_ids, attention_mask).logits

    def require_causal(self, what: str) -> None:
        if not self.is_causal_lm:
            raise BadInput(
                f"{self.name} is an encoder and predicts no next token, so it has no {what}; use a causal LM."
            )

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, past: Any = None, last_logits: bool = False
    ) -> Any:
        """Run the Hugging Face model and return its output.

        `attention_mask` covers the columns in the cache `past` too; None means no padding. Positions come from the
        mask, so that the side of the padding does not matter. `past=True` starts a cache; `last_logits` computes logits
        of the last column alone.
        """
        ids, mask = self.checked(input_ids, attention_mask)
        options: dict[str, Any] = {}
        if mask is not None:
            options["attention_mask"] = mask.long()
            if "position_ids" in self._options and not self._counts_from_ids:
                positions = Where.of(ids, mask, frozenset()).positions
                options["position_ids"] = positions.clamp(min=0)
        if self.is_causal_lm:
            options["use_cache"] = past is not None
            if past is not None and past is not True:
                options["past_key_values"] = past
            if last_logits and "logits_to_keep" in self._options:
                options["logits_to_keep"] = 1
        return self.hf(input_ids=ids, **options)

    def checked(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Ids as int64 and the mask as bool on the model's device; a mask without padding becomes None."""
        if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.is_floating_point():
            raise BadInput(
                f"input_ids is {input_ids.dtype} {tuple(input_ids.shape)}; whole numbers [batch, pos] are needed, "
                f"at least one token."
            )
        ids = input_ids.to(self.device, torch.int64)
        low, high = ids.aminmax()
        if low < 0 or high >= self.vocab_size:
            raise BadInput(
                f"input_ids run from {int(low)} to {int(high)}, but {self.name} has {self.vocab_size} tokens; "
                f"they come from another tokenizer."
            )
        n_columns = input_ids.shape[1] if attention_mask is None else attention_mask.shape[-1]
        if n_columns > self.context:
            longest = n_columns if attention_mask is None else int(attention_mask.sum(-1).max())
            if longest > self.context:
                raise BadInput(f"The text has {longest} tokens; {self.name} reads at most {self.context}. Cut it.")
        if attention_mask is None:
            return ids, None
        if attention_mask.ndim != 2 or attention_mask.shape[0] != ids.shape[0] or n_columns < ids.shape[1]:
            raise BadInput(
                f"attention_mask is {tuple(attention_mask.shape)}, but input_ids is {tuple(ids.shape)}; give one "
                f"mask entry a token."
            )
        mask = attention_mask.to(self.device).bool()
        return ids, None if bool(mask.all()) else mask
