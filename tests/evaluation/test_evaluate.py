"""The whole of `evaluate` on a tiny random model: dictionaries of known worth, and a recomputation in plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from known_dictionaries import SITE, Above, Constant, D, Identity

from assay.activations import Document, half_of
from assay.core.artefact import read_json, verify_checksums
from assay.core.errors import BadInput, BadOption
from assay.core.outcome import Results
from assay.evaluation import Entry, Evaluation, Showing, evaluate
from assay.evaluation.files import RUN_KEYS
from assay.models import Model, read


def own_activations(model: Model, documents: list[Document], split: str) -> list[torch.Tensor]:
    """x [tokens, d] of each document of a split, read one document at a time; rows of special tokens are dropped."""
    found: list[torch.Tensor] = []
    for document in documents:
        if half_of(document.id) == split:
            ids = torch.tensor([[0, *model.tokenizer(document.text)["input_ids"]]])
            with torch.no_grad():
                found.append(read(model, ids, None, [SITE])[SITE][0, ids[0] != 0])
    return found


def own_losses(model: Model, documents: list[Document], split: str, change: Any) -> float:
    """Summed loss of all text tokens with `change` applied to the site at their positions, document by document."""
    total = 0.0
    for document in documents:
        if half_of(document.id) == split:
            ids = torch.tensor([[0, *model.tokenizer(document.text)["input_ids"]]])

            def hook(module: Any, args: Any, output: Any, ids: torch.Tensor = ids) -> Any:
                h = output[0] if isinstance(output, tuple) else output
                h = torch.where(ids[..., None] != 0, change(h), h)
                return (h, *output[1:]) if isinstance(output, tuple) else h

            handle = model.hf.transformer.h[0].register_forward_hook(hook)
            with torch.no_grad():
                logits = model.hf(input_ids=ids).logits[0, :-1].double()
            handle.remove()
            losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            total += float(losses[ids[0, 1:] != 0].sum())
    return total


def value(result: Results, arm: str, metric: str, split: str = "test", seed: int | None = 0) -> Any:
    found = [
        o for o in result.outcomes if (o.arm, o.metric, o.split) == (arm, metric, split) and o.seed in (seed, None)
    ]
    return found[0].value


@pytest.fixture(scope="module")
def means(model: Model, documents: list[Document]) -> dict[str, torch.Tensor]:
    return {s: torch.cat(own_activations(model, documents, s)).double().mean(0) for s in ("validation", "test")}


@pytest.fixture(scope="module")
def result(
    model: Model, documents: list[Document], means: dict[str, torch.Tensor], tmp_path_factory: Any
) -> Evaluation:
    entries = [
        Entry("identity", "method", Identity()),
        Entry("test mean", "floor", Constant(means["test"])),
        Entry("validation mean", "floor", Constant(means["validation"])),
        Entry("zero", "floor", Constant(torch.zeros(D))),
        Entry("half", "method", Identity(k=8), options={"k": 8}),
        *(Entry("raw", "baseline", Identity(k=k), options={"k": k}) for k in (2, 6, 12, 16)),
    ]
    out = tmp_path_factory.mktemp("evaluate") / "out"
    return evaluate(entries, model=model, site=SITE, documents=documents, resamples=400, out=out, quiet=True)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_the_identity_is_perfect(result: Evaluation, split: str) -> None:
    assert value(result, "identity", "fvu", split) == 0
    assert value(result, "identity", "gamma", split) == pytest.approx(1, abs=1e-12)
    assert value(result, "identity", "cosine", split) == pytest.approx(1, abs=1e-12)
    assert value(result, "identity", "norm_ratio", split) == 1
    assert value(result, "identity", "l0", split) == D
    assert value(result, "identity", "loss_recovered_zero", split) == pytest.approx(1, abs=1e-6)
    assert value(result, "identity", "loss_recovered_mean", split) == pytest.approx(1, abs=1e-6)
    assert value(result, "identity", "delta_loss", split) == pytest.approx(0, abs=1e-6)


def test_the_floors_score_what_they_define(result: Evaluation) -> None:
    assert value(result, "test mean", "fvu", "test") == pytest.approx(1, abs=1e-6)
    assert value(result, "validation mean", "fvu", "validation") == pytest.approx(1, abs=1e-6)
    assert value(result, "validation mean", "fvu", "test") > 1.0001
    for split in ("validation", "test"):  # the mean ablation puts the validation mean, on both splits
        assert value(result, "validation mean", "loss_recovered_mean", split) == pytest.approx(0, abs=2e-5)
        assert value(result, "zero", "loss_recovered_zero", split) == pytest.approx(0, abs=1e-9)
    assert abs(value(result, "test mean", "loss_recovered_mean", "test")) > 1e-3
    gamma = next(o for o in result.outcomes if (o.arm, o.metric, o.split) == ("zero", "gamma", "test"))
    assert gamma.value is None
    assert gamma.why_null is not None


@pytest.mark.parametrize("split", ["validation", "test"])
def test_everything_equals_a_plain_loop_over_documents(
    result: Evaluation, model: Model, documents: list[Document], means: dict[str, torch.Tensor], split: str
) -> None:
    half = Identity(k=8)
    keep_largest = lambda x: half.encode(x)
    zero = lambda x: torch.zeros_like(x)
    mean = lambda x: means["validation"].float().expand_as(x)
    rows = torch.cat(own_activations(model, documents, split)).double()
    x_hat = keep_largest(rows)
    fvu = (rows - x_hat).square().sum() / (rows - rows.mean(0)).square().sum()
    gamma = x_hat.square().sum() / (x_hat * rows).sum()
    cosine = torch.nn.functional.cosine_similarity(rows, x_hat, dim=1).mean()
    assert value(result, "half", "fvu", split) == pytest.approx(float(fvu), rel=1e-5)
    assert value(result, "half", "gamma", split) == pytest.approx(float(gamma), rel=1e-5)
    assert value(result, "half", "cosine", split) == pytest.approx(float(cosine), rel=1e-5)
    ratio = x_hat.norm(dim=1).sum() / rows.norm(dim=1).sum()
    assert value(result, "half", "norm_ratio", split) == pytest.approx(float(ratio), rel=1e-5)
    assert value(result, "half", "l0", split) == 8
    same = lambda x: x
    clean, zeroed, meaned, spliced = (
        own_losses(model, documents, split, change) for change in (same, zero, mean, keep_largest)
    )
    assert value(result, "half", "delta_loss", split) == pytest.approx((spliced - clean) / len(rows), rel=1e-3)
    lost = (spliced - clean) / (zeroed - clean)
    assert value(result, "half", "loss_recovered_zero", split) == pytest.approx(1 - lost, rel=1e-4)
    lost = (spliced - clean) / (meaned - clean)
    assert value(result, "half", "loss_recovered_mean", split) == pytest.approx(1 - lost, rel=1e-4)
    assert result.run["losses_nats"][split]["clean"] == pytest.approx(clean / len(rows), rel=1e-5)


def test_the_splice_check_is_reported(result: Evaluation) -> None:
    check = result.run["splice_check"]
    assert check["passed"]
    assert 0 <= check["max_abs_loss_change_nats"] <= check["tolerance_nats"]
    assert check["documents"] >= 1


def test_a_broken_splice_is_our_own_fault(
    model: Model, documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    from assay.evaluation.losses import Speaker

    real = Speaker.spliced
    shifted = lambda self, reading, x_hat: real(self, reading, x_hat.roll(1, dims=0))  # each row one place too late
    monkeypatch.setattr(Speaker, "spliced", shifted)
    with pytest.raises(AssertionError, match="splicing is broken"):
        evaluate([Entry("a", "control", Identity())], model=model, site=SITE, documents=documents, quiet=True)


def test_dead_and_dense_shares(result: Evaluation) -> None:
    for metric, expected in (("dead", 1.0), ("dense_1", 0.0), ("dense_10", 0.0)):
        assert value(result, "zero", metric) == expected
    assert value(result, "identity", "dead") == 0
    assert value(result, "identity", "dense_10") == 1
    share = next(o for o in result.outcomes if o.metric == "dead" and o.split == "test")
    assert share.n_obs == result.run["splits"]["test"]["tokens"]
    assert f"{share.n_obs:,} tokens" in (share.why_null or "")


def test_points_are_the_measured_l0_of_the_test_split(result: Evaluation) -> None:
    assert {(o.arm, o.point) for o in result.outcomes if o.arm in ("half", "zero")} == {("half", 8.0), ("zero", None)}
    assert {o.point_name for o in result.outcomes if o.arm == "half"} == {"l0"}


def test_verdicts_stand_at_matched_points(result: Evaluation) -> None:
    found = {(v.arm, v.metric, v.split): v for v in result.verdicts}
    judged = found["half", "fvu", "test"]
    assert judged.baseline == "raw"
    low, high = (value_at(result, k) for k in (6, 12))
    weight = (torch.tensor(8.0).log() - torch.tensor(6.0).log()) / (torch.tensor(12.0).log() - torch.tensor(6.0).log())
    assert judged.baseline_value == pytest.approx(float((1 - weight) * low + weight * high), rel=1e-6)
    assert {v.metric for v in result.verdicts} == {"fvu", "loss_recovered_zero", "gamma"}


def value_at(result: Evaluation, k: int) -> float:
    return next(
        o.value
        for o in result.outcomes
        if (o.arm, o.metric, o.split) == ("raw", "fvu", "test") and o.options == {"k": k} and o.value is not None
    )


def test_costs_hold_the_measured_encode_time(result: Evaluation) -> None:
    assert len(result.costs) == 9
    assert all(c.marginal_seconds > 0 and c.marginal_per == "document" for c in result.costs)
    tokens = sum(s["tokens"] for s in result.run["splits"].values())
    n = sum(s["documents"] for s in result.run["splits"].values())
    assert result.costs[0].marginal_tokens == round(tokens / n)


def test_the_files_are_whole_and_say_what_was_run(result: Evaluation, tmp_path_factory: Any) -> None:
    folder = next(Path(tmp_path_factory.getbasetemp()).glob("evaluate*/out"))
    assert set(verify_checksums(folder)) >= {
        "units.parquet", "outcomes.parquet", "costs.parquet", "verdicts.parquet", "examples.parquet",
        "histogram.parquet", "run.json",
    }  # fmt: skip
    run = read_json(folder / "run.json")
    assert set(run) == set(RUN_KEYS)
    assert run["task"] == f"tiny {SITE}"
    assert len(Results.load(folder).outcomes) == len(result.outcomes)
    assert pq.read_table(folder / "examples.parquet").equals(result.examples)
    with pytest.raises(BadOption, match="already holds a result"):
        evaluate([Entry("a", "control", Identity())], out=folder)


@pytest.mark.parametrize("batch_tokens", [1, 100_000])
def test_batches_and_document_order_do_not_matter(model: Model, documents: list[Document], batch_tokens: int) -> None:
    entries = [Entry("half", "control", Identity(k=5))]
    options: dict[str, Any] = {"model": model, "site": SITE, "resamples": 50, "quiet": True}
    first = evaluate(entries, documents=documents[:20], batch_tokens=64, **options)
    second = evaluate(entries, documents=documents[19::-1], batch_tokens=batch_tokens, **options)
    key = lambda o: (o.arm, o.metric, o.split, o.seed is None)
    for a, b in zip(sorted(first.outcomes, key=key), sorted(second.outcomes, key=key), strict=True):
        assert key(a) == key(b)
        assert a.value == pytest.approx(b.value, rel=1e-4, abs=1e-6), a.metric
    assert first.histogram.equals(second.histogram)
    for a, b in zip(first.examples.to_pylist(), second.examples.to_pylist(), strict=True):
        assert (a["latent"], a["rank"]) == (b["latent"], b["rank"])  # documents that begin alike tie up to rounding
        assert abs(a["values"][a["peak"]]) == pytest.approx(abs(b["values"][b["peak"]]), rel=1e-4)


def test_examples_are_the_true_tops(model: Model, documents: list[Document]) -> None:
    showing = Showing(n_latents=5, n_contexts=3, window=2)
    found = evaluate(
        [Entry("raw", "control", Identity(k=3))],
        model=model, site=SITE, documents=documents, showing=showing, resamples=50, quiet=True,
    ).examples.to_pylist()  # fmt: skip
    assert len({row["latent"] for row in found}) == 5
    test = [d for d in documents if half_of(d.id) == "test"]
    codes = [Identity(k=3).encode(x) for x in own_activations(model, documents, "test")]
    for latent in {row["latent"] for row in found}:
        peak_of = {d.id: float(f[:, latent].abs().max()) for d, f in zip(test, codes)}
        rows = sorted((row for row in found if row["latent"] == latent), key=lambda row: row["rank"])
        assert [row["rank"] for row in rows] == list(range(len(rows)))
        assert len({row["document"] for row in rows}) == len(rows)
        for row, height in zip(rows, sorted(peak_of.values(), reverse=True)):
            assert abs(row["values"][row["peak"]]) == pytest.approx(height, rel=1e-5)
            assert peak_of[row["document"]] == pytest.approx(height, rel=1e-5)
            words = next(d.text for d in test if d.id == row["document"]).split()
            kept = [i for i, word in enumerate(words) if word != "<s>"]
            at = kept.index(row["position"])
            assert [t.strip() for t in row["tokens"]] == [words[i] for i in kept[max(at - 2, 0) : at + 3]]
            assert len(row["values"]) == len(row["tokens"])
        fires = sum(int((f[:, latent] != 0).sum()) for f in codes)
        assert rows[0]["frequency"] == pytest.approx(fires / sum(len(f) for f in codes))


def test_an_encoder_has_no_loss_and_says_so(documents: list[Document]) -> None:
    import transformers
    from known_dictionaries import tokenizer

    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=43, hidden_size=D, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    words = tokenizer()
    words.add_special_tokens({"pad_token": "<unk>"})
    encoder = Model(transformers.BertModel(config, add_pooling_layer=False), words, name="tiny-bert")
    found = evaluate(
        [Entry("identity", "control", Identity())],
        model=encoder, site="resid_post.1", documents=documents, resamples=50, quiet=True,
    )  # fmt: skip
    assert value(found, "identity", "fvu") == 0
    nulls = [o for o in found.outcomes if o.metric in ("loss_recovered_zero", "loss_recovered_mean", "delta_loss")]
    assert len(nulls) == 6
    assert all(o.value is None and "encoder" in (o.why_null or "") for o in nulls)
    assert found.run["losses_nats"] is None
    assert found.run["splice_check"] is None


def test_wrong_width_and_wrong_site_name_both_sides(model: Model, documents: list[Document]) -> None:
    options: dict[str, Any] = {"model": model, "documents": documents, "quiet": True}
    wide = Entry("a", "control", Identity(d=128))
    with pytest.raises(BadInput, match=r"last axis 16 at resid_post.0 of tiny.*d_in=128"):
        evaluate([wide], site=SITE, **options)
    elsewhere = Entry("a", "control", Identity(site="mlp_out.1", model="tiny"))
    with pytest.raises(BadInput, match=r"read at resid_post.0.*trained on mlp_out.1"):
        evaluate([elsewhere], site=SITE, **options)
    assert evaluate([elsewhere], resamples=50, **options).run["site"] == "mlp_out.1"
    with pytest.raises(BadOption, match="--site"):
        evaluate([Entry("a", "control", Identity())], **options)


def test_a_dictionary_worse_than_the_mean_raises_an_alarm(model: Model, documents: list[Document]) -> None:
    bad = Entry("bad", "control", Constant(torch.full((D,), 50.0)))
    found = evaluate([bad], model=model, site=SITE, documents=documents, resamples=50, quiet=True)
    assert any("FVU" in alarm and "Does the site fit?" in alarm for alarm in found.alarms)


def test_training_documents_are_refused(model: Model, documents: list[Document]) -> None:
    entry = Entry("a", "control", Identity(), trained_on=frozenset({documents[3].id, "f" * 16}))
    options: dict[str, Any] = {"model": model, "site": SITE, "resamples": 50, "quiet": True}
    with pytest.raises(BadInput, match=r"1 of \d+ documents were used to train"):
        evaluate([entry], documents=documents, **options)
    found = evaluate([entry], documents=documents, allow_train=True, **options)
    assert any("not held-out" in alarm for alarm in found.alarms)
    clean = evaluate([entry], documents=documents[4:], **options)
    assert not any("train" in alarm for alarm in clean.alarms)
    unknown = evaluate([Entry("a", "control", Identity())], documents=documents, **options)
    assert any("not known on which documents" in alarm for alarm in unknown.alarms)


def test_bad_input_is_one_sentence(model: Model, documents: list[Document]) -> None:
    options: dict[str, Any] = {"model": model, "site": SITE, "quiet": True}
    good = Entry("a", "control", Identity())
    with pytest.raises(BadOption, match="No dictionary"):
        evaluate([], documents=documents, **options)
    with pytest.raises(BadOption, match='role of arm "a" is "contol"'):
        evaluate([Entry("a", "contol", Identity())], documents=documents, **options)
    with pytest.raises(BadOption, match="an arm has one role"):
        evaluate([good, Entry("a", "baseline", Identity())], documents=documents, **options)
    with pytest.raises(BadOption, match="No baseline stands beside"):
        evaluate([Entry("a", "method", Identity())], documents=documents, **options)
    with pytest.raises(BadOption, match="halves, hash or shift"):
        evaluate([good], documents=documents, split="thirds", **options)
    with pytest.raises(BadInput, match="both are needed"):
        evaluate([good], documents=documents[:1], **options)
    with pytest.raises(BadOption, match="model with documents"):
        evaluate([good], **options)


def test_alone_and_without_language(model: Model, documents: list[Document]) -> None:
    found = evaluate(
        [Entry("a", "method", Above())],
        model=model, site=SITE, documents=documents, split="shift:words", alone=True, language=False, resamples=50,
        showing=Showing(n_latents=0), quiet=True,
    )  # fmt: skip
    assert {o.split for o in found.outcomes} == {"validation", "shift:words"}
    assert {o.point for o in found.outcomes} == {value(found, "a", "l0", "shift:words")}
    assert value(found, "a", "l0", "validation") != value(found, "a", "l0", "shift:words")
    assert not found.verdicts
    assert found.examples.num_rows == 0
    assert any("no verdict" in alarm for alarm in found.alarms)
    assert found.run["no_language"] == "Loss metrics were switched off."


def test_nan_activations_are_named(model: Model, documents: list[Document]) -> None:
    import copy

    broken = Model(copy.deepcopy(model.hf), model.tokenizer, name="broken")
    with torch.no_grad():
        broken.hf.transformer.wte.weight[7] = float("nan")
    with pytest.raises(BadInput, match=r"NaN or infinity in document [0-9a-f]{16}, position \d+"):
        evaluate([Entry("a", "control", Identity())], model=broken, site=SITE, documents=documents, quiet=True)
