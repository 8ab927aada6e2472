"""What is refused, and what is said aloud, before and after measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assay.core.artefact import read_json, sha256_bytes, sha256_file
from assay.core.errors import AssayError, BadInput, BadOption, nearest
from assay.evaluation.entry import ROLES, Entry
from assay.evaluation.readings import Reading, Readings

CONFIG, WEIGHTS, DOCUMENTS = "config.json", "weights.safetensors", "documents.json"


def provenance(dictionary: Any) -> Mapping[str, Any]:
    found = getattr(dictionary, "provenance", None)
    return found if isinstance(found, Mapping) else {}


def is_foreign(dictionary: Any) -> bool:
    """Whether another tool wrote it, so that its site is what somebody wrote down, not what a training run recorded."""
    return "read_from" in provenance(dictionary)


def origin(dictionary: Any) -> str:
    """In brackets, where it was trained: ` (site resid_post.2 of stories260k)`."""
    known = provenance(dictionary)
    site, model = known.get("site"), known.get("model")
    of = f" of {model}" if model else ""
    return f" (site {site}{of})" if site else ""


def subject_of(entry: Entry) -> str:
    """16 hex digits that name the artefact, its options included (raw coordinates of any k have the same weights)."""
    if entry.subject:
        return entry.subject
    path = getattr(entry.dictionary, "path", None)
    if path is not None and (Path(path) / WEIGHTS).is_file() and (Path(path) / CONFIG).is_file():
        return sha256_bytes("".join(sha256_file(Path(path) / name) for name in (CONFIG, WEIGHTS)).encode())[:16]
    config = getattr(entry.dictionary, "config", "")
    named = f"{type(entry.dictionary).__qualname__} {entry.arm} {entry.seed} {dict(entry.options)} {config}"
    digest = hashlib.sha256(named.encode())
    state = entry.dictionary.state_dict() if isinstance(entry.dictionary, torch.nn.Module) else {}
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def arms(entries: Sequence[Entry]) -> dict[str, str]:
    """{arm: role}. Raises `BadOption` for no entry, an unknown role, or an arm with two roles."""
    if not entries:
        raise BadOption("No dictionary was given to evaluate; give one or more.")
    roles: dict[str, str] = {}
    for entry in entries:
        if entry.role not in ROLES:
            raise BadOption(f'The role of arm "{entry.arm}" is "{entry.role}".{nearest(entry.role, ROLES)}')
        if roles.setdefault(entry.arm, entry.role) != entry.role:
            raise BadOption(
                f'Arm "{entry.arm}" is given as {roles[entry.arm]} and as {entry.role}; an arm has one role.'
            )
    return roles


def site_of(entries: Sequence[Entry], site: str | None, canonical: Any) -> str:
    """The one site of all: as asked, or as the dictionaries say. Raises `BadInput` naming both where they differ.

    What another tool's file says gives way to a site that was asked for; `overruled` tells of it.
    """
    asked = site
    for entry in entries:
        theirs = provenance(entry.dictionary).get("site")
        if theirs is None or (asked is not None and is_foreign(entry.dictionary)):
            continue
        if site is None:
            site = str(theirs)
        if canonical(str(theirs)) != canonical(site):
            raise BadInput(
                f"The activations are read at {canonical(site)}, but a dictionary of arm {entry.arm} was trained on "
                f"{canonical(str(theirs))}; evaluate dictionaries of one site at a time, at that site."
            )
    if site is None:
        raise BadOption("No site was given and the dictionaries do not say theirs; name it with --site.")
    return canonical(site)


def target_of(entries: Sequence[Entry], site: str, canonical: Any, asked: str | None = None) -> str:
    """The one site that all predict: `site`, unless they are transcoders. Raises `BadInput` where they differ.

    asked: the target of transcoders of other tools, in place of what their files say.
    """
    found: dict[str, str] = {}
    for entry in entries:
        theirs = provenance(entry.dictionary).get("target")
        if getattr(getattr(entry.dictionary, "config", None), "wiring", "sae") == "transcoder" and is_foreign(
            entry.dictionary
        ):
            theirs = asked or theirs
            if theirs is None:
                raise BadOption(
                    f"The transcoder of arm {entry.arm} does not say which site it predicts; name it with --target."
                )
        elif asked is not None and canonical(str(theirs or site)) != canonical(asked):
            raise BadOption(
                f"--target is {asked}, but a dictionary of arm {entry.arm} predicts {canonical(str(theirs or site))}; leave --target out."
            )
        found[canonical(str(theirs or site))] = entry.arm
    if len(found) > 1:
        named = " and ".join(f"{target} (arm {arm})" for target, arm in found.items())
        raise BadInput(f"These dictionaries predict different sites: {named}; evaluate those of one target at a time.")
    return next(iter(found))


def overruled(entries: Sequence[Entry], site: str, target: str, canonical: Any) -> list[str]:
    """An alarm for each foreign dictionary whose file names another site than the one that was asked for."""
    found: list[str] = []
    for entry in entries:
        if not is_foreign(entry.dictionary):
            continue
        for name, used in (("site", site), ("target", target)):
            said = provenance(entry.dictionary).get(name)
            if said is not None and canonical_or_same(canonical, str(said)) != used:
                found.append(
                    f"The file of arm {entry.arm} names the {name} {said}; it was measured at {used}, as asked."
                )
    return list(dict.fromkeys(found))


def canonical_or_same(canonical: Any, name: str) -> str:
    """The canonical name, or the name itself where the model knows none of that name."""
    try:
        return canonical(name)
    except AssayError:
        return name


def width(entries: Sequence[Entry], readings: Readings, place: str) -> None:
    """Raises `BadInput` where a dictionary reads another width than the site has."""
    for entry in entries:
        config = getattr(entry.dictionary, "config", None)
        d_in = getattr(config, "d_in", None)
        if d_in is not None and d_in != readings.width:
            raise BadInput(
                f"x has last axis {readings.width} at {place}, this dictionary of arm {entry.arm} was trained on "
                f"d_in={d_in}{origin(entry.dictionary)}; give it activations of its own site and model."
            )
        d_out = getattr(entry.dictionary, "d_out", None)
        if isinstance(d_out, int) and d_out != readings.width_out:
            raise BadInput(
                f"A dictionary of arm {entry.arm} predicts vectors of width {d_out}, {readings.target} has width "
                f"{readings.width_out}; it was trained for another target{origin(entry.dictionary)}."
            )


def trained_on(entry: Entry) -> frozenset[str] | None:
    """Ids of the documents that a dictionary was trained on; None where nobody recorded them."""
    if entry.trained_on is not None:
        return entry.trained_on
    path = getattr(entry.dictionary, "path", None)
    if path is not None and (Path(path) / DOCUMENTS).is_file():
        return frozenset(read_json(Path(path) / DOCUMENTS)) or None
    recorded = provenance(entry.dictionary).get("document_ids")
    return frozenset(recorded) if recorded else None


def fresh(entries: Sequence[Entry], readings: Readings, allow_train: bool) -> list[str]:
    """Refuse documents that a dictionary was trained on; with `allow_train`, or where it is unknown, return alarms."""
    alarms: list[str] = []
    ours = {readings.table.documents[i] for i in readings.chosen}
    unknown: set[str] = set()
    shared: dict[frozenset[str], int] = {}  # the dictionaries of one sweep share one set
    for entry in entries:
        theirs = trained_on(entry)
        if theirs is None:
            unknown.add(entry.arm)
            continue
        if theirs not in shared:
            shared[theirs] = len(ours & theirs)
        if n := shared[theirs]:
            said = f"{n} of {len(ours)} documents were used to train a dictionary of arm {entry.arm}"
            if not allow_train:
                raise BadInput(f"{said}; give other text, split with --split hash, or say --allow-train.")
            if said not in alarms:
                alarms.append(said + ": its numbers are not held-out ones (--allow-train).")
    if unknown:
        alarms.append(f"It is not known on which documents these were trained: {', '.join(sorted(unknown))}.")
    return alarms


def finite(reading: Reading, readings: Readings) -> None:
    """Raises `BadInput` with the origin of the first activation that is NaN or infinite."""
    bad = ~(torch.isfinite(reading.x).all(1) & torch.isfinite(reading.y).all(1))
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        document = readings.table.documents[int(reading.document[row])]
        raise BadInput(
            f"The activations at {readings.site} hold NaN or infinity in document {document}, position "
            f"{int(reading.position[row])}; the model or the store is damaged, or its dtype overflows."
        )


def varied(spread: Tensor, readings: Readings) -> None:
    """Raises `BadInput` where a site carries the same vector at every token: there is no variance to explain."""
    if float(spread.sum()) == 0:
        raise BadInput(
            f"The activations at {readings.target} are the same for every token; there is nothing to explain. "
            "Choose another site."
        )


def fit_alarm(entry: Entry, fvu: float, place: str) -> str | None:
    """A sentence where a dictionary does worse than the mean of the activations."""
    if not fvu > 1:
        return None
    return (
        f"A dictionary of arm {entry.arm}{origin(entry.dictionary)} has FVU {fvu:.3g} at {place}: it is farther from "
        "the activations than their mean is. Does the site fit? It may belong to another layer, model or scale."
    )


def ablation_alarms(losses: Mapping[str, float], place: str) -> list[str]:
    """Sentences where ablating hardly changes the loss, or lowers it, so that loss recovered means little."""
    found: list[str] = []
    for kind in ("zero", "mean"):
        rise = losses[kind] - losses["clean"]
        if rise < 0.01:
            found.append(
                f"{kind.capitalize()} ablation at {place} changes the loss by {rise:+.4f} nats only; loss recovered "
                f"({kind} ablation) divides by that and means little there. Read the delta loss."
            )
    return found


def models(entries: Sequence[Entry], model_hash: str | None) -> list[str]:
    """An alarm for each dictionary that says it was trained on a model of other weights."""
    if model_hash is None:
        return []
    known = [(entry.arm, provenance(entry.dictionary)) for entry in entries]
    found = [
        f"A dictionary of arm {arm} was trained on {said.get('model')}, whose weights are not those of this model."
        for arm, said in known
        if said.get("model_hash") not in (None, model_hash)
    ]
    return list(dict.fromkeys(found))


def no_language(model: Any | None, store: Any | None, language: bool) -> str | None:
    """Why the loss metrics are null; None where they are measured."""
    if store is not None:
        return "Activations on disk were evaluated; the loss needs the model that they came from."
    if not getattr(model, "is_causal_lm", False):
        name = getattr(model, "name", "The model")
        return f"{name} is an encoder and predicts no next token, so it has no loss to recover."
    return None if language else "Loss metrics were switched off."


def judged(roles: Mapping[str, str], alone: bool) -> bool:
    """Whether verdicts can be had: a method beside a baseline.

    Raises `BadOption` where neither a baseline nor a control stands beside the methods, unless `alone`.
    """
    present = set(roles.values())
    if "method" in present and not present & {"baseline", "control"} and not alone:
        raise BadOption(
            "No baseline stands beside these dictionaries, so nothing can be said of their worth; add one (another "
            "architecture, or the controls pca, raw, random), or say that they are measured alone."
        )
    return {"method", "baseline"} <= present


def unjudged(roles: Mapping[str, str]) -> list[str]:
    """An alarm where there are methods but no baseline to judge them against."""
    present = set(roles.values())
    if "method" not in present or "baseline" in present:
        return []
    return ["No arm is a baseline, so there are numbers but no verdict."]
