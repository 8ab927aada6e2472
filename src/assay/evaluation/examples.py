"""Top activating contexts of some latents of each dictionary, read back from the documents that make them fire most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from assay.evaluation import coding
from assay.evaluation.files import EXAMPLES_SCHEMA, HISTOGRAM_SCHEMA
from assay.evaluation.measurement import Measurement
from assay.evaluation.readings import TEST, Reading, Readings
from assay.evaluation.tops import spread_sample


@dataclass(frozen=True)
class Showing:
    """Which top activating contexts are kept: of `n_latents` latents a dictionary (0: none), `n_contexts` a latent,
    `window` tokens on either side of the peak."""

    n_latents: int = 20
    n_contexts: int = 8
    window: int = 12


DEFAULT_SHOWING = Showing()


@dataclass(frozen=True)
class _Wanted:
    """One context to read back."""

    measurement: int
    latent: int
    frequency: float
    rank: int
    document: int
    position: int


def examples(
    measurements: Sequence[Measurement], readings: Readings, showing: Showing, piece: Callable[[int], str]
) -> pa.Table:
    """The table of `files.EXAMPLES_SCHEMA`. Documents are read once more, those with a peak only."""
    wanted = [w for i, m in enumerate(measurements) for w in _wanted(i, m, showing)]
    rows: list[dict[str, Any]] = []
    for reading in readings.batches(sorted({w.document for w in wanted})) if wanted else ():
        inside = set(reading.document.unique().tolist())
        for i, measurement in enumerate(measurements):
            mine = [w for w in wanted if w.measurement == i and w.document in inside]
            rows += _rows(mine, measurement, reading, readings, showing, piece) if mine else []
    rows.sort(key=lambda row: (row.pop("order"), -row["frequency"], row["latent"], row["rank"]))
    return pa.Table.from_pylist(rows, schema=EXAMPLES_SCHEMA)


def _wanted(index: int, measurement: Measurement, showing: Showing) -> list[_Wanted]:
    if measurement.firing is None or measurement.tops is None:
        return []
    frequency, tops = measurement.firing[TEST].frequency, measurement.tops
    return [
        _Wanted(index, int(i), float(frequency[i]), rank, int(tops.document[i, rank]), int(tops.position[i, rank]))
        for i in spread_sample(frequency, showing.n_latents)
        for rank in range(tops.n)
        if tops.document[i, rank] >= 0
    ]


def _rows(
    wanted: list[_Wanted],
    measurement: Measurement,
    reading: Reading,
    readings: Readings,
    showing: Showing,
    piece: Callable[[int], str],
) -> list[dict[str, Any]]:
    """Encode the windows around the wanted peaks of one reading, and cut them out."""
    windows = [_window(w, reading, showing.window) for w in wanted]
    needed = np.unique(np.concatenate([rows for rows, _ in windows]))
    latents = sorted({w.latent for w in wanted})
    column = {latent: i for i, latent in enumerate(latents)}
    x = reading.x[torch.from_numpy(needed).to(reading.x.device)]
    codes = coding.encode(measurement.dictionary, x.to(coding.device_of(measurement.dictionary, x.device)))
    chosen = torch.isin(codes.latent, torch.tensor(latents, device=codes.latent.device))
    values = np.zeros((len(needed), len(latents)), dtype=np.float32)
    at = np.searchsorted(latents, codes.latent[chosen].cpu().numpy())
    values[codes.row[chosen].cpu().numpy(), at] = codes.value[chosen].float().cpu().numpy()
    token_id = reading.token_id.numpy()
    return [
        {
            "order": w.measurement,
            "subject": measurement.subject,
            "arm": measurement.entry.arm,
            "latent": w.latent,
            "frequency": w.frequency,
            "rank": w.rank,
            "document": readings.table.documents[w.document],
            "position": w.position,
            "peak": peak,
            "tokens": [piece(int(t)) for t in token_id[rows]],
            "values": values[np.searchsorted(needed, rows), column[w.latent]].tolist(),
        }
        for w, (rows, peak) in zip(wanted, windows)
    ]


def _window(wanted: _Wanted, reading: Reading, width: int) -> tuple[np.ndarray, int]:
    """Rows of the reading around the peak, in the order of the document, and the peak's place among them."""
    rows = np.flatnonzero(reading.document.numpy() == wanted.document)
    position = reading.position.numpy()[rows]
    order = np.argsort(position, kind="stable")
    rows, position = rows[order], position[order]
    peak = int(np.searchsorted(position, wanted.position))
    start = max(peak - width, 0)
    return rows[start : peak + width + 1], peak - start


def histogram(measurements: Sequence[Measurement]) -> pa.Table:
    """How often every latent fires on the test split: `files.HISTOGRAM_SCHEMA`."""
    parts = [HISTOGRAM_SCHEMA.empty_table()]
    for m in measurements:
        if m.firing is None:
            continue
        frequency = m.firing[TEST].frequency.numpy()
        n = len(frequency)
        columns = [[m.subject] * n, [m.entry.arm] * n, np.arange(n, dtype=np.int32), frequency]
        parts.append(
            pa.table([pa.array(c, f.type) for c, f in zip(columns, HISTOGRAM_SCHEMA)], schema=HISTOGRAM_SCHEMA)
        )
    return pa.concat_tables(parts)


def pieces(tokenizer: Any) -> Callable[[int], str]:
    """Token id -> the text it adds inside a sentence, its leading space included. Without a tokenizer: `#17 `.

    The text is what decoding gains when the token follows a plain word, which is right for byte-level, SentencePiece
    and WordPiece vocabularies alike.
    """
    if tokenizer is None:
        return lambda token: f"#{token} "
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    before = tokenizer.decode(anchor, clean_up_tokenization_spaces=False)
    known: dict[int, str] = {}

    def piece(token: int) -> str:
        if token not in known:
            whole = tokenizer.decode([*anchor, token], clean_up_tokenization_spaces=False)
            known[token] = whole[len(before) :] if whole.startswith(before) else tokenizer.decode([token])
        return known[token]

    return piece
