"""assay sweep: many dictionaries over one reading of the activations, with the controls beside them."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from assay.cli.parsing import Common, parse, result_folder, subset, whole
from assay.cli.several import together
from assay.cli.train import Source
from assay.core.errors import BadInput, BadOption, NotFound, nearest

ABOUT = """Train many dictionaries over one reading of the activations: every batch is read once and given to all of them.

  assay sweep --activations acts --d-sae 512 --seeds 3 --out runs/pareto \\
      --try "gated l1-coef=0.3,0.6,1.2" --try "relu l1-coef=0.6,1.2,2.4" --try "topk k=4,8,16"
  assay evaluate runs/pareto

A --try names an architecture and values; lists multiply, and 8+16+32 is one value of three parts. Values may also be options of the run (lr=1e-3,3e-3). The controls (PCA,
raw coordinates, random directions) are made on the grid of k unless --no-controls. Each dictionary goes to OUT/NAME/.
"""


@dataclasses.dataclass(kw_only=True)
class Flags(Common, Source):
    tries: tuple[str, ...] = ()
    """Not given by hand: collected from --try."""
    plan: Path | None = None
    """A JSON list instead of --try: [{"arch": "gated", "l1_coef": [0.3, 0.6]}, ...]."""
    d_sae: int | None = None
    """Latents of every dictionary that does not say its own."""
    seeds: int = 1
    """How many seeds of each; they share the order of the rows and differ in everything else."""
    controls: bool = True
    """Make the controls pca, raw and random too."""
    controls_k: tuple[int, ...] = ()
    """The grid of k for the controls; the k of the topk tries, or 2, 4, 8, 16, 32, when not given."""


def main(argv: list[str]) -> int:
    tries, argv = take_tries(argv)
    from assay.training import TrainConfig

    flags = parse("sweep", ABOUT, argv, Flags, TrainConfig, leave_out=("tries", "order_seed"))
    return together(flags, partial(run, tries=tries))


def run(flags: Any, tries: list[str]) -> int:
    from assay import training
    from assay.cli.opening import set_threads, training_stream, widths_of
    from assay.training import TrainConfig

    set_threads(flags.threads)
    wanted = [parse_try(text) for text in tries] + (read_plan(flags.plan) if flags.plan else [])
    if not wanted:
        raise BadOption('Nothing to try; give --try "topk k=4,8,16" (once or more), or --plan FILE.json.')
    if flags.seeds < 1:
        raise BadOption(f"--seeds is {flags.seeds}; it must be at least 1.")
    options = TrainConfig(**subset(flags, TrainConfig), order_seed=flags.seed)
    check_tries(wanted)
    out = result_folder(flags.out, "sweep")
    stream, site, facts = training_stream(flags, options, out)
    width = widths_of({}, stream, site, flags.target)["d_in"]
    grid = flags.controls_k or control_grid(wanted, width)
    if flags.controls:  # pca and raw speak of what is read, so they cannot stand beside what predicts another site
        controls = ("pca", "raw", "random") if flags.target is None else ("random",)
        wanted += [{"arch": arch, "k": list(grid)} for arch in controls if arch not in {w["arch"] for w in wanted}]
    plans = make_plans(
        wanted, width, flags.d_sae, options, flags.seeds, lambda own: widths_of(own, stream, site, flags.target)
    )
    made = training.sweep(
        plans, stream, out, site=site, target=flags.target, resume=flags.resume, facts=facts, quiet=flags.quiet,
    )  # fmt: skip
    longest = max(len(plan.name) for plan in plans)
    rows = [row_of(plan.name, out / plan.name, longest) for plan in plans]
    if flags.json:
        print(json.dumps({"out": str(out), "dictionaries": rows}))
    else:
        print(f"{len(made)} dictionaries at {site} are in {out}")
        for row in rows:
            print("  " + row["line"])
        print(f"Next: assay evaluate {out}")
    return 0


def row_of(name: str, folder: Path, longest: int) -> dict[str, Any]:
    from assay.cli.opening import summary_line
    from assay.cli.train import described

    last = summary_line(folder)
    return {"name": name, **last, "line": f"{name:<{longest}}  {described(last) if last else 'fitted'}"}


def take_tries(argv: list[str]) -> tuple[list[str], list[str]]:
    """Take every `--try TEXT` out of the command line."""
    tries: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--try":
            text = next(words, None)
            if text is None:
                raise BadOption('--try needs a text after it, such as "topk k=4,8,16".')
            tries.append(text)
        elif word.startswith("--try="):
            tries.append(word.removeprefix("--try="))
        else:
            rest.append(word)
    return tries, rest


def parse_try(text: str) -> dict[str, Any]:
    """`gated l1-coef=0.3,0.6` -> {"arch": "gated", "l1_coef": [0.3, 0.6]}."""
    words = shlex.split(text)
    if not words or "=" in words[0]:
        raise BadOption(f'--try "{text}" does not begin with an architecture; write --try "topk k=4,8,16".')
    found: dict[str, Any] = {"arch": words[0]}
    for word in words[1:]:
        name, equals, values = word.partition("=")
        if not equals or not values:
            raise BadOption(f'--try "{text}": "{word}" is not NAME=VALUE[,VALUE...].')
        found[name.removeprefix("--").removeprefix("arch.").replace("-", "_")] = [number(v) for v in values.split(",")]
    return found


def number(text: str) -> Any:
    """A whole number, a number, a tuple of them (8+16+32), or the text itself."""
    if "+" in text.strip("+"):
        return tuple(number(part) for part in text.split("+"))
    for kind in (int, float):
        try:
            return kind(whole(text))
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def written(value: Any) -> str:
    """A value as it stands in a folder's name."""
    return "+".join(map(written, value)) if isinstance(value, list | tuple) else str(value)


def read_plan(path: Path) -> list[dict[str, Any]]:
    from assay.core.artefact import read_json

    if not path.is_file():
        raise NotFound(f"{path} does not exist; --plan takes a JSON file.")
    plan = read_json(path)
    if not isinstance(plan, list) or not all(isinstance(item, dict) and "arch" in item for item in plan):
        raise BadInput(f'{path} must hold a list of objects with "arch", such as [{{"arch": "topk", "k": [4, 8]}}].')
    return [{name.replace("-", "_"): value for name, value in item.items()} for item in plan]


def check_tries(wanted: list[dict[str, Any]]) -> None:
    """Refuse unknown architectures and options before anything is opened."""
    from assay import dictionaries
    from assay.training import TrainConfig

    for item in wanted:
        known = [
            f.name for cls in (dictionaries.config_class(item["arch"]), TrainConfig) for f in dataclasses.fields(cls)
        ]
        for name in item:
            if name not in ("arch", *known):
                raise BadOption(f'"{name}" is not an option of {item["arch"]}.{nearest(name, known)}')


def control_grid(wanted: list[dict[str, Any]], d_in: int) -> tuple[int, ...]:
    ks = {k for item in wanted if "k" in item for k in (item["k"] if isinstance(item["k"], list) else [item["k"]])}
    return tuple(sorted(k for k in (ks or {2, 4, 8, 16, 32}) if k <= d_in))


def make_plans(
    wanted: list[dict[str, Any]],
    d_in: int,
    d_sae: int | None,
    options: Any,
    seeds: int,
    wire: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> list[Any]:
    """The product of every try's lists, times the seeds; what no seed changes once.

    wire: fills the widths of several sites or of another target into an architecture's options.
    """
    from assay import dictionaries
    from assay.core.config import from_json
    from assay.training import Plan, TrainConfig

    run_fields = {f.name for f in dataclasses.fields(TrainConfig)} - {"seed"}
    plans: list[Plan] = []
    for item in wanted:
        cls = dictionaries.class_of(item["arch"])
        config = dictionaries.config_class(item["arch"])
        lists = {n: v if isinstance(v, list) else [v] for n, v in item.items() if n != "arch"}
        required = any(f.name == "d_sae" and f.default is dataclasses.MISSING for f in dataclasses.fields(config))
        for values in itertools.product(*lists.values()):
            given = dict(zip(lists, values, strict=True))
            run = {n: v for n, v in given.items() if n in run_fields}
            own = {n: v for n, v in given.items() if n not in run_fields}
            if required and "d_sae" not in own:
                if d_sae is None:
                    raise BadOption(f"{item['arch']} needs a width; give --d-sae N, or d-sae=N in its --try.")
                own["d_sae"] = d_sae
            label = "_".join([item["arch"], *(f"{n.replace('_', '-')}-{written(v)}" for n, v in given.items())])
            for seed in range(options.seed, options.seed + (1 if cls.seedless else seeds)):
                name = label if cls.seedless else f"{label}_seed-{seed}"
                trained = from_json(TrainConfig, {**{f: getattr(options, f) for f in run_fields}, **run, "seed": seed})
                preset = {f.name: f.default for f in dataclasses.fields(config) if f.name == "wiring"}
                filled = {"d_in": d_in, **own} if wire is None else wire({**preset, **own})
                plans.append(Plan(name, config(**filled), trained))
    return plans
