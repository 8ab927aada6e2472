"""Top activating contexts: some latents of one dictionary an arm, the tokens on which they fire highlighted."""

from __future__ import annotations

from typing import Any

from assay.report.canvas import Look, key
from assay.report.markup import Html, escape, join, tag
from assay.report.saved import Saved
from assay.report.words import number

LATENTS = 6
CONTEXTS = 5
FAINTEST = 0.05  # share of the latent's peak below which a token is left plain
MAX_TOKENS = 80


def middle_subjects(saved: Saved) -> dict[str, str]:
    """One dictionary of each arm: the middle one by L0 among those that have a histogram or examples."""
    l0 = {(r.arm, r.subject): r.l0 for s in saved.settings for r in s.rows if r.l0 is not None}
    have = set(saved.histogram) | {(e["arm"], e["subject"]) for e in saved.examples}
    chosen: dict[str, str] = {}
    for arm in dict.fromkeys([*saved.arm_order(), *sorted(a for a, _ in have)]):
        ranked = sorted((l0.get((arm, subject)) or 0.0, subject) for a, subject in have if a == arm)
        if ranked:
            chosen[arm] = ranked[len(ranked) // 2][1]
    return chosen


def boxes(saved: Saved, looks: dict[str, Look]) -> Html:
    """A folding box an arm, the first one open; latents are spread over firing frequency, not picked by hand."""
    subjects = middle_subjects(saved)
    l0 = {row.subject: row.l0 for setting in saved.settings for row in setting.rows}
    folded: list[Html] = []
    for arm, subject in subjects.items():
        found: dict[int, list[dict[str, Any]]] = {}
        for example in saved.examples:
            if example["arm"] == arm and example["subject"] == subject:
                found.setdefault(example["latent"], []).append(example)
        if not found:
            continue
        shown = [_latent(i, sorted(found[i], key=lambda e: e["rank"])[:CONTEXTS]) for i in spread_out(found)]
        at = f"at L0 {number(l0[subject], 'count')}" if l0.get(subject) is not None else ""
        name = key(arm, looks[arm]) if arm in looks else escape(arm)
        summary = tag(
            "summary", name, " ", tag("span", f"{at}, {len(shown)} of {len(found)} saved latents", class_="quiet")
        )
        folded.append(tag("details", summary, *shown, open=not folded))
    return join(folded)


def spread_out(found: dict[int, list[dict[str, Any]]]) -> list[int]:
    """Up to LATENTS of the saved latents at even ranks of firing frequency, the most frequent first."""
    order = sorted(found, key=lambda i: (-(found[i][0].get("frequency") or 0.0), i))
    if len(order) <= LATENTS:
        return order
    return [order[round(k * (len(order) - 1) / (LATENTS - 1))] for k in range(LATENTS)]


def _latent(latent: int, examples: list[dict[str, Any]]) -> Html:
    frequency = examples[0].get("frequency")
    often = f"fires on {100 * frequency:.3g} % of tokens" if frequency else ""
    peak = max((abs(v) for e in examples for v in e["values"]), default=0.0) or 1.0
    lines = [context(example, peak) for example in examples]
    head = tag("h4", f"latent {latent} ", tag("span", often, class_="quiet"))
    return tag("div", head, *lines, class_="latent")


def context(example: dict[str, Any], peak: float) -> Html:
    """One line: the largest activation, then the text. `peak` is the largest |value| of the latent."""
    tokens, values = example["tokens"][:MAX_TOKENS], example["values"][:MAX_TOKENS]
    top = max(values, key=abs, default=0.0)
    pieces = [token(text, value, peak) for text, value in zip(tokens, values, strict=True)]
    return tag(
        "p", tag("span", number(top, "count"), class_="top"), tag("span", *pieces, class_="text"), class_="context"
    )


def token(text: str, value: float, peak: float) -> Html:
    """A token, shaded by |value|/peak in nine steps, warm above zero and cold below (signed codes)."""
    share = abs(value) / peak
    if share < FAINTEST:
        return visible(text)
    step = min(9, max(1, round(9 * share)))
    return tag("b", visible(text), class_=f"{'h' if value > 0 else 'n'}{step}", title=number(value, "count"))


def visible(text: str) -> Html:
    """White space that matters made visible: line breaks, tabs, runs of spaces, control characters, empty tokens."""
    if text == "":
        return tag("i", "∅", class_="ws")
    parts: list[Html] = []
    plain: list[str] = []
    for position, character in enumerate(text):
        sign = _sign(character, text, position)
        if sign is None:
            plain.append(character)
            continue
        parts += [escape("".join(plain)), tag("i", sign, class_="ws")]
        plain = []
    return join([*parts, escape("".join(plain))])


def _sign(character: str, text: str, position: int) -> str | None:
    if character == "\n":
        return "↵"
    if character == "\t":
        return "⇥"
    if character == " " and position > 0 and text[position - 1] == " ":
        return "·"
    if character != " " and not character.isprintable():
        return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"
    return None
