"""A verb that `torchrun` may start in several processes: all work, the leading one talks."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from typing import Any

from assay.core.errors import BadOption

VERBS = ("train", "sweep", "harvest")


def asked() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def speaks() -> bool:
    """Whether this process is the one that talks to the user."""
    return os.environ.get("RANK", "0") == "0" or not asked()


def refuse(verb: str) -> None:
    """A verb that would only do the same work several times is refused where several processes were started."""
    if asked() and verb not in VERBS:
        raise BadOption(
            f"assay {verb} runs in one process, but torchrun started {os.environ['WORLD_SIZE']}; start it without torchrun "
            f"({', '.join(VERBS)} run in several)."
        )


def together(flags: Any, run: Callable[[Any], int]) -> int:
    """run(flags), joined with the other processes if there are any; `flags.device` becomes this process's own."""
    if not asked():
        return run(flags)
    if flags.out is None:
        raise BadOption("Several processes write one result; name it with --out.")
    from assay.core import distribution

    with distribution.joined(flags.device) as device:
        flags.device = device
        if distribution.leading():
            return run(flags)
        flags.quiet = True
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return run(flags)
