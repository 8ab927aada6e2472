"""`assay study NAME --dict D`: dictionaries of the user's own, of any format, stand beside those that a study trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_studies import TOY

from assay import dictionaries, interop, studies
from assay.core.errors import BadInput
from assay.core.outcome import Results


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A jumprelu dictionary of the shipped model's width in SAELens' files."""
    out = tmp_path_factory.mktemp("own")
    rng = torch.Generator().manual_seed(5)
    config = dictionaries.config_class("jumprelu")(d_in=96, d_sae=60, l0_coef=1.0, init_l0=8.0)
    made = dictionaries.build(config, rng, torch.randn(400, 96, generator=rng))
    dictionaries.save(made, out / "mine", golden=torch.randn(8, 96, generator=rng), provenance={"site": "resid_post.1"})
    interop.convert(out / "mine", out / "theirs", to="saelens")
    return out / "theirs"


@pytest.mark.parametrize("name", ["pareto", "pursuit"])
def test_they_take_part(name: str, foreign: Path, tmp_path: Path) -> None:
    options: Any = studies.study(name).Options(**(TOY | {"dict": (str(foreign),)}))
    studies.run(name, options, tmp_path / "run", quiet=True)
    found = Results.load(tmp_path / "run" / "results")
    arms = {o.arm: o for o in found.outcomes if o.metric == "fvu" and o.split == "test"}
    own = [arm for arm in arms if arm.startswith("jumprelu of theirs")]
    assert len(own) == (1 if name == "pareto" else 2)  # by its encoder, and by pursuit
    assert all(arms[arm].role == "method" and arms[arm].value is not None for arm in own)


def test_another_width_is_refused_before_training(foreign: Path, tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(5)
    made = dictionaries.build(
        dictionaries.config_class("topk")(d_in=7, d_sae=9, k=2), rng, torch.randn(50, 7, generator=rng)
    )
    dictionaries.save(made, tmp_path / "narrow", golden=torch.randn(8, 7, generator=rng), provenance={})
    options: Any = studies.study("pareto").Options(**(TOY | {"dict": (str(tmp_path / "narrow"),)}))
    with pytest.raises(BadInput, match=r"narrow takes 7 numbers .* has 96"):
        studies.run("pareto", options, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "dictionaries").exists()


def test_pursuit_refuses_one_that_normalises_rows(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(5)
    config = dictionaries.config_class("topk")(d_in=96, d_sae=60, k=4, rows="layer_norm")
    made = dictionaries.build(config, rng, torch.randn(400, 96, generator=rng))
    dictionaries.save(made, tmp_path / "normal", golden=torch.randn(8, 96, generator=rng), provenance={})
    options: Any = studies.study("pursuit").Options(**(TOY | {"dict": (str(tmp_path / "normal"),)}))
    with pytest.raises(BadInput, match=r"topk of normal normalises every row by itself \(layer_norm\)"):
        studies.run("pursuit", options, tmp_path / "run", quiet=True)
