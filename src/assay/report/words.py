"""What each metric is called, how its numbers are written, and what the words of a verdict mean: one sentence each."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How one metric appears. `style`: digits after the point, or "count" (three significant figures), or "percent"."""

    name: str
    label: str
    meaning: str
    style: int | str = 3
    unit: str = ""


_METRICS = (
    Metric("l0", "L0", "Mean number of latents that are not zero, per token; fewer is sparser.", "count"),
    Metric(
        "l0_train",
        "L0 in training mode",
        "L0 as the dictionary behaves while training; it differs from L0 where a threshold "
        "replaces a rule over the batch.",
        "count",
    ),
    Metric(
        "fvu",
        "FVU",
        "Fraction of variance unexplained: summed squared error over summed squared distance from the mean of the "
        "evaluation set, divided once. 0 is perfect; 1 is what predicting the mean gives.",
        4,
    ),
    Metric(
        "loss_recovered_zero",
        "loss recovered (zero ablation)",
        "1 − (CE spliced − CE clean) / (CE ablated − CE clean), where ablated "
        "means that the site is set to zero. It looks high wherever zeros break the model, so read the delta loss "
        "beside it.",
        4,
    ),
    Metric(
        "loss_recovered_mean",
        "loss recovered (mean ablation)",
        "The same, where ablated means that the site is set to its mean; a harder floor than zero.",
        4,
    ),
    Metric(
        "delta_loss",
        "delta loss",
        "How much the model's loss grows, in nats per token, when the reconstruction takes the place "
        "of the activations.",
        4,
        "nats",
    ),
    Metric(
        "gamma",
        "γ",
        "Relative reconstruction bias, E‖x̂‖² / E[x̂·x], pooled over all tokens: below 1 the reconstruction is too "
        "short (shrinkage), 1 is unbiased.",
        3,
    ),
    Metric(
        "gamma_latent",
        "γ latent by latent",
        "Σ f²‖d‖² / Σ f d·(x − x̂ + f d), summed over latents and the tokens where each fires: below 1 a latent writes less "
        "than what the others leave for it.",
        3,
    ),
    Metric(
        "gamma_first_version",
        "γ, first version (wrong)",
        "√(E‖x̂‖² / (E‖x‖² − E‖x − x̂‖²)), the formula of the Gated paper's first version; it is wrong, and stands here so that "
        "numbers made with it can be recognised.",
        3,
    ),
    Metric("cosine", "cosine", "Mean cosine between an activation and its reconstruction.", 4),
    Metric("norm_ratio", "norm ratio", "Norm of the reconstruction over the norm of the activation.", 3),
    Metric("dead", "dead", "Share of latents that never fired on the evaluation tokens.", "percent"),
    Metric(
        "dense_1", "dense > 1 %", "Share of latents that fired on more than 1 % of the evaluation tokens.", "percent"
    ),
    Metric(
        "dense_10", "dense > 10 %", "Share of latents that fired on more than 10 % of the evaluation tokens.", "percent"
    ),
    Metric(
        "mcc", "MCC", "Mean |cosine| of learned directions with planted ones after one-to-one (Hungarian) matching.", 3
    ),
    Metric(
        "matched", "matched above 0.9", "Share of planted directions whose match has |cosine| above 0.9.", "percent"
    ),
    Metric(
        "uniqueness",
        "uniqueness",
        "Share of learned directions whose nearest planted direction is nobody else's.",
        "percent",
    ),
    Metric("f1", "F1", "F1 of when a matched latent fires against when its planted direction was present.", 3),
)
METRICS = {metric.name: metric for metric in _METRICS}

ALIASES = {
    "loss_recovered": "loss_recovered_zero",
    "dead_frac": "dead",
    "dead_share": "dead",
    "dense_01": "dense_1",
    "dense_1pct": "dense_1",
    "dense_frac_1": "dense_1",
    "dense_share_1": "dense_1",
    "dense_10pct": "dense_10",
    "dense_frac_10": "dense_10",
    "dense_share_10": "dense_10",
    "relative_reconstruction_bias": "gamma",
    "delta_loss_nats": "delta_loss",
}

WORDS = {
    "beats": "Better than the baseline: the Holm-corrected p is below .05 and the interval of the paired gain "
    "lies above 0.",
    "loses": "Worse than the baseline: the Holm-corrected p is below .05 and the interval of the paired gain "
    "lies below 0.",
    "ties": "The whole interval of the paired gain lies within the margin that was fixed beforehand; the "
    "difference does not matter.",
    "no signal": "Neither: these data cannot tell the two apart, or neither of them beats its floor.",
}
IDEAS = {
    "gain": "Arm minus baseline on the same units, signed so that above 0 the arm is better; for γ, how much "
    "nearer to 1 it is.",
    "strongest baseline": "Chosen on the validation half; the verdict is then read off the test half, which played "
    "no part in the choice.",
    "matched point": "The baseline is read at the arm's own L0, interpolated in log L0 between its two neighbours "
    "and never extrapolated.",
    "interval": "95 %, from resampling whole documents (and, for an architecture, seeds too); tokens of one "
    "document are never treated as independent.",
    "these dictionaries": "Only documents were resampled: the words hold for these trained weights and may not "
    "hold for the next seed.",
    "architectures": "Seeds and documents were both resampled, three seeds or more: the words hold for the recipe "
    "and not only for one run of it.",
    "controls": "What no learning is needed for: raw coordinates, PCA and a frozen random decoder, at the same "
    "sparsities.",
    "p (Holm)": "p of the paired comparison, corrected for every verdict of the same study and metric.",
}


def metric(name: str) -> Metric:
    """The entry of a metric; an unknown one keeps its own name and gets no definition."""
    if name in METRICS:
        return METRICS[name]
    known = METRICS.get(ALIASES.get(name, ""))
    if known is not None:
        return Metric(name, known.label, known.meaning, known.style, known.unit)
    return Metric(name, name.replace("_", " "), "", 4)


def family(name: str) -> str:
    """The name under which pictures and tables look for a metric: aliases lead to the same one."""
    return ALIASES.get(name, name)


def number(value: float | None, style: int | str = 4) -> str:
    """A number as a reader sees it; a true minus sign, and a dash for what is absent.

    >>> number(0.05123), number(-0.5, 2), number(0.123, "percent"), number(12.345, "count"), number(None)
    ('0.0512', '−0.50', '12.3 %', '12.3', '—')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    if style == "percent":
        written = f"{100 * value:.1f}"
        return _minus(written) + " %"
    if style == "count":
        return _minus(f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}" if value else "0")
    return _minus(f"{value:,.{style}f}")


def signed(value: float | None, style: int | str = 4) -> str:
    """As `number`, with a plus sign where it is positive."""
    written = number(value, style)
    return f"+{written}" if value is not None and value > 0 and not math.isnan(value) else written


def quantity(value: float | None, unit: str = "") -> str:
    """A count or an amount with a short suffix: 1.2k, 3.4M, 56."""
    if value is None or math.isnan(value):
        return "—"
    size = abs(value)
    for limit, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}{unit}"
    whole = float(value).is_integer()
    return (f"{value:,.0f}" if whole else f"{value:.3g}") + unit


def duration(seconds: float | None) -> str:
    """A length of time for a reader: 0.4 ms, 12 s, 3.4 min, 2.1 h."""
    if seconds is None or math.isnan(seconds):
        return "—"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}" if seconds else "0 s"
    return f"{seconds / 3600:.3g} h"


def p_value(p: float | None) -> str:
    """Three digits, or an upper bound where the resamples cannot say more."""
    if p is None or math.isnan(p):
        return "—"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def _minus(written: str) -> str:
    return "−" + written[1:] if written.startswith("-") and written.strip("-0.,") else written.lstrip("-")
