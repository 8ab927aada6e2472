"""Adding an architecture means adding one file: dropped into a folder of dictionaries, it is listed, has options on the command
line, keeps the contract, trains, resumes, saves and loads."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dictionary_examples import Case, case_of
from test_contract_codes import test_encode_is_the_dense_view_of_encode_sparse as dense_view
from test_contract_files import test_the_raw_export_gives_scaled_codes_and_outputs as raw_export
from test_contract_steps import test_the_engine_gives_the_gradients_of_the_loss as engine

from assay import dictionaries
from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.cli.main import main
from assay.training import TrainConfig, train

ELASTIC = '''r"""ReLU sparse autoencoder with an elastic net: f = relu(u + b_enc), loss = recon + l1_coef * sum f + l2_coef * sum f^2."""

from __future__ import annotations

from assay.core.config import config, require
from assay.dictionaries.base import Dictionary
from assay.dictionaries.initialisation import init_tied
from assay.dictionaries.options import Config as BaseConfig
from assay.kernels import Above


@config
class Config(BaseConfig):
    """Options of an elastic net."""

    l1_coef: float
    """Weight of the L1 penalty."""
    l2_coef: float = 0.01
    """Weight of the squared penalty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("l1_coef", "l2_coef"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")


class Elastic(Dictionary):
    Config = Config
    vectors = ("b_enc",)
    degree = {"b_enc": 1}
    dead_latents = "resample"

    def select(self, p, training):
        return Above(-p.b_enc)

    def pairs(self, u, p):
        f = (u + p.b_enc).relu()
        return {"f": f}, {"l1": f, "l2": f**2}

    def weights(self, ramp):
        return {"recon": 1.0, "l1": self.config.l1_coef * ramp, "l2": self.config.l2_coef * ramp}

    def init(self, rng, x, y):
        init_tied(self, rng)
'''


@pytest.fixture
def elastic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One file in one more folder of dictionaries, for the time of a test."""
    folder = tmp_path / "more_dictionaries"
    folder.mkdir()
    before = set(dictionaries.names())
    (folder / "elastic.py").write_text(ELASTIC)
    monkeypatch.setattr(dictionaries, "__path__", [*dictionaries.__path__, str(folder)])
    importlib.invalidate_caches()
    assert set(dictionaries.names()) - before == {"elastic"}
    yield "elastic"
    sys.modules.pop("assay.dictionaries.elastic", None)
    vars(dictionaries).pop("elastic", None)


@pytest.fixture
def example(elastic: str) -> Case:
    return case_of(elastic, "", {"l1_coef": 0.3})


def test_it_is_listed_with_its_first_line_and_its_options(elastic, capsys) -> None:
    assert main(["list", "archs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["elastic"].startswith("ReLU sparse autoencoder with an elastic net")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--arch", "elastic", "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "l2-coef" in shown
    assert "Weight of the squared penalty." in shown


def test_it_keeps_the_contract(example, tmp_path) -> None:
    dense_view(example)
    for kernel in ("reference", "torch"):
        engine(example, kernel)
    raw_export(example, tmp_path / "saved")


def test_it_trains_saves_resumes_and_loads(elastic, example, tmp_path) -> None:
    x = 3.0 * example.inputs(2000).float()
    config = dictionaries.config_class(elastic)(d_in=12, d_sae=40, l1_coef=0.1)
    options = TrainConfig(n_tokens=3200, batch_size=32, lr=0.01, log_every=20)
    stream = Stream(TensorSource(x), seed=0, batch_size=32)
    made = train(config, stream, tmp_path / "run", site="x", options=options, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["fvu"] < 0.5 < lines[0]["fvu"] * 2
    assert {"recon", "l1", "l2"} <= set(lines[-1])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arch"] == "elastic"
    assert dictionaries.verify(tmp_path / "run")["arch"] == "elastic"
    again = train(config, stream, tmp_path / "run", site="x", options=options, resume=True, quiet=True)
    loaded = dictionaries.load(tmp_path / "run")
    assert type(loaded).__name__ == "Elastic"
    for other in (again, loaded):
        assert torch.equal(other.encode(x[:50]), made.encode(x[:50]))


def test_it_is_gone_afterwards() -> None:
    assert "elastic" not in dictionaries.names()
