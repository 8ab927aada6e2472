"""Where benchmarks write their tables: docs/results/performance.md, one section a run, appended."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "performance.md"


def section(title: str, threads: int, text: str, table: list[str]) -> str:
    """A section with the date, the machine, its load, and the command that made it."""
    command = shlex.join(["python", f"bench/{Path(sys.argv[0]).name}", *(w for w in sys.argv[1:] if w != "--record")])
    head = (
        f"## {datetime.date.today()}: {title}; {platform.machine()}, {threads} threads, load {os.getloadavg()[0]:.1f}"
    )
    return "\n".join([head, "", f"    {command}", "", text, "", *table]) + "\n"


def append(text: str) -> None:
    with open(PAGE, "a", encoding="utf-8") as page:
        page.write("\n" + text)
