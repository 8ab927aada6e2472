"""Does the fast path learn what the slow one learns? The same runs with native, torch and reference kernels, loss against loss.

    python bench/loss_curves.py              a few minutes; --record writes docs/results/loss-curves.md

Activations of the shipped story model, the same seed, order and options; only --kernels differs. Reference kernels are dense and are the
definition. In 32 bits two orders of summation differ in the last digit from the first step on, and a pair at a threshold may then fall to
the other side; so the curves must agree to rounding at first, and at the end to far less than two seeds differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "loss-curves.md"
ARCHS = {
    "topk": ("--arch.k", "16"), "batchtopk": ("--arch.k", "16"), "matryoshka": ("--arch.k", "16"),
    "relu": ("--arch.l1-coef", "2", "--arch.init-l0", "24"), "gated": ("--arch.l1-coef", "2", "--arch.init-l0", "24"),
    "jumprelu": ("--arch.l0-coef", "0.5", "--arch.init-l0", "24"),
}  # fmt: skip
KERNELS = ("reference", "torch", "native")
EARLY, LAST = 20, 50  # steps


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--tokens", default="200k")
    asked.add_argument("--d-sae", default="512")
    asked.add_argument("--threads", default="1")
    asked.add_argument("--record", action="store_true")
    flags = asked.parse_args()
    lines = [
        f"| arch | kernels | largest difference, first {EARLY} steps | mean loss of the last {LAST} steps | difference to reference | between two seeds |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        acts = f"{folder}/acts"
        assay("harvest", "--model", "storyworld", "--site", "resid_post.1", "--text", "storyworld:2000", "--out", acts)
        for arch, options in ARCHS.items():

            def curve(kernels: str, seed: int, arch: str = arch, options: tuple[str, ...] = options) -> list[float]:
                out = f"{folder}/{arch}-{kernels}-{seed}"
                assay("train", "--activations", acts, "--arch", arch, "--d-sae", flags.d_sae, *options, "--n-tokens", flags.tokens, "--kernels",
                      kernels, "--seed", str(seed), "--batch-size", "512", "--log-every", "1", "--threads", flags.threads, "--out", out)  # fmt: skip
                return [json.loads(line)["loss"] for line in Path(out, "log.jsonl").read_text().splitlines()]

            found = {kernels: curve(kernels, 0) for kernels in KERNELS}
            truth, other = found["reference"], curve("torch", 1)
            end = statistics.fmean(truth[-LAST:])
            seeds = abs(statistics.fmean(other[-LAST:]) / statistics.fmean(found["torch"][-LAST:]) - 1)
            for kernels in KERNELS:
                early = max(abs(a / b - 1) for a, b in zip(found[kernels][:EARLY], truth[:EARLY], strict=True))
                last = statistics.fmean(found[kernels][-LAST:])
                shown = "" if kernels == "reference" else f"{abs(last / end - 1):.1e}"
                lines.append(
                    f"| {arch} | {kernels} | {'' if not shown else f'{early:.1e}'} | {last:.5f} | {shown} | {seeds:.1e} |"
                )
                print(lines[-1], flush=True)
    if flags.record:
        PAGE.write_text("\n".join(["# Loss curves of the three kernels", "", f"    python bench/loss_curves.py {' '.join(sys.argv[1:])}", "", str(__doc__).split("\n\n", 2)[2].strip(), "", *lines]) + "\n")  # fmt: skip


def assay(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "assay", *words, "--quiet"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
