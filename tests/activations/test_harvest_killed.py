"""kill -9 in the middle of a harvest, at chosen moments; resumed, every byte equals that of an uninterrupted one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)  # before any work: a forked child has no thread pool to wait for
from conftest import bos_zero, stories
from assay.activations import harvest, pack
from assay.core import artefact

model, texts = bos_zero.__wrapped__(), stories.__wrapped__()
blocks, root = pack(texts, model, context=16), Path(sys.argv[1])
go = lambda out, resume: harvest(
    model, ["resid_post.0", "mlp_out.1"], blocks, out, shard_rows=300, batch_size=4, resume=resume, quiet=True)

def die_at(n, name):
    real, count = getattr(os, name), [0]
    def counted(*given):
        count[0] += 1
        if count[0] == n:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)
    setattr(artefact.os, name, counted)

go(root / "whole", False)
for name in ("fsync", "replace"):
    for n in (1, 2, 4, 7, 8, 11, 14, 19):
        out = root / f"{name}-{n}"
        if (child := os.fork()) == 0:
            die_at(n, name)
            go(out, False)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            break
        print(name, n, len(list(out.rglob("*.safetensors"))), flush=True)
        if n in (4, 14):  # killed a second time, while resuming
            if (child := os.fork()) == 0:
                die_at(5, name)
                go(out, True)
                os._exit(0)
            os.waitpid(child, 0)
        go(out, True)
"""


def test_killed_harvests_resume_to_identical_bytes(tmp_path):
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(here)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def content(folder: Path) -> dict[str, bytes]:
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "provenance.json"]
        return {str(p.relative_to(folder)): p.read_bytes() for p in files}

    whole = content(tmp_path / "whole")
    killed = sorted(p for p in tmp_path.iterdir() if p.name != "whole")
    n_shards_found = {int(line.split()[2]) for line in done.stdout.splitlines()}
    assert len(killed) == 16
    assert len(n_shards_found) >= 6  # they died at many different stages
    for folder in killed:
        assert content(folder) == whole, folder.name
