"""Golden vectors excuse a pair that rounding may put on either side of a threshold, and no other pair."""

from __future__ import annotations

import pytest
import torch
from dictionary_examples import Case
from test_contract_files import rewrite, saved

from assay import dictionaries
from assay.core import artefact
from assay.core.errors import Corrupt
from assay.kernels import Above, Codes
from assay.kernels.selection import keys


def at_the_border(case: Case, distance: float) -> tuple[dictionaries.Dictionary, torch.Tensor, int, int]:
    """A dictionary and inputs such that in row 0 a latent lies `distance` (relative) inside the border of the support.

    For `Top`, the k-th key is that much larger than the next one, by moving x along the encoder;
    returns dictionary, x, and
    the latent just inside and (for Top) the one just outside.
    """
    made, x = case.made(), case.inputs(64, 7)
    p = made.params_at()
    selection = made.select(p, training=False)
    u = made.pre_activations(x).detach()
    if isinstance(selection, Above):
        on = made.encode_sparse(x[:1]).dense()[0] != 0
        inside = int((u[0] - selection.threshold).where(on, -torch.inf).argmax())
        name = next(n for n in ("b_gate", "b_enc") if hasattr(made, n))
        with torch.no_grad():  # the threshold falls as the bias rises
            wanted = u[0, inside] - distance * u[0, inside].abs()
            getattr(made, name)[inside] += selection.threshold[inside] - wanted
        return made, x, inside, -1
    for _ in range(50):  # Newton: move row 0 until the two keys around the border are as near as asked
        x = x.detach().requires_grad_()
        key = keys(made.pre_activations(x[:1]), selection)[0]
        if selection.scope == "block":  # the border of the first layer
            key = key[: made.blocks[0].latents.stop]
        order = key.argsort(descending=True)
        inside, outside = int(order[selection.k - 1]), int(order[selection.k])
        excess = key[inside] - key[outside] * (1 + distance)
        (slope,) = torch.autograd.grad(excess, x)
        x = x - 0.999 * float(excess) * slope / slope.pow(2).sum()
    return made, x.detach(), inside, outside


@pytest.mark.parametrize(("distance", "excused"), [(1e-5, True), (1e-2, False)])
def test_golden_vectors_excuse_only_pairs_at_a_threshold(case, tmp_path, distance, excused) -> None:
    selection = (m := case.made()).select(m.params_at(), training=False)
    if not isinstance(selection, Above) and selection.k >= case.config.d_sae:
        pytest.skip("with k = d_sae no pair is left out")
    made, x, inside, outside = at_the_border(case, distance)
    saved(case, tmp_path, made)
    exported = dictionaries.load(tmp_path)
    raw = (3.7 * x).float()
    with torch.no_grad():
        codes = exported.encode_sparse(raw)
        dense = codes.dense()
        dense[0, inside] = 0.0  # as another machine's rounding might have it
        if outside >= 0:
            u = exported.pre_activations(raw[:1])
            dense[0, outside] = exported.pairs(u, exported.params_at())[0][exported.main_code][0, outside]
        flipped = Codes.of(dense)
        x_hat = exported.reconstruct(raw, flipped)
    assert len(flipped) == len(codes) - (outside < 0), "the pair was on"
    rewrite(
        tmp_path, "golden.safetensors", x=raw, row=flipped.row, latent=flipped.latent, value=flipped.value, x_hat=x_hat
    )
    if excused:
        assert dictionaries.verify(tmp_path)["pairs_at_a_threshold"] == 1 + (outside >= 0)
    else:
        with pytest.raises(Corrupt, match="switched on or off"):
            dictionaries.verify(tmp_path)


def test_a_code_that_is_almost_zero_may_be_zero(case, tmp_path) -> None:
    """Where a code rises continuously from 0, a value below the tolerance of values may be on or off."""
    made = case.made()
    if not isinstance(made.select(made.params_at(), training=False), Above):
        pytest.skip("its codes do not rise from 0")
    x = case.inputs(64, 7)
    with torch.no_grad():
        for vector in made.vectors:  # gate open, threshold exactly 0: nothing is relatively near it
            getattr(made, vector).fill_(0.0)
        made.wired[0][1][:, 0] *= 1e-9
    saved(case, tmp_path, made)
    golden = artefact.read_tensors(tmp_path / "golden.safetensors")
    tiny = (golden["latent"] == 0) & (golden["value"] < 1e-7)
    assert bool(tiny.any()), f"{x.shape}: no tiny code was made"
    kept = {n: golden[n][~tiny] for n in ("row", "latent", "value")}
    rewrite(tmp_path, "golden.safetensors", **kept)
    dictionaries.verify(tmp_path)
