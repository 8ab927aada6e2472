"""Figures of a plan in words: a table, sizes, durations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.training.budget import Figure


def described(found: dict[str, Any]) -> str:
    on_device = len(found["host"]) > 1
    parts = [
        (f"Memory of one process that trains{', on the device' if on_device else ''}: {size(found['peak_bytes'])} at its peak",
         [*found["held"], *found["passing"]]),
        ("In its host's memory" if on_device else "Instead of a step, now and then", found["host"]),
        (f"Memory of one process that harvests: {size(found['harvest_bytes'])}", found["harvest"]),
        ("Disk", found["disk"]),
        ("Time", found["times"]),
    ]  # fmt: skip
    rows = [[f.name, shown(f), f.how, f.why] for _, figures in parts for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [found["what"], found["device"]]
    for title, figures in parts:
        lines += ["", title]
        lines += [f"  {f.name:<{widths[0]}}  {shown(f):>{widths[1]}}  {f.how:<{widths[2]}}  {f.why}" for f in figures]
    fits = [f"{name} {'no' if n is None else n}" for name, n in found["devices"].items()]
    return "\n".join(
        [*lines, "", *found["verdicts"], "Latent shards that other devices need for it: " + ", ".join(fits) + "."]
    )


def shown(figure: Figure) -> str:
    if figure.unit == "bytes":
        return size(figure.value)
    return duration(figure.value) if figure.unit == "seconds" else f"{rounded(figure.value)} {figure.unit}"


def size(n: float) -> str:
    """`1.21 GB`, in powers of ten."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= factor:
            return f"{digits(n / factor)} {unit}"
    return f"{n:.0f} B"


def duration(seconds: float) -> str:
    for unit, factor, enough in (("days", 86_400.0, 172_800.0), ("h", 3600.0, 3600.0), ("min", 60.0, 60.0)):
        if seconds >= enough:
            return f"{digits(seconds / factor)} {unit}"
    return f"{digits(seconds)} s"


def digits(n: float) -> str:
    """Three digits: 1.21, 12.1, 121, 1,210."""
    return f"{n:.2f}" if n < 9.995 else f"{n:.1f}" if n < 99.95 else f"{n:,.0f}"


def rounded(n: float) -> str:
    """Two digits are all that an estimate holds."""
    return f"{round(n, 2 - len(str(int(n)))):,.0f}"
