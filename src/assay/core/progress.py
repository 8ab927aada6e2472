"""One progress bar for all long work: shown only on a terminal, with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        self.unit = unit
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {self.unit}/s" if task.speed else "")


class Bar:
    """What long work talks to: `advance(n)` and `note(text)`."""

    def __init__(self, progress: Progress | None, quiet: bool) -> None:
        self._progress = progress
        self._quiet = quiet
        self._task = progress.task_ids[0] if progress else None

    def advance(self, n: float = 1) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, n)

    def note(self, text: str) -> None:
        """A line above the bar; plain on stderr where there is no terminal."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(total: float | None, what: str, unit: str, *, quiet: bool = False, done: float = 0) -> Generator[Bar]:
    """Show `what` advancing to `total` in `unit`s, None where nobody knows. Nothing is drawn when stderr is not a terminal."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield Bar(None, quiet)
        return
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(what, total=total, completed=int(done))
        yield Bar(shown, quiet)
