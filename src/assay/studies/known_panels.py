"""Pictures and tables of splitting and absorption: by L0, by width, and what was published of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t

from assay.core.outcome import Results
from assay.core.resampling import FEWEST_UNITS
from assay.studies.finding import Claim, Panel, Part, Series, Table, claim_of, curve, pooled, seeds_of, won
from assay.studies.known_probes import Known

L0 = "L0, active latents a token (log scale)"
MATRYOSHKA = "matryoshka"


def known_panels(results: Results, known: Known, archs: Sequence[str], chance: str) -> list[Panel]:
    """Nothing where no feature could be read."""
    if not known.features:
        return []
    arms = [*archs, chance]
    value, lo, hi = known.probe_f1

    def lines(metric: str, title: str, y: str, said: str, line: float | None = None) -> Panel:
        return Panel(
            metric,
            title,
            "lines",
            L0,
            y,
            [curve(pooled(results, metric), arm) for arm in arms],
            said,
            x_log=True,
            line=line,
        )

    return [
        lines("split", "Latents that a known feature is split into", "latents a feature", "Mean over features. Fewer is better."),
        lines("absorbed", "Absorption of known features", "share of the feature's tokens",
              "Tokens at which the feature's latents are silent and another took over, confirmed by intervening. Fewer is better."),
        by_width(results, "split", "Splitting by width", arms),
        by_width(results, "absorbed", "Absorption by width", arms),
        lines("one-latent", "Known features read from one latent", "F1",
              f"Line: a logistic probe on the activations, {value:.3f} [{lo:.3f}, {hi:.3f}] over documents.", line=value),
    ]  # fmt: skip


def by_width(results: Results, metric: str, title: str, arms: Sequence[str]) -> Panel:
    """One point a configuration, means over seeds: narrow against wide."""
    values = {
        wide: {(o.arm, o.point): o.value for o in pooled(results, metric + wide) if o.value is not None}
        for wide in ("", "-wide")
    }
    clouds: list[Series] = []
    for arm in arms:
        at = [key for key in values[""] if key[0] == arm and key in values["-wide"]]
        clouds.append(Series(arm, [values[""][key] for key in at], [values["-wide"][key] for key in at]))
    return Panel(
        f"{metric}-width", title, "points", f"{metric}, narrow", f"{metric}, wide", clouds, "One point a sparsity."
    )


def known_tables(
    results: Results, known: Known, differences: Mapping[str, Sequence[Sequence[float]]], chance: str
) -> list[Table]:
    if not known.features:
        return [
            Table("Known features", ["note"], [["No known feature held often enough to be read from the activations."]])
        ]
    by_feature = [[name, f"{f1:.3f}"] for name, f1 in known.features.items()]
    return [
        other_claims(results, {arm: d for arm, d in differences.items() if arm != chance}),
        interventions(known),
        Table("Known features, and F1 of a logistic probe on the activations", ["feature", "F1"], by_feature),
    ]


def other_claims(results: Results, differences: Mapping[str, Sequence[Sequence[float]]]) -> Table:
    mine = [v for v in results.verdicts if v.arm == MATRYOSHKA and v.metric == "absorbed"]
    judged = {
        "Matryoshka dictionaries absorb less (arXiv 2503.17547)": claim_of(
            [won(mine, f"{MATRYOSHKA} against the stronger baseline on absorbed")], seeds_of(mine)
        ),
        "Wider dictionaries absorb more (arXiv 2409.14507)": wider_absorb_more(differences),
    }
    rows = [[said, claim.word, "; ".join(claim.reasons)] for said, claim in judged.items()]
    return Table("Other published claims", ["claim", "here", "numbers"], rows)


def wider_absorb_more(differences: Mapping[str, Sequence[Sequence[float]]]) -> Claim:
    """Wide less narrow, mean over an arm's sparsities, t interval over seeds; five seeds or more. differences: arm -> [sparsity][seed].

    Holds where the interval lies above 0 for more than half of the arms and below 0 for none; refuted where at half of them or more it
    lies below 0.
    """
    said: list[str] = []
    signs: list[int] = []
    seeds = 0
    for arm, by_point in differences.items():
        values = np.array(by_point, dtype=float).mean(0)
        seeds = len(values)
        if seeds < FEWEST_UNITS:
            return claim_of([Part(f"{seeds} seeds; an interval needs {FEWEST_UNITS} or more", None)], seeds)
        half = float(t.ppf(0.975, seeds - 1) * values.std(ddof=1) / np.sqrt(seeds))
        lo, hi = values.mean() - half, values.mean() + half
        said.append(f"{arm} {values.mean():+.4f} [{lo:+.4f}, {hi:+.4f}]")
        signs.append(1 if lo > 0 else -1 if hi < 0 else 0)
    if not signs:
        return claim_of([], 0)
    holds = True if -1 not in signs and 2 * signs.count(1) > len(signs) else None
    refuted = 2 * signs.count(-1) >= len(signs)
    return claim_of([Part("wide less narrow: " + ", ".join(said), False if refuted else holds)], seeds)


def interventions(known: Known) -> Table:
    """By arm and width: absorbed tokens before the test, how many were tested, and by how much the later probe fell."""
    groups: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for name, measured in known.dictionaries.items():
        folder, _, dictionary = name.partition("/")
        width = "wide" if folder.endswith("-wide") else "narrow"
        groups.setdefault((dictionary.partition("_")[0], width), []).append(measured)
    rows: list[list[str]] = []
    for (arm, width), found in groups.items():
        tested = sum(m["tested"] for m in found)
        falls = [
            sum(m[key] * m["tested"] for m in found) / tested if tested else None for key in ("fall", "fall_control")
        ]
        rows.append(
            [
                arm, width, f"{np.mean([m['candidates'] for m in found]):.4f}", f"{tested:g}",
                f"{sum(m['confirmed'] for m in found) / tested:.2f}" if tested else "",
                *("" if fall is None else f"{fall:.2f}" for fall in falls),
            ]
        )  # fmt: skip
    where = f"the probe at {known.later}" if known.later else "nothing: no site comes later, so nothing was tested"
    head = ["arm", "width", "candidates", "tested", "confirmed", "fall", "fall, control"]
    return Table(f"Absorbed tokens under intervention on {where}; falls in units of its logit", head, rows)
