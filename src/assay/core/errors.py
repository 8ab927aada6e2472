"""The one family of errors a user can meet. Each message says what came, what was expected and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AssayError(ValueError):
    """A mistake or a circumstance that the user can mend. The command line prints it alone and exits with status 2."""


class NotFound(AssayError):
    """A file, model, site, layer or architecture that does not exist."""


class BadOption(AssayError):
    """An option that is unknown, out of range, or contradicts another."""


class BadInput(AssayError):
    """Data that cannot be used: empty text, wrong width, non-finite activations."""


class Corrupt(AssayError):
    """A file of ours that was torn or altered; the message names it."""


class Unreachable(AssayError):
    """A hub or a network that does not answer."""


class Storage(AssayError):
    """A disk that is full or a folder that cannot be written."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A half-sentence that helps: the nearest known name, or the list of names when nothing is near.

    >>> nearest("gatd", ["gated", "topk"])
    ' Did you mean "gated"? Known: gated, topk.'
    """
    names = [str(k) for k in known]
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    guess = f' Did you mean "{close[0]}"?' if close else ""
    return f"{guess} Known: {shown}." if names else guess
