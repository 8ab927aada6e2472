"""What a probing page says of the data: who found it first, the words that tell a task apart, and a corpus scanned by two finders."""

from __future__ import annotations

from typing import Any

from assay.report.markup import Html, join, listing, paragraph, table, tag
from assay.report.probing_data import number

READERS = ("length", "punctuation", "one word", "tfidf", "lr")  # the plainest first
WORDS = 8  # words of a class that are shown


def found_first(told: dict[str, Any]) -> Html:
    """The plainest reader that does as well as the best single latent, and the words of each task."""
    rows = told.get("first") or []
    parts: list[Html] = []
    if rows:
        present = {name for row in rows for name in row["auc"]}
        readers = [name for name in READERS if name in present]
        body = [
            [
                tag("th", row["task"], scope="row"),
                *(number(row["auc"].get(name)) for name in readers),
                tag(
                    "td",
                    number(row["latent"]),
                    tag("span", f" {row['dictionary']} {named(row['columns'])}", class_="ci"),
                ),
                tag("td", row["first"], class_="l"),
            ]
            for row in rows
        ]
        said = (
            "AUC of each reader by itself, and of the one latent that tells the task apart best; first is the plainest reader within .005 of "
            "the latent. Length and punctuation are those of all rows, the others are nested."
        )
        parts.append(table(["task", *readers, "best latent", "found first by"], body, said, class_="whole"))
    described = [(t["name"], t["positive"], t["terms"]) for t in told["tasks"] if t.get("terms")]
    if described:
        body = [
            [
                tag("th", name, scope="row"),
                tag("td", sided(terms["terms"], True), class_="wrap l"),
                tag("td", sided(terms["terms"], False), class_="wrap l"),
                number(terms["auc"]),
            ]
            for name, _, terms in described
        ]
        said = "Words and word pairs by the selector that chooses latents, with the share of the texts of class 1 and of class 0 that hold them."
        head = ["task", "words of class 1", "words of class 0", "AUC of the best"]
        parts.append(
            tag(
                "details",
                tag("summary", "The words that tell each task apart"),
                table(head, body, said, class_="whole"),
            )
        )
    return join(parts)


def named(columns: list[int]) -> str:
    """The latents that the seeds chose."""
    return "/".join(map(str, columns[:3])) + ("/..." if len(columns) > 3 else "")


def sided(terms: list[dict[str, Any]], positive: bool) -> Html:
    """The words that lean to one class."""
    mine = [t for t in terms if (t["with_positive"] >= t["with_negative"]) == positive]
    return join(
        [join([tag("code", t["term"]), f" {t['with_positive']:.0%} {t['with_negative']:.0%}"]) for t in mine[:WORDS]],
        ", ",
    )


def scanned(told: dict[str, Any]) -> Html:
    """Agreement of the logistic probe and the best latent on a corpus, and the first texts of both."""
    held = told.get("scan")
    if not held:
        return Html("")
    counts = held["counts"]
    left = {
        "are texts of the tasks": counts["known"],
        "repeat a text close by": counts["repeated"],
        "have no token": counts["without_tokens"],
    }
    gone = "; ".join(f"{n:,} {what}" for what, n in left.items() if n) or "none was left out"
    top = paragraph(
        f"{counts['scored']:,} of {counts['read']:,} texts of {held['corpus']} were scored ({gone}; {counts['cut']:,} were cut at the context), "
        f"{counts['tokens']:,} tokens in {held['seconds']:.0f} s."
    )
    body = [
        [
            tag("th", lead["task"], scope="row"),
            tag("td", lead["side"], class_="l"),
            tag("td", f"{lead['dictionary']} {lead['latent']}, {lead['pool']}", class_="l"),
            number(lead["lr_validation"]),
            number(lead["latent_validation"]),
            f"{lead['fired']:,}",
            tag("td", *spread(lead["correlation"])),
            tag("td", *spread(lead["overlap"])),
            f"{lead['top']:,}",
            number(lead["chance"], 4),
        ]
        for lead in held["leads"]
    ]
    head = ["task", "speaks for", "latent", "lr AUC", "latent AUC", "texts it fires in", "rank correlation [95 %]", "overlap [95 %]", "first texts",
            "overlap by chance"]  # fmt: skip
    said = "Two finders on the same texts. Overlap: the share of the latent's first texts that are among as many first texts of lr."
    return join([top, table(head, body, said, class_="whole"), *(texts(lead) for lead in held["leads"])])


def spread(found: list[float] | None) -> list[Html | str]:
    if found is None:
        return ["—"]
    value, lo, hi = found
    return [number(value), " ", tag("span", f"[{lo:.3f}, {hi:.3f}]", class_="ci")]


def texts(lead: dict[str, Any]) -> Html:
    """The first texts of both finders with both ranks."""
    body = [
        [tag("td", row["text"], class_="wrap l"), place(row["lr"]), place(row["latent"]), row["first"]]
        for row in lead["rows"]
    ]
    firsts = [row["first"] for row in lead["rows"]]
    said = listing([f"higher by {name}: {firsts.count(name)}" for name in dict.fromkeys(firsts)])
    shown = table(
        ["text", "rank by lr", "rank by the latent", "found first by"],
        body,
        f"Texts that speak for {lead['side']}.",
        class_="whole",
    )
    summary = f"{lead['task']}, {lead['dictionary']} {lead['latent']}: first texts of both"
    return tag("details", tag("summary", summary), said, shown)


def place(rank: int | None) -> str:
    """A rank; — where the text is not among the first that were held."""
    return "—" if rank is None else f"{rank:,}"
