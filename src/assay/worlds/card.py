"""The model card of storyworld: its held-out loss beside n-gram baselines, with intervals over stories."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from assay.core.artefact import atomic_write, write_json
from assay.core.config import to_json
from assay.core.provenance import versions
from assay.core.randomness import numpy_rng
from assay.core.resampling import resampled_ratios
from assay.worlds.ngram import Documents, baselines

N_RESAMPLES = 10_000
N_SAMPLE = 100  # the first stories, whose loss a test recomputes


@torch.no_grad()
def token_losses(model: Any, documents: Documents, batch_size: int = 64) -> list[np.ndarray]:
    """Nats of every token after the first of each document, one array a document; rows are padded on the right."""
    losses: list[np.ndarray] = []
    for i in range(0, len(documents), batch_size):
        rows = documents[i : i + batch_size]
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        logits = model(input_ids=ids).logits[:, :-1]
        nats = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").numpy()
        losses += [nats[j, : len(row) - 1] for j, row in enumerate(rows)]
    return losses


def interval(sums: np.ndarray, counts: np.ndarray, seed: int) -> dict[str, float]:
    """Σ sums / Σ counts with its 95 % percentile interval over documents."""
    rng = numpy_rng(seed, "storyworld", "card")
    values = resampled_ratios(sums[:, None], counts[:, None], N_RESAMPLES, rng)
    lo, hi = np.quantile(values, [0.025, 0.975])
    return {"nats": round(float(sums.sum() / counts.sum()), 4), "lo": round(float(lo), 4), "hi": round(float(hi), 4)}


def repeated(losses: list[np.ndarray], documents: Documents, wanted: set[int]) -> dict[str, float]:
    """Mean nats of the wanted tokens where the same token already stood in the document: low if the model copies."""
    found = [
        float(nats[i - 1])
        for nats, ids in zip(losses, documents)
        for i in range(1, len(ids))
        if ids[i] in wanted and ids[i] in ids[:i]
    ]
    return {"nats": round(float(np.mean(found)), 4), "n_tokens": len(found)}


def write_card(
    model: Any,
    train: Documents,
    validation: Documents,
    heldout: Documents,
    names: set[int],
    options: Any,
    seconds: float,
) -> None:
    """Measure on all held-out stories and write card.json and README.md into `options.out`."""
    counts = np.array([len(d) - 1 for d in heldout], dtype=np.float64)
    of_document = np.repeat(np.arange(len(heldout)), counts.astype(int))

    def summed(nats: np.ndarray) -> dict[str, float]:
        return interval(np.bincount(of_document, weights=nats, minlength=len(heldout)), counts, options.seed)

    nats = token_losses(model, heldout)
    losses: dict[str, dict[str, Any]] = {"model": summed(np.concatenate(nats).astype(np.float64))}
    for name, found in baselines(train, validation, heldout, options.vocab_size).items():
        losses[name] = {**summed(found["nll"]), "chosen": found["chosen"]}
    card = {
        "name": "storyworld",
        "losses": losses,
        "repeated_names": repeated(nats, heldout, names),
        "sample": {
            "n_stories": N_SAMPLE,
            "nats": round(float(np.concatenate(nats[:N_SAMPLE]).mean(dtype=np.float64)), 4),
        },
        "heldout": {
            "n_stories": len(heldout),
            "n_tokens": int(counts.sum()),
            "first": "the mark stands before every story",
        },
        "train": {
            "n_stories": len(train),
            "n_tokens_distinct": int(sum(map(len, train))),
            "n_tokens_seen": options.n_steps * options.batch_size * (options.context - 1),
            "minutes": round(seconds / 60, 1),
        },
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "options": {k: v for k, v in to_json(options).items() if k not in ("out", "work")},
        "versions": versions(),
    }
    write_json(options.out / "card.json", card)
    atomic_write(Path(options.out) / "README.md", page(card).encode())


def page(card: dict[str, Any]) -> str:
    """The README of the model folder, from card.json alone."""
    options, train, heldout = card["options"], card["train"], card["heldout"]
    rows = "\n".join(
        f"| {name} | {row['nats']:.3f} | {row['lo']:.3f} to {row['hi']:.3f} | {_chosen(row)} |"
        for name, row in card["losses"].items()
    )
    return f"""# storyworld

A small language model of made-up stories: GPT-2 architecture, GELU, {options["n_layer"]} layers,
width {options["d_model"]}, {options["n_head"]} heads, context {options["context"]},
{card["n_parameters"]:,} parameters in fp32, and its own byte-level BPE of {options["vocab_size"]} tokens.
It knows nothing but storyworld, a generator of short English stories from known variables, and is honest about
being small.

## Held-out loss

Nats a token on {heldout["n_stories"]:,} held-out stories
({heldout["n_tokens"]:,} tokens; `stories.jsonl.gz`), each alone after the mark `<|endoftext|>`.
Intervals: 95 %, bootstrap over stories. The baselines are counted on the model's own training stories,
their constants chosen on {options["n_validation"]} further stories.

| | loss | interval | constants |
|---|---|---|---|
{rows}

No held-out story was trained on as a text, but all stories come from the same templates: held-out sentences often
occur in training.

What it does not do: keep the characters apart. A name that the story has used before costs it
{card["repeated_names"]["nats"]:.2f} nats ({card["repeated_names"]["n_tokens"]:,} tokens); 40 equally likely names would cost
{math.log(40):.2f} once it is known that a name follows. Its own stories change names from sentence to sentence.

## Training

{train["n_stories"]:,} stories ({train["n_tokens_distinct"]:,} tokens), {options["n_steps"]:,} steps of
{options["batch_size"]} blocks, {train["n_tokens_seen"]:,} tokens seen, seed {options["seed"]}.
It took {train["minutes"]} minutes with {options["threads"]} CPU thread(s) on a machine that others used as well.
Half of the blocks begin with a story, half anywhere. To train it again: `make storyworld`.

## Files

`config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`: Hugging Face format. `card.json`: the
numbers above. `stories.jsonl.gz`: the held-out stories, one JSON object a line: `text` and a label for every variable
of the world.
"""


def _chosen(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in row.get("chosen", {}).items())
