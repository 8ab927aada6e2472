"""Injured files and odd configurations: each opens or is refused in one sentence; nothing else ever happens."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

from foreign_examples import EXAMPLES, written
from plain_codes import Example

from assay import interop
from assay.core.errors import AssayError

N_FUZZED = 600


def example(name: str) -> Example:
    return next(e for e in EXAMPLES if str(e) == name)


FUZZED = (
    "saelens-jumprelu",
    "gemma_scope-res",
    "gemma_scope_2-affine",
    "dictionary_learning-GatedAutoEncoder",
    "sparsify-skip-transcoder",
    "hypothesaes-batch",
    "openai_sae-relu",
    "openmoss-jumprelu-scaled-normed",
    "circuit_tracer-jumprelu-one",
    "circuit_tracer-topk",
    "circuit_tracer-set-relu-skip",
    "circuit_tracer_clt-jumprelu",
    "gemma_scope_2_clt-affine",
    "openmoss_clt-jumprelu-scaled-normed",
    "eleuther_clt-none-skip-normed-scaled",
    "overcomplete-topk-norm",
    "goodfire-relu",
    "qwen_scope-told",
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to eight small injuries: bytes changed, a piece cut out, doubled, moved, or the end torn off."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(made)) if made else 0
        kind = rng.randrange(5)
        if kind == 0 and made:
            made[at] = rng.randrange(256)
        elif kind == 1 and made:
            made[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del made[at : at + rng.randint(1, 30)]
        elif kind == 3:
            made[at:at] = made[at : at + rng.randint(1, 30)]
        else:
            del made[rng.randint(at, len(made)) :]
    return bytes(made)


def test_mutated_files_never_crash(tmp_path: Path) -> None:
    """N_FUZZED files of all formats, mostly injured near the front where the structure is: each opens or is refused in a sentence."""
    rng = random.Random(0)
    opened, said = 0, []
    folders = {name: written(example(name), tmp_path / name) for name in FUZZED}
    start = time.monotonic()
    for n in range(N_FUZZED):
        folder = folders[FUZZED[n % len(FUZZED)]]
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        file = files[rng.randrange(len(files))]
        whole = file.read_bytes()
        head = len(whole) if rng.random() < 0.3 else min(len(whole), 900)
        file.write_bytes(mutated(whole[:head], rng) + whole[head:])
        try:
            interop.open(folder)
            opened += 1
        except AssayError as error:
            said.append(str(error))
        finally:
            file.write_bytes(whole)
    assert 0 < opened < N_FUZZED // 2
    assert not [sentence for sentence in said if "\n" in sentence]
    assert time.monotonic() - start < 30
    for folder in folders.values():
        interop.open(folder)


ODD: tuple[Any, ...] = (
    [],
    {},
    [1, "x"],
    {"a": 1},
    "",
    "x" * 50,
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    10**30,
    float("nan"),
    float("inf"),
)
CONFIGURED = (
    "saelens-topk-normed",
    "saelens-scaled",
    "saelens-old-topk",
    "gemma_scope_2-affine",
    "dictionary_learning-BatchTopKSAE",
    "sparsify-sae",
    "openmoss-topk-scaled-normed",
    "openmoss-llama-scope",
    "openmoss_clt-topk-scaled-normed",
    "gemma_scope_2_clt-affine",
    "eleuther_clt-none-skip-normed-scaled",
    "overcomplete-batch",
    "qwen_scope-told",
)


def test_odd_values_in_configurations_never_crash(tmp_path: Path) -> None:
    """Each key of a configuration, nested ones too, takes each odd value once: opened or refused in a sentence."""
    tried, opened, said = 0, 0, []
    for each in map(example, CONFIGURED):
        folder = written(each, tmp_path / str(each))
        for file in folder.rglob("*.json"):
            whole = file.read_text()
            cfg = json.loads(whole)
            nested = [(outer, inner) for outer in cfg if isinstance(cfg[outer], dict) for inner in cfg[outer]]
            for key in [*((k,) for k in cfg), *nested]:
                for odd in ODD:
                    changed = json.loads(whole)
                    (changed if len(key) == 1 else changed[key[0]])[key[-1]] = odd
                    file.write_text(json.dumps(changed))
                    tried += 1
                    try:
                        interop.open(folder)
                        opened += 1
                    except AssayError as error:
                        said.append(str(error))
            file.write_text(whole)
    assert tried > 1000 and 0 < opened < tried
    assert not [sentence for sentence in said if "\n" in sentence]
