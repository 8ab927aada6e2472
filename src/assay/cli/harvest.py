"""assay harvest: a model's activations at some sites, written to disk once and read by any number of trainings."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from assay.cli.parsing import Common, parse, result_folder
from assay.cli.several import together

ABOUT = """Write a model's activations to disk: fixed-size shards with checksums, in document order, with token, document and
position of every row. Several sites cost one forward pass, which stops at the last of them. A killed harvest continues with --resume.

  assay harvest --model storyworld --site resid_post.1 --text storyworld --out acts
  assay train --activations acts --arch topk --d-sae 512 --k 8
"""


@dataclasses.dataclass(kw_only=True)
class Flags(Common):
    model: str
    """Hub name, local folder, or `storyworld`."""
    site: tuple[str, ...]
    """One or more places in the model: resid_post.3, mlp_out.0, blocks.3.hook_resid_post, or a dotted module path."""
    text: str
    """storyworld[:n], a hub dataset NAME[:config][:split], or a .jsonl, .jsonl.gz, .txt or .parquet file."""
    text_column: str = "text"
    """The column or key that holds the text."""
    context: int | None = None
    """Tokens in a block; the model's own context when not given, at most 512."""
    store_dtype: str = "float32"
    """Number format on disk: float32, bfloat16 or float16; --dtype is that of the model."""
    batch_size: int = 16
    """Blocks in one forward pass."""
    resume: bool = False
    """Continue a harvest that was stopped, with the same options."""


def main(argv: list[str]) -> int:
    return together(parse("harvest", ABOUT, argv, Flags), run)


def run(flags: Any) -> int:
    from assay import activations, models
    from assay.activations.source import torch_dtype
    from assay.cli.opening import blocks_of, model_facts, set_threads

    set_threads(flags.threads)
    torch_dtype(flags.store_dtype)  # refused before the model and the text are read
    model = models.load(flags.model, device=flags.device, dtype=flags.dtype)
    sites = [model.canonical(site) for site in flags.site]
    blocks = blocks_of(model, flags.text, flags.text_column, flags.context, flags.quiet)
    out = result_folder(flags.out, "harvest")
    store = activations.harvest(
        model, sites, blocks, out, dtype=flags.store_dtype, batch_size=flags.batch_size, resume=flags.resume,
        quiet=flags.quiet, facts=model_facts(flags, model),
    )  # fmt: skip
    widths = {site: store.width(site) for site in store.sites}
    done = {"out": str(out), "rows": store.n_rows, "sites": widths}
    if flags.json:
        print(json.dumps(done))
    else:
        shown = ", ".join(f"{site} (width {width})" for site, width in widths.items())
        print(f"{store.n_rows:,} rows of {shown} are in {out}")
        print(f"Next: assay train --activations {out} --arch gated --d-sae 512 --l1-coef 0.6")
    return 0
