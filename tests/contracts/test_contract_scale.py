"""Folding: the raw-space state of a dictionary is its training-space function in other units.
Never tested at scale 1."""

from __future__ import annotations

import pytest
import torch

from assay.dictionaries.rescaling import rescaled

C = 3.7


def folded(made, c_in: float, c_out: float):
    other = type(made)(made.config).double()
    other.load_state_dict(rescaled(made, c_in, c_out))
    return other


def test_folding_scales_codes_and_outputs(case) -> None:
    made, x = case.made(), case.inputs(40)
    raw = folded(made, C, C)
    with torch.no_grad():
        torch.testing.assert_close(raw.encode(C * x), C * made.encode(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(raw(C * x), C * made(x), rtol=1e-10, atol=1e-10)


def test_folding_with_another_scale_of_the_target(case) -> None:
    made, x = case.made(), case.inputs(40)
    if made.pre_bias == "b_dec":
        with pytest.raises(AssertionError, match="also subtracted from x"):
            rescaled(made, C, 0.6)
        return
    raw = folded(made, C, 0.6)
    with torch.no_grad():
        torch.testing.assert_close(raw.encode(C * x), C * made.encode(x), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(raw(C * x), 0.6 * made(x), rtol=1e-10, atol=1e-10)


def test_unfolding_undoes_folding(case) -> None:
    made = case.made()
    c_out = C if made.pre_bias == "b_dec" else 0.6
    back = rescaled(folded(made, C, c_out), C, c_out, unfold=True)
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(back[name], tensor, rtol=1e-12, atol=1e-12)
        assert back[name].data_ptr() != tensor.data_ptr(), "rescaled works on copies"


def test_only_degrees_decide(case) -> None:
    """W_enc and vectors of degree 0 stay, biases take C_in, W_dec the ratio, b_dec C_out (DESIGN, section 3)."""
    made = case.made()
    c_out = C if made.pre_bias == "b_dec" else 0.6
    state = rescaled(made, C, c_out)
    factor = {"b_dec": c_out, **{n: C**d for n, d in made.degree.items()}}
    factor |= {name: c_out / C for _, name in made.skips}
    for enc, dec in made.matrix_names:
        factor |= {enc: 1.0, dec: c_out / C}
    factor |= dict.fromkeys(made.extra_encoders, 1.0) | dict.fromkeys(made.extra_decoders, c_out / C)
    for name, tensor in made.state_dict().items():
        torch.testing.assert_close(state[name], factor[name] * tensor, rtol=1e-12, atol=0)
