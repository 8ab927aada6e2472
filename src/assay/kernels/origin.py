"""A batch that several encoders read, and what is worked out about it once for all of them.

The dictionaries of a sweep read the same rows y, each less a bias of its own: x = y - b. What an implementation needs to know of the
rows may not depend on b: the integers of `cpp/bounds.h` are those of y less its mean, which are the same for every b.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import Tensor


class Shared:
    """Rows y [B, n] that nobody changes while this lives. Threads may ask at once: the first works it out, the others wait for it."""

    def __init__(self, y: Tensor) -> None:
        self.y = y
        self._known: dict[Hashable, Any] = {}
        self._lock = Lock()

    def known(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """`make()`, called once for each `what`."""
        with self._lock:
            if what not in self._known:
                self._known[what] = make()
            return self._known[what]

    def less(self, bias: Tensor | None, columns: slice) -> Origin:
        """These columns of y less their part of the bias, [B, n]: what one encoder reads. bias as wide as y, or None."""
        return Origin(self, columns, None if bias is None else bias[columns])


@dataclass(frozen=True)
class Origin:
    """Where an encoder's rows come from: x = shared.y[:, columns] - bias; bias [n] or None."""

    shared: Shared
    columns: slice
    bias: Tensor | None

    @property
    def y(self) -> Tensor:
        return self.shared.y[:, self.columns]

    def known(self, what: str, make: Callable[[Tensor], Any]) -> Any:
        """What `make` says of these columns of y."""
        return self.shared.known((what, self.columns.start, self.columns.stop), lambda: make(self.y))
