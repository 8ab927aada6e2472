"""Freed memory is used again: fewer new pages, unless the user said otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import torch
from assay.core import heap
from assay.dictionaries import build, config_class
from assay.training.member import Member
from assay.training.options import TrainConfig
kept = heap.keep_freed()
torch.set_num_threads(1)
x = torch.randn(2048, 512, generator=torch.Generator().manual_seed(0))
made = build(config_class("topk")(d_in=512, d_sae=256, k=4), torch.Generator().manual_seed(0), x)
member = Member("m", made, TrainConfig(n_tokens=10**6, batch_size=2048, kernels="torch"), 1.0)
for t in range(13):
    if t == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    member.step(t, x, x)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


PASSES = """
import resource
import torch
from assay import models
torch.set_num_threads(1)
model = models.load("storyworld")
ids = torch.randint(0, model.vocab_size, (16, 256), generator=torch.Generator().manual_seed(0))
for t in range(13):
    if t == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    models.read(model, ids, None, ["resid_post.1"])
print("nobody asked here", resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")


def new_pages(work: str, **said: str) -> tuple[str, int]:
    """What `keep_freed` said, and the new pages of ten steps or passes; said: variables of the environment."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", work], env=plain | said, capture_output=True, text=True, check=True)
    *kept, n = done.stdout.split()
    return " ".join(kept), int(n)


@needs_glibc
def test_ten_steps_touch_few_new_pages_unless_the_user_says_otherwise() -> None:
    kept, few = new_pages(STEPS)
    assert kept == "True"
    left, many = new_pages(STEPS, MALLOC_TRIM_THRESHOLD_="131072")  # glibc's own
    assert left == "False"
    assert few < many / 10, f"{few} new pages, {many} without"


@needs_glibc
def test_ten_forward_passes_touch_few_new_pages() -> None:
    """A tenth of the 350,000 that there are without; mostly there are some hundred, beside other work a few thousand."""
    assert new_pages(PASSES)[1] < 35_000
