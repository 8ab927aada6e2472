"""The sparse path never holds B x F floats: the largest new tensor of a step is counted, operation by operation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from assay.dictionaries import build, config_class
from assay.kernels import BatchTop, implementation
from assay.training import step
from largest_tensor import Largest

B, D, F = 512, 32, 4096
BLOCK = 1 << 17  # 32 rows of latents


def few_active(arch: str, **options: Any) -> Any:
    made = build(config_class(arch)(d_in=D, d_sae=F, **options), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name in made.vectors:
            if name in ("b_gate", "b_enc") and arch != "topk":
                getattr(made, name).fill_(-10 * float(made.W_enc[:, 0].norm()))
    return made


CASES = [("topk", {"k": 32}), ("gated", {"l1_coef": 0.5}), ("relu", {"l1_coef": 0.5, "decoder_norm": "free"})]


@pytest.mark.parametrize(("arch", "options"), CASES, ids=[a for a, _ in CASES])
def test_a_sparse_step_holds_no_more_than_a_block(arch, options, monkeypatch) -> None:
    kernel = implementation("torch")
    monkeypatch.setattr(kernel, "BLOCK", BLOCK)
    made = few_active(arch, **options)
    x = 20 * torch.nn.functional.normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)))
    with Largest() as largest:
        done = step.sparse(made, x, x, made.weights(1.0), 1.0, kernel)
    assert 0 < done.n_support < 0.02 * B * F
    allowed = max(BLOCK, F * D) + 64
    assert largest.elements <= allowed, f"{largest.operation} made {largest.elements:,} elements; B x F is {B * F:,}"
    with Largest() as largest:
        step.dense(made, x, x, made.weights(1.0), 1.0)
    assert largest.elements >= B * F, "the dense path does, so the count works"


def test_encoding_and_batch_top_too(monkeypatch) -> None:
    kernel = implementation("torch")
    monkeypatch.setattr(kernel, "BLOCK", BLOCK)
    x, W_enc = torch.randn(B, D), torch.randn(F, D).t()
    with Largest() as largest, torch.no_grad():
        codes = kernel.encode_select(x, W_enc, BatchTop(8))
    assert len(codes) == 8 * B
    assert largest.elements <= 2 * BLOCK + 2 * len(codes), f"{largest.operation}: {largest.elements:,}"
    made = few_active("topk", k=8)
    with Largest() as largest, torch.no_grad():
        made.decode(made.encode_sparse(x))
    assert largest.elements <= BLOCK + 64, f"{largest.operation}: {largest.elements:,}"
