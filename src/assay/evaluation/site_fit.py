"""Whether a dictionary belongs where it was measured: its FVU on a few rows of the other sites of the same width.

Asked for every dictionary that another tool wrote, since its site is a name that somebody wrote down, and for every dictionary whose
FVU is above 1. First the sites of the same layer and of the two beside it, from one forward pass over at most `TOKENS` tokens; where
none of them fits a dictionary with FVU above 1, those of all layers. Of a store, the sites that it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import AssayError
from assay.evaluation import checks, coding
from assay.evaluation.measurement import Measurement
from assay.evaluation.readings import TEST, Live, Readings, Stored, named
from assay.metrics.fidelity import fvu

TOKENS = 1024
BETTER = 0.7  # another site is named when its FVU is below 1 and below this share of the one at hand
AT_ONCE = 4  # layers whose activations are held together


def alarms(measurements: Sequence[Measurement], readings: Readings) -> list[str]:
    """A sentence for each dictionary that fits another site much better, or none at all where its FVU is above 1."""
    asked = [(m, m.ratio("fvu").value(readings.members(TEST))) for m in measurements]
    asked = [(m, here) for m, here in asked if here > 1 or checks.is_foreign(m.dictionary)]
    if not asked or "," in readings.site or "," in readings.target:
        return []
    look = Look(readings)
    return [said for m, here in asked if (said := _alarm(m, here, look))]


class Look:
    """The same few rows at any site: `rounds` names the candidates, nearest first, `rows` reads them."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        upto = int(np.searchsorted(np.cumsum(readings.lengths[readings.chosen]), TOKENS)) + 1
        self.documents = readings.chosen[:upto]
        self._held: dict[str, Tensor] = {}

    def rounds(self, like: str) -> Iterator[list[str]]:
        readings = self.readings
        if isinstance(readings, Stored):
            yield [
                s for s in readings.store.sites if s != like and readings.store.width(s) == readings.store.width(like)
            ]
        elif isinstance(readings, Live):
            model = readings.model
            width = model.width(like)
            by_layer: dict[int, list[str]] = {}
            for site in model.sites():
                with suppress(AssayError):  # a site that no pass of this model crosses
                    if site != like and model.width(site) == width:
                        by_layer.setdefault(_layer(site), []).append(site)
            near = [n for n in by_layer if abs(n - _layer(like)) <= 1]
            yield [site for n in near for site in by_layer[n]]
            far = sorted((n for n in by_layer if n not in near), key=lambda n: abs(n - _layer(like)))
            for start in range(0, len(far), AT_ONCE):
                yield [site for n in far[start : start + AT_ONCE] for site in by_layer[n]]

    def rows(self, sites: Sequence[str]) -> dict[str, Tensor]:
        """{site: float32 [n, width]}; those of the measured sites are kept, the others read anew."""
        readings, wanted = self.readings, [s for s in dict.fromkeys(sites) if s not in self._held]
        found: dict[str, Tensor] = {}
        if wanted and isinstance(readings, Live):
            from assay.models import read

            reading = next(readings.sequences(self.documents))
            assert reading.ids is not None
            with torch.no_grad():
                h = read(readings.model, reading.ids, reading.mask, wanted)
            found = {site: h[site][reading.keep].float()[:TOKENS] for site in wanted}
        elif isinstance(readings, Stored):
            for site in wanted:
                one = Stored(readings.store, site, readings.rule, batch_tokens=readings.batch_tokens)
                found[site] = next(one.batches(self.documents)).x[:TOKENS]
        self._held |= {site: x for site, x in found.items() if site in (readings.site, readings.target)}
        return {site: found[site] if site in found else self._held[site] for site in sites}


def _layer(site: str) -> int:
    numbers = re.findall(r"\.(\d+)(?=[.:]|$)", site)
    return int(numbers[0]) if numbers else 0


def _fvu(dictionary: Any, x: Tensor, y: Tensor) -> float:
    x = x.to(coding.device_of(dictionary, x.device))
    x_hat = coding.reconstruct(dictionary, x, coding.encode(dictionary, x))
    return float(fvu(y.to(x_hat.device), x_hat.to(y.dtype)))


def _alarm(m: Measurement, here: float, look: Look) -> str | None:
    site, target = look.readings.site, look.readings.target
    held = look.rows([site, target])
    at_hand = _fvu(m.dictionary, held[site], held[target])
    n_tried = 0
    for which in ("site",) if site == target else ("site", "target"):
        for candidates in look.rounds(site if which == "site" else target):
            best: tuple[float, str] = (float("inf"), "")
            for name, rows in look.rows(candidates).items():
                x, y = (
                    (rows, rows) if site == target else (rows, held[target]) if which == "site" else (held[site], rows)
                )
                best = min(best, (_fvu(m.dictionary, x, y), name))
            n_tried += len(candidates)
            if best[0] < min(1.0, BETTER * at_hand):
                return _elsewhere(m, here, which, best, look)
            if here <= 1:
                break  # it is not lost, so only its neighbourhood is asked
    if not here > 1 or not n_tried:
        return None
    return (
        f"A dictionary of arm {m.entry.arm} fits none of the {n_tried} other sites of that width either: it may belong to another "
        "model, or to activations of another scale."
    )


def _elsewhere(m: Measurement, here: float, which: str, best: tuple[float, str], look: Look) -> str:
    """These activations are read at one site, and the dictionary belongs to another."""
    readings = look.readings
    measured = readings.site if which == "site" else readings.target
    known = str(checks.provenance(m.dictionary).get(which) or "")
    says = checks.canonical_or_same(partial(named, readings.model), known) if isinstance(readings, Live) else known
    verb = "reads" if which == "site" else "predicts"
    where = f"says that it {verb} {measured}" if says == measured else f"was measured where it {verb} {measured}"
    flag = "--site" if which == "site" else "--target"
    again = (
        f"measure it there with {flag} {best[1]}"
        if isinstance(readings, Live) or which == "site"
        else "name its true target"
    )
    return (
        f"A dictionary of arm {m.entry.arm} {where}, with FVU {here:.3g}, but it reads like one of {best[1]}: on {TOKENS} tokens or "
        f"fewer its FVU there is {best[0]:.3g}. Its metadata names the wrong site, or these activations are another site's; {again}."
    )
