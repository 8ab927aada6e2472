"""assay push: a dictionary onto the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

from assay.cli.parsing import parse

ABOUT = """Put a dictionary on the Hugging Face Hub, with a plain card. It is checked first; the repository is made where it is missing.

  assay push runs/train-1 org/my-dictionaries --path resid_post.3/topk-32
  assay push runs/train-1 org/for-saelens --to saelens --private

The token is the one of `hf auth login`, or of HF_TOKEN; it is never shown or written.
"""


@dataclasses.dataclass(kw_only=True)
class Flags:
    dictionary: str
    """The dictionary: a folder or file of any format."""
    repo: str
    """The repository: org/name."""
    path: str = ""
    """Folder inside the repository; its root when not given."""
    private: bool = False
    """Make the repository private when it is created."""
    to: str | None = None
    """Convert to this format first: saelens, sparsify, dictionary_learning, ... (assay convert --help)."""
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("push", ABOUT, argv, Flags, positional=("dictionary", "repo"))
    from assay.interop.pushing import push

    command = "assay push " + shlex.join(argv)
    done = push(flags.dictionary, flags.repo, path=flags.path, private=flags.private, to=flags.to, command=command)
    if flags.json:
        print(json.dumps(done))
        return 0
    print(f"{len(done['files'])} files are at {done['address']}")
    if Path(flags.dictionary, "provenance.json").is_file() and flags.to in (None, "assay"):
        print(
            "Its provenance.json went up too: it names the command, versions and paths of the machine that trained it."
        )
    print(f"Next: assay evaluate {done['address']} --text TEXT")
    return 0
