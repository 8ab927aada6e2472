"""adaptation: a dictionary trained on one text and adapted to another, against one made from scratch there, at equal tokens.

Text A comes first, text B is the new one. Every arm is measured on the held-out documents of both.

    unadapted            trained on --start-tokens rows of A                                        a baseline on B
    scratch              trained on --n-tokens rows of B                                            a baseline on B
    adapted              begins as unadapted (`--init`), then --n-tokens rows of B
    adapted-resampled    the same, and latents silent on B are revived at the start (`--init-resample`)
    scratch-long         trained on --start-tokens + --n-tokens rows of B: what the same total would have given, where B is plenty

The claim has two parts, one for either adapted arm, judged by its verdicts on FVU and loss recovered on B against the stronger of scratch
and unadapted. A verdict speaks for the arm where it beats that baseline, or ties with scratch; against it where it loses, or ties with
unadapted. A part holds when more than half of the verdicts speak for the arm and none against; it is refuted when half or more
speak against. What was forgotten is the loss on A against unadapted: it is shown and belongs to no claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from assay.core.config import config, require
from assay.core.errors import BadOption
from assay.core.outcome import Results, Verdict
from assay.evaluation import Entry, checks, tables
from assay.studies.bench import RESULTS, Bench
from assay.studies.finding import Claim, Finding, Panel, Part, Table, claim_of, curve, pooled, seeds_of
from assay.studies.options import SHIPPED, Sparsities
from assay.studies.options import Options as Base
from assay.studies.recipes import CONTROLS, Made, Recipe, autoencoders, chosen, knob_of, plans, role_of, values_of

QUESTION = "Is it better to adapt a dictionary to new text, to make one from scratch there, or to leave it as it is?"
CLAIM = (
    "A dictionary adapted to new data is better there than an unadapted one and no worse than one trained on that data from scratch, "
    "whether or not silent latents are resampled."
)
SOURCE = (
    "Google DeepMind, Negative results for SAEs on downstream tasks, 2025: adapted to chat data; judged there by probes, here by "
    "reconstruction and the model's loss"
)
FIRST, OTHER = f"{SHIPPED}:tense=past", f"{SHIPPED}:tense=present,future"
UNADAPTED, SCRATCH, ADAPTED, RESAMPLED, LONG = "unadapted", "scratch", "adapted", "adapted-resampled", "scratch-long"
FIDELITY = ("fvu", "loss_recovered_zero")
BEFORE = "before"  # the folder of what happens on text A


@config
class Options(Sparsities):
    """Options of the study. `--text` is A, `--other-text` B."""

    archs: tuple[str, ...] = ("topk",)
    """The one architecture of all arms."""
    other_text: str | None = None
    """Text B, to adapt to; for storyworld, stories in the present and the future, where text A is in the past."""
    start_tokens: int = 200_000
    """Rows of text A that dictionaries are trained on before they are adapted."""
    n_tokens: int = 50_000
    """Rows of text B, the same for adapted dictionaries and those from scratch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.archs) == 1, "archs", self.archs, "one architecture")
        least = f"at least one batch (--batch-size {self.batch_size})"
        require(self.start_tokens >= self.batch_size, "start_tokens", self.start_tokens, least)
        require(
            self.heldout is None,
            "heldout",
            self.heldout,
            "left out: each text is measured on its own held-out documents",
        )
        both = self.text is None or self.other_text is None or self.text != self.other_text
        require(both, "other_text", self.other_text, "another than --text")

    @property
    def first_text(self) -> str:
        """A. Raises `BadOption` where a model of the user's own comes without it."""
        return self._text(self.text, "--text", FIRST)

    @property
    def chosen_text(self) -> str:
        """B: what is trained on and measured here."""
        return self._text(self.other_text, "--other-text", OTHER)

    def _text(self, given: str | None, flag: str, shipped: str) -> str:
        if given is None and (self.model != SHIPPED or self.text or self.other_text):
            raise BadOption(
                f"This study needs two texts of different kind, and {flag} is missing; give --text and --other-text."
            )
        return given or shipped


def run(bench: Bench, options: Options) -> Finding:
    (arch,) = chosen(options, autoencoders())
    first = options.first_text
    bench.documents(first)  # a text that is not there is refused before anything is written
    opened = bench.opened
    before = Bench(bench.name, of_first(options, first), bench.out / BEFORE, bench.quiet)
    before.model = opened.model

    values = values_of(arch, options)
    knob = knob_of(arch)
    assert knob is not None
    wide = values | {knob: widened(values[knob])}
    controls = [Recipe(name, role_of(name), name, values_of(name, options)) for name in CONTROLS]
    old = before.train(plans([Recipe(UNADAPTED, "baseline", arch, wide), *controls], before.width, before.options))
    unadapted = [entry for entry in old if entry.arm == UNADAPTED]

    fresh = [Recipe(SCRATCH, "baseline", arch, wide), *controls]
    made = plans(fresh, bench.width, options)
    starts = [entry for entry in unadapted if getattr(entry.dictionary.config, knob) in values[knob]]
    for arm in (ADAPTED, RESAMPLED):
        made += [adapting(arm, entry, made[0]) for entry in starts]
    trained = [including(entry, starts) for entry in bench.train(made)]
    total = options.start_tokens + options.n_tokens
    longer = plans([Recipe(LONG, "method", arch, values)], bench.width, options, n_tokens=total)
    trained += bench.train(longer, where="dictionaries-long")

    on_b = bench.measure([*trained, *unadapted])
    learned = [replace(e, role="method") for e in trained if e.role != "control"]
    on_a = before.measure([*old, *learned])
    return Finding(on_b, [RESULTS], claim_about(on_b), panels(on_b, on_a), [table(on_b, on_a)])


def of_first(options: Options, text: str) -> Base:
    """The options of text A: trained on `start_tokens` rows of it."""
    given: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(Base)}
    given["text"], given["n_tokens"] = text, options.start_tokens
    return Base(**given)


def widened(values: Sequence[Any]) -> list[Any]:
    """Half of the smallest and twice the largest beside them, so that baselines span the adapted dictionaries."""
    low, high = min(values), max(values)
    return sorted({max(1, low // 2) if isinstance(low, int) else low / 2, *values, 2 * high})


def adapting(arm: str, start: Entry, like: Made) -> Made:
    """The plan of a dictionary that begins as `start` and goes on with text B."""
    path = Path(start.dictionary.path)
    train = replace(like.plan.options, seed=start.seed, init_resample=arm == RESAMPLED)
    plan = replace(
        like.plan, name=path.name.replace(UNADAPTED, arm), config=start.dictionary.config, options=train, init_from=path
    )
    return Made(plan, arm, "method", start.seed)


def including(entry: Entry, starts: Sequence[Entry]) -> Entry:
    """An adapted dictionary's cost includes the one that it began as."""
    if entry.arm not in (ADAPTED, RESAMPLED):
        return entry
    name = Path(entry.dictionary.path).name.replace(entry.arm, UNADAPTED)
    start = next(s for s in starts if Path(s.dictionary.path).name == name)
    below = tables.recorded_cost(start, checks.subject_of(start)).id
    cost = tables.recorded_cost(entry, checks.subject_of(entry))
    return replace(entry, cost=replace(cost, includes=(*cost.includes, below)))


def claim_about(results: Results) -> Claim:
    """Two parts, from the verdicts on text B."""
    found = {arm: _about(results, arm, (SCRATCH, UNADAPTED)) for arm in (ADAPTED, RESAMPLED)}
    plain, revived = (worth(verdicts, arm) for arm, verdicts in found.items())
    parts = [plain, Part(revived.said + _idle(results), revived.holds)]
    return claim_of(parts, seeds_of([v for verdicts in found.values() for v in verdicts]))


def worth(verdicts: Sequence[Verdict], arm: str) -> Part:
    """Better than unadapted and no worse than scratch, whichever is the stronger."""
    if not verdicts:
        return Part(f"{arm}: no verdict", None)
    good = [v.word == "beats" or (v.word == "ties" and v.baseline == SCRATCH) for v in verdicts]
    bad = [v.word == "loses" or (v.word == "ties" and v.baseline == UNADAPTED) for v in verdicts]
    said = f"{arm}: {', '.join(counted(verdicts))} of {len(verdicts)} verdicts"
    if not any(bad) and 2 * sum(good) > len(good):
        return Part(said, True)
    return Part(said, False if 2 * sum(bad) >= len(bad) else None)


def counted(verdicts: Sequence[Verdict]) -> list[str]:
    """Such as "beats scratch 3", in a fixed order."""
    kinds = [(word, base) for base in (SCRATCH, UNADAPTED) for word in ("beats", "ties", "loses", "no signal")]
    numbers = {kind: sum((v.word, v.baseline) == kind for v in verdicts) for kind in kinds}
    join = {"ties": "ties with", "loses": "loses to", "no signal": "no signal against"}
    return [f"{join.get(word, word)} {base} {n}" for (word, base), n in numbers.items() if n]


def _idle(results: Results) -> str:
    """In how many dictionaries resampling had nothing to do; empty for none."""
    plain, revived = (
        {o.subject for o in results.outcomes if o.arm == arm and o.seed is not None} for arm in (ADAPTED, RESAMPLED)
    )
    n = len(plain & revived)
    return f" ({n} of its {len(revived)} dictionaries are the adapted ones, since no latent was silent)" if n else ""


def _about(results: Results, arm: str, baselines: Sequence[str]) -> list[Verdict]:
    return [v for v in results.verdicts if v.arm == arm and v.baseline in baselines and v.metric in FIDELITY]


def panels(on_b: Results, on_a: Results) -> list[Panel]:
    """FVU against L0 on either text."""

    def one(name: str, results: Results, title: str, said: str) -> Panel:
        lines = [curve(pooled(results, "fvu"), arm) for arm in (UNADAPTED, SCRATCH, ADAPTED, RESAMPLED, LONG)]
        return Panel(name, title, "lines", "L0, active latents a token (log scale)", "FVU", lines, said, x_log=True)

    return [
        one("new", on_b, "On the new text", "Held-out documents of text B. Lower is better."),
        one("old", on_a, "On the old text", "Held-out documents of text A: above unadapted, something was forgotten."),
    ]


def table(on_b: Results, on_a: Results) -> Table:
    """Verdicts on B against the stronger baseline, and on A against unadapted, which is what was forgotten."""
    rows: list[list[str]] = []
    for where, results, arms, baselines in (
        ("B", on_b, (ADAPTED, RESAMPLED, LONG), (SCRATCH, UNADAPTED)),
        ("A", on_a, (ADAPTED, RESAMPLED, SCRATCH, LONG), (UNADAPTED,)),
    ):
        for arm in arms:
            for metric in FIDELITY:
                about = [v for v in _about(results, arm, baselines) if v.metric == metric]
                spread = f"{min(v.gain for v in about):+.4f} to {max(v.gain for v in about):+.4f}" if about else ""
                rows.append([where, arm, metric, ", ".join(counted(about)) or "no verdict", spread])
    return Table(
        "On the new text B against the stronger baseline, on the old text A against unadapted",
        ["text", "arm", "metric", "verdicts", "gain"], rows,
    )  # fmt: skip
