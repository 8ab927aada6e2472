"""From a stream and a plan to a dictionary that is ready to train, or fitted: scales, initialisation, adoption, cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.activations import Stream, each, together
from assay.core import distribution, provenance
from assay.core.config import to_json
from assay.core.errors import BadOption
from assay.core.randomness import torch_rng
from assay.dictionaries import Dictionary, build, class_of, load
from assay.dictionaries.rescaling import rescaled
from assay.dictionaries.wiring import along
from assay.training.member import Member
from assay.training.options import TrainConfig
from assay.training.plan import Plan
from assay.training.shard import part_of
from assay.training.step import trainable

SAMPLE = 16_384  # rows for scale, initialisation and resampling


class Maker:
    """Makes members and fitted dictionaries from one stream: scale, sample, initialisation."""

    def __init__(self, stream: Stream, site: str, target: str | None, options: TrainConfig) -> None:
        self.stream, self.site, self.target, self.options = stream, site, target, options
        x, y = self.raw(stream.sample(SAMPLE, "init"))
        self.n_sample = len(x)
        widths = [[stream.width(single) for single in each(name)] for name in (site, target or site)]
        self.scale = scales_of(x, widths[0], options.scale), scales_of(y, widths[1], options.scale)
        self.divisors = [along(c, w).float() for c, w in zip(self.scale, widths, strict=True)]
        self.sample = x / self.divisors[0], y / self.divisors[1]
        self.variance = float(self.sample[1].double().var(0, correction=0).sum())
        self.fits: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}

    def raw(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = together(batch, self.site).float()
        return x, (x if self.target is None else together(batch, self.target).float())

    def scaled(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x, y = self.raw(batch)
        x = (x / self.divisors[0]).to(self.options.device)
        return x, (x if self.target is None else (y / self.divisors[1]).to(self.options.device))

    def member(self, plan: Plan) -> Member:
        if plan.config.d_in != self.sample[0].shape[1]:
            raise BadOption(
                f"{plan.name} has d_in={plan.config.d_in}, but the activations at {self.site} have width {self.sample[0].shape[1]}."
            )
        rng = torch_rng(plan.options.seed, "init", plan.arch)
        if distribution.shards() > 1:
            dictionary = part_of(plan.config, distribution.held(plan.config.d_sae))
            dictionary.init(rng, *self.sample)
        else:
            dictionary = build(plan.config, rng, *self.sample)
        dictionary.scale = self.scale
        if plan.init_from is not None:
            self.adopt(dictionary, plan.init_from, plan.init_name)
        member = Member(plan.name, dictionary, plan.options, self.variance)
        if plan.options.init_resample:
            member.revive(*(part.to(plan.options.device) for part in self.sample))
        return member

    def adopt(self, dictionary: Dictionary, start: Path | Dictionary, name: str | None) -> None:
        """Start from an existing dictionary: its raw-space export, unfolded with this run's scale."""
        old = start if isinstance(start, Dictionary) else load(start)
        wirings = [d.config.wiring for d in (old, dictionary)]
        if wirings[0] != wirings[1]:
            raise BadOption(
                f"--init {name} is wired as {wirings[0]}, and --site and --target make this run's a {wirings[1]}; start from "
                f"a {wirings[1]}."
            )
        was, now = [(d.arch, d.d_in, d.d_sae, d.d_out) for d in (old, dictionary)]
        if was != now or old.blocks != dictionary.blocks:
            raise BadOption(
                f"--init {name} is a {was[0]} dictionary of {was[1:]} (d_in, d_sae, d_out); this run makes a {now[0]} of "
                f"{now[1:]}. Give the same --arch and --d-sae."
            )
        forms = [(d.pre_bias, d.unit_norm, set(d.state_dict())) for d in (old, dictionary)]
        if forms[0] != forms[1]:
            raise BadOption(
                f"--init {name} is another form of {old.arch} ({old.config}); give the options of that form."
            )
        dictionary.load_state_dict(rescaled(old, *dictionary.scale, unfold=True))

    def fitted(self, plan: Plan) -> tuple[Dictionary, dict[str, Any]]:
        """A dictionary that is learned by `fit`: one pass over at most the run's tokens, in raw space.

        Dictionaries that differ only in options that `fit` does not read (k of pca) share one fit, and its cost is each one's.
        """
        cls = class_of(plan.arch)
        dictionary = cls(plan.config)
        read = {name: value for name, value in to_json(plan.config).items() if name not in cls.fit_free}
        key = json.dumps([plan.arch, plan.options.seed, read], sort_keys=True)
        if key not in self.fits:
            n_rows = min(self.options.n_steps * self.options.batch_size, self.stream.n_rows)
            n_steps = max(1, n_rows // self.options.batch_size)
            started = provenance.seconds()
            chunks = (self.raw(batch)[0] for batch in self.stream.batches(0, n_steps))
            dictionary.fit(chunks, torch_rng(plan.options.seed, "fit", plan.arch))
            seconds = provenance.seconds() - started
            cost = upfront_cost(dictionary, seconds, None, n_steps * self.options.batch_size, "cpu")
            self.fits[key] = dictionary.state_dict(), cost
        state, cost = self.fits[key]
        dictionary.load_state_dict(state)
        return dictionary, cost


def scales_of(x: Tensor, widths: list[int], convention: str) -> float | list[float]:
    """`scale_of` each site in the columns of x [n, sum of widths]; a single number for a single site."""
    found = [scale_of(part, convention) for part in x.split(widths, dim=1)]
    return found[0] if len(found) == 1 else found


def scale_of(x: Tensor, convention: str) -> float:
    """C such that x / C is in training space: E x_j^2 = 1 (rms1), E ||x||^2 = 1 (norm1), or 1 (none)."""
    if convention == "none":
        return 1.0
    mean_square = float(x.double().pow(2).mean())
    return (mean_square * (x.shape[1] if convention == "norm1" else 1)) ** 0.5


def upfront_cost(dictionary: Dictionary, seconds: float, flops: int | None, tokens: int, device: str) -> dict[str, Any]:
    """The upfront part of a `core.outcome.Cost`: this dictionary's own steps. Harvesting is a cost of its own."""
    return {
        "access": "activations",
        "upfront_tokens": tokens,
        "upfront_seconds": seconds,
        "upfront_flops": flops,
        "params_trained": sum(p.numel() for p in trainable(dictionary).values()),
        "peak_bytes": provenance.peak_bytes(),
        "device": device,
        "n_threads": torch.get_num_threads(),
    }


def including(shared: dict[str, Any] | None, cost: dict[str, Any]) -> dict[str, Any]:
    """The cost of a dictionary with that of the harvest that it shares with others."""
    return cost if shared is None else {**cost, "includes": [shared["id"]]}
