"""What several verbs open: a model, text as training rows, dictionaries with their roles."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import threadpoolctl
import torch

from assay import activations, models
from assay.core import artefact
from assay.core.errors import BadInput, BadOption, NotFound, nearest
from assay.dictionaries.files import CONFIG
from assay.interop import open as open_dictionary
from assay.training import ModelStream, TrainConfig


def set_threads(threads: int | None) -> None:
    """So many threads for torch, and for the BLAS of NumPy and SciPy, whose idle threads would spin against everything else."""
    if threads is not None:
        if threads < 1:
            raise BadOption(f"--threads is {threads}; it must be at least 1.")
        torch.set_num_threads(threads)
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)))  # loaded later
        threadpoolctl.threadpool_limits(threads, user_api="blas")  # loaded already


def blocks_of(
    model: Any, text: str, column: str, context: int | None, quiet: bool, splits: tuple[str, ...] = ()
) -> Any:
    """The text as packed token blocks; with `splits`, only of the documents that belong there."""
    documents = activations.documents(text, text_column=column)
    chosen = activations.of_split(documents, *splits) if splits else documents  # type: ignore[arg-type]
    blocks = activations.pack(chosen, model, context=context, quiet=quiet)
    if blocks.table.n_rows == 0:
        raise BadInput(f"{text} gave no tokens to train on; give more text.")
    return blocks


def training_stream(values: Any, options: TrainConfig, out: Path) -> tuple[activations.Stream, str, dict[str, Any]]:
    """The stream that --activations, or --model with --site and --text, names; its site; facts for provenance.

    Rows of documents of the train split only. When the run is longer than the text, activations are harvested once into
    OUT/activations instead of being computed again in every epoch.
    """
    if values.activations is not None:
        if values.model is not None or values.text is not None:
            raise BadOption("--activations was given together with --model or --text; a store holds both already.")
        store = activations.Joined.open(values.activations, *values.join)
        site = _site_of_store(store, values.site)
        if values.target is not None:
            _site_of_store(store, values.target)
        held = store.provenance
        facts = {
            "model": held.get("model"),
            "model_path": held.get("model_path"),
            "text": held.get("text"),
            "context": held.get("context"),
        }
        source: Any = store
    elif values.join:
        raise BadOption("--join adds to --activations; give that store too.")
    else:
        missing = [flag for flag in ("model", "site", "text") if getattr(values, flag) in (None, ())]
        if missing:
            raise BadOption(
                f"--{missing[0]} is missing; give --activations DIR (from assay harvest), or --model M --site S --text T."
            )
        model = models.load(values.model, device=values.device, dtype=values.dtype)
        site = ",".join(model.canonical(single) for single in activations.each(values.site))
        if values.target is not None:
            values.target = ",".join(model.canonical(single) for single in activations.each(values.target))
        blocks = blocks_of(model, values.text, values.text_column, values.context, values.quiet, ("train",))
        facts = model_facts(values, model)
        if options.against != "activations":
            against = ModelStream(
                model, blocks, site, values.target, seed=options.stream_seed, batch_size=options.batch_size
            )
            return against, site, facts
        sites = _all_sites(site, values.target)
        source = activations.LiveSource(model, blocks, sites)
        if options.n_tokens > activations.Stream(source, sites).n_rows:
            source = activations.harvest(
                model,
                sites,
                blocks,
                out.with_name(out.name + ".activations"),
                resume=True,
                quiet=values.quiet,
                facts=facts,
            )
    stream = activations.Stream(
        source,
        _all_sites(site, values.target),
        seed=options.stream_seed,
        shuffle_rows=options.shuffle_rows,
        batch_size=options.batch_size,
    )
    return stream, site, facts


def widths_of(options: dict[str, Any], stream: Any | None, site: str | None, target: str | None) -> dict[str, Any]:
    """An architecture's options with the widths of the sites; without a stream, widths of which only the number is right."""
    from assay.dictionaries.wiring import for_sites

    def widths(name: str) -> list[int]:
        return [1 << 30 if stream is None else stream.width(single) for single in activations.each(name)]

    return for_sites(options, widths(site or "x"), None if target is None else widths(target))


def model_facts(values: Any, model: Any) -> dict[str, Any]:
    """What provenance says of model and text; `model_path` is what `models.load` takes to open it again."""
    return {
        "model": model.name,
        "model_path": str(model.source),
        "model_hash": model.weights_hash(),
        "text": values.text,
        "text_column": values.text_column,
        "context": values.context,
    }


def _site_of_store(store: Any, site: str | None) -> str:
    if site is None:
        if len(store.sites) == 1:
            return store.sites[0]
        raise BadOption(f"The store holds several sites; choose one with --site: {', '.join(store.sites)}.")
    for single in activations.each(site):
        if single not in store.sites:
            raise NotFound(f'"{single}" is not in the store; it holds {", ".join(store.sites)}.')
    return ",".join(activations.each(site))


def _all_sites(site: str, target: str | None) -> list[str]:
    """The single sites that are read and predicted, each once."""
    return list(dict.fromkeys([*activations.each(site), *activations.each(target or "")]))


def dictionary_folders(names: Iterable[str | Path]) -> list[str | Path]:
    """The dictionaries that are named: a dictionary's folder or file, a folder of them (a sweep), or a place on the hub as it is."""
    found: list[str | Path] = []
    for name in names:
        path = Path(name)
        inner: list[Path] = []
        if path.is_dir() and not (path / CONFIG).is_file():
            inner = sorted(p.parent for p in path.glob(f"*/{CONFIG}"))
        found += inner or [path if path.exists() else name]
    return found


def entries(paths: Iterable[str | Path], baselines: tuple[str, ...] = ()) -> list[Any]:
    """Dictionaries as entries of an evaluation. The arm is the architecture with what tells it from its usual form.

    An architecture says its usual role itself; arms named in `baselines` are baselines, and no others are then but controls. Where
    no arm is a baseline, the controls are.
    """
    from assay.core.arms import SEEDLESS
    from assay.evaluation import Entry

    opened = [open_dictionary(folder) for folder in dictionary_folders(paths)]
    arms = {d.label for d in opened}
    for name in baselines:
        if name not in arms:
            raise BadOption(f'--baseline "{name}" is none of the arms.{nearest(name, sorted(arms))}')

    def role(dictionary: Any) -> str:
        if not baselines:
            return dictionary.role
        return "baseline" if dictionary.label in baselines else "control" if dictionary.role == "control" else "method"

    control = "control" if "baseline" in map(role, opened) else "baseline"
    made: list[Any] = []
    for dictionary in opened:
        part = role(dictionary)
        seed = SEEDLESS if dictionary.seedless else int(dictionary.provenance.get("train", {}).get("seed", 0))
        made.append(Entry(dictionary.label, control if part == "control" else part, dictionary, seed=seed))
    return made


def summary_line(folder: Path) -> dict[str, Any]:
    """The last line of a dictionary's training log, or nothing for one that was fitted."""
    log = folder / "log.jsonl"
    if not log.exists():
        return {}
    import json

    return json.loads(log.read_text().splitlines()[-1])


def provenance_of(folder: Path) -> dict[str, Any]:
    return artefact.read_json(folder / "provenance.json")
