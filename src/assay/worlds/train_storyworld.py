"""Train the language model that ships as `storyworld`, and write its text, tokenizer and card: `make storyworld`.

    python -m assay.worlds.train_storyworld --out src/assay/data/storyworld

1. Held-out stories are drawn from their own stream, written to stories.jsonl.gz, and never trained on.
2. A byte-level BPE tokenizer is trained on the first training stories.
3. A GPT-2 model with GELU is trained from scratch on fresh training stories; every `checkpoint_every` steps its state is saved
   in --work, and the same command continues from there.
4. The card states its loss on the held-out stories beside unigram, bigram and trigram baselines fitted to the same stories.
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

from assay.core.artefact import atomic_write, read_tensors, write_tensors
from assay.core.config import config, require
from assay.core.progress import progress
from assay.core.randomness import numpy_rng, seed_of
from assay.worlds.card import write_card
from assay.worlds.storyworld import Story, stories

MARK = "<|endoftext|>"  # stands before every story; also the end and the padding token


@config
class Options:
    out: Path = Path("src/assay/data/storyworld")
    """Folder of the model, its tokenizer, its card and the held-out stories."""
    work: Path = Path("runs/storyworld")
    """Folder of the checkpoint."""
    n_steps: int = 1200
    """Training steps."""
    batch_size: int = 32
    """Blocks a step."""
    n_train: int = 60_000
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
    lr: float = 3e-3
    """Highest learning rate; warmed up over 5 % of the steps, then a cosine to a tenth of it."""
    weight_decay: float = 0.05
    """AdamW's weight decay, on matrices only."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    threads: int = 2
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


def learning_rate(step: int, options: Options) -> float:
    warm = max(1, options.n_steps // 20)
    if step < warm:
        return options.lr * (step + 1) / warm
    done = (step - warm) / max(1, options.n_steps - warm)
    return options.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def save_checkpoint(path: Path, model: GPT2LMHeadModel, optimizer: torch.optim.AdamW, step: int) -> None:
    state = {"step": torch.tensor(step)}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        state |= {
            f"weight.{name}": parameter,
            f"mean.{name}": moments["exp_avg"],
            f"square.{name}": moments["exp_avg_sq"],
        }
    write_tensors(path, {k: v.clone() for k, v in state.items()})


def load_checkpoint(path: Path, model: GPT2LMHeadModel, optimizer: torch.optim.AdamW) -> int:
    state = read_tensors(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(state[f"weight.{name}"])
            optimizer.state[parameter] = {
                "step": state["step"].float(),
                "exp_avg": state[f"mean.{name}"],
                "exp_avg_sq": state[f"square.{name}"],
            }
    return int(state["step"])


def train(model: GPT2LMHeadModel, documents: list[list[int]], options: Options) -> None:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98))
    checkpoint = options.work / "checkpoint.safetensors"
    first = load_checkpoint(checkpoint, model, optimizer) if checkpoint.exists() else 0
    model.train()
    with progress(options.n_steps, "storyworld", "steps", done=first) as bar:
        for step, ids in enumerate(batches(documents, options, first), start=first):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options)
            logits = model(input_ids=ids[:, :-1]).logits
            loss = cross_entropy(logits.reshape(-1, options.vocab_size), ids[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.advance(1)
            if (step + 1) % 50 == 0:
                bar.note(f"step {step + 1}: {loss.item():.4f} nats a token")
            if (step + 1) % options.checkpoint_every == 0:
                save_checkpoint(checkpoint, model, optimizer, step + 1)
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
    write_stories(options.out / "stories.jsonl.gz", heldout)
    held = encode(tokenizer, [s.text for s in heldout])
    write_card(model, documents, encode(tokenizer, validation_texts), held, options, seconds)
    (options.work / "checkpoint.safetensors").unlink(missing_ok=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
