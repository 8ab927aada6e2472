"""report.html: one file that needs nothing else, made from saved results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.core.artefact import atomic_write
from assay.report import sections, study, tables
from assay.report.canvas import Look, Picture, key, looks
from assay.report.findings import Finding, count, findings, lede
from assay.report.markup import Html, escape, join, listing, paragraph, tag
from assay.report.ran import alarms, ran
from assay.report.saved import Saved, load
from assay.report.style import sheet
from assay.report.words import metric as describe


def build(
    folders: Sequence[Path | str], out: Path | str, title: str | None = None, *, picture_files: bool = True
) -> Path:
    """Write `out`/report.html about the results in `folders`, its pictures into `out`/pictures; return the page.

    `out` may also name the page itself (a path that ends in .html). `picture_files=False` writes no
    picture files. Raises `NotFound` or `Corrupt` for folders without readable results.
    """
    saved = load([Path(folder) for folder in folders])
    page = Path(out) if Path(out).suffix == ".html" else Path(out) / "report.html"
    drawn: list[Picture] = []
    text = render(saved, title, drawn)
    if picture_files:
        for picture in drawn:
            picture.write(page.parent / "pictures")
    atomic_write(page, text.encode())
    return page


def render(saved: Saved, title: str | None, drawn: list[Picture]) -> str:
    """The page as text; every picture made for it is appended to `drawn`."""
    appearance = looks(saved.arm_order(), saved.roles)
    found = findings(saved)
    asked = study.section(saved, appearance, drawn)
    parts = [
        *([("study", "The study", asked)] if asked is not None else []),
        ("fidelity", "Sparsity against fidelity", sections.pareto(saved, appearance, drawn)),
        ("bias", "Shrinkage", sections.gamma(saved, appearance, drawn)),
        ("verdicts", "Verdicts", sections.verdicts(saved, appearance)),
        ("arms", "Arms", sections.arms(saved, appearance)),
        ("frequencies", "How often latents fire", sections.frequencies(saved, appearance, drawn)),
        ("contexts", "Where latents fire", sections.contexts(saved, appearance)),
        ("training", "Along training", sections.training(saved, appearance, drawn)),
        ("run", "What was run", ran(saved)),
        ("words", "Definitions", sections.definitions(saved)),
    ]
    name = title or _title(saved)
    links = listing([tag("a", heading, href=f"#{anchor}") for anchor, heading, _ in parts])
    top = tag(
        "header",
        tag("p", "assay report", class_="brand"),
        tag("h1", name),
        *(paragraph(s, class_="lede") for s in lede(saved)),
        _headline(saved, found, appearance),
        _care(saved),
        tag("nav", links, aria_label="Contents"),
        class_="top",
    )
    main = tag("main", *(tag("section", tag("h2", heading), body, id=anchor) for anchor, heading, body in parts))
    foot = tag(
        "footer",
        "Made by ",
        tag("b", "assay"),
        " from ",
        ", ".join(f.name for f in saved.folders),
        ". Everything on this page is in this file; it loads nothing.",
    )
    head = join(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
            Html(
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src '
                "'unsafe-inline'\">"
            ),
            tag("title", name),
            tag("style", Html(sheet())),
        ]
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{top}\n{main}\n{foot}</body></html>\n'


def _title(saved: Saved) -> str:
    learned = [arm for arm, role in saved.roles.items() if role in ("method", "baseline")]
    places = list(dict.fromkeys(s.task or s.study for s in saved.settings))
    if not places:
        return "Nothing was measured"
    where = places[0] if len(places) == 1 else f"{count(len(places), 'place')}"
    return f"What {count(len(learned), 'kind')} of dictionary {'is' if len(learned) == 1 else 'are'} worth: {where}"


def _headline(saved: Saved, found: list[Finding], appearance: dict[str, Look]) -> Html:
    """The verdicts of the methods in words; of everything that was judged where no method was."""
    if not found:
        learned = [arm for arm, role in saved.roles.items() if role in ("method", "baseline")]
        why = (
            "only one arm was learned, and a verdict needs a baseline beside it"
            if len(learned) < 2
            else "no arm could be compared with a baseline at the same sparsity"
        )
        return paragraph(tag("b", "No verdict: "), f"{why}. The numbers below stand without one.", class_="lede")
    main = [f for f in found if f.role == "method"] or found
    cards: dict[tuple[int, str, str, str], list[Finding]] = {}
    for f in main:
        cards.setdefault((id(f.setting), f.arm, f.baselines, f.scope), []).append(f)
    items: list[Html] = []
    for (_, arm, baselines, scope), same in cards.items():
        name = key(arm, appearance[arm]) if arm in appearance else escape(arm)
        place = tag("span", f" on {same[0].setting.title}", class_="quiet") if len(saved.settings) > 1 else ""
        head = tag("h3", name, f" against {baselines}, {same[0].rank}", place)
        lines = [join([tag("dt", describe(f.metric).label), tag("dd", _clauses(f))]) for f in same]
        items.append(
            join([head, tag("dl", *lines), paragraph(f"{same[0].left}These verdicts speak {scope}.", class_="quiet")])
        )
    return listing(items, class_="findings")


def _clauses(finding: Finding) -> Html:
    return join([join([tables.pill(word), " ", where]) for word, where in finding.clauses()], "; ")


def _care(saved: Saved) -> Html:
    warnings = alarms(saved)
    return tag("aside", tag("h3", "Read with care"), listing(warnings), class_="care") if warnings else Html("")
