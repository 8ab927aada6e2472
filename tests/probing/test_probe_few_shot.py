"""The few-shot word of the model: what its prompt holds, whose labels it may see, how it is bounded, and that it does not leak."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_up_material import WORDS, made_job, made_material, made_task

from assay import models
from assay.probing import honesty
from assay.probing.arms import loglik, loglik_few, missing
from assay.probing.data import Task, make_task
from assay.probing.measure import Bench, Cell
from assay.probing.protocol import Material, judge


class Copycat:
    """A model that predicts the name which followed the most alike text of the prompt: it only knows what it is shown."""

    is_causal_lm, device, bos_id, pad_id, context = True, torch.device("cpu"), 0, 0, 60

    def __init__(self) -> None:
        self.ids: dict[str, int] = {"<": 0}
        self.prompts: list[list[int]] = []

    def tokenizer(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        words = text.replace("\n\n", " ; ").replace("\n", " ").split()
        return {"input_ids": [self.ids.setdefault(word, len(self.ids)) for word in words]}

    def forward(self, ids: torch.Tensor, past: bool = False) -> Any:
        return SimpleNamespace(past_key_values=None)

    def logits(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(*ids.shape, 400)
        for i, row in enumerate(ids):
            said = row[: int(mask[i].sum())].tolist()
            *examples, query = _parts(said[1:-1], self.ids[";"])
            self.prompts.append(said)
            mine = set(query[:-1])
            likeness = [(len(mine & set(e[:-2])), e[-1]) for e in examples]
            for size, name in likeness:
                out[i, len(said) - 2, name] += float(size) ** 3
        return out


def _parts(ids: list[int], between: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids:
        parts[-1].append(token) if token != between else parts.append([])
    return parts


def material_of(task: Task, model: Any) -> Material:
    return replace(made_material(task), extra={"model": model, "task": task})


def told_apart(n: int, seed: int = 0) -> Task:
    """Texts that say their class in some of their words."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    texts = [f"{i} " + " ".join(rng.choice(WORDS[5:] if y else WORDS[:5], 6)) for i, y in enumerate(labels)]
    return make_task("words", texts, [int(y) for y in labels], "made up")


def test_it_learns_from_the_examples_and_only_from_training_rows() -> None:
    task = told_apart(80)
    model = Copycat()
    job = made_job(task)
    (scored,) = loglik_few.run(material_of(task, model), [job])
    assert judge(scored, task.labels[job.test]) > 0.9 and scored.choice.validation > 0.9
    names = {model.ids["yes"]: 1, model.ids["no"]: 0}
    fold = dict(zip(job.train.tolist(), job.fold.tolist(), strict=True))
    for said in model.prompts:
        *examples, query = _parts(said[1:-1], model.ids[";"])
        rows = [
            next(i for i, t in enumerate(task.texts) if model.ids[t.split()[0]] == part[0])
            for part in [*examples, query]
        ]
        assert sorted(names[part[-1]] for part in examples) == [0, 0, 1, 1]
        assert all(names[part[-1]] == task.labels[row] for part, row in zip(examples, rows, strict=False))
        assert set(rows[:-1]) <= set(job.train)
        assert all(fold[row] != fold.get(rows[-1]) for row in rows[:-1])  # never an example of the query's own fold


def test_permuted_labels_give_one_half() -> None:
    task = told_apart(160)
    material = material_of(task, Copycat())
    bench = Bench(["loglik_few"], (1,), [], [], neurons=False)
    bench.families = lambda m: {}  # type: ignore[method-assign]
    (line,) = honesty.lines([bench.permuted(material, made_job(task), 24, 0)])
    assert line.honest and abs(line.mean - 0.5) < 0.05, line.sentence


def test_texts_are_cut_to_share_the_context_and_that_is_said() -> None:
    task = make_task(
        "t", [f"{i} " + "word " * (3 + 30 * (i % 2)) for i in range(40)], [i // 20 for i in range(40)], "made up"
    )
    model = Copycat()
    material = material_of(task, model)
    (scored,) = loglik_few.run(material, [made_job(task)])
    share = scored.options["tokens_of_a_text"]
    assert share == (60 - 1 - (5 * 2 + 4)) // 5 == loglik_few.share_of(material)
    assert scored.options["cut"] == 0.5 and scored.options["shots"] == 4
    assert max(map(len, model.prompts)) <= model.context
    assert 2 * (1 + 4) <= scored.options["tokens"] <= 2 * (share + 2)
    model.context = 30
    assert "no room for 4 examples" in str(missing("loglik_few", material))
    assert missing("loglik_few", replace(material, extra={})) is not None


def test_too_few_of_a_class_makes_fewer_examples() -> None:
    rows, y = torch.tensor([7, 8, 9]), torch.tensor([0, 1, 0])
    found = loglik_few.drawn(rows, y, np.random.default_rng(0))
    assert sorted(label for _, label in found) == [0, 1] and (8, 1) in found
    other = loglik_few.drawn(torch.arange(40), torch.arange(40) % 2, np.random.default_rng(1))
    again = loglik_few.drawn(torch.arange(40), torch.arange(40) % 2, np.random.default_rng(2))
    assert {row for row, _ in other} != {row for row, _ in again}


@pytest.fixture(scope="module")
def storyworld() -> Any:
    return models.load("storyworld")


def test_the_cache_of_the_examples_changes_nothing(storyworld: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = replace(made_task(60), positive="a red lamp", negative="night")
    job = made_job(task)
    (cached,) = loglik_few.run(material_of(task, storyworld), [job])
    (zero,) = loglik.run(material_of(task, storyworld), [job])
    monkeypatch.setattr(loglik_few, "_cache", lambda model, shared: None)
    (plain,) = loglik_few.run(material_of(task, storyworld), [job])
    assert torch.allclose(cached.test, plain.test, atol=1e-4) and cached.test.std() > 0
    assert zero.options["tokens"] > 2 * 20 and zero.options["seconds"] > 0
    bos, text = storyworld.bos_id, loglik.pieces(storyworld, task.texts[int(job.test[0])])
    rng = loglik_few.numpy_rng(job.seed, "probing", "shots", task.name)
    examples = loglik_few.drawn(torch.from_numpy(job.train), torch.from_numpy(job.y), rng)
    share = loglik_few.share_of(material_of(task, storyworld))
    prompt = [bos]
    for row, label in examples:
        name = task.positive if label else task.negative
        prompt += loglik.pieces(storyworld, task.texts[row])[:share]
        prompt += [
            *loglik.pieces(storyworld, "\nLabel:"),
            *loglik.pieces(storyworld, " " + name),
            *loglik.pieces(storyworld, "\n\n"),
        ]
    prompt += [*text[:share], *loglik.pieces(storyworld, "\nLabel:")]
    logp = []
    for name in (task.positive, task.negative):
        own = loglik.pieces(storyworld, " " + name)
        said = storyworld.logits(torch.tensor([[*prompt, *own]]))[0].log_softmax(-1)
        logp.append(sum(float(said[len(prompt) + n - 1, token]) for n, token in enumerate(own)) / len(own))
    assert float(cached.test[0]) == pytest.approx(logp[0] - logp[1], abs=1e-4)


def test_the_cost_of_a_text_is_told() -> None:
    from assay.probing.facts import _with_use
    from assay.probing.results import ArmFacts, Tables

    options = {"shots": 4, "tokens_of_a_text": 44, "cut": 0.25, "tokens": 91.6, "seconds": 0.002}
    cell = Cell("loglik_few", "t", 0, None, None, 0.5, [], [], 0.5, 9, 9, 1.0, options)
    told = _with_use(ArmFacts("dense", "text", "asks"), "loglik_few", [cell])
    (cost,) = Tables("all", [cell], {"loglik_few": told}).costs()
    assert (cost.marginal_tokens, cost.marginal_seconds) == (92, 0.002)
    assert told.about == "asks; 44 tokens a text, and 25% of the texts were cut"
