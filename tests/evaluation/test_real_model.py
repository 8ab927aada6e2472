"""On a real language model and real stories: controls of both kinds, their order, and the pages' tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from assay import dictionaries
from assay.activations import Document, document_id
from assay.core.arms import SEEDLESS
from assay.core.randomness import torch_rng
from assay.evaluation import Entry, Showing, evaluate
from assay.evaluation.readings import Live, splitting
from assay.models import load

SITE = "resid_post.2"


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> list[Document]:
    with gzip.open(shared_data / "text" / "tinystories-heldout.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(48), file)]
    return [Document(document_id(text), text) for text in texts]


def test_pca_beats_raw_coordinates_and_all_of_either_is_perfect(shared_data: Path, stories: list[Document]) -> None:
    model = load(str(shared_data / "models" / "stories260k"))
    train, held_out = stories[:8], stories[8:]
    reading = Live(model, SITE, train, splitting("halves"), context=96, batch_tokens=4096)
    chunks = [batch.x for batch in reading.batches()]
    entries: list[Entry] = []
    for arch, role in (("pca", "method"), ("raw", "baseline")):
        for k in (2, 8, 64):
            config = dictionaries.config_class(arch)(d_in=64, k=k)
            dictionary = dictionaries.build(config)
            dictionary.fit(chunks, torch_rng(0, arch))
            trained_on = frozenset(d.id for d in train)
            entries.append(Entry(arch, role, dictionary, seed=SEEDLESS, options={"k": k}, trained_on=trained_on))
    result = evaluate(
        entries,
        model=model,
        site=SITE,
        documents=held_out,
        context=96,
        resamples=300,
        showing=Showing(n_latents=3, n_contexts=2, window=4),
        quiet=True,
    )
    got = {(o.arm, o.metric, o.options.get("k")): o.value for o in result.outcomes if o.split == "test"}
    for arch in ("pca", "raw"):
        assert got[arch, "l0", 8] == 8
        assert got[arch, "l0_train", 8] == 8
        assert got[arch, "fvu", 64] == pytest.approx(0, abs=1e-6)
        assert got[arch, "loss_recovered_zero", 64] == pytest.approx(1, abs=1e-3)
        assert got[arch, "fvu", 2] > got[arch, "fvu", 8] > 0
    assert got["pca", "fvu", 8] < got["raw", "fvu", 8]
    verdict = next(v for v in result.verdicts if v.metric == "fvu" and v.point == 8)
    assert verdict.word == "beats"
    assert result.run["losses_nats"]["test"]["clean"] == pytest.approx(1.6, abs=0.4)
    assert result.run["losses_nats"]["test"]["zero"] > result.run["losses_nats"]["test"]["mean"]
    row = max(result.examples.to_pylist(), key=lambda r: len(r["tokens"]))
    whole = next(d.text for d in held_out if d.id == row["document"])
    assert "".join(row["tokens"]).strip() in " ".join(whole.split("\n")).replace("  ", " ") or "\n" in whole
    assert not [alarm for alarm in result.alarms if "FVU" in alarm]
