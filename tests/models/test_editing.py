"""Edits: order, cleaning up, gradients, what `where` says, and the same result however a text is padded or cached."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from tiny_models import BUILDERS, CAUSAL, D, n_hooks, output
from torch import Tensor

from assay.core.errors import BadInput, BadOption, NotFound
from assay.models import Edit, Where, ablated, edited, generate, read, splice

close = lambda a, b: torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-4)


def busy_edits(model: Any) -> list[Edit]:
    """Edits that look at everything in `where`."""
    v = torch.randn(D, generator=torch.Generator().manual_seed(5))

    def fn(h: Tensor, where: Where) -> Tensor:
        size = torch.sin(where.positions) + 0.1 * where.token_ids / 7 + 2.0 * where.generated + 0.3 * where.role
        return 0.8 * h + size[..., None] * v

    sites = ["resid_pre.0", "attn_out.1", "resid_mid.1", "mlp_in.2", "resid_post.2"]
    return [Edit(s, fn) for s in sites if s in model.sites()]


def padded(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    n = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), n, dtype=torch.int64), torch.zeros(len(rows), n, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = slice(n - len(row), n) if side == "left" else slice(0, len(row))
        ids[i, at], mask[i, at] = row, True
    return ids, mask


ROWS = [torch.tensor([1, 7, 30, 41, 9, 22, 17]), torch.tensor([1, 12, 8]), torch.tensor([5, 44, 50, 6, 33])]


def test_edits_at_one_site_compose_in_the_given_order(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")
    double, plus = Edit("resid_mid.1", lambda h, _: 2 * h), Edit("blocks.1.hook_resid_mid", lambda h, _: h + 1)
    x = read(model, ids, None, ["resid_mid.1"])["resid_mid.1"]
    with edited(model, [double, plus]):
        assert torch.equal(read(model, ids, None, ["resid_mid.1"])["resid_mid.1"], 2 * x + 1)
    with edited(model, [plus]), edited(model, [double]):  # the outer block first
        assert torch.equal(read(model, ids, None, ["resid_mid.1"])["resid_mid.1"], 2 * (x + 1))


@pytest.mark.parametrize("family", BUILDERS)
def test_hooks_are_gone_after_an_exception(family: str, tiny: Any, ids: Tensor) -> None:
    model = tiny(family)
    before = output(model, ids)
    assert n_hooks(model) == 0

    def fails(h: Tensor, where: Where) -> Tensor:
        raise ZeroDivisionError

    for site in model.sites()[:9]:
        with pytest.raises(ZeroDivisionError), edited(model, [Edit(site, fails)]):
            output(model, ids)
        with pytest.raises(ZeroDivisionError), edited(model, [Edit(site, fails)]):
            read(model, ids, None, ["resid_post.2"])
    with pytest.raises(NotFound), edited(model, [Edit("embed", fails), Edit("resid_post.9", fails)]):
        pass
    with pytest.raises(NotFound):
        read(model, ids, None, ["embed", "resid_post.9"])
    with pytest.raises(BadInput):
        read(model, ids + 1000, None, ["embed"])
    assert n_hooks(model) == 0
    assert torch.equal(output(model, ids), before)


@pytest.mark.parametrize("family", BUILDERS)
def test_the_side_of_the_padding_does_not_matter_under_edits(family: str, tiny: Any) -> None:
    model = tiny(family)
    got: dict[str, Tensor] = {}
    with edited(model, busy_edits(model)):
        for side in ("left", "right"):
            batch, mask = padded(ROWS, side)
            got[side] = output(model, batch, mask)[mask]
        alone = torch.cat([output(model, row[None])[0] for row in ROWS])
    close(got["left"], got["right"])
    close(got["left"], alone)


@pytest.mark.parametrize("family", CAUSAL)
def test_generation_is_the_same_with_and_without_a_cache_and_on_either_side(family: str, tiny: Any) -> None:
    model = tiny(family)
    plain = generate(model, *padded(ROWS, "left"), 12, stop_ids=())
    with edited(model, busy_edits(model)):
        made = {
            (side, cache): generate(model, *padded(ROWS, side), 12, use_cache=cache, stop_ids=())
            for side in ("left", "right")
            for cache in (True, False)
        }
        alone = torch.cat([generate(model, row[None], None, 12, stop_ids=()) for row in ROWS])
    assert plain.shape == alone.shape == (3, 12)
    assert not torch.equal(plain, alone)  # the edits matter
    for how, tokens in made.items():
        assert torch.equal(tokens, alone), how


def test_where_says_the_same_with_and_without_a_cache(tiny: Any) -> None:
    model = tiny("gpt2")
    facts: dict[bool, list[Where]] = {True: [], False: []}
    for cache, seen in facts.items():
        with edited(model, [Edit("resid_post.1", lambda h, where, seen=seen: (seen.append(where), h)[1])]):
            new = generate(model, *padded(ROWS, "right"), 4, use_cache=cache, stop_ids=())
    last = facts[False][-1]
    for name in ("positions", "token_ids", "attention_mask", "generated", "special", "role"):
        steps = torch.cat([getattr(w, name) for w in facts[True]], 1)
        assert torch.equal(steps, getattr(last, name)), name
    # The second prompt has 3 tokens and stands on the right of 4 padded columns; the last new token was never read.
    assert last.token_ids[1].tolist() == [0, 0, 0, 0, 1, 12, 8, *new[1, :3].tolist()]
    assert last.positions[1].tolist() == [-1, -1, -1, -1, 0, 1, 2, 3, 4, 5]
    assert last.generated[1].tolist() == [False] * 7 + [True] * 3
    assert last.role[1, :7].tolist() == [0, 0, 0, 0, 1, 2, 2]
    assert last.attention_mask[1].tolist() == [False] * 4 + [True] * 6


def test_what_follows_a_generation_is_prompt_again(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")

    def fails_late(h: Tensor, where: Where) -> Tensor:
        if where.generated.any():
            raise ZeroDivisionError
        return h

    for edit in (lambda h, _: h, fails_late):
        with edited(model, [Edit("embed", edit)]), suppress(ZeroDivisionError):
            generate(model, ids[:, :2], None, 3, stop_ids=())
        seen: list[Where] = []
        with edited(model, [Edit("embed", lambda h, where, seen=seen: (seen.append(where), h)[1])]):
            model.logits(ids)
        assert not seen[0].generated.any()


def test_plain_calls_of_the_hugging_face_model_are_edited_too(tiny: Any) -> None:
    model = tiny("llama")
    batch, mask = padded(ROWS, "left")
    with edited(model, busy_edits(model)):
        ours = model.logits(batch, mask)[mask]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        theirs = model.hf(input_ids=batch, attention_mask=mask.long(), position_ids=positions).logits[mask]
        with pytest.raises(BadInput, match="whole model"):
            model.hf.model(input_ids=batch)
        with pytest.raises(BadInput, match="input_ids"):
            model.hf(inputs_embeds=torch.zeros(1, 2, D))
    close(ours, theirs)


@pytest.mark.parametrize("family", ["gpt2", "neox-sequential", "llama", "gemma2", "bert"])
def test_gradients_flow_through_every_site(family: str, tiny: Any, ids: Tensor) -> None:
    """The derivative along a random direction equals the central difference."""
    model = tiny(family)
    for site in ["embed", *(s for s in model.sites() if s.endswith(".1"))]:
        rng = torch.Generator().manual_seed(6)
        v = torch.zeros(model.width(site), requires_grad=True)
        direction = torch.randn(model.width(site), generator=rng)
        weights = torch.randn(output(model, ids).shape, generator=rng) / 50

        def score(shift: Tensor, site: str = site, weights: Tensor = weights) -> Tensor:
            # h * h keeps h in the graph, so that a later write into it would be caught
            with edited(model, [Edit(site, lambda h, _: h + 0.1 * h * h + shift)]):
                return (weights * output(model, ids)).sum()

        (gradient,) = torch.autograd.grad(score(v), v)
        with torch.no_grad():
            step = 1e-2
            slope = (score(step * direction).double() - score(-step * direction).double()) / (2 * step)
        assert abs(slope) > 1e-3, site
        torch.testing.assert_close((gradient * direction).sum().double(), slope, rtol=3e-2, atol=3e-3)


def test_gradients_reach_what_comes_before_an_edit(tiny: Any, ids: Tensor) -> None:
    """resid_mid is written in place; the gradient of what was there before must still be that of the edit."""
    model = tiny("llama")
    v = torch.zeros(D, requires_grad=True)
    before = Edit("resid_pre.1", lambda h, _: h + v)
    for site in ("resid_mid.1", "attn_out.1", "resid_post.1"):
        with edited(model, [before, Edit(site, lambda h, _: 0 * h)]):
            (gone,) = torch.autograd.grad(model.logits(ids).square().sum(), v)
        with edited(model, [before, Edit(site, lambda h, _: h * h)]):
            (there,) = torch.autograd.grad(model.logits(ids).square().sum(), v)
        assert there.abs().sum() > 1e-3
        if site != "attn_out.1":  # past it, v still reaches the output through the stream
            assert not gone.any()


def test_no_graph_is_kept_unless_something_needs_it(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")
    assert not model.logits(ids).requires_grad
    assert not read(model, ids, None, ["resid_mid.1"])["resid_mid.1"].requires_grad


class Halves:
    """A dictionary in the smallest sense: x_hat = x W / 2."""

    def __init__(self, width: int) -> None:
        self.W = (torch.eye(width) / 2).requires_grad_(True)
        self.rows: list[int] = []

    def encode(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return x

    def decode(self, f: Tensor) -> Tensor:
        return f @ self.W


def test_a_splice_touches_kept_real_tokens_only(tiny: Any) -> None:
    model = tiny("gpt2")
    batch, mask = padded(ROWS, "left")
    x = read(model, batch, mask, ["mlp_out.1"])["mlp_out.1"]
    keep = batch % 2 == 0
    for given in (keep, lambda where: where.token_ids % 2 == 0):
        halves = Halves(D)
        with splice(model, "mlp_out.1", halves, keep=given), torch.no_grad():
            got = read(model, batch, mask, ["mlp_out.1"])["mlp_out.1"]
        expected = torch.where((keep & mask)[..., None], x / 2, x)
        close(got, expected)
        assert halves.rows == [int((keep & mask).sum())]
    with splice(model, "mlp_out.1", lambda x: 0 * x), torch.no_grad():
        assert torch.equal(read(model, batch, mask, ["mlp_out.1"])["mlp_out.1"][~mask], x[~mask])


def test_a_splice_with_its_error_sends_gradients_through_the_dictionary_alone(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")
    halves, v = Halves(D), torch.zeros(D, requires_grad=True)
    with edited(model, [Edit("resid_pre.1", lambda h, _: h + v)]), splice(model, "resid_post.1", halves, error=True):
        loss = model.logits(ids).square().mean()
    through, W = torch.autograd.grad(loss, (v, halves.W))
    with edited(model, [Edit("resid_pre.1", lambda h, _: h + v)]):
        (direct,) = torch.autograd.grad(model.logits(ids).square().mean(), v)
    close(through, direct / 2)  # x_hat = x / 2, and the error is a constant
    assert W.abs().sum() > 0


def test_ablation_by_a_mean_and_by_zero(tiny: Any, ids: Tensor) -> None:
    model = tiny("gemma2")
    mean, keep = torch.arange(D).float(), ids % 3 > 0
    x = read(model, ids, None, ["attn_out.0"])["attn_out.0"]
    for by, value in (("zero", torch.zeros(D)), (mean, mean)):
        with ablated(model, "attn_out.0", by, keep):
            got = read(model, ids, None, ["attn_out.0"])["attn_out.0"]
        assert torch.equal(got, torch.where(keep[..., None], value, x))


def test_what_does_not_fit_is_refused_in_words(tiny: Any, ids: Tensor) -> None:
    model = tiny("llama")
    with pytest.raises(BadInput, match=r"returned \(2, 9\)"), edited(model, [Edit("embed", lambda h, _: h[..., 0])]):
        model.logits(ids)
    with pytest.raises(BadInput, match="NoneType"), edited(model, [Edit("embed", lambda h, _: None)]):  # type: ignore
        model.logits(ids)
    with pytest.raises(BadInput, match="does not fit"), splice(model, "embed", lambda x: x[:, :3]):
        model.logits(ids)
    wrong = Halves(D)
    wrong.config = type("Config", (), {"d_in": 99})  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match="d_in=99"):
        splice(model, "embed", wrong)
    with pytest.raises(BadInput, match="keep"), ablated(model, "embed", "zero", torch.ones(2, 3, dtype=torch.bool)):
        model.logits(ids)
    with pytest.raises(BadOption, match='"mean"'):
        ablated(model, "embed", "mean")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"\(3,\)"):
        ablated(model, "embed", torch.zeros(3))
