"""From folders of dictionaries to an evaluation: which model, which text, which split. Used by `evaluate` and `demo`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay import activations as rows
from assay import evaluation, models
from assay.core.errors import BadOption, NotFound, Unreachable


def measure(
    entries: list[Any],
    out: Path,
    *,
    text: str | None = None,
    text_column: str = "text",
    activations: Path | None = None,
    join: tuple[Path, ...] = (),
    model: str | None = None,
    site: str | None = None,
    target: str | None = None,
    context: int | None = None,
    max_documents: int | None = None,
    shift: str | None = None,
    allow_train: bool = False,
    seed: int = 0,
    resamples: int = 10_000,
    device: str = "cpu",
    dtype: str = "float32",
    quiet: bool = False,
) -> Any:
    """Evaluate entries into the folder `out`. What is not given comes from the first dictionary's provenance."""
    known = entries[0].dictionary.provenance
    roles = {entry.role for entry in entries}
    settled: dict[str, Any] = {
        "site": site, "target": target, "seed": seed, "resamples": resamples, "quiet": quiet, "allow_train": allow_train, "out": out,
        "alone": not roles & {"baseline", "control"},
    }  # fmt: skip
    if activations is not None:
        if text is not None:
            raise BadOption("--activations was given together with --text; a store holds its own documents.")
        store = rows.Joined.open(activations, *join)
        return evaluation.evaluate(entries, store=store, split=f"shift:{shift}" if shift else "halves", **settled)
    opened = _model(model, known, device, dtype)
    source = text or known.get("text")
    if source is None:
        raise BadOption("The dictionary does not say its text; name one with --text.")
    same = text is None or text == known.get("text")
    documents = rows.documents(source, text_column=text_column if text else known.get("text_column", "text"))
    chosen: Any = rows.of_split(documents, "validation", "test") if same and not shift else iter(documents)
    if max_documents is not None:
        chosen = itertools.islice(chosen, max_documents)
    split = f"shift:{shift}" if shift else "hash" if same else "halves"
    return evaluation.evaluate(
        entries,
        model=opened,
        documents=chosen,
        split=split,
        text=source,
        context=context or known.get("context"),
        **settled,
    )


def _model(given: str | None, known: Mapping[str, Any], device: str, dtype: str) -> Any:
    """The model as given, as our own provenance says it, or as the files of another tool name it."""
    name = given or known.get("model_path") or known.get("model")
    if name is None:
        raise BadOption("The dictionary does not say its model; name it with --model, or give --activations DIR.")
    try:
        return models.load(name, device=device, dtype=dtype)
    except (NotFound, Unreachable) as error:
        if given is not None:
            raise
        raise type(error)(f"{error} The dictionary names that model; --model takes another place.") from None
