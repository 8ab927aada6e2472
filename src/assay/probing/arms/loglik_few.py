"""The model's own word, few-shot: the same question after SHOTS labelled examples of the training rows, as many of each class.

    {text} Label: {name of its class}   SHOTS times, then   {text} Label:   and how much likelier is the name of class 1 than that of class 0?

Nothing is fitted, and there is nothing to choose: the number of examples is stated. They are drawn by the seed from the rows that a fold may
see, so no text is scored after an example of its own fold. All texts are cut to an even share of LONGEST tokens or of the model's context,
whichever is less, and how many were cut is in the options. The examples are read once a fold, and every text continues their cache.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.provenance import seconds
from assay.core.randomness import numpy_rng
from assay.probing.arms import per_fold
from assay.probing.arms.loglik import LONGEST, answers, at_end, by_length, padded, pieces
from assay.probing.arms.loglik import missing as no_model
from assay.probing.protocol import Job, Material, Scored

ABOUT = "log p(name of class 1) − log p(name of class 0) after 4 labelled examples of the training rows and the text"
ROLE, ACCESS, SLOW = "baseline", "text", True
SHOTS = 4
BEFORE, BETWEEN = "\nLabel:", "\n\n"
FEWEST = 4  # tokens that a text must be left with


def missing(material: Material) -> str | None:
    if reason := no_model(material):
        return reason
    share = share_of(material)
    model = material.extra["model"]
    return None if share >= FEWEST else f"a context of {model.context} tokens has no room for {SHOTS} examples"


def share_of(material: Material) -> int:
    """Tokens that each of the examples and the text itself may have."""
    model = material.extra["model"]
    names = answers(model, material.extra["task"])
    fixed = (SHOTS + 1) * (len(pieces(model, BEFORE)) + max(map(len, names))) + SHOTS * len(pieces(model, BETWEEN))
    return (min(model.context, LONGEST) - 1 - fixed) // (SHOTS + 1)


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    share = share_of(material)
    texts = [pieces(material.extra["model"], text) for text in material.texts]
    told: dict[str, Any] = {
        "shots": SHOTS,
        "tokens_of_a_text": share,
        "cut": sum(len(text) > share for text in texts) / len(texts),
    }
    shown = [text[:share] for text in texts]
    made: list[Scored] = []
    for job in jobs:
        spent = {"tokens": 0, "texts": 0}
        started = seconds()

        def scores(
            rows: Tensor,
            y: Tensor,
            held: Tensor,
            candidates: Sequence[Any],
            job: Job = job,
            spent: dict[str, int] = spent,
        ) -> Tensor:
            chosen = drawn(rows, y, numpy_rng(job.seed, "probing", "shots", material.name))
            found, read = _scores(material, shown, chosen, held)
            spent["tokens"] += read
            spent["texts"] += len(held)
            return found[None]

        one = per_fold.run(job, [{}], scores)
        n = max(spent["texts"], 1)
        one.options.update(told, tokens=spent["tokens"] / n, seconds=(seconds() - started) / n)
        made.append(one)
    return made


def drawn(rows: Tensor, y: Tensor, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(row, label) of the examples in the order in which they are shown: SHOTS, or fewer where a class has not enough."""
    order = rng.permutation(len(rows))
    each = min(SHOTS // 2, int((y == 1).sum()), int((y == 0).sum()))
    picked = [int(i) for label in (0, 1) for i in order[y.numpy()[order] == label][:each]]
    return [(int(rows[i]), int(y[i])) for i in rng.permutation(picked)]


@torch.no_grad()
def _scores(
    material: Material, shown: Sequence[list[int]], examples: Sequence[tuple[int, int]], held: Tensor
) -> tuple[Tensor, int]:
    """The scores of the held rows [m], and how many tokens were read for them."""
    model = material.extra["model"]
    one, zero = answers(model, material.extra["task"])
    before, between = pieces(model, BEFORE), pieces(model, BETWEEN)
    shared = [] if model.bos_id is None else [int(model.bos_id)]
    for row, label in examples:
        shared += [*shown[row], *before, *(one if label else zero), *between]
    cache = _cache(model, shared)
    found, read = torch.zeros(len(held)), 0
    queries = [[*shown[int(row)], *before] for row in held]
    for some in by_length(queries):
        parts: list[Tensor] = []
        for answer in (one, zero):
            rows = [[*queries[i], *answer] for i in some]
            read += sum(map(len, rows))
            parts.append(at_end(_continued(model, shared, cache, rows), rows, answer))
        found[some] = parts[0] - parts[1]
    return found, read


def _cache(model: Any, shared: Sequence[int]) -> Any:
    """The cache after the examples; None where the model has none that can serve several texts."""
    if not shared:
        return None
    cache = getattr(model.forward(torch.tensor([list(shared)]), past=True), "past_key_values", None)
    return cache if hasattr(cache, "batch_repeat_interleave") else None


def _continued(model: Any, shared: Sequence[int], cache: Any, rows: Sequence[list[int]]) -> Tensor:
    """The logits of the rows' own columns after the shared tokens [n, longest, vocab]."""
    if cache is None:
        whole = [[*shared, *row] for row in rows]
        return model.logits(*padded(model, whole))[:, len(shared) :]
    ids, mask = padded(model, rows)
    past = copy.deepcopy(cache)
    past.batch_repeat_interleave(len(rows))
    seen = torch.ones(len(rows), len(shared), dtype=mask.dtype, device=mask.device)
    return model.forward(ids, torch.cat([seen, mask], 1), past=past).logits
