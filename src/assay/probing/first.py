"""What found it first: whether something plainer than a latent tells a task apart as well as the best latent does.

Readers are held in the order of how plain they are: length, punctuation, one word, all words, then the latent itself. The first whose AUC
is within MARGIN of the latent's, or above it, found first what the latent found. A latent under CLAIM makes no claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from assay.probing.measure import MAX, Cell

MARGIN = 0.005
CLAIM = 0.6
READERS = ("length", "punctuation", "one word", "tfidf")
LR = "lr"


def table(records: Sequence[tuple[Mapping[str, Any], Sequence[Cell]]], saes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a task and dictionary: validation AUC of each reader and of the best single latent, and who was first.

    records: what is told of each task, and its cells; saes: the names of the arms of dictionaries on trial.
    """
    found: list[dict[str, Any]] = []
    for about, cells in records:
        plain = [cell for cell in cells if cell.point is None]
        auc = {name: mean for name in (READERS[3], LR) if (mean := _mean(plain, name, None)) is not None}
        auc |= {name: about["audit"][name] for name in READERS[:2]}
        if about.get("terms"):
            auc[READERS[2]] = about["terms"]["auc"]
        for sae in saes:
            pooled = {arm: mean for arm in (sae, f"{sae} {MAX}") if (mean := _mean(plain, arm, 1)) is not None}
            if pooled:
                best = max(pooled, key=lambda arm: pooled[arm])  # of equal ones the first
                said = {
                    "task": about["name"],
                    "dictionary": best,
                    "latent": pooled[best],
                    "columns": _columns(plain, best),
                }
                found.append({**said, "auc": auc, "first": first(auc, pooled[best])})
    return found


def first(auc: Mapping[str, float], latent: float) -> str:
    """The plainest reader that does as well as the latent; "the latent" where none does, "no claim" where the latent is near chance."""
    if latent < CLAIM:
        return "no claim"
    return next((name for name in READERS if name in auc and auc[name] >= latent - MARGIN), "the latent")


def sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """How often something plainer than the best latent was first."""
    claims = [row for row in rows if row["first"] != "no claim"]
    if not claims:
        return "No single latent tells a task apart, so none of them makes a claim about the data." if rows else ""
    counts = {name: sum(row["first"] == name for row in claims) for name in READERS}
    said = ", ".join(f"{name} {n}" for name, n in counts.items() if n) or "none"
    rest = sum(row["first"] == "the latent" for row in claims)
    return (
        f"Of {len(claims)} best single latents with a validation AUC of {CLAIM:g} or more, something plainer did as well first for "
        f"{len(claims) - rest} ({said})."
    )


def _mean(cells: Sequence[Cell], arm: str, k: int | None) -> float | None:
    values = [cell.validation for cell in cells if (cell.arm, cell.k) == (arm, k)]
    return fmean(values) if values else None


def _columns(cells: Sequence[Cell], arm: str) -> list[int]:
    """The latents that the seeds chose."""
    return list(dict.fromkeys(int(c.options["columns"][0]) for c in cells if (c.arm, c.k) == (arm, 1)))
