"""assay convert: a dictionary in another tool's format, the same to rounding."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from assay.cli.inspect import lines
from assay.cli.parsing import parse

ABOUT = """Write a dictionary in another format. The source is recognised by its content; what was found is printed. The result is read
back and compared with the source on golden rows, which stay beside it. What the target cannot represent is refused, and said.

  assay convert runs/train-1 out/for-saelens --to saelens
  assay convert downloads/layer_12/width_16k/average_l0_82 out/gemma --to assay
  assay convert sae.pt out/ours --to assay --rule topk --k 32
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    src: str
    """The dictionary: a folder, a single file of weights, hf://org/repo/path, or the name of a known release."""
    dst: Path
    """The folder to write; it must not hold anything yet."""
    to: str
    """The format: assay, circuit_tracer, circuit_tracer_clt, dictionary_learning, eleuther_clt, gemma_scope, gemma_scope_2,
    gemma_scope_2_clt, goodfire, hypothesaes, openai_sae, openmoss, openmoss_clt, overcomplete, qwen_scope, saelens or sparsify."""
    rule: str | None = None
    """Where the source's files do not say it (overcomplete): relu, topk or batchtopk."""
    k: int | None = None
    """Where the source's files do not say it (overcomplete, Qwen Scope): the k of its top-k."""
    threshold: float | None = None
    """Where the source's files do not say it (overcomplete): the threshold of its batch top-k."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("convert", ABOUT, argv, Flags, positional=("src", "dst"))
    from assay import interop
    from assay.interop.told import Told

    if flags.to != interop.OWN:
        interop.format_of(flags.to)
    told = Told(flags.rule, flags.k, flags.threshold)
    found = interop.inspect(flags.src, told)
    if not flags.json:
        print("\n".join(lines(found)), flush=True)
    done = interop.convert(flags.src, flags.dst, flags.to, told=told, command="assay convert " + shlex.join(argv))
    if flags.json:
        print(json.dumps({"found": found, "written": done}))
    else:
        print(
            f"{flags.dst}: written as {flags.to}. {done['rows']} golden rows, {done['pairs']} codes; largest difference of codes "
            f"{done['worst_code']:.1e}, of outputs {done['worst_output']:.1e} of their scale."
        )
    return 0
