"""An environment in which other libraries run, beside the repository's own, made when first asked for.

Nothing of assay is installed there and nothing there is imported here: the two sides exchange files. Needs only the standard library.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"  # comes first in every step and is named again, so that nothing replaces it


class Unavailable(Exception):
    """The environment cannot be made or used here, in one sentence."""


@dataclass(frozen=True)
class Environment:
    """A folder of the repository, and the `pip install` steps that fill it. variables: what its programs are given."""

    name: str
    steps: tuple[tuple[str, ...], ...]
    variables: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def python(self) -> Path:
        return ROOT / self.name / "bin" / "python"

    @property
    def ready(self) -> Path:
        return ROOT / self.name / ".ready"

    def make(self) -> Path:
        """The environment's interpreter, made first if it is missing or holds other versions. Raises Unavailable."""
        wanted = "\n".join(" ".join(step) for step in self.steps)
        if self.ready.exists() and self.ready.read_text() == wanted:
            return self.python
        try:
            if not self.python.exists():
                venv.create(ROOT / self.name, with_pip=True)
            for step in self.steps:
                self.run(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *step])
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"{self.name} could not be made: {last_line(error)}") from None
        self.ready.write_text(wanted)
        return self.python

    def run(self, arguments: list[str]) -> str:
        """Run the environment's interpreter without the caller's Python settings; its standard output."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.python), *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, env={**kept, **self.variables}
        )
        return done.stdout

    def main(self) -> None:
        """Make it and say what is in it."""
        try:
            self.make()
        except Unavailable as reason:
            sys.exit(str(reason))
        print(f"{self.name} is ready:")
        for step in self.steps:
            print("  pip install", *step)


def last_line(error: Exception) -> str:
    """What went wrong, from the last line that the program wrote."""
    written = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return written[-1] if written else type(error).__name__
