"""The frozen-encoder control: TopK's equation, and what learns."""

from __future__ import annotations

import numpy as np
import torch

from assay.core.randomness import torch_rng
from assay.dictionaries import build
from assay.dictionaries.frozen_encoder import Config
from assay.training.member import Member
from assay.training.options import TrainConfig


def test_codes_and_outputs(made, rows) -> None:
    dictionary, x = made("frozen_encoder", k=3), rows(8, 0)
    W_enc, W_dec, b_dec, b_enc = (
        dictionary.get_parameter(n).detach().numpy() for n in ("W_enc", "W_dec", "b_dec", "b_enc")
    )
    f = np.zeros((8, 11))
    for b in range(8):
        z = [(x[b].numpy() - b_dec) @ W_enc[:, i] + b_enc[i] for i in range(11)]
        for i in sorted(range(11), key=lambda i: -z[i])[:3]:
            f[b, i] = max(0.0, z[i])
    np.testing.assert_allclose(dictionary.encode(x).detach().numpy(), f, atol=1e-12)
    np.testing.assert_allclose(dictionary(x).detach().numpy(), f @ W_dec + b_dec, atol=1e-12)


def test_only_the_decoder_and_its_bias_learn_also_with_dead_latents() -> None:
    x = torch.randn(64, 6, generator=torch_rng(0, "rows")) + 0.5
    dictionary = build(Config(d_in=6, d_sae=11, k=1, auxk_coef=1.0), torch_rng(0, "init"), x)
    before = {n: p.detach().clone() for n, p in dictionary.named_parameters()}
    torch.testing.assert_close(before["W_enc"].norm(dim=0), torch.ones(11))
    assert not before["b_enc"].any()
    member = Member("m", dictionary, TrainConfig(n_tokens=640, batch_size=64, dead_after=1, lr=0.01), variance=1.0)
    member.silent_tokens[3] = 10**6
    for t in range(5):
        member.step(t, x, x)
    changed = {n for n, p in dictionary.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"W_dec", "b_dec"} == set(member.first)
