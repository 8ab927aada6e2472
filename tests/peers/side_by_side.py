"""Train the same dictionaries with dictionary_learning and with assay: same rows, order, start, schedules; read both the same way.

    prepared = prepare(folder, recipe)                   rows of the shipped storyworld model, split by document
    theirs(prepared, ...)  then  ours(prepared, ...)     their starting weights are copied into ours
    reading(...)                                         L0, FVU, gamma on held-out rows, by assay's metrics for both

Theirs run in an environment of their own (`run_dictionary_learning.py`); the two exchange safetensors files. Their results are judged
by what their own `encode` and `decode` gave, never through a converter of ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import peer_environment
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import t as student
from torch import Tensor

from assay import activations, dictionaries, models, training
from assay.activations import Stream, TensorSource
from assay.dictionaries import Dictionary
from assay.metrics.fidelity import fvu
from assay.metrics.ratio import pooled
from assay.metrics.shrinkage import relative_reconstruction_bias
from assay.metrics.sparsity import l0_terms
from assay.training import Plan, TrainConfig
from assay.training.loop import SAMPLE

SITE = "resid_post.1"
METRICS = ("l0", "fvu", "gamma")


@dataclass(frozen=True)
class Recipe:
    """What both sides are told. Penalties and k are of the space in which E x_j^2 = 1."""

    n_steps: int = 1600
    batch: int = 512
    d_sae: int = 512
    lr: float = 3e-3
    warmup: int = 80  # steps over which the rate rises
    decay: int = 320  # steps at the end over which it falls
    sparsity_warmup: int = 160  # steps over which the penalty rises
    gated_l1: float = 3.0
    relu_l1: float = 2.5
    k: int = 8
    n_documents: int = 2400

    @property
    def dead_after(self) -> int:
        """Rows of silence after which a latent is dead; theirs says 10 million, longer than these runs."""
        return self.n_steps * self.batch // 10

    def ours(self, seed: int, **changes: Any) -> TrainConfig:
        n = self.n_steps
        return TrainConfig(
            **{
                "n_tokens": n * self.batch,
                "batch_size": self.batch,
                "lr": self.lr,
                "lr_warmup": self.warmup / n,
                "lr_decay": self.decay / n,
                "sparsity_warmup": self.sparsity_warmup / n,
                "scale": "rms1",
                "seed": seed,
                "order_seed": seed,
                "log_every": 1,
                "checkpoint_every": n,
                **changes,
            }  # fmt: skip
        )


@dataclass(frozen=True)
class Peer:
    """One of their trainers and the architecture of ours that it should equal."""

    arch: str
    trainer: str
    names: dict[str, str]  # parameter of ours -> of theirs; matrices are transposed
    same: dict[str, Any]  # options of ours that make its recipe theirs

    def config(self, recipe: Recipe, d: int) -> Any:
        option = {"gated": {"l1_coef": recipe.gated_l1}, "relu": {"l1_coef": recipe.relu_l1}, "topk": {"k": recipe.k}}
        return dictionaries.config_class(self.arch)(d_in=d, d_sae=recipe.d_sae, **option[self.arch])

    def options(self, recipe: Recipe, seed: int, variance: float, penalty: float) -> dict[str, Any]:
        """Their constructor's arguments. Their schedule runs one call ahead, hence the ones; penalty scales their L1."""
        n = recipe.n_steps + 1
        shared = {
            "steps": n,
            "lr": recipe.lr,
            "warmup_steps": recipe.warmup + 1,
            "decay_start": n - recipe.decay,
            "seed": seed,
        }
        if self.arch == "topk":  # ours multiplies AuxK by the variance of the data, theirs does not
            return {**shared, "k": recipe.k, "auxk_alpha": variance / 32}
        l1 = recipe.gated_l1 if self.arch == "gated" else recipe.relu_l1
        return {**shared, "l1_penalty": penalty * l1, "sparsity_warmup_steps": recipe.sparsity_warmup}


PEERS = {
    "gated": Peer(
        "gated",
        "GatedSAETrainer",
        {"W_enc": "encoder.weight", "W_dec": "decoder.weight", "b_dec": "decoder_bias", "b_gate": "gate_bias"}
        | {"r_mag": "r_mag", "b_mag": "mag_bias"},
        {"resample_at": (), "beta1": 0.0},
    ),
    "relu": Peer(
        "relu",
        "StandardTrainer",
        {"W_enc": "encoder.weight", "W_dec": "decoder.weight", "b_dec": "bias", "b_enc": "encoder.bias"},
        {"resample_at": (), "beta1": 0.9},
    ),
    "topk": Peer(
        "topk",
        "TopKTrainer",
        {"W_enc": "encoder.weight", "W_dec": "decoder.weight", "b_dec": "b_dec", "b_enc": "encoder.bias"},
        {"clip": 1.0, "beta1": 0.9},
    ),
}


@dataclass
class Run:
    """One trained dictionary: its readings on held-out rows, and its loss at every step."""

    reading: dict[str, float]
    loss: Tensor
    folder: Path | None = None  # ours
    file: Path | None = None  # theirs


@dataclass
class Prepared:
    """Rows [n, d] with the document of each, held-out rows [m, d], and what was read."""

    folder: Path
    recipe: Recipe
    rows: Tensor
    documents: list[str]
    held_out: Tensor
    streams: dict[int, Stream] = field(default_factory=dict)

    @property
    def rows_file(self) -> Path:
        return self.folder / "rows.safetensors"

    def stream(self, seed: int) -> Stream:
        if seed not in self.streams:
            source = TensorSource({SITE: self.rows}, documents=self.documents)
            self.streams[seed] = Stream(source, [SITE], seed=seed, batch_size=self.recipe.batch)
        return self.streams[seed]

    def scale_and_variance(self, seed: int) -> tuple[float, float]:
        """C of this seed's training space and the summed variance there, as our trainer finds them."""
        sample = self.stream(seed).sample(SAMPLE, "init")[SITE]
        scale = training.scale_of(sample, "rms1")
        return scale, float((sample / scale).double().var(0, correction=0).sum())


def prepare(folder: Path, recipe: Recipe) -> Prepared:
    """Rows of storyworld at SITE: training documents packed, held-out ones each on its own. Written for the other side."""
    model = models.load("storyworld")
    documents = list(activations.documents("storyworld", limit=recipe.n_documents))
    packed = activations.pack(activations.of_split(documents, "train"), model, quiet=True)
    alone = activations.unpacked(activations.of_split(documents, "validation", "test"), model, quiet=True)
    rows, table = rows_of(model, packed)
    held_out, _ = rows_of(model, alone)
    names = [str(table.document_of(int(row))) for row in (~table.special).nonzero()[0]]
    prepared = Prepared(folder, recipe, rows, names, held_out)
    save_file({"rows": rows, "held_out": held_out}, prepared.rows_file)
    return prepared


def rows_of(model: Any, blocks: Any) -> tuple[Tensor, Any]:
    """Every kept row [n, d] of the blocks, in their order."""
    source = activations.LiveSource(model, blocks, [SITE])
    return source.fetch((~blocks.table.special).nonzero()[0], [SITE])[SITE], blocks.table


def theirs(
    prepared: Prepared, seeds: list[int], archs: list[str], *, penalty: float = 1.0, name: str = "theirs"
) -> dict:
    """{(arch, seed): Run} by their trainers, in one process of their environment; and {"about": versions, seconds}."""
    python = peer_environment.python()
    jobs = []
    for seed in seeds:
        scale, variance = prepared.scale_and_variance(seed)
        stream = prepared.stream(seed)
        order = torch.stack([torch.from_numpy(stream.row_ids(step)) for step in range(prepared.recipe.n_steps)])
        save_file({"order": order}, prepared.folder / f"order-{seed}.safetensors")
        for arch in archs:
            peer = PEERS[arch]
            jobs.append(
                {
                    "name": f"{arch}-{seed}",
                    "trainer": peer.trainer,
                    "d_sae": prepared.recipe.d_sae,
                    "options": peer.options(prepared.recipe, seed, variance, penalty),
                    "attributes": {"dead_feature_threshold": prepared.recipe.dead_after} if arch == "topk" else {},
                    "order": str(prepared.folder / f"order-{seed}.safetensors"),
                    "scale": scale,
                    "out": str(prepared.folder / f"{name}-{arch}-{seed}.safetensors"),
                }
            )
    asked = {"threads": torch.get_num_threads(), "rows": str(prepared.rows_file), "jobs": jobs}
    file = prepared.folder / f"{name}.json"
    file.write_text(json.dumps(asked))
    script = Path(__file__).with_name("run_dictionary_learning.py")
    about = json.loads(peer_environment.run([str(script), str(file)], env={"HF_HUB_OFFLINE": "1"}).splitlines()[-1])
    runs: dict = {"about": about}
    for job, (seed, arch) in zip(jobs, [(seed, arch) for seed in seeds for arch in archs], strict=True):
        made = load_file(job["out"])
        x = prepared.held_out / job["scale"]
        runs[arch, seed] = Run(
            reading(x, made["x_hat"], made["row"], made["value"]), made["loss"], file=Path(job["out"])
        )
    return runs


def ours(prepared: Prepared, begun: dict, seeds: list[int], archs: list[str], *, own: bool = False) -> dict:
    """{(arch, seed): Run} by assay's trainer, from the weights that `begun` (theirs) started from.

    own: also {(arch, seed, "own"): Run}, trained by assay's own recipe (its start, resampling, Adam coefficients, no clipping).
    """
    recipe, d = prepared.recipe, prepared.rows.shape[1]
    runs: dict = {}
    for seed in seeds:
        scale, _ = prepared.scale_and_variance(seed)
        plans: list[Plan] = []
        for arch in archs:
            peer = PEERS[arch]
            config = peer.config(recipe, d)
            start = prepared.folder / f"start-{arch}-{seed}"
            begin(peer, config, load_file(begun[arch, seed].file), scale, start, prepared.held_out)
            # theirs counts the batch at hand before it asks which latents are dead, ours after
            same = {"dead_after": recipe.dead_after - recipe.batch, **peer.same}
            plans.append(Plan(arch, config, recipe.ours(seed, **same), start))
            if own:
                plans.append(Plan(f"{arch}-own", config, recipe.ours(seed)))
        out = prepared.folder / f"ours-{seed}"
        made = training.sweep(plans, prepared.stream(seed), out, site=SITE, quiet=True)
        for plan, dictionary in zip(plans, made, strict=True):
            codes = dictionary.encode_sparse(prepared.held_out)
            read = reading(prepared.held_out, dictionary.decode(codes), codes.row, codes.value)
            log = (out / plan.name / "log.jsonl").read_text().splitlines()
            key = (plan.arch, seed) if plan.name == plan.arch else (plan.arch, seed, "own")
            loss = torch.tensor([json.loads(line)["loss"] for line in log], dtype=torch.float64)
            runs[key] = Run(read, loss, folder=out / plan.name)
    return runs


def begin(peer: Peer, config: Any, stored: dict[str, Tensor], scale: float, folder: Path, golden: Tensor) -> None:
    """Write a dictionary of ours that holds the weights theirs started from, so that a run can start from it."""
    dictionary = adopted(peer, config, stored, "before")
    dictionary.scale = (scale, scale)
    folder.mkdir()
    dictionaries.save(dictionary, folder, golden=golden, provenance={}, convention="rms1")


@torch.no_grad()
def adopted(peer: Peer, config: Any, stored: dict[str, Tensor], when: str) -> Dictionary:
    """Their weights, `before` or `after` training, in a dictionary of ours, in training space."""
    dictionary = dictionaries.class_of(peer.arch)(config)
    for mine, yours in peer.names.items():
        tensor = stored[f"{when}.{yours}"]
        dictionary.get_parameter(mine).copy_(tensor.t() if tensor.dim() == 2 else tensor)
    return dictionary.requires_grad_(False)


def reading(x: Tensor, x_hat: Tensor, row: Tensor, value: Tensor) -> dict[str, float]:
    """L0, FVU and gamma of x_hat [n, d] and its codes, by assay's metrics."""
    return {
        "l0": pooled(l0_terms(row, value, len(x))),
        "fvu": fvu(x, x_hat),
        "gamma": relative_reconstruction_bias(x, x_hat),
    }


@dataclass(frozen=True)
class Difference:
    """Ours less theirs, paired by seed: the mean, its 95 % t interval, and the standard deviation between seeds of each side."""

    mean: float
    lo: float
    hi: float
    ours_sd: float
    theirs_sd: float

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies inside +-margin: equivalence, not merely a difference that was not seen."""
        return -margin <= self.lo and self.hi <= margin


def difference(ours: list[float], theirs: list[float]) -> Difference:
    mine, yours = torch.tensor(ours, dtype=torch.float64), torch.tensor(theirs, dtype=torch.float64)
    apart = mine - yours
    mean, n = float(apart.mean()), len(apart)
    half = float(student.ppf(0.975, n - 1)) * float(apart.std()) / n**0.5
    return Difference(mean, mean - half, mean + half, float(mine.std()), float(yours.std()))


def shorter(recipe: Recipe, n_steps: int) -> Recipe:
    """The same recipe over fewer steps."""
    share = n_steps / recipe.n_steps
    lengths = {name: round(getattr(recipe, name) * share) for name in ("warmup", "decay", "sparsity_warmup")}
    return replace(recipe, n_steps=n_steps, **lengths)
