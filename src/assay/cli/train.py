"""assay train: one dictionary."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

from assay.cli.parsing import Common, parse, result_folder, subset, take_arch
from assay.cli.several import together
from assay.core.errors import BadOption

ABOUT = """Train one dictionary on a model's activations. --arch is read first and decides which options there are.

  assay train --model storyworld --site resid_post.1 --text storyworld --arch gated --arch.d-sae 512 --arch.l1-coef 0.6
  assay train --activations acts --arch topk --d-sae 512 --k 8 --n-tokens 5M --out runs/topk-8
  assay train ... --resume                              after Ctrl-C or a crash: the same weights, bit for bit
  torchrun --nproc-per-node 4 -m assay train ... --out DIR   the same in several processes, each with its part of every batch
  torchrun ... -m assay train ... --latent-shards 2 --out DIR   each with its part of the latents too, for what does not fit one device
  assay train --arch gated --help                       the options of gated
"""


@dataclasses.dataclass(kw_only=True)
class Source:
    activations: Path | None = None
    """A folder written by assay harvest; instead of --model, --site and --text."""
    join: tuple[Path, ...] = ()
    """More stores of the same tokens, of other models, for a crosscoder; sites are then called FOLDER:site."""
    model: str | None = None
    """Hub name, local folder, or `storyworld`."""
    site: str | None = None
    """Where in the model: resid_post.3, mlp_out.0, blocks.3.hook_resid_post, or a dotted module path; several with commas."""
    target: str | None = None
    """The site to predict, for transcoders: what is read at --site predicts this one."""
    text: str | None = None
    """storyworld[:n], a hub dataset NAME[:config][:split], or a .jsonl, .jsonl.gz, .txt or .parquet file."""
    text_column: str = "text"
    """The column or key that holds the text."""
    context: int | None = None
    """Tokens in a block; the model's own context when not given, at most 1024."""
    resume: bool = False
    """Continue a run that was stopped, with the same options."""


@dataclasses.dataclass(kw_only=True)
class Flags(Common, Source):
    init: str | None = None
    """Start from this dictionary instead of a random one (same architecture and width); of any format, hf://org/repo/path too."""


def main(argv: list[str]) -> int:
    arch, argv = take_arch(argv, "train")
    from assay import dictionaries
    from assay.training import TrainConfig

    if arch is None:
        if "-h" in argv or "--help" in argv:
            parse("train", ABOUT + f"\n--arch is one of: {', '.join(dictionaries.names())}", argv, Flags, TrainConfig)
        raise BadOption(f"--arch is missing; choose one of {', '.join(dictionaries.names())}.")
    config = dictionaries.config_class(arch)
    flags = parse("train", ABOUT + f"\n--arch {arch}", argv, Flags, TrainConfig, arch=config)
    return together(flags, partial(run, arch=arch))


def run(flags: Any, arch: str) -> int:
    from assay import dictionaries, interop, training
    from assay.cli.opening import set_threads, training_stream, widths_of
    from assay.training import TrainConfig

    config = dictionaries.config_class(arch)

    set_threads(flags.threads)
    options = TrainConfig(**subset(flags, TrainConfig))
    config(**widths_of(flags.arch, None, flags.site, flags.target))  # refuse bad options before anything is opened
    out = result_folder(flags.out, "train")
    stream, site, facts = training_stream(flags, options, out)
    made_as = config(**widths_of(flags.arch, stream, site, flags.target))
    start = None if flags.init is None else interop.start(flags.init, made_as)
    made = training.train(
        made_as, stream, out, site=site, target=flags.target,
        options=options, init_from=start, resume=flags.resume, facts=facts, quiet=flags.quiet, on_tick=tick,
    )  # fmt: skip
    last = last_line(out)
    if flags.json:
        print(json.dumps({"out": str(out), "arch": arch, **last}))
    else:
        print(f"{arch} with {made.d_sae} latents at {site} is in {out}")
        if last:
            print(f"  {described(last)}")
        if "warning" in last:
            print(f"  {last['warning']}")
        print(f"Next: assay evaluate {out}")
    return 0


def last_line(folder: Path) -> dict[str, Any]:
    from assay.cli.opening import summary_line

    return summary_line(folder)


def described(line: dict[str, Any]) -> str:
    """One tick in words."""

    def shown(name: str, form: str) -> str:
        return "—" if line.get(name) is None else format(line[name], form)

    return (
        f"{line['tokens']:>12,} tokens   L0 {shown('l0', '.2f')}   FVU {shown('fvu', '.4f')}   γ {shown('gamma', '.3f')}   "
        f"dead {shown('dead_frac', '.1%')}   {shown('tokens_per_second', ',.0f')} tokens/s"
    )


def tick(name: str, line: dict[str, Any], bar: Any) -> None:
    bar.note(described(line))
