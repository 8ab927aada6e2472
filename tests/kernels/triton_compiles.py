"""Compile every Triton program to machine code, as for the GPU that is named; needs no GPU. Started by `test_triton.py`."""

from __future__ import annotations

import sys
from typing import Any

import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as to_machine_code

from assay.kernels import triton_programs as programs

IDS, COUNT, WIDTH = "*i64", "i64", "i32"


def arguments(number: str, wide: str) -> dict[str, dict[str, str]]:
    """Name and type of everything that is not a constant, by program."""
    n = f"*{number}"
    state = {"params": n, "grads": n}
    return {
        "gathered_sums": {
            "ends": IDS, "ids": IDS, "values": n, "order": IDS, "matrix": n, "stride": WIDTH, "out": n, "width": WIDTH,
        },
        "products_at_pairs": {
            "rows": IDS, "latents": IDS, "n_pairs": COUNT, "g": n, "g_stride": WIDTH, "matrix": n, "stride": WIDTH,
            "out": n, "width": WIDTH,
        },
        "squared_lengths": {**state, "total": COUNT, "width": WIDTH, "along": f"*{wide}", "squares": "*fp64"},
        "adam": {
            **state, "first": n, "second": n, "total": COUNT, "width": WIDTH, "along": f"*{wide}", "numbers": "*fp64",
        },
    }  # fmt: skip


def main(capability: int, *numbers: str) -> None:
    for number in numbers:
        kind = tl.float64 if number == "fp64" else tl.float32
        for name, types in arguments(number, "fp64" if number == "fp64" else "fp32").items():
            for unit in (True, False) if "along" in types else (True,):
                compiled(
                    name,
                    types,
                    {"kind": kind, "PARALLEL": unit, "UNIT": unit} | ({} if unit else {"along": None}),
                    capability,
                )
            ones = {n: 1 for n, kind_of in types.items() if kind_of in (COUNT, WIDTH)}  # Triton makes a 1 a constant
            compiled(name, types, {"kind": kind, "PARALLEL": True, "UNIT": True, **ones}, capability)


def compiled(name: str, types: dict[str, str], given: dict[str, Any], capability: int) -> None:
    program = getattr(programs, name)
    constants = {n: v for n, v in {"PAIRS": 8, "COLUMNS": 256, **given}.items() if n in program.arg_names}
    signature = {n: "constexpr" if n in constants else types[n] for n in program.arg_names}
    places = {(program.arg_names.index(n),): v for n, v in constants.items()}
    source = ASTSource(fn=program, signature=signature, constexprs=places)
    made = to_machine_code(source, target=GPUTarget("cuda", capability, 32))
    assert len(made.asm["cubin"]) > 1000, name
    print(name, constants, len(made.asm["cubin"]), "bytes")


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
