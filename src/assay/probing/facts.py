"""What is told of each arm beside its cells: kind, access, what it is, and the costs that it shares with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from assay.core.outcome import Cost
from assay.evaluation.tables import recorded_cost, shared_costs
from assay.probing import arms, pool
from assay.probing.comparators import NEURONS
from assay.probing.measure import BEST_K, MAX, RECONSTRUCTED, Cell
from assay.probing.results import ArmFacts
from assay.probing.run import Record, Run


def facts(run: Run, cells: Sequence[Cell], records: Sequence[Record]) -> tuple[dict[str, ArmFacts], list[Cost]]:
    """What is known of each arm that has cells, and the costs that several share."""
    read = sum(r.about["tokens_read"] for r in records)
    spent = sum(r.about["harvest_seconds"].get("model", 0.0) for r in records)
    harvest = Cost(id="harvest", access="activations", upfront_tokens=read, upfront_seconds=spent)
    shared = [harvest]
    found: dict[str, ArmFacts] = {}
    for name in run.dense:
        access = arms.arm(name).ACCESS
        kind = "floor" if arms.arm(name).ROLE == "floor" else "dense"
        includes = ("harvest",) if access == "activations" else ()
        found[name] = _with_use(ArmFacts(kind, access, arms.arm(name).ABOUT, includes=includes), name, cells)
    if NEURONS in run.options.comparators:
        found[NEURONS] = ArmFacts("rival", "activations", "the site's own coordinates", includes=("harvest",))
        found[f"{NEURONS} {MAX}"] = replace(found[NEURONS], about="the largest of each coordinate over a text's tokens")
    for c in run.comparators:
        cost = Cost(id=f"fit of {c.named.name}", access="activations", upfront_seconds=c.seconds, includes=("harvest",))
        shared.append(cost)
        about = f"{c.named.dictionary.d_sae} columns fitted here without labels"
        for label in ("", f" {MAX}"):
            found[c.named.name + label] = ArmFacts("rival", "activations", about, c.named.subject, (cost.id,))
    shared += shared_costs(run.entries, [])
    saes = {named.name for named in run.saes}
    for named, entry in zip(run.named, run.entries, strict=True):
        made = recorded_cost(entry, named.subject)
        shared.append(made)
        kind = "sae" if named.name in saes else "rival"
        about = f"{named.dictionary.arch}, {named.dictionary.d_sae} latents, codes pooled over tokens"
        for label, what in (("", kind), (f" {MAX}", kind), (f" {RECONSTRUCTED}", "reconstruction")):
            found[named.name + label] = ArmFacts(what, "activations", about, named.subject, ("harvest", made.id))
    found |= {
        f"{name} {BEST_K}": replace(facts, about=f"{facts.about}; k chosen inside the folds")
        for name, facts in found.items()
        if facts.kind in ("sae", "rival")
    }
    for name in (pool.POOL, pool.WITH_SPARSE, pool.WITH_SAE):
        found[name] = ArmFacts("pool", "activations", "the arm of the best validation AUC on each task")
    present = {cell.arm for cell in cells}
    return {name: facts for name, facts in found.items() if name in present}, shared


def _with_use(told: ArmFacts, name: str, cells: Sequence[Cell]) -> ArmFacts:
    """With what each text costs, for arms that ask the model itself, and with how they cut the texts."""
    mine = [cell.options for cell in cells if cell.arm == name and "tokens" in cell.options]
    if not mine:
        return told
    mean = {key: fmean(float(o[key]) for o in mine) for key in ("tokens", "seconds")}
    about = told.about
    if "tokens_of_a_text" in mine[0]:
        least, cut = min(o["tokens_of_a_text"] for o in mine), fmean(o["cut"] for o in mine)
        about = f"{about}; {least} tokens a text, and {cut:.0%} of the texts were cut"
    return replace(told, about=about, marginal_tokens=round(mean["tokens"]), marginal_seconds=mean["seconds"])
