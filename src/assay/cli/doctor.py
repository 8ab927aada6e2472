"""assay doctor: what works on this machine, what does not, and why."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil

from assay.cli.parsing import parse

ABOUT = "Say what works on this machine and what does not, and why: devices, number formats, kernels, packages, network settings."

OPTIONAL = {"duckdb": "exploring latents", "peft": "fine-tuning", "starlette": "the viewer"}


@dataclasses.dataclass(kw_only=True)
class Flags:
    json: bool = False
    """Print the result as JSON on standard output."""


def main(argv: list[str]) -> int:
    flags = parse("doctor", ABOUT, argv, Flags)
    found = examine()
    if flags.json:
        print(json.dumps(found))
    else:
        width = max(map(len, found))
        for name, (state, why) in found.items():
            print(f"  {name:<{width}}  {state:<9} {why}")
    return 0


def examine() -> dict[str, tuple[str, str]]:
    """{thing: (yes | no | ..., why)}"""
    import torch

    from assay import kernels
    from assay.core import shipped
    from assay.core.provenance import versions
    from assay.kernels import triton_found

    found: dict[str, tuple[str, str]] = {
        "python": ("yes", platform.python_version()),
        "torch": ("yes", f"{torch.__version__}, {torch.get_num_threads()} threads"),
    }
    if torch.cuda.is_available():
        found["cuda"] = (
            "yes",
            f"{torch.cuda.get_device_name(0)}; bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}",
        )
    else:
        built = torch.version.cuda
        found["cuda"] = (
            "no",
            f"torch was built for CUDA {built} but sees no GPU" if built else "this torch is built for the CPU",
        )
    found["mps"] = (
        ("yes", "Apple GPU") if torch.backends.mps.is_available() else ("no", "not an Apple GPU, or torch lacks it")
    )
    used, why = kernels.describe()
    broken = triton_found.trial()
    names = (*kernels.IMPLEMENTATIONS, *(kernels.TRITON if not broken else ()))
    found["kernels"] = (
        used,
        f"in use{f': {why}' if why else ''}; {', '.join(dict.fromkeys(names))} can be chosen by --kernels",
    )
    found["triton"] = (
        "no" if broken else "yes",
        broken or "GPU kernels, tried once just now: they compile and give the right numbers",
    )
    for name in ("transformers", "tokenizers", "datasets", "pyarrow", "matplotlib"):
        try:
            found[name] = ("yes", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            found[name] = ("no", f"not installed; pip install {name}")
    for name, use in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        found[name] = (
            ("yes", f"for {use}") if there else ("no", f"not installed; for {use}, not needed by what exists today")
        )
    try:
        found["storyworld"] = ("yes", str(shipped.path("storyworld").name) + " is shipped with the package")
    except ValueError as error:
        found["storyworld"] = ("no", str(error))
    offline = [v for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE") if os.environ.get(v)]
    found["offline"] = ("set", ", ".join(offline)) if offline else ("not set", "hub names are looked up on the network")
    free = shutil.disk_usage(".").free
    found["disk here"] = (f"{free / 1e9:.0f} GB", "free in this folder")
    found["assay"] = ("yes", versions()["assay"])
    return found
