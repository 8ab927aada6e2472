"""Options: the same object in Python, on the command line and in JSON;
what is impossible is refused with the flag's name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from dictionary_examples import D_IN, D_SAE, Case, whole_decoder

from assay.core.config import from_json, to_json
from assay.core.errors import BadOption
from assay.dictionaries import build


def given(case: Case) -> dict:
    return dict(case.options)


def numeric(case: Case) -> list[str]:
    return [f.name for f in dataclasses.fields(case.config) if "int" in str(f.type) or "float" in str(f.type)]


def test_options_survive_json(case) -> None:
    text = json.dumps(to_json(case.config), allow_nan=False)
    assert from_json(type(case.config), json.loads(text)) == case.config


def test_options_are_frozen(case) -> None:
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        case.config.d_in = 3


def test_an_unknown_option_names_the_nearest(case) -> None:
    with pytest.raises(BadOption, match=rf'"d_sea" is not an option of {case.arch}\. Did you mean "d_sae"\?'):
        type(case.config)(**given(case), d_sea=3)


def test_a_missing_option_is_named(case) -> None:
    for field in dataclasses.fields(case.config):
        if field.default is dataclasses.MISSING:
            flag = "--" + field.name.replace("_", "-")
            with pytest.raises(BadOption, match=f"{flag} is needed by {case.arch}"):
                type(case.config)(**{n: v for n, v in given(case).items() if n != field.name})


def test_options_that_are_not_finite_are_refused(case) -> None:
    assert {"d_in", "d_sae"} <= set(numeric(case))
    for name in numeric(case):
        for bad in (float("nan"), float("inf"), float("-inf")):
            with pytest.raises(BadOption, match="--" + name.replace("_", "-")):
                type(case.config)(**{**given(case), name: bad})


def test_negative_options_are_refused(case) -> None:
    for name in numeric(case):
        with pytest.raises(BadOption, match="--" + name.replace("_", "-") + " is -1"):
            type(case.config)(**{**given(case), name: -1})


def test_options_of_a_wrong_kind_are_refused(case) -> None:
    for field in dataclasses.fields(case.config):
        with pytest.raises(BadOption, match="--" + field.name.replace("_", "-")):
            type(case.config)(**{**given(case), field.name: "many"})
    with pytest.raises(BadOption, match="--d-in"):
        type(case.config)(**{**given(case), "d_in": 2.5})


def test_more_active_latents_than_there_are_is_refused(case) -> None:
    if "k" not in given(case):
        pytest.skip("no k")
    with pytest.raises(BadOption, match="--k is 41"):
        type(case.config)(**{**given(case), "k": D_SAE + 1})
    with pytest.raises(BadOption, match="--k is 0"):
        type(case.config)(**{**given(case), "k": 0})


def test_another_width_of_the_target_needs_an_encoder_without_pre_bias(case) -> None:
    if case.made().pre_bias is None:
        wide = {**given(case), "d_out": 5} | ({"out_sites": (2, 3)} if "out_sites" in given(case) else {})
        made = build(type(case.config)(**wide))
        assert whole_decoder(made).shape == (D_SAE, 5)
        return
    with pytest.raises(BadOption, match=f"--d-out is 5.*d_in={D_IN}"):
        build(type(case.config)(**{**given(case), "d_out": 5}))


def test_parameters_have_the_shapes_of_the_contract(case) -> None:
    made = case.made()
    n = case.config.d_sae
    shapes = {name: tuple(p.shape) for name, p in made.named_parameters()}
    expected = {"b_dec": (case.width_out,), **{v: (n,) for v in made.vectors}}
    for block, (enc, dec) in zip(made.blocks, made.matrix_names, strict=True):
        read, latents, written = block.shape
        expected |= {enc: (read, latents), dec: (latents, written)}
    expected |= {name: (D_IN, n) for name in made.extra_encoders}
    expected |= {name: (n, case.width_out) for name in made.extra_decoders}
    expected |= {name: (block.shape[0], block.shape[2]) for block, name in made.skips}
    assert shapes == expected
    if len(made.blocks) == 1:
        assert made.blocks[0].shape == (D_IN, n, case.width_out)
    assert set(made.degree) >= set(made.vectors), "every vector says how it scales"
    assert set(made.frozen) <= set(shapes)
    assert made.d_out == case.width_out


def test_storage_of_the_encoder_is_latent_major_and_stays_so(case) -> None:
    made = case.made(dtype=torch.float32)
    for changed in (made, made.double(), made.float()):
        for _, W_enc, _ in changed.wired:
            assert W_enc.t().is_contiguous()
            assert not W_enc.is_contiguous()
    made.load_state_dict({n: t.contiguous() for n, t in made.state_dict().items()})
    assert all(W_enc.t().is_contiguous() for _, W_enc, _ in made.wired)
