"""encode, encode_sparse and decode agree with each other, keep rows apart and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from dictionary_examples import D_IN, whole_decoder, whole_encoder, whole_skip

from assay.core.errors import BadInput
from assay.kernels import Codes

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def test_encode_is_the_dense_view_of_encode_sparse(case) -> None:
    made, x = case.made(), case.inputs(33)
    sparse = made.encode_sparse(x)
    assert 0 < len(sparse) <= 33 * made.d_sae
    assert bool((sparse.value != 0).all()), "a pair with f = 0 is not firing"
    with_grad = made.encode(x)
    assert with_grad.requires_grad == any(p.requires_grad for p in made.parameters())
    torch.testing.assert_close(with_grad.detach(), sparse.dense(), **TIGHT)
    with torch.no_grad():
        torch.testing.assert_close(made.encode(x), sparse.dense(), rtol=0, atol=0)


def test_codes_are_in_row_order_with_latents_ascending(case) -> None:
    codes = case.made().encode_sparse(case.inputs(33))
    flat = codes.row * codes.shape[1] + codes.latent
    assert bool((flat.diff() > 0).all())
    assert codes.pointers.tolist() == [int((codes.row < b).sum()) for b in range(34)]


def test_decode_of_dense_and_sparse_codes_agree(case) -> None:
    made, x = case.made(), case.inputs(20)
    with torch.no_grad():
        sparse = made.encode_sparse(x)
        expected = sparse.dense() @ whole_decoder(made) + made.b_dec
        torch.testing.assert_close(made.decode(sparse), expected, **TIGHT)
        torch.testing.assert_close(made.decode(sparse.dense()), expected, **TIGHT)
        if made.skip:
            expected = expected + x @ whole_skip(made)
        torch.testing.assert_close(made.reconstruct(x, sparse), expected, **TIGHT)
        torch.testing.assert_close(made(x), expected, **TIGHT)
    assert expected.shape == (20, case.width_out)


def test_decode_stands_alone(case) -> None:
    """decode works on codes that this object never encoded."""
    made = case.made()
    f = torch.zeros(2, made.d_sae, dtype=torch.float64)
    f[1, 3] = 2.0
    with torch.no_grad():
        torch.testing.assert_close(
            made.decode(f), torch.stack([made.b_dec, 2 * whole_decoder(made)[3] + made.b_dec]), **TIGHT
        )
        torch.testing.assert_close(made.decode(Codes.of(f)), made.decode(f), **TIGHT)


def test_encode_and_decode_write_no_attribute(case) -> None:
    made, x = case.made(), case.inputs(8)
    before = {k: v for k, v in vars(made).items() if not k.startswith("_")}
    inside = {k: dict(v) for k, v in vars(made).items() if k in ("_buffers", "_modules")}
    state = {k: v.clone() for k, v in made.state_dict().items()}
    made.decode(made.encode(x))
    made.decode(made.encode_sparse(x))
    made.encode(x, training=True)
    if case.has_gains:
        made.gains(x)
    assert {k: v for k, v in vars(made).items() if not k.startswith("_")} == before
    assert {k: dict(v) for k, v in vars(made).items() if k in ("_buffers", "_modules")} == inside
    assert all(torch.equal(v, state[k]) for k, v in made.state_dict().items())
    assert all(p.grad is None for p in made.parameters())


def test_one_row_and_three_axes(case) -> None:
    made, x = case.made(), case.inputs(12)
    with torch.no_grad():
        flat = made.encode(x)
        torch.testing.assert_close(made.encode(x[:1]), flat[:1], **TIGHT)
        deep = made.encode(x.reshape(3, 4, D_IN))
        assert deep.shape == (3, 4, made.d_sae)
        torch.testing.assert_close(deep.reshape(12, -1), flat, **TIGHT)
        assert made.decode(deep).shape == (3, 4, case.width_out)
        torch.testing.assert_close(made.encode(x[0]), flat[0], **TIGHT)


def test_rows_do_not_see_each_other(case) -> None:
    made, x = case.made(), case.inputs(30)
    with torch.no_grad():
        together = made.encode(x)
        alone = torch.cat([made.encode(x[i : i + 1]) for i in range(30)])
        order = torch.randperm(30, generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(alone, together, **TIGHT)
        torch.testing.assert_close(made.encode(x[order]), together[order], **TIGHT)
        loud = torch.cat([x, 1000 * x])
        torch.testing.assert_close(made.encode(loud)[:30], together, **TIGHT)


def test_training_codes_differ_only_where_they_say_so(case) -> None:
    made, x = case.made(), case.inputs(40)
    same = torch.equal(made.encode_sparse(x).dense(), made.encode_sparse(x, training=True).dense())
    assert same != made.batch_codes


def test_repeated_calls_agree(case) -> None:
    made, x = case.made(), case.inputs(16)
    first, second = made.encode_sparse(x), made.encode_sparse(x)
    assert torch.equal(first.dense(), second.dense())


def test_an_empty_batch_gives_empty_codes(case) -> None:
    made = case.made()
    with torch.no_grad():
        codes = made.encode_sparse(case.inputs(0))
        assert (len(codes), codes.shape) == (0, (0, made.d_sae))
        assert made.encode(case.inputs(0)).shape == (0, made.d_sae)
        assert made.decode(codes).shape == made.decode(codes.dense()).shape == (0, case.width_out)
        assert not case.has_gains or len(made.gains(case.inputs(0))) == 0


def test_a_wrong_width_names_both_widths(case) -> None:
    made = case.made()
    wrong = torch.zeros(3, D_IN + 1, dtype=torch.float64)
    for call in (made.encode, made.encode_sparse, made.gains):
        with pytest.raises(BadInput, match=rf"x has last axis {D_IN + 1}, .*d_in={D_IN}"):
            call(wrong)
    with torch.no_grad(), pytest.raises(BadInput, match=rf"d_in={D_IN}"):
        made.encode(wrong)
    with pytest.raises(BadInput, match=rf"f has last axis 3, .*d_sae={made.d_sae}"):
        made.decode(torch.zeros(2, 3, dtype=torch.float64))
    made.provenance = {"site": "resid_post.7"}
    with pytest.raises(BadInput, match=r"site resid_post\.7"):
        made.encode(wrong)


def test_signed_says_whether_codes_can_be_negative(case) -> None:
    values = torch.cat([case.made(seed).encode_sparse(case.inputs(200, seed)).value for seed in range(3)])
    assert bool((values < 0).any()) == case.cls.signed


def test_gains_are_finite_differences(case) -> None:
    made, x = case.made(), case.inputs(10)
    gains = made.gains(x)
    step = 1e-7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        up, down = made.encode(x + step), made.encode(x - step)
        u_change = (2 * step @ whole_encoder(made))[gains.row, gains.latent]
    assert bool(((up != 0) == (down != 0)).all()), "the step crossed a threshold; choose another seed"
    f_change = (up - down)[gains.row, gains.latent]
    torch.testing.assert_close(f_change, gains.value * u_change, rtol=1e-5, atol=1e-13)
    assert torch.equal(gains.dense() != 0, up != 0)


def test_vectors_of_a_latent(case) -> None:
    made = case.made()
    for i in (0, made.d_sae // 2, made.d_sae - 1):
        assert torch.equal(made.encoder_vector(i), whole_encoder(made)[:, i])
        assert torch.equal(made.decoder_vector(i), whole_decoder(made)[i])
        sites = [made.decoder_vector(i, site) for site in range(len(made.config.widths_out))]
        assert torch.equal(torch.cat(sites), made.decoder_vector(i))


def test_single_and_double_precision_agree(case) -> None:
    wide, narrow = case.made(dtype=torch.float64), case.made(dtype=torch.float32)
    x = case.inputs(20)
    assert wide.encode(x).dtype == torch.float64
    assert narrow.encode(x.float()).dtype == torch.float32
    with torch.no_grad():
        assert narrow.encode(x).dtype == torch.float32, "inputs are taken to the dictionary's precision"
        torch.testing.assert_close(narrow.encode(x.float()).double(), wide.encode(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(narrow(x.half()), narrow(x.half().float()), rtol=0, atol=0)
    torch.testing.assert_close(narrow.encode(x).detach(), narrow.encode(x.float()).detach(), rtol=0, atol=0)
