"""The verdict in words: where SAEs win, tie and lose, computed from the verdicts and never written by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from assay.core.outcome import Results, Verdict
from assay.probing import first
from assay.probing.pool import ALWAYS, POOL, WITH_SAE
from assay.probing.results import STUDY

ORDER = ("beats", "ties", "loses", "no signal")


def sentences(told: dict[str, Any], found: Results) -> list[str]:
    """A few sentences, the most important first."""
    said: list[str] = []
    if any(facts["kind"] == "sae" for facts in told["arms"].values()):
        main = [v for v in found.verdicts if v.study == STUDY and told["arms"][v.arm]["kind"] == "sae"]
        said.append(counted(main, "SAE probes against the strongest baseline of any kind"))
        same = [v for v in found.verdicts if v.study == f"{STUDY}, same k" and told["arms"][v.arm]["kind"] == "sae"]
        said.append(counted(same, "SAE probes against the strongest other columns at the same k"))
        said += [v.sentence for v in found.verdicts if v.study == f"{STUDY}, pool" and v.arm == WITH_SAE][:1]
    else:
        said.append("No dictionary was given, so nothing is said about SAEs; the baselines stand below.")
    said += [best_sae(told)]
    said += [v.sentence for v in found.verdicts if v.study == f"{STUDY}, always lr" and v.arm == POOL][:1]
    said += [v.sentence for v in found.verdicts if v.study == f"{STUDY}, thrown away"][:2]
    said += [first.sentence(told.get("first", []))]
    leaks = [line["sentence"] for line in told["permuted"] if not line["honest"]]
    n = min((line["n"] for line in told["permuted"]), default=0)
    honest = f"Permuted labels: the validation AUC of all {len(told['permuted'])} arms is .5 within 4 standard errors ({n} fits or more each)."
    said.append("LABELS LEAK. " + "; ".join(leaks) + "." if leaks else honest)
    if told["not_converged"]:
        said.append(f"{told['not_converged']:,} of {told['fits']:,} logistic fits did not converge.")
    else:
        said.append(f"All {told['fits']:,} logistic fits converged.")
    return [sentence for sentence in said if sentence]


def counted(verdicts: Sequence[Verdict], what: str) -> str:
    """As in "SAE probes against ...: beats 0, ties 1, loses 9, no signal 0 of 10 verdicts"."""
    if not verdicts:
        return f"{what}: no verdict (a verdict needs 5 tasks or more; classes of one set count as one)."
    words = Counter(v.word for v in verdicts)
    shown = ", ".join(f"{word} {words[word]}" for word in ORDER)
    rivals = Counter(v.baseline for v in verdicts).most_common(2)
    against = " and ".join(name for name, _ in rivals)
    return f"{what}: {shown}, of {len(verdicts)} verdicts (mostly against {against})."


def best_sae(told: dict[str, Any]) -> str:
    """The highest mean of an SAE arm beside the highest without a dictionary and that of lr. Chosen on test, and said so."""
    rows = [row for row in told["rows"] if row["point"] is None]
    saes = [row for row in rows if row["kind"] == "sae"]
    others = [row for row in rows if row["kind"] in ("dense", "rival")]
    base = [row for row in others if row["arm"] == ALWAYS]
    if not saes or not base:
        return ""
    best, rival = (max(some, key=lambda row: row["mean"]) for some in (saes, others))
    shown, other = (row["arm"] + ("" if row["k"] is None else f" at k={row['k']}") for row in (best, rival))
    return (
        f"The highest mean test AUC of any SAE arm is {best['mean']:.3f} ({shown}), of any other arm {rival['mean']:.3f} ({other}), both "
        f"picked here by looking at the test means; logistic regression has {base[0]['mean']:.3f}."
    )
