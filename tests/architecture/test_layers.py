"""The layers of DESIGN, section 3: a folder imports only folders on lines below it,
never a neighbour and never upwards."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "assay"

LINES = """
cli
report viewer
organisms
probing circuits steering discovery audits studies
worlds baselines
evaluation interop
training
activations
dictionaries models
kernels metrics
core
"""
LEVEL = {folder: n for n, line in enumerate(reversed(LINES.split("\n"))) for folder in line.split()}
ONLY_CORE = {"report", "viewer"}  # pages from saved results
NOT_CODE = {"data"}


def modules() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """(dotted module, line) of every import of assay, relative ones resolved, also those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield base, node.lineno
            if base == "assay":
                for alias in node.names:
                    yield f"assay.{alias.name}", node.lineno


def violations(path: Path, text: str) -> list[str]:
    """What one file imports that it may not."""
    inside = path.relative_to(SOURCE)
    folder = inside.parts[0]
    package = ".".join(["assay", *inside.parts[:-1]])
    wrong = []
    for module, line in imported(ast.parse(text), package):
        parts = module.split(".")
        if parts[0] != "assay" or len(parts) == 1:
            continue
        other = parts[1]
        if other not in LEVEL or other == folder:
            continue
        allowed = LEVEL[other] < LEVEL[folder] and (folder not in ONLY_CORE or other == "core")
        if not allowed:
            wrong.append(f"{inside}:{line} imports {module}; {folder} may not import {other}")
    return wrong


def test_every_folder_has_a_line() -> None:
    folders = {p.name for p in SOURCE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders - NOT_CODE <= set(LEVEL), "a new folder needs its line in the table of layers"


def test_arrows_point_down_only() -> None:
    wrong = [w for p in modules() if p.parent != SOURCE for w in violations(p, p.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "line", "refused"),
    [
        ("core/a.py", "from assay.kernels import Codes", True),
        ("dictionaries/a.py", "import assay.models.model", True),
        ("dictionaries/a.py", "from assay import models", True),
        ("dictionaries/a.py", "from assay import kernels", False),
        ("dictionaries/a.py", "from ..training import loop", True),
        ("dictionaries/a.py", "from . import base", False),
        ("training/a.py", "def f():\n    from assay.evaluation import evaluate", True),
        ("report/a.py", "from assay.metrics import fidelity", True),
        ("report/a.py", "from assay.core import outcome", False),
        ("kernels/a.py", "from assay.metrics.fidelity import fvu", True),
        ("cli/a.py", "from assay.report import page", False),
    ],
)
def test_the_check_sees_what_it_should(file, line, refused) -> None:
    assert bool(violations(SOURCE / file, line)) == refused


def test_importing_assay_imports_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'matplotlib', 'sklearn', 'scipy', 'datasets', 'numpy'}"
    code = (
        f"import assay, sys; print(sorted({heavy} & set(sys.modules)), assay.__version__, 'dictionaries' in dir(assay))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("[] ")
    assert done.stdout.strip().endswith("True")
