"""Putting a dictionary on the Hugging Face Hub: its own files and a plain card, in one commit.

push(source, repo, path=..., private=..., to=...) -> {"repo", "address", "url", "files"}

Only regular files that lie in the dictionary's folder go up; a link that leads out of it stops the upload. The token is the one that
the hub's client finds (`hf auth login`, HF_TOKEN); nothing here reads, prints or stores it. A path that holds other files is refused.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, constants

from assay import interop
from assay.core.errors import AssayError, BadInput, BadOption
from assay.interop.foreign_files import inside
from assay.interop.hub import BELOW, WEIGHTS, WORDS, Address, is_plain, quiet, refusal

CARD = "README.md"
MADE_BY = "Made by `assay push`."
FREE = (".gitattributes", CARD)
LIBRARY = {"saelens": "saelens", "sparsify": "sparsify", "dictionary_learning": "dictionary_learning"}
LONGEST = 200  # characters of a fact on the card


def push(
    source: str | Path, repo: str, *, path: str = "", private: bool = False, to: str | None = None, command: str = ""
) -> dict[str, Any]:
    """Create the repository where it is missing, and commit the dictionary to it. The dictionary is checked before anything is sent.

    path: folder inside the repository; to: convert to this format first.
    Raises BadOption, BadInput, NotFound (no right to write) or Unreachable in one sentence.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise BadOption(f"{repo[:200]!r} is no repository; write org/name.")
    path = path.strip("/")
    if path and not is_plain(path):
        raise BadOption(f"--path {path[:200]!r} is no path inside a repository.")
    with tempfile.TemporaryDirectory() as scratch:
        if to is not None and to != (interop.detect(source)):
            folder = Path(scratch) / "converted"
            interop.convert(source, folder, to, command=command or None)
            place = folder
        else:
            place = interop.located(source).path
        found = interop.inspect(place)
        files = files_of(place)
        at = Address(repo, path)
        api = HfApi()
        try:
            with quiet():
                api.create_repo(repo, private=private, exist_ok=True)
                info = api.model_info(repo, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                there = [s.rfilename for s in info.siblings or []]
                _refuse_others(there, at, set(files))
                prefix = f"{path}/" if path else ""
                added = [CommitOperationAdd(f"{prefix}{name}", str(file)) for name, file in files.items()]
                if _card_is_free(api, repo, prefix + CARD, there):
                    added.append(CommitOperationAdd(prefix + CARD, card(found, at).encode()))
                done = api.create_commit(repo, added, commit_message=f"Add a {found['arch']} dictionary")
        except AssayError:
            raise
        except Exception as error:
            raise refusal(error, repo, writing=True) from None
    names = [operation.path_in_repo for operation in added]
    return {"repo": repo, "address": str(Address(repo, path, done.oid)), "url": str(done.commit_url), "files": names}


def files_of(place: Path) -> dict[str, Path]:
    """{name in the repository: file}: weights and configurations, regular files that lie in the folder. Raises BadInput on a link out."""
    if place.is_file():
        names = [place.name, *(p.name for p in place.parent.iterdir() if p.suffix in WORDS)]
        return {name: inside(place.parent, name) for name in sorted(set(names))}
    found: dict[str, Path] = {}
    for folder in (place, place / BELOW):
        if folder.is_dir():
            if not folder.resolve().is_relative_to(place.resolve()):
                raise BadInput(f"{folder} is a link that leads out of its folder; copy the files themselves there.")
            for file in sorted(folder.iterdir()):
                if file.suffix in (*WEIGHTS, *WORDS):
                    found[file.relative_to(place).as_posix()] = inside(folder, file.name)
    return found


def _refuse_others(there: list[str], at: Address, ours: set[str]) -> None:
    """Files of another dictionary at the same path would be taken for parts of this one."""
    prefix = f"{at.path}/" if at.path else ""
    here = [name.removeprefix(prefix) for name in there if name.startswith(prefix)]
    others = [n for n in here if "/" not in n and n not in ours and n not in FREE and n.endswith((*WEIGHTS, *WORDS))]
    if others:
        raise BadOption(f"{at} already holds {', '.join(others[:4])}, of another dictionary; give a free --path.")


def _card_is_free(api: HfApi, repo: str, name: str, there: list[str]) -> bool:
    """Whether a card may be written: there is none, or it is one of ours."""
    if name not in there:
        return True
    return MADE_BY in Path(api.hf_hub_download(repo, name)).read_text(errors="replace")


def card(found: dict[str, Any], at: Address) -> str:
    """A model card: what `assay inspect` says, and how the dictionary is used."""

    def plain(value: Any) -> str:
        """A stranger's words on one line, as code, so that nothing in them is markup."""
        return "`" + re.sub(r"[\s`]+", " ", str(value))[:LONGEST].strip() + "`"

    model = str(found["model"] or "")
    known = bool(re.fullmatch(r"[\w.-]+/[\w.-]+", model))
    head = ["---", "tags:", "- sparse-autoencoder", "- interpretability"]
    head += [f"library_name: {LIBRARY.get(found['format'], 'assay')}"]
    head += [f"base_model: {model}"] if known else []
    rows = [
        ("format", found["format"]),
        ("architecture", found["architecture"]),
        ("widths", f"d_in {found['d_in']}, d_sae {found['d_sae']}, d_out {found['d_out']}"),
        ("model", model or "not said"),
        ("reads", found["site"] or "not said"),
        *([("predicts", found["target"])] if found["target"] else []),
        ("scale", found["scale"]),
        ("threshold", found["threshold"]),
        ("b_dec", found["b_dec"]),
    ]
    golden = found.get("verified") or found.get("golden")
    checked = f"It carries {golden['rows']} golden rows, which `assay verify {at}` recomputes." if golden else ""
    text = [
        *head,
        "---",
        "",
        f"# A {found['arch']} dictionary",
        "",
        "A dictionary that takes the activations of a neural network apart into sparse parts.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {plain(value)} |".replace("|`", "| `") for name, value in rows),
        "",
        "```",
        f"assay inspect {at}",
        f"assay evaluate {at} --text TEXT",
        "```",
        "",
        *([checked, ""] if checked else []),
        MADE_BY,
        "",
    ]
    return "\n".join(text)
