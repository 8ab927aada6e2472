"""Train the language model that ships as `storyworld`, and write its text, tokenizer and card: `make storyworld`.

    python -m assay.worlds.train_storyworld --out src/assay/data/storyworld

1. Held-out stories are drawn from their own stream, written to stories.jsonl.gz, and never trained on.
2. A byte-level BPE tokenizer is trained on the first training stories.
3. A GPT-2 model with GELU is trained from scratch on the training stories; every `checkpoint_every` steps its state is
   saved in --work, and the same command continues from there.
4. The card states its held-out loss beside unigram, bigram and trigram baselines fitted to the same stories.
"""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import tyro
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from assay.core.artefact import atomic_write, read_json, read_tensors, write_json, write_tensors
from assay.core.config import config, require
from assay.core.progress import progress
from assay.core.randomness import numpy_rng, seed_of
from assay.worlds.card import write_card
from assay.worlds.storyworld import Story, stories
from assay.worlds.words import NAMES

MARK = "<|endoftext|>"  # stands before every story; also the end and the padding token


@config
class Options:
    out: Path = Path("src/assay/data/storyworld")
    """Folder of the model, its tokenizer, its card and the held-out stories."""
    work: Path = Path("runs/storyworld")
    """Folder of the checkpoint."""
    n_steps: int = 3000
    """Training steps."""
    batch_size: int = 8
    """Blocks a step."""
    n_train: int = 50_000
    """Training stories; they are packed into blocks of `context` tokens and visited in random order."""
    n_validation: int = 500
    """Stories on which the constants of the baselines are chosen."""
    n_heldout: int = 6000
    """Held-out stories that ship."""
    n_layer: int = 3
    """Layers."""
    d_model: int = 96
    """Width of the residual stream."""
    n_head: int = 4
    """Attention heads a layer."""
    context: int = 256
    """Positions."""
    vocab_size: int = 1024
    """Tokens, the 256 bytes and the mark among them."""
    lr: float = 1.6e-2
    """Highest learning rate of AdamW (embeddings, vectors): warmed up over 5 % of the steps, then a cosine to 5 %."""
    lr_matrices: float = 5e-2
    """Highest learning rate of Muon (the matrices inside the blocks); same course."""
    initial_std: float = 0.05
    """Standard deviation of the initial weights."""
    weight_decay: float = 0.05
    """Weight decay of Muon, in units of its learning rate."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    threads: int = 1
    """CPU threads; another number may change the last digits of the weights."""
    seed: int = 0
    """Seed of stories, weights and batches."""

    def __post_init__(self) -> None:
        require(self.n_steps > 0, "n_steps", self.n_steps, "above 0")
        require(self.d_model % self.n_head == 0, "d_model", self.d_model, f"a multiple of --n-head {self.n_head}")
        require(
            self.vocab_size > 300, "vocab_size", self.vocab_size, "above 300: the 256 bytes and the mark come first"
        )


def write_stories(path: Path, told: list[Story]) -> None:
    """One JSON object a line, the text and every label. The gzip header holds no time, so that bytes repeat."""
    lines = "".join(json.dumps({"text": s.text, **s.labels}) + "\n" for s in told)
    atomic_write(path, gzip.compress(lines.encode(), 9, mtime=0))


def train_tokenizer(texts: list[str], vocab_size: int, context: int) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[MARK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=MARK, eos_token=MARK, pad_token=MARK, unk_token=MARK, model_max_length=context
    )


def build(options: Options) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(options.seed, "storyworld", "weights"))
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=options.vocab_size,
                n_positions=options.context,
                n_embd=options.d_model,
                n_layer=options.n_layer,
                n_head=options.n_head,
                activation_function="gelu_new",
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                initializer_range=options.initial_std,
                bos_token_id=0,
                eos_token_id=0,
            )
        )


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """Token ids of each text after the mark."""
    return [[0, *ids] for ids in tokenizer(texts)["input_ids"]]


def batches(documents: list[list[int]], options: Options, first_step: int) -> Iterator[torch.Tensor]:
    """Blocks [batch_size, context] of consecutive stories: half begin with a story, half anywhere.

    A block that begins anywhere makes every position of the context see every part of a story.
    """
    stream = np.concatenate([np.asarray(d, dtype=np.int64) for d in documents])
    starts = np.cumsum([0, *(len(d) for d in documents[:-1])])
    starts = starts[starts <= len(stream) - options.context]
    for step in range(first_step, options.n_steps):
        rng = numpy_rng(options.seed, "storyworld", "batch", step)
        half = options.batch_size // 2
        anywhere = rng.integers(0, len(stream) - options.context, options.batch_size - half)
        at = np.concatenate([rng.choice(starts, half), anywhere])
        yield torch.from_numpy(stream[at[:, None] + np.arange(options.context)])


def course(step: int, n_steps: int) -> float:
    """Share of the highest learning rate at a step."""
    warm = max(1, n_steps // 20)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, n_steps - warm)
    return 0.05 + 0.475 * (1 + math.cos(math.pi * done))


def optimizers(model: GPT2LMHeadModel, options: Options) -> list[torch.optim.Optimizer]:
    """Muon on the blocks' matrices, AdamW on the rest: after 240 steps 1.70 nats, AdamW alone 2.40."""
    inside = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is q for q in inside)]
    return [
        torch.optim.Muon(inside, lr=options.lr_matrices, momentum=0.95, weight_decay=options.weight_decay),
        torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def save_checkpoint(path: Path, model: GPT2LMHeadModel, workers: list[torch.optim.Optimizer], step: int) -> None:
    state = {"step": torch.tensor(step)} | {f"weight.{name}": p for name, p in model.named_parameters()}
    for i, worker in enumerate(workers):
        for j, moments in worker.state_dict()["state"].items():
            state |= {f"moment.{i}.{j}.{key}": value for key, value in moments.items()}
    write_tensors(path, {k: v.clone() for k, v in state.items()})


def load_checkpoint(path: Path, model: GPT2LMHeadModel, workers: list[torch.optim.Optimizer]) -> int:
    state = read_tensors(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[f"weight.{name}"])
    for i, worker in enumerate(workers):
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in state.items():
            if name.startswith(f"moment.{i}."):
                _, _, j, key = name.split(".")
                moments.setdefault(int(j), {})[key] = value
        worker.load_state_dict({**worker.state_dict(), "state": moments})
    return int(state["step"])


def train(model: GPT2LMHeadModel, documents: list[list[int]], options: Options) -> None:
    workers = optimizers(model, options)
    highest = (options.lr_matrices, options.lr)
    checkpoint = options.work / "checkpoint.safetensors"
    first = load_checkpoint(checkpoint, model, workers) if checkpoint.exists() else 0
    model.train()
    with progress(options.n_steps, "storyworld", "steps", done=first) as bar:
        for step, ids in enumerate(batches(documents, options, first), start=first):
            for worker, lr in zip(workers, highest):
                worker.param_groups[0]["lr"] = lr * course(step, options.n_steps)
                worker.zero_grad()
            logits = model(input_ids=ids[:, :-1]).logits
            loss = cross_entropy(logits.reshape(-1, options.vocab_size), ids[:, 1:].reshape(-1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for worker in workers:
                worker.step()
            bar.advance(1)
            if (step + 1) % 100 == 0:
                bar.note(f"step {step + 1}: {loss.item():.4f} nats a token")
            if (step + 1) % options.checkpoint_every == 0:
                save_checkpoint(checkpoint, model, workers, step + 1)
    model.eval()


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    heldout = list(stories(options.n_heldout, options.seed, "heldout"))
    kept_out = {s.text for s in heldout}
    told = (s.text for s in stories(options.n_train, options.seed, "train"))
    train_texts = [text for text in told if text not in kept_out]
    told = (s.text for s in stories(options.n_validation, options.seed, "validation"))
    validation_texts = [text for text in told if text not in kept_out]
    tokenizer = train_tokenizer(train_texts[:10_000], options.vocab_size, options.context)
    documents = encode(tokenizer, train_texts)
    model = build(options)
    train(model, documents, options)
    seconds = time.perf_counter() - began
    options.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "model.safetensors").chmod(0o644)
    named = options.out / "tokenizer_config.json"  # the class's old name, which every version of transformers knows
    write_json(named, {**read_json(named), "tokenizer_class": "PreTrainedTokenizerFast"})
    write_stories(options.out / "stories.jsonl.gz", heldout)
    held = encode(tokenizer, [s.text for s in heldout])
    vocabulary = tokenizer.get_vocab()
    names = {vocabulary[f"Ġ{name}"] for known in NAMES.values() for name in known if f"Ġ{name}" in vocabulary}
    write_card(model, documents, encode(tokenizer, validation_texts), held, names, options, seconds)
    (options.work / "checkpoint.safetensors").unlink(missing_ok=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
