"""One safetensors file written a piece at a time, so that no process need hold all of it.

The layout is that of the format: the header's length in 8 bytes, a JSON header with each tensor's type, shape and place, then the
numbers, row by row. The file is made under a temporary name and takes its place when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from assay.core.artefact import becoming

KINDS = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.bool: "BOOL"}

Put = Callable[[str, int | None, int, Tensor], None]


@contextmanager
def assembled(path: Path, tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> Generator[Put]:
    """Yield put(name, axis, first, values), which writes a part of a tensor: its entries from `first` on along `axis` (0 or 1), or all
    of it where axis is None. What is never put is 0. On an exception nothing is left behind."""
    places: dict[str, int] = {}
    header: dict[str, object] = {}
    end = 0
    for name, (dtype, shape) in sorted(
        tensors.items(), key=lambda item: (-item[1][0].itemsize, item[0])
    ):  # so all are aligned
        places[name], end = end, end + dtype.itemsize * prod(shape)
        header[name] = {"dtype": KINDS[dtype], "shape": list(shape), "data_offsets": [places[name], end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with becoming(path) as temporary, open(temporary, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + end)

        def put(name: str, axis: int | None, first: int, values: Tensor) -> None:
            dtype, shape = tensors[name]
            numbers = values.detach().to("cpu", dtype).contiguous().numpy()
            start = 8 + len(head) + places[name]
            if axis == 1:
                for row, part in enumerate(numbers):
                    file.seek(start + dtype.itemsize * (row * shape[1] + first))
                    file.write(part.tobytes())
            else:
                file.seek(start + (0 if axis is None else first * dtype.itemsize * prod(shape[1:])))
                file.write(numbers.tobytes())

        yield put
