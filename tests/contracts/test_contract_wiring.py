"""Several sites: each block reads and writes its own columns, selections have a scope, scales are one number a site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from dictionary_examples import case_of, whole_decoder, whole_encoder

from assay.core.errors import BadOption
from assay.dictionaries import config_class
from assay.dictionaries.rescaling import rescaled
from assay.dictionaries.wiring import Block, Support, along, blocks_of
from assay.kernels import IMPLEMENTATIONS, BatchTop, Top, implementation, reference

TIGHT = {"rtol": 1e-12, "atol": 1e-12}
LAYERS: dict[str, Any] = {
    "wiring": "crosslayer",
    "in_sites": (4, 3, 5),
    "out_sites": (2, 4, 3),
    "d_out": 9,
    "d_sae": 42,
}


def crosslayer(**options: Any) -> Any:
    return case_of("topk", "", {**LAYERS, "k": 5, **options})


def test_a_crosslayer_transcoder_is_its_equation() -> None:
    """Latents of layer l read x_l and write y_l and all later y: a loop over layers and pairs of layers."""
    case = crosslayer()
    made, x = case.made(), case.inputs(8)
    n = 42 // 3
    reads, writes = [slice(0, 4), slice(4, 7), slice(7, 12)], [slice(0, 2), slice(2, 6), slice(6, 9)]
    b_enc = made.get_parameter("b_enc").detach().numpy()
    key = np.zeros((8, 42))
    for layer in range(3):
        W_enc = made.get_parameter(f"W_enc.{layer}").detach().numpy()
        assert W_enc.shape == (reads[layer].stop - reads[layer].start, n)
        key[:, layer * n : (layer + 1) * n] = x.numpy()[:, reads[layer]] @ W_enc
    key = np.maximum(key + b_enc, 0)
    f = np.zeros_like(key)
    for row in range(8):
        for latent in np.argsort(-key[row], kind="stable")[:5]:  # the five largest of all layers together
            f[row, latent] = key[row, latent]
    y_hat = np.tile(made.b_dec.detach().numpy(), (8, 1))
    for layer in range(3):
        W_dec = made.get_parameter(f"W_dec.{layer}").detach().numpy()
        assert W_dec.shape == (n, 9 - writes[layer].start), "decoders to earlier layers are not stored"
        start = 0
        for later in range(layer, 3):
            width = writes[later].stop - writes[later].start
            y_hat[:, writes[later]] += f[:, layer * n : (layer + 1) * n] @ W_dec[:, start : start + width]
            start += width
    with torch.no_grad():
        np.testing.assert_allclose(made.encode(x).numpy(), f, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(made(x).numpy(), y_hat, rtol=1e-12, atol=1e-12)


def test_layers_of_their_own_with_skip_paths_are_their_equation() -> None:
    """perlayer: latents of layer l read x_l and write y_l alone, k of each layer; crosslayer: their skip reaches all later y too."""
    for wiring in ("perlayer", "crosslayer"):
        case = crosslayer(wiring=wiring, scope="block", skip=True)
        made, x = case.made(), case.inputs(8)
        reads, writes = [slice(0, 4), slice(4, 7), slice(7, 12)], [slice(0, 2), slice(2, 6), slice(6, 9)]
        b_enc = made.get_parameter("b_enc").detach().numpy()
        f = np.zeros((8, 42))
        y_hat = np.tile(made.b_dec.detach().numpy(), (8, 1))
        for layer, read in enumerate(reads):
            own = slice(14 * layer, 14 * layer + 14)
            key = np.maximum(x.numpy()[:, read] @ made.get_parameter(f"W_enc.{layer}").detach().numpy() + b_enc[own], 0)
            for row in range(8):
                for latent in np.argsort(-key[row], kind="stable")[:5]:
                    f[row, own.start + latent] = key[row, latent]
            W_dec, W_skip = (made.get_parameter(f"{name}.{layer}").detach().numpy() for name in ("W_dec", "W_skip"))
            reached = writes[layer] if wiring == "perlayer" else slice(writes[layer].start, 9)
            assert W_skip.any() and W_dec.shape[1] == W_skip.shape[1] == reached.stop - reached.start
            y_hat[:, reached] += f[:, own] @ W_dec + x.numpy()[:, read] @ W_skip
        with torch.no_grad():
            np.testing.assert_allclose(made.encode(x).numpy(), f, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(made(x).numpy(), y_hat, rtol=1e-12, atol=1e-12)


def test_a_crosscoder_weighs_each_latent_by_the_sum_of_its_lengths_at_the_sites() -> None:
    case = case_of("crosscoder", "", {"l1_coef": 0.3, "in_sites": (4, 3, 5)})
    made, x, y = case.made(), case.inputs(9), case.targets(9)
    W_enc, W_dec = made.W_enc.detach().numpy(), made.W_dec.detach().numpy()
    b_enc, b_dec = made.get_parameter("b_enc").detach().numpy(), made.b_dec.detach().numpy()
    f = np.maximum(x.numpy() @ W_enc + b_enc, 0)  # no pre-encoder bias
    lengths = sum(np.linalg.norm(W_dec[:, site], axis=1) for site in (slice(0, 4), slice(4, 7), slice(7, 12)))
    terms = made.loss(x, y)
    assert float(terms["l1"].detach()) == pytest.approx((f * lengths).sum(1).mean(), rel=1e-12)
    error = ((f @ W_dec + b_dec - y.numpy()) ** 2).sum(1).mean()
    assert float(terms["recon"].detach()) == pytest.approx(error, rel=1e-12)


def test_a_skip_path_is_added_to_the_prediction() -> None:
    case = case_of("skip_transcoder", "", {"k": 5, "d_out": 7})
    made, x = case.made(), case.inputs(9)
    f = made.encode(x).detach().numpy()
    expected = f @ made.W_dec.detach().numpy() + x.numpy() @ made.W_skip.detach().numpy() + made.b_dec.detach().numpy()
    np.testing.assert_allclose(made(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    fresh = case_of("skip_transcoder", "", {"k": 5, "d_out": 7}).cls(case.config)
    assert not fresh.W_skip.any(), "it starts at 0"


@pytest.mark.parametrize("kernel", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", [Top, BatchTop])
@pytest.mark.parametrize("signed", [False, True])
def test_a_joint_selection_takes_the_largest_of_all_blocks(kernel, kind, signed) -> None:
    made, x = crosslayer().made(), crosslayer().inputs(20)
    bias = made.get_parameter("b_enc").detach()
    u = made.pre_activations(x).detach()
    for k in (1, 6, 30):
        selection = kind(k, bias, signed)
        made.select = lambda p, training, s=selection: s  # type: ignore[method-assign]
        found = made.support(x, training=True, kernel=implementation(kernel))
        mask = torch.zeros_like(u, dtype=torch.bool)
        joined = found.joined(found.value)
        mask[joined.row, joined.latent] = True
        assert torch.equal(mask, reference.chosen(u, selection))
        torch.testing.assert_close(joined.value, u[joined.row, joined.latent].detach(), **TIGHT)


@pytest.mark.parametrize("kernel", IMPLEMENTATIONS)
def test_a_selection_of_each_block_takes_its_own_largest(kernel) -> None:
    made, x = crosslayer().made(), crosslayer().inputs(20)
    bias = made.get_parameter("b_enc").detach()
    made.select = lambda p, training: Top(3, bias, scope="block")  # type: ignore[method-assign]
    found = made.support(x, training=True, kernel=implementation(kernel))
    u = made.pre_activations(x).detach() + bias
    for layer, part in enumerate(found.parts):
        own = u[:, layer * 14 : (layer + 1) * 14].relu()
        for row in range(20):
            top = set(own[row].topk(3).indices[own[row].topk(3).values > 0].tolist())
            assert set(part.latent[part.row == row].tolist()) == top


def test_support_splits_and_joins() -> None:
    blocks = (Block(slice(0, 1), slice(0, 3), slice(0, 2)), Block(slice(1, 2), slice(3, 7), slice(1, 2)))
    dense = torch.tensor([[0, 1.0, 0, 2.0, 0, 0, 3.0], [4.0, 0, 0, 0, 0, 5.0, 0]])
    support = Support.of(implementation("torch").encode_select(dense, torch.eye(7), Top(7)), blocks)
    assert [part.shape for part in support.parts] == [(2, 3), (2, 4)]
    assert torch.equal(support.joined(support.value).dense(), dense)
    below, inside = support.below(4)
    assert torch.equal(below.joined(support.value[inside]).dense(), dense * (torch.arange(7) < 4))


def test_scales_are_one_number_a_site() -> None:
    """Raw space: each input site times its own number, each output site times its own; the function stays the same."""
    x_scale, y_scale = (3.0, 0.5, 2.0), (0.7, 5.0, 1.5)
    for case in (crosslayer(), case_of("crosscoder", "", {"l1_coef": 0.3, "in_sites": (4, 3, 5)})):
        made, x = case.made(), case.inputs(30)
        raw = case.cls(case.config).double()
        raw.load_state_dict(rescaled(made, x_scale, y_scale))
        c_in, c_out = along(x_scale, case.config.widths_in), along(y_scale, case.config.widths_out)
        with torch.no_grad():
            torch.testing.assert_close(raw(c_in * x), c_out * made(x), rtol=1e-10, atol=1e-10)
        back = rescaled(raw, x_scale, y_scale, unfold=True)
        for name, tensor in made.state_dict().items():
            torch.testing.assert_close(back[name], tensor, **TIGHT)


def test_vectors_are_zero_where_nothing_is_wired() -> None:
    made = crosslayer().made()
    encoder, decoder = whole_encoder(made), whole_decoder(made)
    for i, (reads, writes_from) in ((0, (slice(0, 4), 0)), (20, (slice(4, 7), 2)), (41, (slice(7, 12), 6))):
        read = made.encoder_vector(i)
        assert torch.equal(read, encoder[:, i])
        assert int((read != 0).sum()) == reads.stop - reads.start
        assert int((made.decoder_vector(i) != 0).sum()) == 9 - writes_from
        assert torch.equal(made.decoder_vector(i, 2), decoder[i, 6:])


def test_sites_that_do_not_fit_are_refused() -> None:
    config = config_class("topk")
    with pytest.raises(BadOption, match=r"--in-sites is \(4, 4\); it must be widths that add up to 12"):
        config(d_in=12, d_sae=40, k=3, in_sites=(4, 4))
    with pytest.raises(BadOption, match=r"--d-sae is 40; it must be a multiple of the 3 layers"):
        config(d_in=12, d_sae=40, k=3, wiring="crosslayer", in_sites=(4, 4, 4))
    with pytest.raises(BadOption, match=r"--out-sites is .*3 widths, as many as in_sites"):
        config(d_in=12, d_sae=42, k=3, wiring="crosslayer", in_sites=(4, 4, 4), d_out=9)
    with pytest.raises(BadOption, match=r"--skip is True"):
        config(d_in=12, d_sae=42, k=3, skip=True)
    assert len(blocks_of(config(**{**LAYERS, "d_in": 12, "k": 3}))) == 3
