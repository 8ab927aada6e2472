"""The page of a probing run, from results/ alone: verdict in words, arms, pool, curves, per-task table, honesty, audit, costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.core.artefact import atomic_write, read_json
from assay.core.errors import Corrupt
from assay.core.outcome import Results, Verdict
from assay.report.canvas import Picture, looks
from assay.report.markup import Html, escape, join, listing, paragraph, table, tag
from assay.report.probing_data import between, data, honesty, mislabelled, number
from assay.report.probing_pictures import ALWAYS, curves, pool_picture, sparse_picture
from assay.report.probing_scan import found_first, scanned
from assay.report.style import sheet

FILE, RESULTS = "probing.json", "results"
KINDS = ("sae", "reconstruction", "dense", "rival", "pool", "floor")
TITLES = {
    "sae": "SAE latents", "reconstruction": "probe on the reconstruction", "dense": "dense and text probes", "rival": "sparse rivals",
    "pool": "pools", "floor": "floor",
}  # fmt: skip


def load(folder: Path) -> tuple[dict[str, Any], Results]:
    """probing.json and the tables beside it. Raises `NotFound` or `Corrupt`."""
    told = read_json(folder / FILE)
    if not isinstance(told, dict) or not {"setting", "rows", "per_task", "permuted", "sentences"} <= told.keys():
        raise Corrupt(f"{folder / FILE} lacks a part of a probing run; it was altered.")
    return told, Results.load(folder)


def is_one(folder: Path) -> bool:
    """Whether a folder is the --out of a probing run."""
    return (folder / RESULTS / FILE).is_file()


def build(folder: Path, out: Path) -> Path:
    """Write out/report.html and out/pictures about the results in `folder`; return the page."""
    told, found = load(folder)
    drawn: list[Picture] = []
    page = out / "report.html"
    text = render(told, found, drawn)
    for picture in drawn:
        picture.write(out / "pictures")
    atomic_write(page, text.encode())
    return page


def summary(folder: Path) -> dict[str, Any]:
    """For --json."""
    told, _ = load(folder)
    return {key: told[key] for key in ("setting", "sentences", "rows", "permuted")}


def as_text(folder: Path) -> str:
    """The arms and the verdict for a terminal."""
    told, _ = load(folder)
    lines: list[str] = []
    settings = list(dict.fromkeys(row["task"] for row in told["rows"]))
    rows = [row for row in told["rows"] if row["task"] == settings[-1]]
    lines.append(f"{settings[-1]} ({told['setting']['regime']}), mean test AUC over tasks")
    for row in sorted(rows, key=lambda r: -r["mean"]):
        at = "" if row["k"] is None else f"k={row['k']}"
        between = "" if row["lo"] is None else f"[{row['lo']:.3f}, {row['hi']:.3f}]"
        lines.append(f"  {row['mean']:.3f}  {between:<16}  {row['arm']} {at}".rstrip())
    return "\n".join([*lines, "", *told["sentences"]])


def render(told: dict[str, Any], found: Results, drawn: list[Picture]) -> str:
    """The page as text; every picture made for it is appended to `drawn`."""
    arms = sorted(told["arms"], key=lambda name: KINDS.index(told["arms"][name]["kind"]))
    ways = (" max", " best k")  # the same columns, so a way of pooling them takes no colour from another arm
    appearance = looks(
        sorted(arms, key=lambda name: name.endswith(ways)),
        {name: "control" if told["arms"][name]["kind"] in ("rival", "floor") else "method" for name in arms},
    )
    setting = told["setting"]
    parts: list[tuple[str, str, Html]] = [
        ("arms", "Arms", arm_table(told)),
        ("k", "Few columns", sparse_picture(told, appearance, drawn)),
        ("curves", "Along the regime", curves(told, drawn)),
        ("pool", "The pool", pool_section(told, drawn)),
        ("verdicts", "Verdicts", verdict_lists(found)),
        ("tasks", "Task by task", per_task(told)),
        ("honesty", "Permuted labels", honesty(told)),
        ("data", "What was removed from the data", data(told)),
        ("first", "What found it first", found_first(told)),
        ("mislabelled", "Rows that look mislabelled", mislabelled(told)),
        ("scan", "A corpus, scanned by both", scanned(told)),
        ("costs", "Costs", costs(told, found)),
        ("words", "How to read this", definitions(told)),
    ]
    parts = [part for part in parts if part[2]]
    name = f"Probing {setting['tasks']} at {setting['site']} of {setting['model']}, {setting['regime']}"
    links = listing([tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in parts])
    top = tag(
        "header",
        tag("p", "assay report", class_="brand"),
        tag("h1", name),
        *(paragraph(sentence, class_="lede") for sentence in told["sentences"]),
        tag("nav", links, aria_label="Contents"),
        class_="top",
    )
    main = tag("main", *(tag("section", tag("h2", heading), body, id=anchor) for anchor, heading, body in parts))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = join(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            tag("title", name),
            tag("style", Html(sheet())),
        ]
    )
    foot = tag("footer", "Made by ", tag("b", "assay"), ". Everything on this page is in this file; it loads nothing.")
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{top}\n{main}\n{foot}</body></html>\n'


def arm_table(told: dict[str, Any]) -> Html:
    """Every arm at every k of each setting: mean, median, wins, cost."""
    parts: list[Html] = []
    for name in told["per_task"]:
        rows = [row for row in told["rows"] if row["task"] == name]
        rows.sort(key=lambda r: (KINDS.index(r["kind"]), -r["mean"]))
        body = [
            [
                tag("th", row["arm"] + ("" if row["k"] is None else f", k={row['k']}"), scope="row"),
                tag("td", TITLES[row["kind"]], class_="l"),
                tag("td", number(row["mean"]), " ", between(row)),
                number(row["median"]),
                number(row["validation"]),
                *(share(row[metric]) for metric in ("win", "clear_win", "clear_loss")),
                f"{row['seconds']:.2g} s",
            ]
            for row in rows
        ]
        head = [
            "arm",
            "kind",
            "mean test AUC [95 %]",
            "median",
            "validation",
            "above lr",
            "by > .005",
            "below by > .005",
            "a task",
        ]
        shown = table(
            head, body, f"{name}: {rows[0]['n_tasks']} tasks, {told['setting']['seeds']} seeds", class_="whole"
        )
        parts.append(shown if len(told["per_task"]) == 1 else tag("details", tag("summary", name), shown))
    return join(parts)


def share(found: list[float | None] | None) -> str:
    if not found or found[0] is None:
        return "—"
    return f"{found[0]:.0%}"


def pool_section(told: dict[str, Any], drawn: list[Picture]) -> Html:
    """What each pool reached, and which arms it chose."""
    rows = [row for row in told["rows"] if row["kind"] == "pool" or row["arm"] == ALWAYS]
    if not rows:
        return Html("")
    first = rows[0]["task"]
    mine = [row for row in rows if row["task"] == first]

    body = [
        [tag("th", r["arm"], scope="row"), tag("td", number(r["mean"]), " ", between(r)), number(r["validation"])]
        for r in mine
    ]
    return join(
        [
            table(["", "mean test AUC [95 %]", "validation"], body, first),
            pool_picture(told, first, drawn),
        ]
    )


def verdict_lists(found: Results) -> Html:
    """Every verdict's sentence, by family."""
    parts: list[Html] = []
    for family in dict.fromkeys(v.family for v in found.verdicts):
        mine = [v for v in found.verdicts if v.family == family]
        items = [join([pill(v), " ", v.sentence]) for v in mine]
        parts.append(tag("details", tag("summary", f"{mine[0].study}: {len(mine)} verdicts"), listing(items)))
    notes = sorted(
        {
            f"{n.arm}{f' at k={n.point:g}' if n.point else ''}, {n.task}: {n.reason}"
            for n in found.notes
            if not n.baseline
        }
    )
    if notes:
        parts.append(tag("details", tag("summary", f"{len(notes)} comparisons that could not be made"), listing(notes)))
    return join(parts) if parts else paragraph("No verdict: a verdict needs 5 tasks or more and a dictionary on trial.")


def pill(v: Verdict) -> Html:
    known = v.word if v.word in ("beats", "ties", "loses") else "none"
    return tag("span", v.word, class_=f"pill {known}")


def per_task(told: dict[str, Any]) -> Html:
    """One row a task: the main arms, and the best SAE arm by its name."""
    name = list(told["per_task"])[-1] if told["setting"]["regime"] == "scarcity" else next(iter(told["per_task"]))
    held = told["per_task"][name]
    columns = list(dict.fromkeys(key for row in held.values() for key in row))
    shown = [c for c in columns if " k=" not in c and " max" not in c and c != "majority"]
    body = [
        [tag("th", task, scope="row"), *(number(row.get(c)) for c in shown)]
        for task, row in sorted(held.items(), key=order)
    ]
    wide = [
        [tag("th", task, scope="row"), *(number(row.get(c)) for c in columns)]
        for task, row in sorted(held.items(), key=order)
    ]
    said = f"Test AUC, mean over seeds ({name})."
    every = tag("details", tag("summary", "Every arm at every k"), table(["task", *columns], wide, said))
    return join([table(["task", *shown], body, said), every])


def order(item: tuple[str, Any]) -> tuple[int, str]:
    head = item[0].split("_")[0]
    return (int(head) if head.isdecimal() else 10**6, item[0])


def costs(told: dict[str, Any], found: Results) -> Html:
    """What is shared and paid once, and what a probe of each arm takes on one task."""
    shared = [c for c in found.costs if " on " not in c.id]
    body = [[tag("th", c.id, scope="row"), f"{c.upfront_seconds:.3g} s", f"{c.upfront_tokens:,}"] for c in shared]
    missing = [f"{name}: {reason}" for name, reason in told["missing"].items()]
    asked = [(n, f) for n, f in told["arms"].items() if f.get("marginal_tokens")]
    each = [
        [tag("th", name, scope="row"), f"{f['marginal_tokens']:,}", f"{f['marginal_seconds']:.2g} s"]
        for name, f in asked
    ]
    said = "Arms that ask the model itself about each text; what is said before every text alike is read once."
    return join(
        [
            table(
                ["paid once", "seconds", "tokens"],
                body,
                "Up-front and shared; the seconds a task takes stand with the arms.",
            ),
            table(["each text", "tokens", "seconds"], each, said) if each else Html(""),
            join([paragraph("Arms that do not apply here:"), listing(missing)]) if missing else Html(""),
        ]
    )


def definitions(told: dict[str, Any]) -> Html:
    about = {name: facts["about"] for name, facts in told["arms"].items()}
    setting = told["setting"]
    general = {
        "AUC": "Chance that a text of class 1 gets a higher score than one of class 0, ties counted half; .5 is chance.",
        "vectors": f"{setting['pool']} over the text tokens of a text at {setting['site']}, special tokens left out.",
        "validation": "Nested: in each fold the AUC of the candidate that was chosen without that fold.",
        "above lr": "Share of tasks whose mean over seeds is above that of logistic regression on all coordinates.",
        "interval": "95 %, over tasks and seeds; a task is a unit, and so is a set whose classes are tasks on the same texts.",
    }
    return tag(
        "dl", *(join([tag("dt", escape(k)), tag("dd", v)]) for k, v in {**general, **about}.items()), class_="words"
    )
