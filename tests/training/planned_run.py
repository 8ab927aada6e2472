"""A small harvest and a training run in a process of its own, `python planned_run.py OUT`: prints what it really held and wrote."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

from assay import activations, models, training
from assay.activations import Stream
from assay.dictionaries import build, config_class
from assay.training import TrainConfig, checkpoint
from assay.training.member import Member

SITE, D_SAE, BATCH = "resid_post.1", 131_072, 512


def resident(name: str) -> int:
    """VmHWM, the peak, or VmRSS, now."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def below(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main() -> None:
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    model = models.load("storyworld")
    blocks = activations.pack(activations.documents("storyworld:300"), model, context=128, quiet=True)
    activations.harvest(model, [SITE], blocks, out / "bfloat16", dtype="bfloat16", quiet=True)
    store = activations.harvest(model, [SITE], blocks, out / "float32", quiet=True)
    options = TrainConfig(n_tokens=4 * BATCH, batch_size=BATCH, checkpoint_every=2, dead_after=10**9)
    config = config_class("topk")(d_in=96, d_sae=D_SAE, k=8)
    stream = Stream(store, [SITE], batch_size=BATCH, shuffle_rows=8192)
    tiny = build(config_class("topk")(d_in=96, d_sae=128, k=8))
    Member("tiny", tiny, options, 1.0).step(0, torch.randn(BATCH, 96), torch.randn(BATCH, 96))  # libraries are loaded
    written: list[int] = []
    write = checkpoint.write

    def seen(folder: Path, step: int, members: checkpoint.State) -> None:
        write(folder, step, members)
        written.extend(below(found) for found in checkpoint.all_of(folder))

    checkpoint.write = seen
    before = resident("VmRSS")
    training.train(config, stream, out / "run", site=SITE, options=options, quiet=True)
    said = {
        "rows": store.n_rows,
        "stores": {dtype: below(out / dtype) for dtype in ("float32", "bfloat16")},
        "checkpoint": max(written),
        "weights": (out / "run" / "weights.safetensors").stat().st_size,
        "grown": resident("VmHWM") - before,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
