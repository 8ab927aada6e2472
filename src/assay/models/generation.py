"""Writing on: greedy or sampled, with a key-value cache or without, for prompts of several lengths at once."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from assay.core.errors import BadInput, BadOption
from assay.models.model import Model


@torch.no_grad()
def generate(
    model: Model,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    max_new_tokens: int,
    *,
    use_cache: bool = True,
    temperature: float = 0.0,
    rng: torch.Generator | None = None,
    stop_ids: Collection[int] | None = None,
) -> Tensor:
    """New tokens [batch, n] for prompts [batch, pos] padded on either side, without the prompt; n <= max_new_tokens.

    Greedy at temperature 0, else sampled with `rng` (a CPU generator). A row ends with a stop token (those of the model
    unless given; an empty collection never stops) and is filled with `model.pad_id` after it. The result does not
    depend on `use_cache` nor, for a greedy row, on its padding or its neighbours, edits included.
    """
    model.require_causal("text to generate")
    if max_new_tokens < 1:
        raise BadOption(f"max_new_tokens is {max_new_tokens}; it must be at least 1.")
    if not temperature >= 0:
        raise BadOption(f"temperature is {temperature}; it must be 0 (greedy) or more.")
    if temperature > 0 and rng is None:
        raise BadOption("Sampling needs rng, a torch.Generator; or set temperature to 0.")
    ids, mask = _left_padded(*_with_mask(model, input_ids, attention_mask))
    longest = int(mask.sum(1).max()) + max_new_tokens
    if longest > model.context:
        raise BadInput(
            f"Prompt and {max_new_tokens} new tokens make {longest}; {model.name} reads at most {model.context}."
        )
    stops = torch.tensor(sorted(model.stop_ids if stop_ids is None else set(stop_ids)), dtype=torch.int64).to(
        ids.device
    )

    n_prompt, past = ids.shape[1], (True if use_cache else None)
    finished = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    model._n_prompt = n_prompt
    try:
        for _ in range(max_new_tokens):
            fresh = ids[:, -1:] if past is not None and past is not True else ids
            output = model.forward(fresh, mask, past=past, last_logits=True)
            past = output.past_key_values if use_cache else None
            token = _next(output.logits[:, -1].float(), temperature, rng).masked_fill(finished, model.pad_id)
            ids = torch.cat([ids, token[:, None]], 1)
            mask = torch.cat([mask, ~finished[:, None]], 1)
            finished = finished | torch.isin(token, stops)
            if finished.all():
                break
    finally:
        model._n_prompt = None
    return ids[:, n_prompt:]


def _next(logits: Tensor, temperature: float, rng: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    chances = (logits / temperature).softmax(-1).cpu()
    return torch.multinomial(chances, 1, generator=rng)[:, 0].to(logits.device)


def _with_mask(model: Model, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    ids, mask = model.checked(input_ids, attention_mask)
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    if mask.shape != ids.shape:
        raise BadInput(f"attention_mask is {tuple(mask.shape)}, but input_ids is {tuple(ids.shape)}.")
    if not mask.any(1).all():
        raise BadInput("A prompt is empty; give each at least one token, such as the model's BOS.")
    return ids, mask


def _left_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move real tokens to the right end, so that new ones join on; windows of attention count columns."""
    order = mask.long().argsort(dim=1, stable=True)[:, -int(mask.sum(1).max()) :]
    return ids.gather(1, order), mask.gather(1, order)
