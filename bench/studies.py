"""Every study at its default size on storyworld and on stories260k, three seeds or more, recorded in docs/results/studies/.

    python bench/studies.py                       all
    python bench/studies.py shrinkage pareto      some        ($ASSAY_SHARED or ../shared holds the model and its texts)

Work lies in runs/studies/STUDY-MODEL, which may be deleted. A run that was stopped continues; one that is whole is only written up again.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from real_models import ROOT, SHARED, STORIES, THREADS

OUT = Path("docs/results/studies")
STORIES260K = (
    "--model", str(SHARED / "data/models/stories260k"), "--site", "resid_post.2", "--context", "256",
    "--text", str(STORIES / "tinystories-train.jsonl.gz"), "--heldout", str(STORIES / "tinystories-heldout.jsonl.gz"),
)  # fmt: skip
SMALL = ("--k", "2", "4", "8", "16", "--d-sae", "512")  # d = 64
ADAPTED = (*STORIES260K[:-2], "--other-text", "storyworld", "--k", "2", "4", "8", "16", "--d-sae", "512")
MODELS: dict[str, tuple[str, ...]] = {"storyworld": (), "stories260k": STORIES260K}
SPARSE = ("pareto", "shrinkage", "ablations", "pursuit", "stability", "frequency", "auxiliary")
LEFT_OUT = ("frequency-", "training-")  # pictures that the pages do not show
NO_MODEL = ("recovery",)  # planted worlds


def main() -> None:
    os.chdir(ROOT)
    from assay import studies

    for name in sys.argv[1:] or studies.names():
        parts = [run(name, model) for model in (("planted worlds",) if name in NO_MODEL else tuple(MODELS))]
        write_page(name, [part for part in parts if part is not None])


def run(name: str, model: str) -> tuple[str, str, Path] | None:
    """(model, command, folder) of a study that is whole; None where it stopped."""
    folder = Path("runs/studies") / f"{name}-{model.replace(' ', '-')}"
    own = SMALL if model == "stories260k" and name in SPARSE else ()
    model_words = ADAPTED if (name, model) == ("adaptation", "stories260k") else MODELS.get(model, ())
    command = ["assay", "study", name, *model_words, *own, "--out", str(folder)]
    if not (folder / "report.html").exists():
        done = subprocess.run([sys.executable, "-m", *command, "--quiet", *THREADS])
        if done.returncode:
            print(f"{name} on {model} stopped with status {done.returncode}", flush=True)
            return None
    return model, shlex.join(command), folder


def write_page(name: str, parts: list[tuple[str, str, Path]]) -> None:
    from assay.core.outcome import Results

    if not parts:
        return
    lines: list[str] = []
    for model, command, folder in parts:
        record_file = next(folder.glob("*/study.json"))
        record: dict[str, Any] = json.loads(record_file.read_text())
        if not lines:
            about = f"[How to read it](../../studies/{name}.md). Written by `python bench/studies.py {name}`."
            lines += [
                f"# Study: {name}",
                "",
                record["question"],
                "",
                f"Published: {record['published']} ({record['source']})",
                "",
                about,
            ]
        lines += ["", f"## On {model}", "", f"    {command}", "", f"**{record['sentence']}**", ""]
        for table in record["tables"]:
            lines += [
                f"### {table['title']}",
                "",
                "| " + " | ".join(table["head"]) + " |",
                "|---" * len(table["head"]) + "|",
            ]
            lines += ["| " + " | ".join(row) + " |" for row in table["rows"]] + [""]
        results = Results.load(record_file.parent)
        lines += verdicts(results)
        for picture in sorted(p for p in (folder / "pictures").glob("*.png") if not p.name.startswith(LEFT_OUT)):
            target = OUT / "pictures" / f"{name}-{model.replace(' ', '-')}-{picture.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
            lines += [f"![{picture.stem}](pictures/{target.name})", ""]
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
    print(f"{OUT / name}.md", flush=True)


def verdicts(results: Any) -> list[str]:
    """How often each arm beats, ties or loses, by metric; then the sentences."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for v in results.verdicts:
        counts.setdefault((v.metric, v.arm), Counter())[f"{v.word} {v.baseline}"] += 1
    if not counts:
        return ["No verdict.", ""]
    lines = ["| metric | arm | verdicts |", "|---|---|---|"]
    lines += [
        f"| {metric} | {arm} | {', '.join(f'{n} {w}' for w, n in c.items())} |" for (metric, arm), c in counts.items()
    ]
    said = [f"- {v.sentence}" for v in results.verdicts]
    return [*lines, "", "<details><summary>Every verdict in words</summary>", "", *said, "", "</details>", ""]


if __name__ == "__main__":
    main()
