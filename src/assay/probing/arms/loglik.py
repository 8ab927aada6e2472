"""The model's own word, zero-shot: how much likelier it finds the name of class 1 than that of class 0 after text and question.

Nothing is fitted; the folds only choose among the templates. Black box: it needs the model's probabilities and no activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.probing.arms import per_fold
from assay.probing.protocol import Job, Material, Scored

ABOUT = "log p(name of class 1) − log p(name of class 0) after the text, zero-shot"
ROLE, ACCESS, SLOW = "baseline", "text", True
TEMPLATES = ("{text}\nLabel:", 'Is this "{task}"? {text}\nAnswer:')
NUMBERS = {"1": "yes", "0": "no"}
BATCH = 32
KEPT = "loglik"  # scores of a task's texts, which no seed changes


def missing(material: Material) -> str | None:
    model = material.extra.get("model")
    if model is None or not model.is_causal_lm:
        return "the model is an encoder and predicts no next token"
    return None


def run(material: Material, jobs: Sequence[Job]) -> list[Scored]:
    if KEPT not in material.extra:
        material.extra[KEPT] = torch.stack([_of_all(material, template) for template in TEMPLATES])
    known: Tensor = material.extra[KEPT]

    def scores(rows: Tensor, y: Tensor, held: Tensor, candidates: Sequence[dict[str, Any]]) -> Tensor:
        return known[[c["template"] for c in candidates]][:, held]

    return [per_fold.run(job, [{"template": i} for i in range(len(TEMPLATES))], scores) for job in jobs]


def _of_all(material: Material, template: str) -> Tensor:
    model, task = material.extra["model"], material.extra["task"]
    names = [NUMBERS.get(str(name), str(name)) for name in (task.positive, task.negative)]
    question = task.name.partition("_")[2].replace("_", " ") or task.name
    before, after = (part.replace("{task}", question) for part in template.split("{text}"))

    def ids(text: str) -> list[int]:
        return list(model.tokenizer(text, add_special_tokens=False)["input_ids"])

    answers = [ids(" " + name) or ids(name) for name in names]
    first, last = ids(before) if before else [], ids(after)
    bos = [] if model.bos_id is None else [int(model.bos_id)]
    room = model.context - len(bos) - len(first) - len(last) - max(map(len, answers))
    prompts = [[*bos, *first, *ids(text)[: min(room, 256)], *last] for text in material.texts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = torch.zeros(len(prompts))
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        yes, no = (_logp(model, [prompts[i] for i in some], answer) for answer in answers)
        found[some] = yes - no
    return found


@torch.no_grad()
def _logp(model: Any, prompts: Sequence[list[int]], answer: list[int]) -> Tensor:
    """log p(answer | prompt) in nats, the mean over the answer's tokens [n]."""
    rows = [[*prompt, *answer] for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [model.pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    logp = model.logits(ids.to(model.device), mask.to(model.device)).float().log_softmax(-1).cpu()
    total = torch.zeros(len(rows))
    for i, row in enumerate(rows):
        places = range(len(row) - len(answer), len(row))
        total[i] = sum(float(logp[i, at - 1, row[at]]) for at in places) / len(answer)
    return total
