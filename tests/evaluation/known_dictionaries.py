"""A word vocabulary, and dictionaries whose scores are known beforehand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

D, SITE = 16, "resid_post.0"
WORDS = [f"w{i}" for i in range(40)]


def tokenizer() -> Any:
    vocabulary = {word: i for i, word in enumerate(["<s>", "<unk>", *WORDS, "a"])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", unk_token="<unk>")


class Identity:
    """x_hat = x, by signed codes in the model's own basis, keeping the k largest (all when k is None)."""

    def __init__(self, k: int | None = None, d: int = D, **provenance: Any) -> None:
        self.k, self.config, self.provenance = k, SimpleNamespace(d_in=d, d_sae=d), provenance

    def encode(self, x: Tensor) -> Tensor:
        if self.k is None:
            return x
        kept = x.abs().topk(self.k, dim=-1).indices
        return x.new_zeros(x.shape).scatter(-1, kept, x.gather(-1, kept))

    def decode(self, f: Tensor) -> Tensor:
        return f


class Above(Identity):
    """Keeps coordinates with |x| > 1, so that L0 differs from text to text."""

    def encode(self, x: Tensor) -> Tensor:
        return x * (x.abs() > 1)


class Constant:
    """x_hat = one vector; its code is empty."""

    def __init__(self, vector: Tensor) -> None:
        self.vector, self.config = vector, SimpleNamespace(d_in=len(vector), d_sae=4)

    def encode(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], 4)

    def decode(self, f: Tensor) -> Tensor:
        return self.vector.to(f).expand(f.shape[0], -1)
