"""`assay train --init DICT` from the command line, for every architecture that is trained by gradient on one site."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from assay import dictionaries
from assay.cli.main import main

GIVEN = {"k": "4", "d_sae": "48"}  # what an architecture may need; coefficients are given a value below
TINY = ["--n-tokens", "2048", "--batch-size", "256", "--threads", "1", "--quiet", "--json"]


def flags(arch: str) -> list[str] | None:
    """The options that this architecture needs, or None where it reads or writes other sites than one."""
    config = dictionaries.config_class(arch)
    needed = [f.name for f in dataclasses.fields(config) if f.default is dataclasses.MISSING and f.name != "d_in"]
    given = {name: GIVEN.get(name, "0.5") for name in needed}
    try:
        probe = config(d_in=32, **{n: (float(v) if n not in GIVEN else int(v)) for n, v in given.items()})
    except ValueError:  # it needs more than numbers
        return None
    if getattr(probe, "wiring", "sae") != "sae":
        return None
    return ["--arch", arch, *(word for n, v in given.items() for word in ("--" + n.replace("_", "-"), v))]


ARCHS = [a for a in dictionaries.names() if dictionaries.class_of(a).learned_by == "gradient" and flags(a)]


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init") / "acts"
    threads = torch.get_num_threads()
    words = ["harvest", "--model", "storyworld", "--site", "resid_post.1", "--text", "storyworld:60", "--context", "64"]
    assert main([*words, "--out", str(folder), "--threads", "1", "--quiet"]) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def assay(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """Run `assay train` in this process; returns what it printed as JSON."""

    def run(*words: object) -> dict:
        threads = torch.get_num_threads()
        capsys.readouterr()
        code = main(["train", *map(str, words)])
        torch.set_num_threads(threads)
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out.strip().splitlines()[-1])

    return run


def test_the_architectures_are_found() -> None:
    assert {"gated", "relu", "topk", "batchtopk", "matryoshka", "abstopk", "panneal"} <= set(ARCHS)


@pytest.mark.parametrize("arch", ARCHS)
def test_init_from_the_command_line(arch, acts, tmp_path, assay) -> None:
    words = ["--activations", acts, *flags(arch), *TINY]
    assay(*words, "--out", tmp_path / "old")
    assay(*words, "--init", tmp_path / "old", "--init-resample", "--seed", "1", "--out", tmp_path / "new")
    old, new = (dictionaries.load(tmp_path / name) for name in ("old", "new"))
    assert new.provenance["init"] == str(tmp_path / "old")
    assert new.provenance["train"]["init_resample"] is True
    assert dictionaries.verify(tmp_path / "new")["arch"] == arch
    assert {n: t.shape for n, t in new.state_dict().items()} == {n: t.shape for n, t in old.state_dict().items()}
    if not old.frozen:
        near = torch.nn.functional.cosine_similarity(old.W_dec, new.W_dec, dim=1)
        assert float(near.median()) > 0.8, "it started from the old directions, not from those of another seed"
