"""The quiver of arrows: on each task take the method of the best validation AUC, and ask whether more methods help.

Validation is the nested AUC, so an arm with a large grid has no advantage. Ties go to the arm that stands first: `lr`, then the
other probes, then sparse ones, SAEs last. The pool is judged by the test AUC of what it chose; its own validation AUC is nested too:
in each fold it is that of the method which is best without it.

    pool                 every arm without a dictionary: text, activations
    pool + sparse        and the sparse comparators, which adds arrows but no SAE
    pool + SAE           and the SAE arms instead
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.probing.measure import Cell
from assay.probing.protocol import Choice, crossed

POOL, WITH_SPARSE, WITH_SAE = "pool", "pool + sparse", "pool + SAE"
ALWAYS = "lr"


def pools(cells: Sequence[Cell], plain: Sequence[str], rivals: Sequence[str], saes: Sequence[str]) -> list[Cell]:
    """The cells of the three pools on every task, seed and point. Arms are named in the order in which they win ties."""
    groups: dict[tuple[str, int, float | None], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.task, cell.seed, cell.point), []).append(cell)
    made: list[Cell] = []
    for same in groups.values():
        for name, members in (
            (POOL, [*plain]),
            (WITH_SPARSE, [*plain, *rivals]),
            (WITH_SAE, [*plain, *saes]),
        ):
            place = {arm: i for i, arm in enumerate(members)}
            mine = sorted((c for c in same if c.arm in place), key=lambda c: (place[c.arm], c.k or 0))
            if mine:
                made.append(of(name, mine))
    return made


def of(name: str, cells: Sequence[Cell]) -> Cell:
    """The pool over these cells of one job, in the order in which they win ties."""
    best = max(range(len(cells)), key=lambda i: (cells[i].validation, -i))
    choice = crossed([Choice(0, tuple(cell.fold_auc), tuple(cell.inner_auc)) for cell in cells], best)
    won = cells[best]
    return replace(
        won,
        arm=name,
        k=None,
        validation=choice.validation,
        fold_auc=list(choice.fold_auc),
        inner_auc=list(choice.inner_auc),
        seconds=sum(cell.seconds for cell in cells),
        options={"chose": won.arm, "k": won.k},
    )
