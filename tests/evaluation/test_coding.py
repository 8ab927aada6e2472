"""Codes in chunks of rows, the name of an artefact, and the alarm for another model's weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from known_dictionaries import Identity

from assay.evaluation import Entry, checks, coding


def test_dense_codes_come_in_chunks_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(23, 16, generator=torch.Generator().manual_seed(0))
    dictionary = Identity(k=3)
    monkeypatch.setattr(coding, "DENSE_ELEMENTS", 5 * 16)  # five rows at once
    codes = coding.encode(dictionary, x)
    torch.testing.assert_close(codes.dense(), dictionary.encode(x), rtol=0, atol=0)
    torch.testing.assert_close(coding.reconstruct(dictionary, x, codes), dictionary.encode(x), rtol=0, atol=0)
    assert coding.encode(dictionary, x[:0]).shape == (0, 16)


def test_a_dictionary_with_sparse_codes_is_never_asked_for_dense_ones() -> None:
    sparse = Identity(k=2)
    x = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    codes = coding.encode(sparse, x)
    made = SimpleNamespace(encode_sparse=lambda x: codes, decode=lambda f: f.dense(), encode=None)
    assert len(coding.encode(made, x)) == 8
    torch.testing.assert_close(coding.reconstruct(made, x, codes), sparse.encode(x), rtol=0, atol=0)


def test_subjects_differ_by_options_even_where_weights_are_the_same(tmp_path: Path) -> None:
    names: list[str] = []
    for k in (4, 8):
        folder = tmp_path / str(k)
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"k": {k}}}')
        (folder / "weights.safetensors").write_bytes(b"the same")
        dictionary = Identity(k=k)
        dictionary.path = folder  # pyright: ignore[reportAttributeAccessIssue]
        names.append(checks.subject_of(Entry("raw", "control", dictionary)))
        again = Identity(k=k)
        again.path = folder  # pyright: ignore[reportAttributeAccessIssue]
        assert checks.subject_of(Entry("raw", "control", again)) == names[-1]
    assert names[0] != names[1]
    in_memory = [checks.subject_of(Entry("raw", "control", Identity(), options={"k": k})) for k in (4, 8)]
    assert in_memory[0] != in_memory[1]
    assert checks.subject_of(Entry("raw", "control", Identity(), subject="named")) == "named"


def test_other_weights_raise_an_alarm() -> None:
    entry = Entry("a", "control", Identity(model="tiny", model_hash="one"))
    assert checks.models([entry], "one") == []
    assert len(checks.models([entry, entry], "two")) == 1
    assert "tiny" in checks.models([entry], "two")[0]
