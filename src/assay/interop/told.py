"""What a file leaves out and a user says in words: the rule, its k or its one threshold (`assay convert ... --rule topk --k 32`).

The same may lie beside the file as read_as.json, {"rule": "topk", "k": 32}: there it serves every later reading, and what assay writes in
such a format has one. A word on the command line comes before the file's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core import artefact
from assay.core.errors import BadInput, BadOption, nearest
from assay.interop.foreign_files import inside, is_there, json_of, whole
from assay.interop.parts import Parts

BESIDE = "read_as.json"
ASKED = ("relu", "jumprelu", "topk", "batchtopk")


@dataclass(frozen=True)
class Told:
    rule: str | None = None
    k: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.rule is not None and self.rule not in ASKED:
            raise BadOption(
                f'--rule is "{self.rule}"; it must be one of {", ".join(ASKED)}.{nearest(self.rule, list(ASKED))}'
            )
        if self.k is not None and not self.k > 0:
            raise BadOption(f"--k is {self.k}; it must be a positive whole number.")
        if self.threshold is not None and not 0 < self.threshold < 1e9:
            raise BadOption(f"--threshold is {self.threshold}; it must be a positive number below 1e9.")

    def __bool__(self) -> bool:
        return (self.rule, self.k, self.threshold) != (None, None, None)

    def beside(self, file: Path) -> Told:
        """This, and where it says nothing what read_as.json beside the file says. Raises BadInput for an odd one."""
        if not is_there(file.parent, BESIDE):
            return self
        place = inside(file.parent, BESIDE)
        found = json_of(place)
        threshold = found.get("threshold")
        if threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise BadInput(f"{place}: threshold is {str(threshold)[:40]}; a number was expected.")
        try:
            said = Told(
                rule=None if found.get("rule") is None else str(found["rule"])[:40],
                k=None if found.get("k") is None else whole(found["k"], "k", place),
                threshold=None if threshold is None else float(threshold),
            )
        except BadOption as error:
            raise BadInput(f"{place}: {error}") from None
        return Told(self.rule or said.rule, self.k or said.k, self.threshold or said.threshold)


def ask(told: Told, found: str, rules: tuple[str, ...], file: Path) -> dict[str, Any]:
    """`rule`, `k` and `threshold` of `Parts` as told. Raises BadInput saying what was found and which words are missing."""
    ways = {"topk": "--rule topk --k K", "batchtopk": "--rule batchtopk --threshold T"}
    words = ", ".join(ways.get(rule, f"--rule {rule}") for rule in rules)
    rule = told.rule or (rules[0] if len(rules) == 1 else None)
    if rule is None:
        raise BadInput(
            f"{file} is {found}. Which rule it has stands nowhere in it: add {words} to assay convert or assay inspect, or write it to "
            f'{BESIDE} beside the file, such as {{"rule": "topk", "k": 32}}.'
        )
    if rule not in rules:
        raise BadInput(f"{file} is {found}, so its rule is {' or '.join(rules)}, not {rule}.")
    if rule == "topk" and told.k is None:
        raise BadInput(
            f"{file} is {found}. Its k stands nowhere in it: add --k K to assay convert or assay inspect, or write it to "
            f'{BESIDE} beside the file, such as {{"rule": "topk", "k": 32}}.'
        )
    if rule == "batchtopk" and told.threshold is None:
        raise BadInput(
            f"{file} is {found}. The threshold of its batch top-k stands nowhere in it: add --threshold T to assay convert or assay "
            f'inspect, or write it to {BESIDE} beside the file, such as {{"rule": "batchtopk", "threshold": 0.7}}.'
        )
    return {"rule": rule, "k": told.k, "threshold": told.threshold if rule == "batchtopk" else None}


def write_beside(parts: Parts, folder: Path, **more: Any) -> None:
    """read_as.json of what is written."""
    said: dict[str, Any] = {"rule": parts.rule, "k": parts.k, "threshold": parts.threshold, **more}
    artefact.write_json(folder / BESIDE, {name: value for name, value in said.items() if value is not None})
