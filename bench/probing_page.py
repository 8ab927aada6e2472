"""docs/results/probing.md from the runs of bench/probing_results.py: nothing is computed here but means over tasks and counts of words."""

from __future__ import annotations

import json
import shutil
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from assay.core.outcome import Results
from assay.probing.pool import WITH_SAE
from assay.probing.results import STUDY
from assay.probing.words import ORDER

OUT = Path("docs/results")
# The eight tasks of the comparison that stands in the literature sheet: not saturated for MiniLM.
EIGHT = ("7_", "36_", "66_", "87_", "92_", "106_", "113_", "123_")
RIVALS = ("neurons", "pca", "ica", "nmf", "kmeans", "random")
TITLES = {
    "all-4-mean": "All tasks, layer 4, mean of the tokens", "all-4-last": "All tasks, layer 4, last token",
    "all-4-mean-other": "All tasks, layer 4, mean of the tokens, dictionaries of other text",
    "all-2-mean": "All tasks, layer 2, mean of the tokens", "all-2-last": "All tasks, layer 2, last token",
    "core": "The informative core, with every arm", "core-scarcity": "The core, few training rows",
    "core-imbalance": "The core, unequal classes", "core-noise": "The core, flipped training labels",
    "shift": "Shifted texts, with dictionaries adapted to them", "stories260k": "stories260k on storyworld's labels",
}  # fmt: skip


def write(work: Path) -> Path:
    """Write the page about every run that is there."""
    commands = [
        json.loads(path.read_text()) for path in sorted(work.rglob("*.command"), key=lambda p: p.stat().st_mtime)
    ]
    files = {name: work / name / "results" / "probing.json" for name in TITLES}
    runs = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    verdicts = {name: Results.load(work / name / "results") for name in runs}
    lines = [
        "# Honest probing on record", "",
        "Written by `python bench/probing_results.py`; how to read such tables is in [probing.md](../probing.md). `own` dictionaries are trained on",
        "rows of the tasks that no probe sees, `other` ones on stories, articles and speeches. Test AUC; a seed is a split; intervals over tasks.",
        "", *in_short(runs, verdicts), "## Dictionaries", "", *dictionaries(work), "",
    ]  # fmt: skip
    for name, told in runs.items():
        title = TITLES[name]
        lines += [f"## {title}", "", *said(told), ""]
        lines += curves(told) if told["setting"]["point_name"] else arms(told)
        lines += comparison(told) if name == "core" or name.startswith("all") else []
        for picture in sorted((work / name / "pictures").glob("*.png")):
            target = OUT / "pictures" / f"probing-{name}-{picture.name}"
            shutil.copy(picture, target)
            lines += ["", f"![{title}: {picture.stem}](pictures/{target.name})"]
        lines.append("")
    lines += ["## Commands", "", *(f"    {c['command']}  # {c['seconds'] / 60:.1f} min" for c in commands)]
    page = OUT / "probing.md"
    page.write_text("\n".join(lines) + "\n")
    return page


def in_short(runs: dict[str, Any], found: dict[str, Results]) -> list[str]:
    """The verdicts of every run in one table, and their sums in words. A run's own sentences say against what."""
    against = {
        STUDY: "the strongest baseline of any kind",
        f"{STUDY}, same k": "the strongest other columns at the same k",
    }
    lines = [
        f"| run | SAE probes against {against[STUDY]}: {', '.join(ORDER)} | against {against[f'{STUDY}, same k']} | pool with SAE arms against pool, AUC |",
        "|---|---|---|---|",
    ]
    sums = {study: Counter[str]() for study in against}
    for name, told in runs.items():
        cells: list[str] = []
        for study in against:
            words = Counter(
                v.word for v in found[name].verdicts if v.study == study and told["arms"][v.arm]["kind"] == "sae"
            )
            sums[study] += words
            cells.append(" / ".join(str(words[w]) for w in ORDER))
        pools = [v for v in found[name].verdicts if v.study == f"{STUDY}, pool" and v.arm == WITH_SAE]
        low, high = min(v.lo for v in pools), max(v.hi for v in pools)
        if len(pools) == 1:
            gain = f"{pools[0].word}: {pools[0].gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        else:
            words = Counter(v.word for v in pools)
            counts = ", ".join(f"{word} {words[word]}" for word in ORDER if words[word])
            gain = f"{counts}, of {len(pools)} points; intervals within {low:+.3f} and {high:+.3f}"
        lines.append(f"| {TITLES[name]} | {cells[0]} | {cells[1]} | {gain} |")
    said = [
        f"against {against[study]} an SAE probe beats {n['beats']:,} times, ties {n['ties']:,}, loses {n['loses']:,}, and {n['no signal']:,} times there is no signal"
        for study, n in sums.items()
    ]
    return ["## In short", "", *lines, "", f"Over all runs, {said[0]}; {said[1]}.", ""]


def dictionaries(work: Path) -> list[str]:
    """What each dictionary is, from its last line of training."""
    lines = ["| dictionary | layer | tokens | L0 | FVU on training batches | dead |", "|---|---|---|---|---|---|"]
    for layer in sorted((work / "named").glob("layer-*")):
        for place in sorted(layer.iterdir()):
            if (place / "log.jsonl").exists():
                last = json.loads((place / "log.jsonl").read_text().splitlines()[-1])
                lines.append(
                    f"| {place.name} | {layer.name[-1]} | {last['tokens']:,} | {last['l0']:.1f} | {last['fvu']:.3f} | {last['dead_frac']:.1%} |"
                )
    return lines


def said(told: dict[str, Any]) -> list[str]:
    """The verdict in words, as on the run's own page, and how many tasks and texts."""
    n = len(told["tasks"])
    removed = sum(t["n_duplicates"] + t["n_conflicts"] for t in told["tasks"])
    read = sum(t["n_read"] for t in told["tasks"])
    setting = told["setting"]
    facts = (
        f"{n} tasks of at most {setting['max_rows']:,} texts, {setting['seeds']} seeds; of {read:,} rows {removed:,} went before the split, "
        "being duplicates or rows with both labels."
    )
    return [*(f"- {sentence}" for sentence in told["sentences"]), f"- {facts}"]


def label(row: dict[str, Any]) -> str:
    return row["arm"] if row["k"] is None else f"{row['arm']}, k={row['k']}"


def arms(told: dict[str, Any]) -> list[str]:
    """Every dense arm and pool; of the sparse ones k = 1, 16, 128 and the best k chosen inside the folds."""
    rows = [r for r in told["rows"] if r["k"] in (None, 1, 16, 128)]
    lines = [
        "| arm | kind | mean AUC [95 %] | median | above lr by > .005 | below by > .005 |",
        "|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: -r["mean"]):
        between = "" if r["lo"] is None else f" [{r['lo']:.3f}, {r['hi']:.3f}]"
        won, lost = (("" if r.get(m) is None else f"{r[m][0]:.0%}") for m in ("clear_win", "clear_loss"))
        lines.append(f"| {label(r)} | {r['kind']} | {r['mean']:.3f}{between} | {r['median']:.3f} | {won} | {lost} |")
    return lines


def comparison(told: dict[str, Any]) -> list[str]:
    """The eight tasks of the sheet: one column, and sixteen."""
    (table,) = told["per_task"].values()
    tasks = [name for name in table if name.startswith(EIGHT)]
    if len(tasks) < len(EIGHT):
        return []
    lines = [
        "",
        "The eight tasks that are not saturated, mean test AUC:",
        "",
        "| columns | k=1 | k=16 | k=128 |",
        "|---|---|---|---|",
    ]
    kinds = {name: facts["kind"] for name, facts in told["arms"].items()}
    sparse = [n for n in kinds if f"{n} k=1" in table[tasks[0]]]
    for arm in sorted(sparse, key=lambda n: (n not in RIVALS, n)):
        at = [statistics.fmean(table[task][f"{arm} k={k}"] for task in tasks) for k in (1, 16, 128)]
        lines.append(f"| {arm} | " + " | ".join(f"{value:.3f}" for value in at) + " |")
    dense = statistics.fmean(table[task]["lr"] for task in tasks)
    return [*lines, f"| all coordinates, logistic regression | | | {dense:.3f} |"]


def curves(told: dict[str, Any]) -> list[str]:
    """lr, TF-IDF, the pools and the SAE arm of the best k along the regime's parameter: means over tasks, gap to lr."""
    name = told["setting"]["point_name"]
    points = sorted({r["point"] for r in told["rows"]})
    kept = [
        a
        for a, f in told["arms"].items()
        if a in ("lr", "tfidf") or f["kind"] == "pool" or (f["kind"] == "sae" and a.endswith("best k"))
    ]
    means = {(r["arm"], r["point"]): r["mean"] for r in told["rows"] if r["arm"] in kept}
    lines = [f"| {name} | " + " | ".join(kept) + " |", "|---|" + "---|" * len(kept)]
    for p in points:
        lines.append(f"| {p:g} | " + " | ".join(f"{means[a, p]:.3f}" if (a, p) in means else "—" for a in kept) + " |")
    above = Counter()
    for p in points:
        best = max(
            (a for a in kept if a.endswith("best k") and (a, p) in means), key=lambda a: means[a, p], default=None
        )
        if best is not None:
            above[means[best, p] > means["lr", p]] += 1
    return [
        *lines,
        "",
        f"The highest of these SAE arms, picked at each point by looking at the test means, is above lr at {above[True]} of {sum(above.values())} points.",
    ]
