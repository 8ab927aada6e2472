"""The verdicts as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.outcome import Results, Verdict
from assay.report.findings import metric_order, speaks_of_architecture
from assay.report.words import metric as describe
from assay.report.words import number, p_value, signed

HEAD = ("metric", "arm", "verdict", "against", "L0", "arm's", "baseline's", "gain", "95 %", "p (Holm)", "units")
RIGHT = {"L0", "arm's", "baseline's", "gain", "p (Holm)"}
_CODES = {"beats": "32", "loses": "31", "ties": "33"}


def verdict_table(results: Results, *, colour: bool = False) -> str:
    """One line a verdict, aligned, then what the verdicts speak of. `colour` adds ANSI colours to the words."""
    verdicts = [v for v in results.verdicts if v.split != "validation"]
    if not verdicts:
        return "No verdict: no arm was compared with a baseline at the same sparsity on documents set aside for it."
    blocks: list[str] = []
    for task, split in dict.fromkeys((v.task, v.split) for v in verdicts):
        group = [v for v in verdicts if (v.task, v.split) == (task, split)]
        group.sort(key=lambda v: (metric_order(v.metric), v.arm, v.point if v.point is not None else 0.0))
        blocks.append(f"{task} ({split})\n" + _aligned([HEAD, *map(_line, group)], colour))
    return "\n\n".join([*blocks, _scope(verdicts)])


def _line(v: Verdict) -> tuple[str, ...]:
    style = describe(v.metric).style
    units = f"{v.n_units:,} {v.unit_kind}s" + (f" x {v.n_seeds} seeds" if v.n_seeds > 1 else "")
    return (
        describe(v.metric).label, v.arm, v.word, v.baseline, number(v.point, "count"), number(v.arm_value, style),
        number(v.baseline_value, style), signed(v.gain, style), f"[{signed(v.lo, style)}, {signed(v.hi, style)}]",
        p_value(v.p_holm), units,
    )  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]], colour: bool) -> str:
    rows = [[_printable(text) for text in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines: list[str] = []
    for number_, row in enumerate(rows):
        cells = [t.rjust(w) if h in RIGHT else t.ljust(w) for t, w, h in zip(row, widths, HEAD, strict=True)]
        if colour and number_:
            code = _CODES.get(row[2], "2")
            cells[2] = f"\x1b[{code}m{cells[2]}\x1b[0m"
        lines.append("  " + "  ".join(cells).rstrip())
    lines.insert(1, "  " + "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Names come from the user: no control character reaches the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _scope(verdicts: Sequence[Verdict]) -> str:
    scopes = {speaks_of_architecture(v) for v in verdicts}
    if scopes == {True}:
        return "Seeds and documents were resampled: these verdicts speak of architectures."
    if scopes == {False}:
        return "Only documents were resampled: these verdicts speak of these dictionaries, not of their architectures."
    return "Verdicts over three seeds or more speak of architectures; the others speak of these dictionaries only."
