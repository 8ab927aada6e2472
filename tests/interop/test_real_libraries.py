"""The real libraries and assay mean the same by a file: their object -> file -> ours, and ours -> file -> theirs, on the same input.

Codes and outputs agree to rounding for every architecture, with random biases that are not 0. `make test-interop` makes the libraries'
environment; without it these tests skip. One exception, documented by a test: dictionary_learning gives AutoEncoder unit rows on loading.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import library_environment
import pytest
import torch
from foreign_examples import EXAMPLES, written
from safetensors.torch import load_file, save_file
from test_formats import GOES_TO, OURS, made

from assay import dictionaries, interop
from assay.dictionaries.rescaling import rescaled
from separate_environment import Unavailable

pytestmark = pytest.mark.slow
CLOSE = {"rtol": 2e-4, "atol": 5e-5}
FORMATS = tuple(library_environment.LIBRARIES)
LEAST = {
    "saelens": 25,
    "sparsify": 5,
    "dictionary_learning": 7,
    "hypothesaes": 4,
    "circuit_tracer": 6,
    "circuit_tracer_clt": 2,
    "overcomplete": 9,
}  # dictionaries that the library makes
UNIT_ROWS = {
    ("dictionary_learning", name) for name in ("relu", "relu-without-b_dec", "panneal")
}  # AutoEncoder: f * ||W_dec_i||


def theirs(what: str, format: str, folder: Path) -> None:
    try:
        library_environment.library(format)
        library_environment.ENVIRONMENT.run([str(library_environment.RUNNER), what, format, str(folder)])
    except Unavailable as reason:
        pytest.skip(str(reason))
    except subprocess.CalledProcessError as error:
        pytest.fail(error.stderr[-2000:])


def agree(f: torch.Tensor, y: torch.Tensor, g: torch.Tensor, y_other: torch.Tensor, name: str) -> None:
    """Equal to rounding; a pair at a top-k border may change sides in single rows."""
    assert 0.02 < float((f != 0).float().mean()) < 0.95, name
    rows = ((f != 0) == (g != 0)).all(1)
    assert int((~rows).sum()) <= 2, name
    torch.testing.assert_close(g[rows], f[rows], **CLOSE, msg=lambda m: f"{name}: codes: {m}")
    torch.testing.assert_close(y_other[rows], y[rows], **CLOSE, msg=lambda m: f"{name}: output: {m}")


@pytest.mark.parametrize("format", [f for f in FORMATS if f not in library_environment.READ_ONLY])
def test_what_the_library_writes_is_read_as_it_means_it(format: str, tmp_path: Path) -> None:
    theirs("make", format, tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert len(names) >= LEAST[format]
    for name in names:
        assert interop.detect(tmp_path / name) == format
        opened = interop.open(tmp_path / name)
        answer = load_file(tmp_path / f"{name}.answer.safetensors")
        with torch.no_grad():
            agree(answer["f"], answer["y"], opened.encode(answer["x"]), opened(answer["x"]), name)
        interop.convert(tmp_path / name, tmp_path / "ours" / name, "assay")
        dictionaries.verify(tmp_path / "ours" / name)


@pytest.mark.parametrize("format", FORMATS)
def test_the_library_reads_what_we_write_as_we_mean_it(format: str, tmp_path: Path) -> None:
    expected: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for case in OURS:
        one_width = format in library_environment.READ_ONLY  # as their loader has
        if format not in GOES_TO[case] or (
            one_width and OURS[case].get("d_out") not in (None, OURS[case].get("d_in", 6))
        ):
            continue
        dictionary, name = made(case), case.replace(" ", "-")
        x = torch.randn(200, dictionary.d_in, generator=torch.Generator().manual_seed(3)) * 3 + 0.4
        interop.write(dictionary, tmp_path / name, format)
        save_file({"x": x}, tmp_path / f"{name}.question.safetensors")
        dictionary.load_state_dict(rescaled(dictionary, *dictionary.scale))
        with torch.no_grad():
            f, y = dictionary.encode(x), dictionary(x)
        if (format, name) in UNIT_ROWS:
            f = f * dictionary.W_dec.norm(dim=1)
        expected[name] = f, y
    assert len(expected) >= 3
    theirs("read", format, tmp_path)
    for name, (f, y) in expected.items():
        answer = load_file(tmp_path / f"{name}.answer.safetensors")
        agree(f, y, answer["f"], answer["y"], name)


def test_circuit_tracer_means_the_same_by_a_cross_layer_transcoder_with_affine_paths(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if str(e) == "gemma_scope_2_clt-affine-junk")
    folder = written(example, tmp_path / "theirs")
    folder.rename(tmp_path / "clt")
    x = torch.randn(200, example.d_in, generator=torch.Generator().manual_seed(3)) * 2 + 0.4
    save_file({"x": x}, tmp_path / "clt.question.safetensors")
    theirs("read", "gemma_scope_2_clt", tmp_path)
    answer, opened = load_file(tmp_path / "clt.answer.safetensors"), interop.open(tmp_path / "clt")
    assert opened.skip
    with torch.no_grad():
        agree(answer["f"], answer["y"], opened.encode(x), opened(x), str(example))


def test_saelens_skips_the_scale_of_a_checkpoint_and_we_refuse(tmp_path: Path) -> None:
    """expected_average_only_in without its number: theirs loads and leaves the scale out; ours asks for the number."""
    theirs("make", "saelens", tmp_path)
    folder = tmp_path / "scaled-standard"
    factor = json.loads((folder / "activation_scaler.json").read_text())["scaling_factor"]
    assert factor != 1
    (folder / "activation_scaler.json").unlink()
    for other in tmp_path.glob("*.safetensors"):
        other.unlink()
    x = torch.randn(50, 12, generator=torch.Generator().manual_seed(3))
    save_file({"x": x}, tmp_path / "scaled-standard.question.safetensors")
    theirs("read", "saelens", tmp_path)
    skipped = load_file(tmp_path / "scaled-standard.answer.safetensors")
    with pytest.raises(interop.BadInput, match="the factor is not there"):
        interop.open(folder)
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": factor}))
    with torch.no_grad():
        assert float((interop.open(folder)(x) - skipped["y"]).abs().max()) > 0.1
