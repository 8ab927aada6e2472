"""Train the same dictionaries with dictionary_learning and with assay, on the same rows in the same order from the same start.

    rows = prepare(folder, recipe)                              activations of the shipped storyworld model, split by document
    theirs, about = train_theirs(rows, seeds)                   in an environment of their own (run_dictionary_learning.py)
    ours = train_ours(rows, theirs, seeds, ("same",))           from the weights that theirs started from

The two sides exchange safetensors files. Theirs are judged by what their own `encode` and `decode` gave on the held-out rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from agreement import reading
from peer_environment import ENVIRONMENT
from peer_recipe import PEERS, Recipe
from safetensors.torch import load_file, save_file
from torch import Tensor

from assay import activations, dictionaries, models, training
from assay.activations import Stream, TensorSource
from assay.dictionaries import Dictionary
from assay.training import Plan
from assay.training.maker import SAMPLE
from assay.training.member import Member

SITE = "resid_post.1"
RUNNER = Path(__file__).with_name("run_dictionary_learning.py")


@dataclass(frozen=True)
class Run:
    """One trained dictionary: readings on held-out rows, the loss of every step, its file if theirs."""

    reading: dict[str, float]
    loss: Tensor
    file: Path | None = None


@dataclass
class Rows:
    """Training rows [n, d] with the document of each, and held-out rows [m, d] of other documents."""

    folder: Path
    recipe: Recipe
    train: Tensor
    documents: list[str]
    held_out: Tensor
    _streams: dict[int, Stream] = field(default_factory=dict)

    def stream(self, seed: int) -> Stream:
        """Our stream of the training rows; a seed is an order."""
        if seed not in self._streams:
            source = TensorSource({SITE: self.train}, documents=self.documents)
            self._streams[seed] = Stream(source, [SITE], seed=seed, batch_size=self.recipe.batch)
        return self._streams[seed]

    def scale(self, seed: int) -> tuple[float, float]:
        """C of this seed's training space and the summed variance there, as our trainer finds them."""
        sample = self.stream(seed).sample(SAMPLE, "init")[SITE]
        scale = training.scale_of(sample, "rms1")
        return scale, float((sample / scale).double().var(0, correction=0).sum())


def prepare(folder: Path, recipe: Recipe) -> Rows:
    """Read storyworld at SITE: training documents packed, held-out ones each on its own. The other side finds rows.safetensors."""
    model = models.load("storyworld")
    documents = list(activations.documents("storyworld", limit=recipe.n_documents))
    packed = activations.pack(activations.of_split(documents, "train"), model, quiet=True)
    alone = activations.unpacked(activations.of_split(documents, "validation", "test"), model, quiet=True)
    train, names = rows_of(model, packed)
    held_out, _ = rows_of(model, alone)
    save_file({"rows": train, "held_out": held_out}, folder / "rows.safetensors")
    return Rows(folder, recipe, train, names, held_out)


def rows_of(model: Any, blocks: Any) -> tuple[Tensor, list[str]]:
    """The text rows [n, d] of the blocks, in their order, and the document of each."""
    kept = (~blocks.table.special).nonzero()[0]
    rows = activations.LiveSource(model, blocks, [SITE]).fetch(kept, [SITE])[SITE]
    return rows, [str(blocks.table.document_of(int(row))) for row in kept]


def train_theirs(
    rows: Rows,
    seeds: Sequence[int],
    archs: Sequence[str] = tuple(PEERS),
    *,
    name: str = "theirs",
    penalty: float = 1.0,
    dtype: str = "float32",
    steps: int | None = None,
) -> tuple[dict[tuple[str, int], Run], dict[str, Any]]:
    """Every (arch, seed) by their trainers, and what ran (versions, seconds).

    penalty scales their L1: the deliberate slip. steps ends a run early, with the schedules of the whole; name keeps files apart.
    """
    ENVIRONMENT.make()
    recipe, folder = rows.recipe, rows.folder
    jobs: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in seeds:
        scale, variance = rows.scale(seed)
        order = torch.stack([torch.from_numpy(rows.stream(seed).row_ids(step)) for step in range(recipe.n_steps)])
        save_file({"order": order}, folder / f"order-{seed}.safetensors")
        for arch in archs:
            jobs[arch, seed] = {
                "name": f"{arch}-{seed}",
                "trainer": PEERS[arch].trainer,
                "d_sae": recipe.d_sae,
                "options": PEERS[arch].theirs(recipe, seed, variance, penalty),
                "attributes": PEERS[arch].attributes(recipe),
                "order": str(folder / f"order-{seed}.safetensors"),
                "scale": scale,
                "out": str(folder / f"{name}-{arch}-{seed}.safetensors"),
            }
    asked = {
        "threads": torch.get_num_threads(),
        "rows": str(folder / "rows.safetensors"),
        "dtype": dtype,
        "steps": steps,
        "jobs": list(jobs.values()),
    }
    (folder / f"{name}.json").write_text(json.dumps(asked))
    said = ENVIRONMENT.run([str(RUNNER), str(folder / f"{name}.json")])
    runs: dict[tuple[str, int], Run] = {}
    for key, job in jobs.items():
        made = load_file(job["out"])
        x = rows.held_out.to(made["x_hat"].dtype) / job["scale"]
        read = reading(x, made["x_hat"], made["row"], made["value"])
        runs[key] = Run(read, made["loss"], file=Path(job["out"]))
    return runs, json.loads(said.splitlines()[-1])


def train_ours(
    rows: Rows,
    theirs: dict[tuple[str, int], Run],
    seeds: Sequence[int],
    variants: Sequence[str],
    archs: Sequence[str] = tuple(PEERS),
) -> dict[tuple[str, str, int], Run]:
    """Every (variant, arch, seed) by assay's trainer, all of one seed over one reading of the stream."""
    runs: dict[tuple[str, str, int], Run] = {}
    for seed in seeds:
        out = rows.folder / f"ours-{seed}"
        plans: dict[tuple[str, str, int], Plan] = {}
        for arch in archs:
            for variant in variants:
                config = PEERS[arch].config(rows.recipe, rows.train.shape[1], variant)
                name, options = f"{arch}-{variant}", PEERS[arch].ours(rows.recipe, seed, variant)
                start = None
                if variant == "same":
                    start = rows.folder / f"start-{name}-{seed}"
                    write_start(start, started(arch, theirs[arch, seed], rows), rows, seed)
                plans[variant, arch, seed] = Plan(name, config, options, start)
        made = training.sweep(list(plans.values()), rows.stream(seed), out, site=SITE, quiet=True)
        for (key, plan), dictionary in zip(plans.items(), made, strict=True):
            codes = dictionary.encode_sparse(rows.held_out)
            log = [json.loads(line) for line in (out / plan.name / "log.jsonl").read_text().splitlines()]
            loss = torch.tensor([line["loss"] for line in log], dtype=torch.float64)
            runs[key] = Run(reading(rows.held_out, dictionary.decode(codes), codes.row, codes.value), loss)
    return runs


def write_start(folder: Path, dictionary: Dictionary, rows: Rows, seed: int) -> None:
    """Write a dictionary that holds training space, for `Plan.init_from`."""
    scale, _ = rows.scale(seed)
    dictionary.scale = (scale, scale)
    folder.mkdir()
    dictionaries.save(dictionary, folder, golden=rows.held_out, provenance={}, convention="rms1")


def started(arch: str, theirs: Run, rows: Rows, dtype: torch.dtype = torch.float32) -> Dictionary:
    """What theirs started from, as a dictionary of ours in training space."""
    assert theirs.file is not None
    config = PEERS[arch].config(rows.recipe, rows.train.shape[1])
    return PEERS[arch].adopted(config, load_file(theirs.file), "before", dtype)


class CountsFirst(Member):
    """Counts the batch at hand before AuxK asks which latents are dead, as their TopK trainer does; ours counts it afterwards."""

    def step(self, t: int, x: Tensor, y: Tensor) -> None:
        self.fired = self.dictionary.encode_sparse(x, training=True).latent
        super().step(t, x, y)

    def dead(self) -> Tensor:
        silent = self.silent_tokens + self.options.batch_size
        silent[self.fired] = 0
        return (silent >= self.options.dead_tokens + self.options.batch_size).nonzero().flatten()


def train_double(
    rows: Rows,
    theirs: Run,
    arch: str,
    seed: int,
    steps: int,
    *,
    member: type[Member] = CountsFirst,
    sparse: bool = True,
) -> Run:
    """Our first `steps` steps in float64, from theirs' start. sparse: never by the dense autograd step."""
    start = started(arch, theirs, rows, torch.float64).requires_grad_()
    scale, variance = rows.scale(seed)
    trained = member(arch, start, PEERS[arch].ours(rows.recipe, seed, "same"), variance)
    losses: list[float] = []
    for step, batch in enumerate(rows.stream(seed).batches(0, steps)):
        if sparse:
            trained.n_support = 0
        x = batch[SITE].double() / scale
        trained.step(step, x, x)
        losses.append(trained.report(step + 1)["loss"])
    x = rows.held_out.double() / scale
    trained.dictionary.requires_grad_(False)
    codes = trained.dictionary.encode_sparse(x)
    read = reading(x, trained.dictionary.decode(codes), codes.row, codes.value)
    return Run(read, torch.tensor(losses, dtype=torch.float64))
