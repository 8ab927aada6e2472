"""`assay VERB ...`: each verb is one file in this folder, opened only when it is named."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

from assay.cli import several
from assay.core.errors import AssayError, nearest

VERBS = {
    "demo": "the main job on what ships with the package: train, compare, report; offline",
    "plan": "what a run will take, before it starts: memory, disk, hours, and how to divide it",
    "harvest": "write a model's activations at some sites to disk",
    "train": "train one dictionary",
    "sweep": "train many dictionaries over one reading of the activations",
    "evaluate": "measure dictionaries beside their baselines, and write the report",
    "study": "an experiment of a paper on your model, with its verdict",
    "probe": "whether latents help to tell labels apart, against baselines that were tuned",
    "report": "build or rebuild report.html from saved results",
    "verify": "check a dictionary's hashes and recompute its golden vectors",
    "inspect": "what a dictionary of any format is: architecture, widths, site, conventions",
    "convert": "write a dictionary in another tool's format, and check that it is the same",
    "push": "put a dictionary on the Hugging Face Hub, with a plain card",
    "list": "what there is: archs, sites, studies, texts, releases",
    "doctor": "what works on this machine and what does not, and why",
}

INTRO = """assay takes the activations of a neural network apart and says what each result is worth.

Start with:  assay demo

Verbs (each explains itself with --help):
"""


def overview() -> str:
    width = max(map(len, VERBS))
    return INTRO + "\n".join(f"  {verb:<{width}}  {what}" for verb, what in VERBS.items())


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Exit status 0 on success, 2 on a user's error (one sentence), 130 when stopped, 1 on our own fault."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview(), flush=True)
            return 0
        verb, rest = words[0], words[1:]
        if verb == "--version":
            from assay import __version__

            print(f"assay {__version__}")
            return 0
        if verb not in VERBS:
            raise AssayError(f'"{verb}" is not a verb of assay.{nearest(verb, VERBS)}')
        several.refuse(verb)
        return importlib.import_module(f"assay.cli.{verb}").main(rest) or 0
    except AssayError as error:
        if several.speaks():
            print(f"assay: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        if several.speaks():
            print(f"assay: {stop or 'stopped.'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        print("assay: this is a fault of assay itself; please report the lines above.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
