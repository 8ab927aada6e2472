"""What the README shows is executed: the Python of the front page, and that the two commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_python_of_the_readme_runs(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert code is not None
    script = tmp_path / "readme.py"
    script.write_text(code[1])
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "loss recovered" in done.stdout
    assert "topk" in done.stdout and "pca" in done.stdout
    assert (tmp_path / "runs" / "readme" / "report.html").stat().st_size > 10_000


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    made = (ROOT / "Makefile").read_text()
    shown = re.findall(r"^    make ([a-z-]+)", (ROOT / "README.md").read_text(), re.M)
    assert shown == ["demo", "test"]
    for target in shown:
        assert re.search(rf"^{target}:", made, re.M)


def test_every_flag_that_the_readme_shows_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for verb in ("sweep", "evaluate"):
        command = re.search(rf"^    assay {verb}((?:.*\\\n)*.*)", text, re.M)
        assert command is not None
        done = subprocess.run(
            [sys.executable, "-m", "assay", verb, "--help"], capture_output=True, text=True, timeout=120
        )
        for flag in set(re.findall(r"--[a-z-]+", command[1])) - {"--try"}:
            assert flag in done.stdout, f"{flag} is not a flag of {verb}"
