"""Dictionaries on the Hugging Face Hub: hf://org/repo[/path][@revision].

fetched(address) -> Place       only the files of that path that a dictionary needs are downloaded; they stay in the hub's cache
refusal(error, repo) -> AssayError      what the hub answered, in one sentence without anything of the request

The path is a dictionary's folder, or a single file of weights, with which the .json and .yaml files beside it come. Names that a
repository lists are taken only where they are plain relative paths. Without a network, or with HF_HUB_OFFLINE=1, the cache is asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub import HfApi, constants, errors, snapshot_download
from huggingface_hub.utils import disable_progress_bars

from assay.core.errors import AssayError, BadOption, NotFound, Unreachable
from assay.interop.places import HUB, Place
from assay.interop.releases import facts_of

WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")
WORDS = (".json", ".yaml", ".yml")
BELOW = "checkpoints"  # the folder of Llama Scope's weights
FORM = "hf://org/repo, hf://org/repo/path or hf://org/repo/path@revision"
NETWORK = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "huggingface_hub", "hf_xet")


@dataclass(frozen=True)
class Address:
    """`path` is "" for the whole repository; `revision` None for its main branch."""

    repo: str
    path: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        place = f"{HUB}{self.repo}" + (f"/{self.path}" if self.path else "")
        return place if self.revision is None else f"{place}@{self.revision}"


def address(text: str) -> Address:
    """The parts of hf://org/repo[/path][@revision]; hf://org/repo@revision/path is understood too. Raises BadOption."""
    match = re.fullmatch(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w.-]+))?(?:/([^@]*))?(?:@([\w./-]+))?", text)
    if match is None or (match[2] and match[4]):
        raise BadOption(f"{text[:200]} is no place on the hub; write {FORM}.")
    repo, path, revision = match[1], (match[3] or "").strip("/"), match[2] or match[4]
    if path and not is_plain(path):
        raise BadOption(f"{text[:200]}: {path!r} is no path inside a repository; write {FORM}.")
    if repo.split("/")[0] in ("datasets", "spaces"):
        raise BadOption(
            f"{text[:200]} names a {repo.split('/')[0][:-1]}; dictionaries are read from model repositories."
        )
    return Address(repo, path, revision)


def is_plain(name: str) -> bool:
    """Whether a name of a repository is a relative path that stays inside it."""
    parts = name.split("/")
    return bool(name) and not any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts)


def fetched(text: str) -> Place:
    """The local copy of a place on the hub. Raises BadOption, NotFound or Unreachable in one sentence."""
    at = address(text)
    try:
        with quiet():
            info = HfApi().model_info(at.repo, revision=at.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            names = wanted([s.rfilename for s in info.siblings or []], at)
            root = snapshot_download(
                at.repo, revision=at.revision, allow_patterns=[escape(n) for n in names], max_workers=4
            )
    except AssayError:
        raise
    except Exception as error:
        said = refusal(error, at.repo, at.revision)
        cached = _cached(at) if isinstance(said, Unreachable) else None
        if cached is None:
            raise said from None
        root = cached
    commit = Path(root).name
    return Place(Path(root) / at.path, {**facts_of(at.repo, at.path), "hub": str(Address(at.repo, at.path, commit))})


def _cached(at: Address) -> str | None:
    """The snapshot in the cache, where it holds this path."""
    try:
        with quiet():
            nothing = [
                escape(f"{at.path}/.nothing")
            ]  # else a snapshot of a part of the repository counts as incomplete
            root = snapshot_download(at.repo, revision=at.revision, local_files_only=True, allow_patterns=nothing)
    except Exception:  # whatever is amiss with the cache, the first refusal is the one to tell
        return None
    place = Path(root) / at.path
    held = [place] if place.is_file() else list(place.glob("*")) + list((place / BELOW).glob("*"))
    return root if any(p.suffix in WEIGHTS for p in held) else None


def wanted(names: Sequence[str], at: Address) -> list[str]:
    """The files to download, of all that a repository lists. Raises NotFound naming the dictionaries that are there."""
    safe = [n for n in names if is_plain(n)]

    def within(folder: str, suffixes: Sequence[str]) -> list[str]:
        parent = PurePosixPath(folder)
        return [n for n in safe if PurePosixPath(n).parent == parent and PurePosixPath(n).suffix in suffixes]

    if at.path in safe:
        return [at.path, *within(str(PurePosixPath(at.path).parent), WORDS)]
    weights = within(at.path, WEIGHTS) + within(f"{at.path}/{BELOW}".lstrip("/"), WEIGHTS)
    pickles = [n for n in weights if n.endswith((".pt", ".pth")) and PurePosixPath(n).name != "ae.pt"]
    if len(pickles) > 1:
        raise NotFound(
            f"{at} holds {len(pickles)} dictionaries; name one, such as {Address(at.repo, pickles[0], at.revision)}."
        )
    if weights:
        return [*weights, *within(at.path, WORDS)]
    below = [n for n in safe if n.endswith(WEIGHTS) and (not at.path or n.startswith(f"{at.path}/"))]
    folders = sorted({str(PurePosixPath(n).parent).removesuffix(f"/{BELOW}") for n in below})
    if not folders:
        raise NotFound(f"{at} does not exist in that repository, or holds no weights; {_beside(safe, at.path)}.")
    one = Address(at.repo, folders[0], at.revision)
    raise NotFound(f"{at} holds {len(folders)} folders with weights; name one, such as {one}.")


def _beside(names: Sequence[str], path: str) -> str:
    """What lies in the deepest folder of `path` that exists: "layer_12/width_16k has average_l0_22, average_l0_41"."""
    folder = path
    while folder and not any(n.startswith(f"{folder}/") for n in names):
        folder = folder.rpartition("/")[0]
    below = sorted(
        {n.removeprefix(f"{folder}/" if folder else "").split("/")[0] for n in names if n.startswith(folder)}
    )
    shown = ", ".join(below[:12]) + (", ..." if len(below) > 12 else "") if below else "no files"
    return f"{folder or 'it'} has {shown}"


def refusal(error: Exception, repo: str, revision: str | None = None, *, writing: bool = False) -> AssayError:
    """What the hub answered or did not answer, in one sentence. An error that is not the hub's is raised again."""
    log_in = "run `hf auth login`"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unreachable(
            f"{repo} is not in the cache, and the Hugging Face Hub is not asked (HF_HUB_OFFLINE is set)."
        )
    if writing and (status in (401, 403) or isinstance(error, errors.LocalTokenNotFoundError)):
        return NotFound(f"The hub does not let you write to {repo}; {log_in} with a token that may, or set HF_TOKEN.")
    if isinstance(error, errors.GatedRepoError):
        return Unreachable(
            f"{repo} asks you to accept its terms: do so at https://huggingface.co/{repo}, then {log_in}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{repo} has no revision {revision or 'main'}.")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError) or status in (401, 403, 404):
        return NotFound(f"There is no repository {repo} on the hub that you may read; for a private one, {log_in}.")
    if isinstance(error, ConnectionError | TimeoutError | errors.LocalEntryNotFoundError | errors.HfHubHTTPError):
        return Unreachable(_away(repo, status, writing))
    if type(error).__module__.split(".")[0] in NETWORK:
        return Unreachable(_away(repo, status, writing))
    raise error


def _away(repo: str, status: int | None, writing: bool) -> str:
    how = "does not answer" if status is None else f"answered with an error (status {status})"
    if writing:
        return f"Nothing was written to {repo}: the Hugging Face Hub {how}; go online and push again."
    return f"{repo} is not in the cache, and the Hugging Face Hub {how}; go online, or give a local folder."


@contextmanager
def quiet() -> Generator[None]:
    """No remarks of the hub's client, and its progress bars only on a terminal."""
    log = huggingface_hub.utils.logging
    level = log.get_verbosity()
    log.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    finally:
        log.set_verbosity(level)
