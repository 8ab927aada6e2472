"""What was run: everything a reader needs to do it again, or to doubt it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from assay.report.markup import Html, escape, join, listing, tag
from assay.report.saved import Saved
from assay.report.words import number

NOT_RECORDED = "The folders hold no run.json, so the command, the versions and the text are not on record."


def alarms(saved: Saved) -> list[str]:
    """Sentences that a reader must see before any number: what the run recorded, and what the numbers betray."""
    found: list[str] = []
    for run in saved.runs:
        found += [str(alarm) for alarm in run.get("alarms") or []]
        check = run.get("splice_check")
        if isinstance(check, Mapping) and check.get("passed") is False:
            found.append(
                f"The splice check failed: putting back x̂ + (x − x̂) changed the loss by up to "
                f"{check.get('max_abs_loss_change_nats')} nats, so no loss metric of this run can be trusted."
            )
    above = sorted(
        {
            row.arm
            for s in saved.settings
            for row in s.rows
            if row.role in ("method", "baseline") and (row.value("fvu") or 0) > 1
        }
    )
    if above and not any("FVU" in alarm for alarm in found):
        found.append(
            f"FVU is above 1 for {', '.join(above)}: worse than predicting the mean. Are these dictionaries of "
            f"this site and scale?"
        )
    dead = sorted(
        {
            row.arm
            for s in saved.settings
            for row in s.rows
            if row.role in ("method", "baseline") and (row.value("dead") or 0) > 0.5
        }
    )
    if dead:
        found.append(f"More than half of the latents never fired in some dictionaries of {', '.join(dead)}.")
    if saved.settings and not any(role in ("control", "floor") for role in saved.roles.values()):
        found.append("No control was measured, so nothing here says how much of these numbers needs learning at all.")
    return list(dict.fromkeys(found + saved.notes))


def ran(saved: Saved) -> Html:
    """A list of facts for each run."""
    if not saved.runs:
        return tag("p", NOT_RECORDED)
    parts: list[Html] = []
    for run in saved.runs:
        if len(saved.runs) > 1:
            parts.append(tag("h3", run.get("folder", "")))
        parts.append(_facts(run))
        notes = [str(note) for note in run.get("notes") or []]
        if notes:
            parts += [tag("h3", "How things were measured"), listing(notes)]
        parts.append(_dictionaries(run))
    return join(parts)


def _facts(run: dict[str, Any]) -> Html:
    provenance = run.get("provenance") or {}
    facts: list[tuple[str, object]] = [
        ("command", _command(provenance.get("command"))),
        ("when", provenance.get("written")),
        ("model", _hashed(run.get("model"), run.get("model_hash"))),
        ("site", run.get("site")),
        ("text", _plain(run.get("text") or provenance.get("text"))),
        ("splits", _splits(run.get("splits"))),
        ("masks", _plain(run.get("masks"))),
        ("means", _plain(run.get("means"))),
        ("context", f"{run['context']} tokens" if run.get("context") else None),
        ("seed of resampling", run.get("seed")),
        ("splice check", _splice(run.get("splice_check"))),
        ("losses", _losses(run.get("losses_nats"))),
        ("no loss metrics", run.get("no_language")),
        (
            "machine",
            _plain({k: provenance[k] for k in ("machine", "device", "threads", "n_threads") if k in provenance}),
        ),
        ("versions", _plain(provenance.get("versions"))),
    ]
    cells = [tag("dt", name) + tag("dd", value) for name, value in facts if value not in (None, "", {}, [])]
    return tag("dl", *(Html(cell) for cell in cells), class_="facts")


def _command(command: object) -> Html | None:
    if not command:
        return None
    return tag("code", shlex.join(map(str, command)) if isinstance(command, list | tuple) else command)


def _hashed(name: object, digest: object) -> Html | None:
    if not name:
        return None
    return join(
        [str(name), tag("span", f" {str(digest)[:16]}", class_="quiet mono", title=str(digest)) if digest else ""]
    )


def _splits(splits: object) -> str:
    if not isinstance(splits, Mapping):
        return _plain(splits)
    said = []
    for name, about in splits.items():
        if isinstance(about, Mapping):
            size = ", ".join(f"{about[k]:,} {k}" for k in ("documents", "tokens") if isinstance(about.get(k), int))
            said.append(f"{name}: {size}" + (f" ({about['how']})" if about.get("how") else ""))
        else:
            said.append(f"{name}: {about}")
    return "; ".join(said)


def _splice(check: object) -> str | None:
    if not isinstance(check, Mapping):
        return None
    change, limit = check.get("max_abs_loss_change_nats"), check.get("tolerance_nats")
    word = "passed" if check.get("passed") else "FAILED"
    return (
        f"{word}: with x̂ + (x − x̂) in place of x the loss of {check.get('documents', '?')} documents changed "
        f"by at most "
        f"{_small(change)} nats (allowed: {_small(limit)})"
    )


def _small(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) and value and abs(value) < 1e-3 else str(value)


def _losses(losses: object) -> str | None:
    if not isinstance(losses, Mapping):
        return None
    return (
        "; ".join(
            f"{split}: "
            + ", ".join(f"{name} {number(value, 4)}" for name, value in of.items() if isinstance(value, int | float))
            for split, of in losses.items()
            if isinstance(of, Mapping)
        )
        + " nats a token"
    )


def _dictionaries(run: dict[str, Any]) -> Html:
    """Where every dictionary came from."""
    entries = [entry for entry in run.get("dictionaries") or [] if isinstance(entry, Mapping)]
    if not entries:
        return Html("")
    from assay.report.markup import table

    rows = [
        [
            tag("th", str(e.get("arm", "")), scope="row"),
            tag("td", str(e.get("arch", "")), class_="l"),
            tag("td", "" if e.get("seed") in (None, -1) else str(e["seed"])),
            tag("td", f"{e.get('d_in', '?')} → {e.get('d_sae', '?')}"),
            tag("td", _plain(e.get("options")), class_="wrap"),
            tag("td", tag("code", str(e.get("subject", ""))[:16], title=str(e.get("subject", ""))), class_="l"),
            tag("td", "yes" if e.get("trained_on_known") else "no", class_="l"),
            tag("td", str(e.get("path") or ""), class_="l"),
        ]
        for e in entries
    ]
    head = ["arm", "architecture", "seed", "width", "options", "checksum", "training documents known", "folder"]
    summary = tag("summary", f"Provenance of {len(entries)} dictionaries")
    return tag("details", summary, table(head, rows))


def _plain(value: object) -> str:
    """Nested facts on one line."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items() if item not in (None, "", "absent"))
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def words_of(pairs: Mapping[str, str]) -> Html:
    """A list of definitions."""
    return tag("dl", *(join([tag("dt", escape(k)), tag("dd", v)]) for k, v in pairs.items()), class_="words")
