"""Reading activations: one forward pass that ends at the last site it needs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from torch import Tensor

from assay.core.errors import BadInput
from assay.models.model import Model
from assay.models.taps import attach


class _SeenAll(Exception):
    """Raised in the hook of the last needed site; everything after it is not computed."""


def read(
    model: Model, input_ids: Tensor, attention_mask: Tensor | None, sites: Sequence[str], *, stop: bool = True
) -> dict[str, Tensor]:
    """The values at `sites` for ids [batch, pos], each [batch, pos, width], under the names that were asked for.

    The pass ends at the last needed site, so later blocks and logits are never computed; `stop=False` runs it to the
    end. Padded columns hold numbers without meaning. Under `edited` and its kin the changed values are read. Gradients
    are recorded only if something needs them: weights are frozen. Raises `NotFound` for an unknown site.
    """
    if isinstance(sites, str) or not sites:
        raise BadInput(f"sites is {sites!r}; a list with at least one name is needed.")
    asked = {name: model.canonical(name) for name in sites}
    wanted = dict.fromkeys(asked.values())
    for site in wanted:
        model.width(site)  # a site that a pass does not cross is refused here, in words
    seen: dict[str, Tensor] = {}

    with ExitStack() as hooks:
        for site in wanted:

            def see(h: Tensor, site: str = site) -> None:
                seen[site] = h
                if stop and len(seen) == len(wanted):
                    raise _SeenAll

            hooks.callback(attach(model, site, see, writes=False).remove)
        with suppress(_SeenAll):
            model.forward(input_ids, attention_mask, last_logits=True)
    return {name: seen[site] for name, site in asked.items()}
