"""The model's own word, zero-shot: how much likelier it finds the name of class 1 than that of class 0 after text and question.

Nothing is fitted; the folds only choose among the templates. Black box: it needs the model's probabilities and no activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.core.provenance import seconds
from assay.probing.arms import per_fold
from assay.probing.protocol import Job, Material, Scored

ABOUT = "log p(name of class 1) − log p(name of class 0) after the text, zero-shot"
ROLE, ACCESS, SLOW = "baseline", "text", True
TEMPLATES = ("{text}\nLabel:", 'Is this "{task}"? {text}\nAnswer:')
NUMBERS = {"1": "yes", "0": "no"}
LONGEST = 256  # tokens of a text that are read
BATCH = 32
KEPT = "loglik"  # scores of a task's texts, which no seed changes


def missing(material: Material) -> str | None:
    model = material.extra.get("model")
    if model is None or not model.is_causal_lm:
        return "the model is an encoder and predicts no next token"
    return None


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    if KEPT not in material.extra:
        found = [_of_all(material, template) for template in TEMPLATES]
        material.extra[KEPT] = torch.stack([scores for scores, _ in found]), [cost for _, cost in found]
    known, costs = material.extra[KEPT]
    candidates = [{"template": i, **cost} for i, cost in enumerate(costs)]

    def scores(rows: Tensor, y: Tensor, held: Tensor, candidates: Sequence[dict[str, Any]]) -> Tensor:
        return known[[c["template"] for c in candidates]][:, held]

    return [per_fold.run(job, candidates, scores) for job in jobs]


def pieces(model: Any, text: str) -> list[int]:
    """The tokens of a piece of a prompt."""
    return list(model.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def answers(model: Any, task: Any) -> tuple[list[int], list[int]]:
    """The tokens of the names of class 1 and of class 0; numbers are called yes and no."""
    names = [NUMBERS.get(str(name), str(name)) for name in (task.positive, task.negative)]
    one, zero = (pieces(model, " " + name) or pieces(model, name) for name in names)
    return one, zero


def _of_all(material: Material, template: str) -> tuple[Tensor, dict[str, float]]:
    """The score of every text [n], and what a text costs: tokens read and seconds."""
    model, task = material.extra["model"], material.extra["task"]
    question = task.name.partition("_")[2].replace("_", " ") or task.name
    before, after = (part.replace("{task}", question) for part in template.split("{text}"))
    names = answers(model, task)
    first, last = pieces(model, before), pieces(model, after)
    bos = [] if model.bos_id is None else [int(model.bos_id)]
    room = model.context - len(bos) - len(first) - len(last) - max(map(len, names))
    started = seconds()
    prompts = [[*bos, *first, *pieces(model, text)[: min(room, LONGEST)], *last] for text in material.texts]
    found = torch.zeros(len(prompts))
    for some in by_length(prompts):
        yes, no = (_logp(model, [prompts[i] for i in some], answer) for answer in names)
        found[some] = yes - no
    n = max(len(prompts), 1)
    read = sum(len(prompt) + len(answer) for prompt in prompts for answer in names)
    return found, {"tokens": read / n, "seconds": (seconds() - started) / n}


def by_length(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Batches of rows of like length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def padded(model: Any, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """ids and mask [n, longest], filled on the right, on the model's device."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[model.pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids.to(model.device), mask.to(model.device)


@torch.no_grad()
def _logp(model: Any, prompts: Sequence[list[int]], answer: list[int]) -> Tensor:
    """log p(answer | prompt) in nats, the mean over the answer's tokens [n]."""
    rows = [[*prompt, *answer] for prompt in prompts]
    return at_end(model.logits(*padded(model, rows)), rows, answer)


def at_end(logits: Tensor, rows: Sequence[Sequence[int]], answer: Sequence[int]) -> Tensor:
    """Mean log p in nats of the answer that ends each row [n], from the logits of the rows' columns [n, longest, vocab]."""
    logp = logits.float().log_softmax(-1).cpu()
    total = torch.zeros(len(rows))
    for i, row in enumerate(rows):
        places = range(len(row) - len(answer), len(row))
        total[i] = sum(float(logp[i, at - 1, row[at]]) for at in places) / len(answer)
    return total
