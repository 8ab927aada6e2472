"""Dictionaries that normalise each row by itself: against plain loops, on disk, in a model, and what cannot be done with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from foreign_examples import EXAMPLES, written
from plain_codes import K, rows
from saelens_examples import row_by_row
from test_formats import made

from assay import dictionaries, interop
from assay.cli.main import main
from assay.core.errors import BadInput, BadOption
from assay.dictionaries import Dictionary, class_of
from assay.interop import folding
from assay.interop.ours import from_dictionary, to_dictionary

CASES = {
    "topk layer norm": "layer_norm",
    "relu layer norm": "layer_norm",
    "gated constant norm": "constant_norm_rescale",
}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def without(dictionary: Dictionary) -> Dictionary:
    """The same weights, rows as they are."""
    config = replace(dictionary.config, rows="as_is")
    plain = type(dictionary)(config)
    plain.load_state_dict(dictionary.state_dict())
    return plain.requires_grad_(False)


@pytest.mark.parametrize("name", CASES)
def test_codes_and_outputs_against_one_row_at_a_time(name: str) -> None:
    dictionary = made(name)
    plain = without(dictionary)
    x = 4 * rows(40) + 1.5
    f, y = row_by_row(x, CASES[name], lambda z: (plain.encode(z), plain.decode(plain.encode(z))))
    torch.testing.assert_close(dictionary.encode(x), f, **CLOSE)
    torch.testing.assert_close(dictionary(x), y, **CLOSE)
    torch.testing.assert_close(dictionary.reconstruct(x, dictionary.encode_sparse(x)), y, **CLOSE)
    batched = x.reshape(4, 10, -1)
    torch.testing.assert_close(dictionary(batched), y.reshape(4, 10, -1), **CLOSE)
    parts = from_dictionary(dictionary)
    torch.testing.assert_close(parts.predict(x, parts.codes(x)), y, **CLOSE)
    assert float((y - plain(x)).abs().max()) > 0.5, "the normalisation plays a part"


@pytest.mark.parametrize("name", CASES)
def test_length_and_level_of_a_row_pass_through(name: str) -> None:
    """A row twice as long has the same codes and a prediction twice as long; a layer norm also lets the level of a row through."""
    dictionary, x = made(name), 30 * rows(40)
    torch.testing.assert_close(dictionary.encode(2 * x), dictionary.encode(x), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dictionary(2 * x), 2 * dictionary(x), rtol=1e-3, atol=1e-3)
    if dictionary.config.rows == "layer_norm":
        torch.testing.assert_close(dictionary(x + 7), dictionary(x) + 7, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(dictionary(torch.zeros(2, 6))).all() and torch.isfinite(dictionary(torch.ones(2, 6))).all()


@pytest.mark.parametrize("name", CASES)
def test_gradients_go_through_the_normalisation(name: str) -> None:
    dictionary = made(name).double()
    x = rows(5).double().requires_grad_()
    dictionary.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: dictionary(x), x, eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_on_disk_and_verified(name: str, tmp_path: Path) -> None:
    dictionary = made(name)
    dictionaries.save(dictionary, tmp_path / "d", golden=rows(32), provenance={})
    back = dictionaries.load(tmp_path / "d")
    assert back.config.rows == dictionary.config.rows
    torch.testing.assert_close(back(rows()), dictionary(rows()))
    assert dictionaries.verify(tmp_path / "d")["rows"] == 32
    training = dictionaries.load(tmp_path / "d", space="training")
    torch.testing.assert_close(training.W_dec, dictionary.W_dec)
    assert f"each row by itself: {back.config.rows}" in interop.inspect(tmp_path / "d")["scale"]


def test_a_pair_is_near_its_threshold_in_normalised_space() -> None:
    from assay.dictionaries.files import near_threshold

    relu = made("relu layer norm")
    x = 4 * rows(3) + 1.5
    u = relu.pre_activations(relu.rows_of(x))
    relu.get_parameter("b_enc").copy_(-u[1])
    near = near_threshold(relu, x)
    assert bool(near[1].all()) and not bool(near[0].any())


def test_spliced_into_a_model_it_gives_back_the_scale_of_each_row() -> None:
    from assay import models

    model = models.load("storyworld")
    d = model.width("resid_post.1")
    signed = class_of("abstopk")
    dictionary = signed(signed.Config(d_in=d, d_sae=d, k=d, rows="layer_norm"))  # all of d signed codes: z_hat = z
    dictionary.W_dec.data.copy_(torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(1))).Q)
    dictionary.W_enc.data.copy_(dictionary.W_dec.detach().T)
    dictionary.b_dec.data.fill_(0.3)
    dictionary.requires_grad_(False)
    ids = torch.tensor([model.tokenizer.encode("The fox found a red ball in the garden.")])
    x = models.read(model, ids, None, ["resid_post.1"])["resid_post.1"][0].float()
    torch.testing.assert_close(dictionary(x), x, rtol=1e-3, atol=1e-3)
    before = model.logits(ids)
    with models.splice(model, "resid_post.1", dictionary, error=False):
        after = model.logits(ids)
    torch.testing.assert_close(after, before, rtol=1e-2, atol=1e-2)


def test_zero_biases_let_a_constant_norm_go_and_nothing_else_does(tmp_path: Path) -> None:
    relu = made("relu layer norm")
    parts = replace(from_dictionary(relu), rows="constant_norm")
    bare = replace(parts, b_dec=0 * parts.b_dec, vectors={"b_enc": 0 * parts.vectors["b_enc"]})
    folded = folding.constant_norm(bare)
    x = rows()
    assert folded.rows == "as_is"
    torch.testing.assert_close(folded.predict(x, folded.codes(x)), bare.predict(x, bare.codes(x)), **CLOSE)
    scale = x.norm(dim=1, keepdim=True) / 6**0.5
    torch.testing.assert_close(folded.codes(x), bare.codes(x) * scale, **CLOSE)
    for refused in (parts, replace(bare, rows="layer_norm"), replace(bare, b_dec=parts.b_dec)):
        with pytest.raises(BadInput, match="which its weights cannot say"):
            folding.constant_norm(refused)
    dictionary = to_dictionary(bare)
    (tmp_path / "d").mkdir()
    dictionaries.save(dictionary, tmp_path / "d", golden=rows(32), provenance={})
    interop.convert(tmp_path / "d", tmp_path / "out", "dictionary_learning")
    torch.testing.assert_close(interop.open(tmp_path / "out")(x), dictionary(x), **CLOSE)


def test_training_says_that_it_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "--model",
        "storyworld",
        "--site",
        "resid_post.1",
        "--text",
        "storyworld:20",
        "--arch",
        "topk",
        "--k",
        str(K),
    ]
    short = ["--d-sae", "20", "--n-tokens", "512", "--batch-size", "256", "--threads", "1", "--quiet"]
    assert main([*words, *short, "--rows", "layer_norm", "--out", str(tmp_path / "a")]) == 2
    assert "rows" in capsys.readouterr().err
    theirs = written(next(e for e in EXAMPLES if e.name == "layer-norm-topk"), tmp_path / "theirs")
    assert main([*words, *short, "--init", str(theirs), "--out", str(tmp_path / "b")]) == 2
    assert "evaluated, but not trained on here" in capsys.readouterr().err
    topk = class_of("topk")
    with pytest.raises(BadOption, match="--rows is 'layer_norm'; it must be as_is unless wiring is sae"):
        topk.Config(d_in=6, d_sae=20, k=3, d_out=4, wiring="transcoder", rows="layer_norm")
    from assay.training import Plan, TrainConfig
    from assay.training.loop import _check

    with pytest.raises(BadOption, match="read and evaluated, but not trained here"):
        _check([Plan("a", topk.Config(d_in=6, d_sae=20, k=3, rows="layer_norm"), TrainConfig())])


def test_what_no_other_format_can_say_is_refused_with_the_part(tmp_path: Path) -> None:
    for to in interop.names():
        if to != "saelens" and "sae" in interop.format_of(to).WIRINGS:
            part = (
                "TopK and never before ReLU" if to == "openai_sae" else f"{to} cannot represent .* normalises each row"
            )
            with pytest.raises(BadInput, match=part):
                interop.write(made("relu layer norm"), tmp_path / to, to)
