"""Files that mean harm or are broken: refused in one sentence, nothing run, nothing written, no large memory asked for."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_examples import EXAMPLES, written
from plain_codes import Example
from safetensors.torch import load_file, save_file

from assay import interop
from assay.core.errors import AssayError, NotFound
from assay.interop import foreign_files


def example(name: str) -> Example:
    return next(e for e in EXAMPLES if str(e) == name)


def refused(path: Path, part: str) -> None:
    """Opening, inspecting and converting all refuse, in one line, and leave the disk as it was."""
    before = sorted(p.name for p in path.parent.rglob("*"))
    for attempt in (
        lambda: interop.open(path),
        lambda: interop.inspect(path),
        lambda: interop.convert(path, path.parent / "made", "assay"),
    ):
        with pytest.raises(AssayError, match=part) as error:
            attempt()
        assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert sorted(p.name for p in path.parent.rglob("*")) == before


class Evil:
    """What a pickle can do: make a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_that_would_run_code(tmp_path: Path) -> None:
    folder = written(example("dictionary_learning-AutoEncoder"), tmp_path / "d")
    mark = tmp_path / "was-run"
    state = torch.load(folder / "ae.pt", weights_only=True)
    torch.save({**state, "evil": Evil(mark)}, folder / "ae.pt")
    refused(folder, "holds more than tensors .*could run code, so it is refused")
    for name, file in (
        ("hypothesaes-topk", "SAE_M=20_K=4.pt"),
        ("openai_sae-relu", "autoencoder.pt"),
        ("overcomplete-topk", "model.pt"),
        ("goodfire-relu", "Llama-3.1-8B-Instruct-SAE-l19.pth"),
        ("qwen_scope-told", "layer7.sae.pt"),
    ):
        other = written(example(name), tmp_path / name)
        content = torch.load(other / file, weights_only=True)
        torch.save({**content, "evil": Evil(mark)}, other / file)
        refused(other, "holds more than tensors .*could run code, so it is refused")
    (folder / "ae.pt").write_bytes(pickle.dumps({**state, "evil": Evil(mark)}))
    refused(folder, "not a torch archive of today's kind")
    with zipfile.ZipFile(folder / "ae.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(mark), protocol=2))
        archive.writestr("archive/version", "3\n")
    refused(folder, "holds more than tensors|not a whole torch archive")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists(), "the trap itself works"


def test_a_module_instead_of_tensors(tmp_path: Path) -> None:
    folder = written(example("dictionary_learning-AutoEncoder"), tmp_path / "d")
    torch.save(torch.nn.Linear(3, 3), folder / "ae.pt")
    refused(folder, "holds more than tensors .*torch.nn")
    torch.save([torch.zeros(3)], folder / "ae.pt")
    refused(folder, "holds a list, not a dict of tensors")
    torch.save({"bias": 3}, folder / "ae.pt")
    refused(folder, "bias is not a dense tensor")


def test_torch_archives_that_lie_about_size_or_place(tmp_path: Path) -> None:
    folder = written(example("dictionary_learning-AutoEncoder"), tmp_path / "d")
    state = torch.load(folder / "ae.pt", weights_only=True)
    huge = torch.zeros(1).expand(1 << 20, 1 << 16)  # 256 GB by its shape, 4 bytes on disk
    torch.save({**state, "decoder.weight": huge}, folder / "ae.pt")
    refused(folder, "decoder.weight says it is .*more than what is stored")
    torch.save(state, folder / "ae.pt")
    whole = (folder / "ae.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(folder / "ae.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, old.read(member))
        new.writestr("archive/data/9", bytes(1 << 24))
    refused(folder, "unpacks to more than its")
    with zipfile.ZipFile(folder / "ae.pt", "w") as new:
        new.writestr("../outside.pkl", b"x" * 10)
    refused(folder, "a path that leads out")
    sparse = {**state, "bias": state["bias"].to_sparse()}
    torch.save(sparse, folder / "ae.pt")
    refused(folder, "bias is not a dense tensor|holds more than tensors")


def test_archives_that_the_zip_reader_cannot_open_are_no_format(tmp_path: Path) -> None:
    file = written(example("goodfire-relu"), tmp_path / "g") / "Llama-3.1-8B-Instruct-SAE-l19.pth"
    whole = file.read_bytes()
    entry = whole.index(b"PK\x01\x02")  # the first of the central directory: its version at 6, flags at 8, name at 46
    for name, at, data in (
        ("a name that is not the UTF-8 it says", 8, b"\x00\x08"),
        ("a version of zip that is not known", 6, b"\xff\x00"),
        ("encrypted", 8, b"\x01\x00"),
    ):
        torn = bytearray(whole)
        torn[entry + at : entry + at + 2] = data
        if "UTF-8" in name:
            torn[entry + 46] = 0xFF
        file.write_bytes(bytes(torn))
        with pytest.raises(NotFound, match="holds no dictionary that is known"):
            interop.detect(file.parent)
    file.write_bytes(whole)
    assert interop.detect(file.parent) == "goodfire"


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(file: Path, header: bytes, body: bytes) -> None:
    file.write_bytes(struct.pack("<Q", len(header)) + header + body)


def test_safetensors_with_bad_offsets_or_a_huge_header(tmp_path: Path) -> None:
    folder = written(example("saelens-standard"), tmp_path / "s")
    file = folder / "sae_weights.safetensors"
    header, body = header_of(file)
    for name, shift in (("W_enc", 1 << 40), ("W_enc", 8), ("b_dec", -4)):
        bad = json.loads(json.dumps(header))
        bad[name]["data_offsets"][1] += shift
        with_header(file, json.dumps(bad).encode(), body)
        refused(folder, "sae_weights.safetensors is not a whole safetensors file")
    bad = json.loads(json.dumps(header))
    bad["W_dec"]["shape"] = [1 << 40, 1 << 40]
    with_header(file, json.dumps(bad).encode(), body)
    refused(folder, "not a whole safetensors file")
    file.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    refused(folder, "says that its header has 4611686018427387904 bytes")
    for torn in (b"", b"\x01", struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b"nope"):
        file.write_bytes(torn)
        refused(folder, "sae_weights.safetensors")


def npz(file: Path, members: dict[str, bytes], compressed: bool = False) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": array.dtype.str, "fortran_order": False, "shape": shape or array.shape}
    )
    return out.getvalue() + array.tobytes()


def test_npz_bombs(tmp_path: Path) -> None:
    folder = written(example("gemma_scope-transcoder"), tmp_path / "g")
    file = folder / "params.npz"
    good = {f"{n}.npy": npy(a) for n, a in np.load(file).items()}
    npz(file, {**good, "W_enc.npy": npy(np.zeros((256, 1 << 18), np.float32))}, compressed=True)  # 256 MB in 260 kB
    assert file.stat().st_size < 1 << 20
    start = time.monotonic()
    refused(folder, "weights do not shrink so")
    assert time.monotonic() - start < 2, "nothing was unpacked"
    npz(
        file, {**good, "W_enc.npy": npy(np.zeros(4, np.float32), shape=(1 << 30, 1 << 20))}
    )  # a header that asks for 4 PB
    refused(folder, r"W_enc.npy says it is \[1073741824, 1048576\], which its")
    npz(file, {**good, "../W_enc.npy": npy(np.zeros(4, np.float32))})
    refused(folder, "which is no array")
    npz(file, {f"a{i}.npy": good["b_dec.npy"] for i in range(500)})
    refused(folder, "holds 500 members")
    objects = io.BytesIO()
    np.save(objects, np.array([Evil(tmp_path / "was-run")], dtype=object), allow_pickle=True)
    npz(file, {**good, "b_dec.npy": objects.getvalue()})
    refused(folder, "b_dec.npy holds object, not numbers")
    assert not (tmp_path / "was-run").exists()
    file.write_bytes(b"PK\x03\x04 nothing")
    refused(folder, "not a whole .npz")


Change = Callable[[dict[str, torch.Tensor]], None]


def changes() -> dict[str, tuple[Change, str]]:
    def put(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Change:
        return lambda t: t.update({name: make(t[name])})

    return {
        "nan": (put("W_enc", lambda t: t.clone().fill_(float("nan"))), "W_enc holds values that are not finite"),
        "infinite": (put("b_dec", lambda t: t / 0), "b_dec holds values that are not finite"),
        "transposed": (put("W_dec", lambda t: t.T.contiguous()), "files do not belong together"),
        "wide": (put("b_enc", lambda t: torch.zeros(len(t) + 1)), r"b_enc is \[21\].*d_sae would be 21, but it is 20"),
        "three axes": (put("W_enc", lambda t: t[None].clone()), r"W_enc is \[1, 6, 20\]; d_in d_sae was expected"),
        "empty": (put("W_enc", lambda t: t[:0].clone()), r"W_enc is \[0, 20\]"),
        "whole numbers": (put("W_enc", lambda t: t.long()), "weights are floating-point numbers"),
        "complex": (put("b_dec", lambda t: t.to(torch.complex64)), "not a dense tensor of real numbers|not a whole"),
        "missing": (lambda t: t.__delitem__("b_enc"), "has no b_enc; it holds W_dec, W_enc"),
        "more": (lambda t: t.update(other=torch.zeros(2)), "also holds other, which a dictionary of this kind has not"),
    }


@pytest.mark.parametrize("which", changes())
def test_wrong_tensors(which: str, tmp_path: Path) -> None:
    folder = written(example("saelens-standard"), tmp_path / "s")
    change, part = changes()[which]
    tensors = load_file(folder / "sae_weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "sae_weights.safetensors")
    refused(folder, part)


MISMATCH = [
    ("saelens-standard", "cfg.json", {"d_sae": 21}, "files do not belong together"),
    ("saelens-standard", "cfg.json", {"d_in": -6}, "d_in is -6; a positive whole number"),
    ("saelens-standard", "cfg.json", {"d_in": 6.5}, "d_in is 6.5"),
    ("saelens-standard", "cfg.json", {"d_in": True}, "d_in is True"),
    ("saelens-standard", "cfg.json", {"d_in": 1e300}, "positive whole number"),
    ("saelens-standard", "cfg.json", {"architecture": "gated"}, "has no b_gate, r_mag, b_mag"),
    ("saelens-standard", "cfg.json", {"architecture": ["x"]}, "which is not read"),
    ("saelens-standard", "cfg.json", {"apply_b_dec_to_input": "yes"}, "true or false was expected"),
    ("saelens-standard", "cfg.json", {"metadata": [1]}, "metadata is not an object"),
    ("saelens-topk", "cfg.json", {"k": 0}, "k is 0"),
    ("saelens-topk", "cfg.json", {"k": 21}, "k is 21; it must be a whole number from 1 to d_sae=20"),
    ("saelens-topk", "cfg.json", {"k": None}, "k is None"),
    ("sparsify-sae", "cfg.json", {"num_latents": 0, "expansion_factor": 3}, "d_sae would be 20, but it is 18"),
    ("sparsify-sae", "cfg.json", {"d_in": 7}, "files do not belong together"),
    ("sparsify-sae", "cfg.json", {"skip_connection": True}, "has no W_skip"),
    ("sparsify-sae-skip", "cfg.json", {"skip_connection": False}, "also holds W_skip"),
    ("gemma_scope_2-resid", "config.json", {"affine_connection": True}, "affine_connection=True, but"),
    ("gemma_scope_2-resid", "config.json", {"architecture": "topk"}, "holds jump_relu only"),
    ("dictionary_learning-BatchTopKSAE", "config.json", {"trainer": {"dict_class": "BatchTopKSAE", "k": 5}}, "says k=5, but ae.pt k=4"),
    ("dictionary_learning-AutoEncoder", "config.json", {"trainer": {"dict_class": "AutoEncoderNew"}}, "has no decoder.bias"),
    ("dictionary_learning-AutoEncoder", "config.json", {"trainer": {"dict_class": "Other"}}, "dict_class is 'Other'; known are AutoEncoder"),
    ("dictionary_learning-AutoEncoder", "config.json", {"trainer": 3}, "has no trainer"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "changed", "part"), MISMATCH, ids=str)
def test_configurations_that_do_not_fit_the_tensors(name, file, changed, part, tmp_path: Path) -> None:
    folder = written(example(name), tmp_path / "s")
    cfg = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**cfg, **changed}))
    refused(folder, part)


@pytest.mark.parametrize(
    "text", [b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"d_in": ' + b"[" * 100_000], ids=lambda t: str(t[:12])
)
def test_configurations_that_are_no_json(text: bytes, tmp_path: Path) -> None:
    folder = written(example("sparsify-sae"), tmp_path / "s")
    (folder / "cfg.json").write_bytes(text)
    refused(folder, "cfg.json")
    folder = written(example("saelens-standard"), tmp_path / "t")
    (folder / "cfg.json").write_bytes(text)
    with pytest.raises(AssayError):
        interop.open(folder)


def test_a_configuration_of_absurd_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_files, "MOST_JSON", 100)
    folder = written(example("sparsify-sae"), tmp_path / "s")
    refused(folder, "larger than any configuration")


LINKED = (
    "saelens-standard",
    "sparsify-sae",
    "dictionary_learning-AutoEncoder",
    "gemma_scope-res",
    "gemma_scope_2-resid",
    "hypothesaes-topk",
    "openai_sae-relu",
    "openmoss-relu",
    "circuit_tracer-relu",
)


@pytest.mark.parametrize("name", LINKED)
def test_links_that_lead_out(name: str, tmp_path: Path) -> None:
    folder = written(example(name), tmp_path / "s")
    weights = max((p for p in folder.iterdir() if p.suffix != ".json"), key=lambda p: p.stat().st_size)
    outside = tmp_path / "secret.bin"
    weights.rename(outside)
    weights.symlink_to(outside)
    refused(folder, "is a link that leads out of its folder")
    weights.unlink()
    weights.symlink_to("/dev/zero")
    with pytest.raises(AssayError):
        interop.open(folder)
    weights.unlink()
    os.mkfifo(weights)  # opening one would wait for ever
    with pytest.raises(AssayError):
        interop.open(folder)
    weights.unlink()
    weights.symlink_to(weights.name)
    with pytest.raises(AssayError):
        interop.open(folder)


def test_the_hubs_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    repo = tmp_path / "models--someone--saes"
    folder = written(example("saelens-standard"), repo / "snapshots" / "abc" / "layer_3")
    (repo / "blobs").mkdir()
    for n, file in enumerate(sorted(folder.iterdir())):
        blob = repo / "blobs" / f"blob{n}"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, folder))
    assert interop.open(folder).d_sae == 20
    outside = tmp_path / "outside"
    (folder / "cfg.json").resolve().rename(outside)
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").symlink_to(outside)
    refused(folder, "holds no dictionary|leads out")
