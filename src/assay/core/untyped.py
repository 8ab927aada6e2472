"""Libraries that bring no type stubs, imported at one place and seen by the type checker as `Any`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

pa: Any = import_module("pyarrow")
compute: Any = import_module("pyarrow.compute")
parquet: Any = import_module("pyarrow.parquet")
special: Any = import_module("scipy.special")
