"""Training against the model's own predictions: whole blocks instead of shuffled rows, and a loss that the model gives.

    kl           (MSE + beta * alpha * KL) / (1 + beta),  alpha = stop-gradient(MSE / (KL + 1e-8)): fine-tuning after training
    end_to_end   beta * KL alone, with the architecture's penalties; reconstruction terms that move the decoder have weight 0

KL = KL(clean || spliced) of the next-token distributions, mean over kept tokens, with the reconstruction in the place of the
activations at these tokens. Its gradient with respect to the reconstruction is the outside cotangent of the step contract.

Sources: kl: arXiv 2503.17272 and the Gemma Scope 2 report, appendix B; end_to_end: Braun et al. 2024, arXiv 2405.12241.
Differs from the paper: end_to_end has no later-layer reconstruction term.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from assay.activations import Blocks, LiveSource, Stream, each
from assay.activations.stream import kept_rows
from assay.core.errors import BadOption
from assay.core.randomness import numpy_rng
from assay.models import Edit, edited
from assay.training.step import External


class ModelStream(Stream):
    """Batches of whole blocks of `model`, in a seeded order of blocks; `external` is the model's loss on the latest one.

    A batch holds the kept rows of max(1, batch_size // context) blocks, so its size varies a little around batch_size, by which tokens
    are counted. Samples are those of an ordinary stream.
    """

    def __init__(
        self, model: Any, blocks: Blocks, site: str, target: str | None = None, *, seed: int, batch_size: int
    ) -> None:
        model.require_causal("a loss against its predictions; train by reconstruction alone")
        names = list(dict.fromkeys([*each(site), *each(target or site)]))
        if len(each(site)) > 1 or len(each(target or site)) > 1:
            raise BadOption(
                "Training against the model works at one site, or from one site to another; name one of each."
            )
        super().__init__(LiveSource(model, blocks, names), names, seed=seed, batch_size=batch_size)
        self.model, self.blocks, self.target = model, blocks, target or site
        longest = int(np.diff(blocks.table.starts).max())
        self.per_batch = max(1, batch_size // longest)
        self._text = kept_rows(blocks.table, ("train",))
        starts = blocks.table.starts
        self._useful = np.array(
            [b for b in range(blocks.table.n_blocks) if self._text[starts[b] : starts[b + 1]].any()]
        )
        self._latest: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "order": "whole blocks", "blocks_per_batch": self.per_batch}

    def chosen(self, step: int) -> np.ndarray:
        """The blocks of a step; every one is used once an epoch."""
        n = len(self._useful)
        positions = np.arange(step * self.per_batch, (step + 1) * self.per_batch)
        orders = {int(e): numpy_rng(self.seed, "blocks", int(e)).permutation(n) for e in np.unique(positions // n)}
        return self._useful[[orders[int(p // n)][p % n] for p in positions]]

    def batches(self, start_step: int, n_steps: int) -> Iterator[dict[str, Tensor]]:
        for step in range(start_step, start_step + n_steps):
            yield self.batch(step)

    @torch.no_grad()
    def batch(self, step: int) -> dict[str, Tensor]:
        """{site: float32 [kept rows, width]}; remembers the clean predictions for `external`."""
        ids, mask, rows = self.blocks.batch(self.chosen(step))
        keep = torch.zeros(mask.shape, dtype=torch.bool)
        keep[mask.bool()] = torch.from_numpy(self._text[rows])
        ids, mask, keep = (t.to(self.model.device) for t in (ids, mask, keep))
        heard: dict[str, Tensor] = {}
        edits = [Edit(site, lambda h, where, site=site: heard.setdefault(site, h)) for site in self.sites]
        with edited(self.model, edits):
            clean = log_softmax(self.model.logits(ids, mask)[keep].float(), dim=-1)
        self._latest = ids, mask, keep, clean
        return {site: heard[site][keep].float() for site in self.sites}

    def row_ids(self, step: int) -> np.ndarray:
        _, _, rows = self.blocks.batch(self.chosen(step))
        return rows[self._text[rows]]

    def kl(self, y_hat: Tensor) -> tuple[float, Tensor]:
        """KL(clean || spliced) of the latest batch, nats a kept token, and its gradient; y_hat [kept rows, d_out] in raw space."""
        assert self._latest is not None
        ids, mask, keep, clean = self._latest
        leaf = y_hat.detach().clone().requires_grad_()
        with (
            torch.enable_grad(),
            edited(self.model, [Edit(self.target, lambda h, where: h.index_put((keep,), leaf.to(h)))]),
        ):
            spliced = log_softmax(self.model.logits(ids, mask)[keep].float(), dim=-1)
            value = kl_div(spliced, clean, log_target=True, reduction="sum") / max(len(clean), 1)
            (gradient,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), gradient

    def external(self, y_hat: Tensor, y: Tensor, c_out: float, loss: str, weight: float) -> External:
        """The model's part of the loss for a reconstruction in training space, y = y_raw / c_out."""
        value, gradient = self.kl(y_hat * c_out)
        scale = weight
        if loss == "kl":
            error = float((y_hat - y).pow(2).sum(-1).mean())
            scale = weight / (1 + weight) * error / (value + 1e-8)
        return External(scale * value, scale * c_out * gradient.to(y_hat), {"kl": value})
