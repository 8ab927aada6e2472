"""What a probing page says of honesty and of the data: permuted labels, what was removed, rows that look mislabelled."""

from __future__ import annotations

from typing import Any

from assay.report.markup import Html, join, listing, paragraph, table, tag


def number(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def between(row: dict[str, Any]) -> Html:
    if row["lo"] is None:
        return Html("")
    return tag("span", f"[{row['lo']:.3f}, {row['hi']:.3f}]", class_="ci")


def honesty(told: dict[str, Any]) -> Html:
    body = [
        [
            tag("th", p["arm"], scope="row"),
            number(p["mean"]),
            number(p["error"], 4),
            str(p["n"]),
            "yes" if p["honest"] else "NO",
        ]
        for p in told["permuted"]
    ]
    said = "Nested validation AUC when the training labels are permuted; .5 unless labels leak."
    return table(["arm", "mean", "standard error", "fits", "within 4 s.e. of .5"], body, said)


def data(told: dict[str, Any]) -> Html:
    """Counts of what went, truncation, and what is suspicious."""
    body = [
        [
            tag("th", t["name"], scope="row"),
            *(f"{t[key]:,}" for key in ("n_read", "n_duplicates", "n_conflicts", "n_empty", "n", "n_cut")),
            f"{t['mean_tokens']:.0f}",
            f"{t['positive_frac']:.2f} {t['positive']}",
            number(t["audit"]["length"], 2),
            number(t["audit"]["punctuation"], 2),
            tag("td", "; ".join(t["flags"]), class_="wrap l"),
        ]
        for t in told["tasks"]
    ]
    head = ["task", "rows", "duplicates", "with both labels", "empty", "used", "cut at the context", "tokens", "class 1", "length AUC",
            "punctuation AUC", "flags"]  # fmt: skip
    shown = table(head, body, "Duplicates and rows with both labels go before the split.", class_="whole")
    notes = {t.get("set") or t["name"]: "; ".join(t.get("notes", [])) for t in told["tasks"]}
    made = [join([tag("b", name), f": {said}"]) for name, said in notes.items() if said]
    return (
        join([shown, paragraph("How tasks of two classes were made of other labels:"), listing(made)])
        if made
        else shown
    )


def mislabelled(told: dict[str, Any]) -> Html:
    found = told.get("mislabelled") or []
    if not found:
        return Html("")
    detection = [
        [tag("th", d["arm"], scope="row"), tag("td", number(d["mean"]), " ", between(d))] for d in told["detection"]
    ]
    planted = table(
        ["finder", "AUC for planted flips [95 %]"],
        detection,
        "5 % of the labels were flipped, and each finder ranked the rows by suspicion. Here the truth is known.",
    )
    head = ["task", "text", "label", *(f"rank by {name}" for name in found[0]["ranks"]), "first found by"]
    body = [
        [
            tag("th", f["task"], scope="row"),
            tag("td", f["text"], class_="wrap l"),
            f["label"],
            *(str(r) for r in f["ranks"].values()),
            f["first"],
        ]
        for f in found
    ]
    rows = table(head, body, told["mislabelled_about"], class_="whole")
    return join([planted, tag("details", tag("summary", f"{len(body)} rows that look mislabelled as given"), rows)])
