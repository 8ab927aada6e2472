"""One dictionary in training: its optimiser, its count of silence for every latent, its running statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assay import kernels
from assay.core import distribution, heap, latent_shards
from assay.core.errors import BadInput
from assay.core.randomness import torch_rng
from assay.dictionaries import LIVE, Dictionary
from assay.dictionaries.wiring import blocks_of, gathered, width
from assay.training.auxk import add_auxk
from assay.training.controller import controller
from assay.training.first_support import first_support
from assay.training.options import TrainConfig
from assay.training.resample import resample
from assay.training.schedule import learning_rate, resample_steps, sparsity_ramp
from assay.training.shard import Shard, replicated, settle
from assay.training.step import External, Step, trainable
from assay.training.step import step as gradients
from assay.training.window import Window

EPS = 1e-8


class Member:
    """State of one dictionary between steps. Everything in `state()` is what a resumed run needs, bit for bit."""

    def __init__(self, name: str, dictionary: Dictionary, options: TrainConfig, variance: float) -> None:
        heap.keep_freed()
        self.name = name
        self.dictionary = dictionary.to(options.device)
        dictionary.n_steps = options.n_steps
        self.options = options
        self.variance = variance  # summed variance of the targets in the initial sample
        self.kernel = kernels.implementation(options.kernels, like=dictionary.b_dec.detach())
        self.params = trainable(dictionary)
        self.replicated = replicated(dictionary) if isinstance(dictionary, Shard) else None
        self.first = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.silent_tokens = torch.zeros(dictionary.d_sae, dtype=torch.int64, device=options.device)
        self.n_support: int | None = None  # of the last step
        self.last_resample: int | None = None
        self.seconds = 0.0
        self.flops = 0
        self.window = Window(dictionary.d_out)
        self.start = {name: getattr(dictionary, name).detach().clone() for name in dictionary.vectors}
        self.last_x: Tensor | None = None
        self.controller = controller(name, dictionary, options.target_l0)

    @torch.no_grad()
    def step(
        self,
        t: int,
        x: Tensor,
        y: Tensor,
        external: Callable[..., External] | None = None,
        shared: kernels.Shared | None = None,
    ) -> None:
        """Step `t` (from 0) on x [batch, d_in], y [batch, d_out] in training space. Raises BadInput on a non-finite loss.

        external(y_hat, y=, loss=, weight=): the model's part of the loss, when training against it. shared: of x, where other
        dictionaries step on it too.
        """
        started = time.perf_counter()
        options, dictionary = self.options, self.dictionary
        ramp = sparsity_ramp(options, t)
        progress = t / options.n_steps
        given, (x, y) = x, self.batch(x, y, t)
        shared = shared if x is given else None
        weights = self.weighted(dictionary.weights(ramp))
        if self.controller is not None:
            weights = {t: w if t in dictionary.recon else w * self.controller.factor for t, w in weights.items()}
        criterion = None
        if external is not None:
            criterion = partial(external, y=y, loss=options.against, weight=options.kl_weight)
        with distribution.split_rows(), distribution.split_latents():
            if self.n_support is None:
                self.n_support = first_support(dictionary, x, progress, self.kernel)
            dead = self.dead() if dictionary.dead_latents == "auxk" else None
            n_dead = 0 if dead is None else self.in_all(dead.numel())
            alone = n_dead == 0 and distribution.n_processes() == 1  # nobody but the update needs the gradients
            sums_from = self.kernel.SUMS_FROM if alone else math.inf
            done = gradients(
                dictionary, x, y, weights, progress, self.kernel, self.n_support, criterion, sums_from=sums_from, shared=shared
            )  # fmt: skip
            if dead is not None:
                term = 0.0
                if n_dead:
                    term = add_auxk(dictionary, done.grads, x, y - done.x_hat, dead, self.variance)
                done.terms["auxk"] = term
                done.loss += dictionary.config.auxk_coef * term
            done = done.shared()
        if not math.isfinite(done.loss):
            raise BadInput(
                f"{self.name}: the loss is {done.loss} at step {t}; the last checkpoint is whole. "
                "Lower --lr or set --clip, or look at the batch's activations."
            )
        unit_rows = tuple(
            d
            for d in (*(dec for _, dec in dictionary.matrix_names), *dictionary.extra_decoders)
            if dictionary.unit_norm and d in self.params
        )
        clip, of_all = options.clip, None
        if self.replicated is not None:
            clip, of_all = None, settle(dictionary, done.grads, self.replicated, unit_rows, clip)
        of_own = self.kernel.update(
            self.params,
            done.grads | done.sums,
            self.first,
            self.second,
            step=t + 1,
            lr=learning_rate(options, t, self.last_resample),
            beta1=dictionary.beta1 if options.beta1 is None else options.beta1,
            beta2=options.beta2,
            eps=EPS,
            clip=clip,
            unit_rows=unit_rows,
        )
        norm = of_own if of_all is None else of_all
        if not math.isfinite(norm):  # the loss can be finite while its gradient overflows
            raise BadInput(
                f"{self.name}: the gradient is not finite at step {t} (the loss was {done.loss:.3g}); the last checkpoint "
                "is whole. Lower --lr, or look at the size of the activations and --scale."
            )
        dictionary.constrain()
        self.last_x = x
        with distribution.split_rows(), distribution.split_latents():
            self.note(done, t, y, ramp)
        self.seconds += time.perf_counter() - started

    def batch(self, x: Tensor, y: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """This process's rows of what step t trains on, of the whole batch (x, y)."""
        changed = self.dictionary.training_batch(x, y, torch_rng(self.options.seed, "batch", t))
        if distribution.n_processes() == 1:
            return changed
        mine = distribution.share(len(x))
        x, y = (rows[mine].contiguous() for rows in changed)
        return x, (x if changed[0] is changed[1] else y)

    def note(self, done: Step, t: int, y: Tensor, ramp: float) -> None:
        """What this step's codes say, of the whole batch: state of the dictionary, L0, silence, work, statistics."""
        dictionary, n_rows = self.dictionary, len(y) * distribution.parts()
        if type(dictionary).observe is not Dictionary.observe:
            dictionary.observe(gathered(done.f), t)
        self.n_support = done.n_support
        self.silent_tokens += n_rows
        fired = torch.zeros_like(self.silent_tokens)
        fired[done.f.latent] = 1
        self.silent_tokens[distribution.total(fired) > 0] = 0
        config = dictionary.config
        for (d_in, d_sae, d_out), share in ((b.shape, width(b.latents) / config.d_sae) for b in blocks_of(config)):
            pairs = int(done.n_support * share)
            self.flops += 2 * n_rows * d_in * d_sae + 2 * pairs * (2 * d_out + d_in) * len(dictionary.recon)
        active = self.window.add(y, done.x_hat, self.in_all(len(done.f)), done.terms, done.loss)
        if self.controller is not None:
            self.controller.see(active, n_rows, ramp)

    def weighted(self, weights: dict[str, float]) -> dict[str, float]:
        """The weights of the loss's terms with what `against` makes of the reconstruction: less of it, or none."""
        shares = {"activations": 1.0, "kl": 1 / (1 + self.options.kl_weight), "end_to_end": 0.0}
        share = shares[self.options.against]
        live = {term for term, (_, decoder, *_) in self.dictionary.recon.items() if decoder == LIVE}
        return {term: w * share if term in live else w for term, w in weights.items()}

    def dead(self) -> Tensor:
        """Ids of the latents silent for `dead_tokens` or more."""
        return (self.silent_tokens >= self.options.dead_tokens).nonzero().flatten()

    def in_all(self, n: int) -> int:
        """The sum of n over the shards of this dictionary's latents; every process of the run must call it."""
        if distribution.shards() == 1:
            return n
        with distribution.split_latents():
            return int(latent_shards.summed(torch.tensor(n, device=self.silent_tokens.device)))

    def wants_resampling(self, t: int) -> bool:
        return self.dictionary.dead_latents == "resample" and t in resample_steps(self.options)

    def resample(self, t: int, x: Tensor, y: Tensor) -> int:
        """Revive dead latents after step `t` from a sample; returns how many."""
        dead = self.dead()
        rng = torch_rng(self.options.seed, "resample", t)
        with distribution.split_latents():
            resample(self.dictionary, dead, x, y, rng, [self.first, self.second])
        self.silent_tokens[dead] = 0
        n_dead = self.in_all(dead.numel())
        if n_dead:
            self.last_resample = t
        return n_dead

    @torch.no_grad()
    def revive(self, x: Tensor, y: Tensor) -> int:
        """Before the first step: latents silent on all of this sample count as dead, so that AuxK reaches them at once, and
        are resampled where the architecture resamples. Returns how many."""
        fired = torch.zeros_like(self.silent_tokens, dtype=torch.bool)
        for part in x.split(self.options.batch_size):
            fired[self.dictionary.encode_sparse(part, training=True).latent] = True
        self.silent_tokens[~fired] = self.options.dead_tokens
        if self.dictionary.dead_latents == "resample":
            return self.resample(0, x, y)
        return int((~fired).sum())

    def report(self, t: int) -> dict[str, Any]:
        """The statistics since the last report, as a line of log.jsonl; starts a new window."""
        line: dict[str, Any] = {
            "step": t,
            "tokens": t * self.options.batch_size,
            **self.window.summary(),
            "dead_frac": self.in_all(self.dead().numel()) / self.dictionary.config.d_sae,
            "lr": learning_rate(self.options, t - 1, self.last_resample),
            **({} if self.last_x is None else self.dictionary.diagnose(self.last_x, self.start)),
        }
        if self.controller is not None:
            line["penalty_factor"] = self.controller.factor
            if (missed := self.controller.warning(line["l0"])) is not None:
                line["warning"] = " ".join([missed, *([line["warning"]] if "warning" in line else [])])
        if t < self.options.n_steps:
            line.pop("warning", None)
        self.window = Window(self.dictionary.d_out)
        return line

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and numbers from which `restore` continues exactly."""
        tensors = {f"dictionary.{n}": t for n, t in self.dictionary.state_dict().items()}
        tensors |= {f"first.{n}": t for n, t in self.first.items()}
        tensors |= {f"second.{n}": t for n, t in self.second.items()}
        tensors |= {f"window.{n}": t for n, t in self.window.tensors().items()}
        tensors["silent_tokens"] = self.silent_tokens
        numbers = {
            "n_support": self.n_support,
            "last_resample": self.last_resample,
            "variance": self.variance,
            "seconds": self.seconds,
            "flops": self.flops,
            "scale": list(self.dictionary.scale),  # each a number, or one a site
            "window": self.window.numbers(),
            "controller": None if self.controller is None else self.controller.numbers(),
        }
        return tensors, numbers

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        self.dictionary.load_state_dict(part("dictionary."))
        for mine, stored in ((self.first, part("first.")), (self.second, part("second."))):
            for name, tensor in mine.items():
                tensor.copy_(stored[name])
        self.silent_tokens.copy_(tensors["silent_tokens"])
        self.window.restore(part("window."), numbers["window"])
        if self.controller is not None:
            self.controller.restore(numbers["controller"])
        self.n_support = numbers["n_support"]
        self.last_resample = numbers["last_resample"]
        self.variance = numbers["variance"]
        self.seconds = numbers["seconds"]
        self.flops = numbers["flops"]
        self.dictionary.scale = (numbers["scale"][0], numbers["scale"][1])
