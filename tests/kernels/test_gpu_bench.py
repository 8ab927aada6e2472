"""bench/gpu.py runs whole where there is no GPU: the same checks and steps at tiny sizes, under Triton's interpreter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_triton import needs_triton, run

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
@needs_triton
def test_a_dry_run(tmp_path) -> None:
    said = run(str(BENCH / "gpu.py"), "--dry", "--json", str(tmp_path / "rows"), "--minutes", "60")
    assert "0 failed, 0 skipped" in said.splitlines()[-1]
    about, *rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    assert about["where"] == "CPU under Triton's interpreter"
    paths = {(r["name"], r.get("path")) for r in rows if r["what"] == "time"}
    assert {p for n, p in paths if n.startswith("topk")} == {"dense", "torch", "triton", "triton_bf16"}
    assert {n for n, _ in paths if n.startswith("harvest")}
    assert sum("gradients, at most" in str(r.get("words")) for r in rows) == 3, "and one that trains by autograd alone"
    for name in ("topk", "gated"):
        l0 = {r["l0"] for r in rows if r["what"] == "time" and r["name"].startswith(name)}
        assert len(l0) == 1, f"{name}: all paths find the same codes"
        assert 0 < l0.pop() < 8


def started(change: str, *arguments: str) -> str:
    """The script with something in it changed; its table and the exit status."""
    lines = [
        f"import sys; sys.path.insert(0, {str(BENCH)!r})",
        f"sys.argv = ['gpu.py', *{arguments!r}]",
        "import gpu",
        change,
    ]
    return run("-c", "\n".join([*lines, "print('exit', gpu.main())"]))


@needs_triton
def test_a_failed_check_is_said_and_the_others_still_run() -> None:
    two = "gpu.checks = lambda *_: [('bad', lambda: 1 / 0), ('good', lambda: 'fine')]; gpu.timings = lambda *_: []"
    said = started(two, "--dry")
    assert "| FAILED: ZeroDivisionError: division by zero |" in said
    assert "| fine |" in said
    assert "1 failed, 0 skipped" in said
    assert said.endswith("exit 1\n")


@needs_triton
def test_it_starts_nothing_that_would_end_too_late() -> None:
    change = "gpu.checks = lambda *_: [('one', lambda: gpu.time.sleep(3) or 'done'), ('two', lambda: 'done')]; gpu.timings = lambda *_: []"
    said = started(change, "--dry", "--minutes", "0.1")
    assert said.count("skipped: ") >= 1
    assert "two" in said and "s left of 0.1 minutes" in said
    assert said.endswith("exit 0\n")


def test_without_a_gpu_it_says_so() -> None:
    said = started("gpu.torch.cuda.is_available = lambda: False")
    assert "There is no GPU here" in said
    assert said.endswith("exit 2\n")
