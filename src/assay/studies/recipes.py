"""From architectures to dictionaries: which of its options sets an architecture's sparsity, and which role it plays.

An architecture is known by the options of its own file, never by its name, so that a new file takes part at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from assay import dictionaries
from assay.core.arms import Role
from assay.core.errors import BadOption, nearest
from assay.dictionaries import DENSE, GRADIENT
from assay.studies.options import Options, Sparsities
from assay.training import Plan, TrainConfig

CONTROLS = ("pca", "raw", "random")  # that stand beside dictionaries everywhere
BASELINE = "relu"
KNOBS = ("target_l0", "k", "l1_coef", "lp_coef", "l0_coef")
"""Options that set the sparsity; the first that an architecture has is the one that is turned."""
LOG_LINES = 20  # of a run; the last of them say whether it had settled


@dataclass(frozen=True)
class Recipe:
    """One arm: an architecture with options; lists multiply. `width`: of d_sae."""

    arm: str
    role: Role
    arch: str
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    width: float = 1.0


@dataclass(frozen=True)
class Made:
    """A dictionary to be trained, with its place in the study."""

    plan: Plan
    arm: str
    role: Role
    seed: int  # SEEDLESS for what no seed changes


def knob_of(arch: str) -> str | None:
    """The option that sets the sparsity of an autoencoder of one site that widths and this alone describe; else None."""
    own = {f.name: f for f in fields(dictionaries.config_class(arch))}
    if own["wiring"].default != "sae":
        return None  # it predicts another site, or several
    needed = {name for name, f in own.items() if _is_needed(f) and name not in ("d_in", "d_sae")}
    if len(needed) == 1:
        return next((knob for knob in KNOBS if knob in needed), None)
    return None if needed else next((knob for knob in KNOBS if knob in own), None)


def _is_needed(option: Field[Any]) -> bool:
    return option.default is MISSING and option.default_factory is MISSING


def is_control(arch: str) -> bool:
    return dictionaries.class_of(arch).role == "control"


def is_slow(arch: str) -> bool:
    """Whether it trains by autograd over all pairs of tokens and latents."""
    knob = knob_of(arch)
    assert knob is not None
    config = dictionaries.config_class(arch)(d_in=2, d_sae=2, **{knob: 1})
    return dictionaries.class_of(arch)(config).step == DENSE


def autoencoders(learned_by: str = GRADIENT, *, controls: bool = False, slow: bool = True) -> list[str]:
    """Architectures that encode one site by itself and whose sparsity can be set, by name."""
    return [
        arch
        for arch in dictionaries.names()
        if dictionaries.class_of(arch).learned_by == learned_by
        and knob_of(arch) is not None
        and is_control(arch) == controls
        and (slow or not is_slow(arch))
    ]


def role_of(arch: str) -> Role:
    """As the architecture says."""
    return dictionaries.class_of(arch).role


def values_of(arch: str, options: Sparsities) -> dict[str, Any]:
    """The architecture's own option with the values it takes here, and --init-l0 where it starts from one."""
    knob = knob_of(arch)
    if knob is None:
        raise BadOption(
            f"{arch} has none of the options {', '.join(KNOBS)} (or needs others), so this study cannot set its sparsity; "
            "leave it out of --archs."
        )
    values = sorted(set(getattr(options, knob)))
    if arch == BASELINE:
        values = [values[0] / 2, *values]  # at equal penalty the baseline is the sparser one; it must span the others
    starts = any(f.name == "init_l0" for f in fields(dictionaries.config_class(arch)))
    return {knob: list(values), **({"init_l0": options.init_l0} if starts else {})}


def chosen(options: Sparsities, default: Sequence[str]) -> list[str]:
    """The architectures of --archs, or the default; an unknown name raises `NotFound`."""
    for arch in options.archs:
        dictionaries.class_of(arch)
        if is_control(arch):
            raise BadOption(f"--archs names {arch}, which is a control and takes part in any case; leave it out.")
        if dictionaries.class_of(arch).learned_by != GRADIENT or knob_of(arch) is None:
            raise BadOption(f"--archs names {arch}, which this study cannot train.{nearest(arch, default)}")
    return list(dict.fromkeys(options.archs or default))


def standard(options: Sparsities, archs: Sequence[str]) -> list[Recipe]:
    """The baseline, the architectures and the three controls, each at all its sparsities."""
    learned = [BASELINE, *(arch for arch in archs if arch not in (BASELINE, *CONTROLS))]
    return [
        *(Recipe(arch, role_of(arch), arch, values_of(arch, options)) for arch in learned),
        *(Recipe(arch, "control", arch, values_of(arch, options)) for arch in CONTROLS),
    ]


def plans(
    recipes: Sequence[Recipe],
    d_in: int,
    options: Options,
    *,
    seeds: Sequence[int] | None = None,
    n_tokens: int | None = None,
) -> list[Made]:
    """Every recipe at every value and seed; what is fitted is made once, and no k exceeds what there is."""
    from assay.core.arms import SEEDLESS

    chosen_seeds = list(range(options.seed, options.seed + options.seeds)) if seeds is None else list(seeds)
    made: list[Made] = []
    for recipe in recipes:
        cls = dictionaries.class_of(recipe.arch)
        config = dictionaries.config_class(recipe.arch)
        d_sae = round(recipe.width * (options.d_sae or 4 * d_in))
        seeded = not cls.seedless
        own_width = any(f.name == "d_sae" and _is_needed(f) for f in fields(config))
        limit = d_sae if own_width else d_in
        lists = {n: v if isinstance(v, list) else [v] for n, v in recipe.options.items()}
        lists = {n: [v for v in values if n != "k" or v is None or v <= limit] for n, values in lists.items()}
        for values in itertools.product(*lists.values()):
            given: dict[str, Any] = dict(zip(lists, values, strict=True))
            size = {"d_sae": d_sae} if own_width else {}
            varied = [f"{n.replace('_', '-')}-{v}" for n, v in given.items() if len(lists[n]) > 1 or n in KNOBS]
            label = "_".join([recipe.arm, *varied])
            for seed in chosen_seeds if seeded else chosen_seeds[:1]:
                plan = Plan(
                    f"{label}_seed-{seed}" if seeded else label,
                    config(d_in=d_in, **size, **given),
                    train_config(options, seed, n_tokens),
                )
                made.append(Made(plan, recipe.arm, recipe.role, seed if seeded else SEEDLESS))
    return made


def train_config(options: Options, seed: int, n_tokens: int | None = None) -> TrainConfig:
    tokens = n_tokens or options.n_tokens
    return TrainConfig(
        n_tokens=tokens,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=seed,
        order_seed=options.seed,
        device=options.device,
        log_every=max(1, tokens // options.batch_size // LOG_LINES),
    )
