"""assay plan: what it says, what it divides, and one sentence for what it cannot plan."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assay.cli.figures import duration, rounded, size
from assay.cli.main import main
from assay.cli.plan import bytes_of
from assay.core.errors import BadOption
from assay.models.shape import KNOWN, shape_of, written

PLAIN = [
    "plan",
    "--model",
    "gpt2",
    "--site",
    "resid_post.3",
    "--arch",
    "topk",
    "--k",
    "4",
    "--d-sae",
    "1000",
    "--tokens",
    "1M",
]


def changed(**flags: str | None) -> list[str]:
    """PLAIN with flags replaced, added, or (None) left out."""
    given: dict[str, str | None] = dict(zip((w.removeprefix("--") for w in PLAIN[1::2]), PLAIN[2::2], strict=True))
    given |= {name.replace("_", "-"): value for name, value in flags.items()}
    return ["plan", *(word for name, value in given.items() if value is not None for word in (f"--{name}", value))]


def asked(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


REFUSED = {
    "known. Did you mean": {"device": "h20"},
    "layers 0 to 11": {"site": "resid_post.12"},
    "not a site that can be planned": {"site": "resid_psot.1"},
    "a place in the model": {"site": ","},
    "a size with its unit": {"budget_memory": "80"},
    '"-80GB"; a size': {"budget_memory": "-80GB"},
    '--budget-disk is "lots"': {"budget_disk": "lots"},
    "--tokens is -5; it must be positive": {"tokens": "-5"},
    "at least one batch": {"tokens": "100"},
    "--processes is 0": {"processes": "0"},
    "a divisor of --processes 3": {"processes": "3", "latent_shards": "2"},
    "divisible by the 3 row parts": {"processes": "3"},
    '"float8"': {"dtype": "float8"},
    "native or torch": {"kernels": "triton"},
    "--l0 is nan": {"l0": "nan"},
    "--dead is 2.0": {"dead": "2"},
    "Both --model and": {"model_shape": "d=64,layers=2"},
    "Neither --model nor": {"model": None},
    "does not exist": {"model": "./nowhere"},
    "cannot be read": {"model": "nobody/nothing"},
    "at least layers=": {"model": None, "model_shape": "d=64"},
    'has "lairs=3"': {"model": None, "model_shape": "d=64,lairs=3"},
    "a whole number is needed": {"model": None, "model_shape": "d=64,layers=x"},
    "between 1 and --d-sae": {"k": "4000"},
    "--arch is missing": {"arch": None},
}


@pytest.mark.parametrize("words", REFUSED)
def test_one_sentence_for_what_cannot_be_planned(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(changed(**REFUSED[words])) == 2  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert words in said and said.startswith("assay: ") and said.count("\n") == 1


def test_what_does_not_fit_is_divided_until_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    large = {"model": "gemma-2-2b", "d_sae": "1048576", "device": "h100", "dtype": "bfloat16"}
    found = asked(changed(**large), capsys)
    assert found["devices"]["h100"] == 2 and found["devices"]["h200"] == 1
    assert "does not fit" in found["verdicts"][0] and "--latent-shards 2" in found["verdicts"][1]
    halves = asked(changed(**large, processes="2", latent_shards="2"), capsys)
    assert halves["verdicts"][0].startswith("Training fits")
    assert halves["held"][0]["value"] == found["held"][0]["value"] / 2
    smaller = asked(changed(**large, budget_memory="1GB"), capsys)
    assert "--latent-shards" in smaller["verdicts"][1] or "No number of latent shards helps" in smaller["verdicts"][0]


def test_a_disk_that_is_too_small_is_told_the_smaller_format(capsys: pytest.CaptureFixture[str]) -> None:
    found = asked(changed(budget_disk="2GB"), capsys)  # 3.1 GB in fp32, 1.6 in bf16
    assert "take --store-dtype bfloat16" in found["verdicts"][-1]
    assert "fewer --tokens" in asked(changed(budget_disk="1GB"), capsys)["verdicts"][-1]
    assert "suffices" in asked(changed(budget_disk="4GB"), capsys)["verdicts"][-1]


def test_the_dtype_of_the_model_and_of_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    plain, half = asked(changed(), capsys), asked(changed(dtype="bfloat16", store_dtype="bfloat16"), capsys)
    assert plain["harvest"][0]["value"] == 2 * half["harvest"][0]["value"] == 4 * KNOWN["gpt2"].weights

    def window(found: Any) -> float:
        return next(f["value"] for f in found["held"] if f["name"] == "shuffle window")

    assert window(plain) == 2 * window(half) == 2**18 * 768 * 4


def test_a_measurement_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PLAIN, "--measure", "--threads", "1"]) == 0
    assert "measured just now" in capsys.readouterr().out


def test_shapes_of_real_configs_count_real_weights() -> None:
    shape = shape_of("storyworld")
    assert shape.n_params == shape.weights
    from assay import models

    model = models.load("storyworld")
    assert shape.weights == sum(p.numel() for p in model.hf.parameters())
    for site in ("embed", "resid_pre.2", "attn_z.0", "mlp_act.1", "mlp_out.1", "resid_post.2"):
        assert shape.width(shape.site(site)) == model.width(site)
    assert shape.site("blocks.1.hook_mlp_out") == model.canonical("blocks.1.hook_mlp_out")


def test_work_by_hand() -> None:
    shape = written("d=10,layers=3,heads=2,head=5,kv=1,mlp=40,vocab=100,gated=1")
    attention, mlp = 10 * 5 * (2 * 2 + 2 * 1), 3 * 10 * 40
    assert shape.weights == 2 * 1000 + 3 * (attention + mlp)
    assert shape.passed("resid_post.1") == 2 * (attention + mlp)
    assert shape.passed("resid_pre.1") == attention + mlp
    assert shape.passed("mlp_in.1") == attention + mlp + attention
    assert shape.work("resid_post.1", 8) == 2 * 2 * (attention + mlp) + 2 * (2 * 8 * 10)
    assert shape.passed("embed") == 0


@pytest.mark.parametrize(
    ("name", "billions"), [("gpt2", 0.124), ("gemma-2-2b", 2.614), ("llama-3-8b", 8.03), ("llama-3-70b", 70.55)]
)
def test_known_models_have_their_published_sizes(name: str, billions: float) -> None:
    assert KNOWN[name].weights / 1e9 == pytest.approx(billions, rel=0.01)


def test_words() -> None:
    assert [size(n) for n in (0, 12.0, 1210, 12.1e6, 999.6e6, 4.6e12)] == [
        "0 B",
        "12 B",
        "1.21 kB",
        "12.1 MB",
        "1,000 MB",
        "4.60 TB",
    ]
    assert [duration(s) for s in (1.5, 90, 7200, 200_000)] == ["1.50 s", "1.50 min", "2.00 h", "2.31 days"]
    assert [rounded(n) for n in (3.2, 27, 1234, 987_654)] == ["3", "27", "1,200", "990,000"]
    assert bytes_of("x", "1.5 GiB") == 1.5 * 2**30
    with pytest.raises(BadOption, match="unit"):
        bytes_of("x", "0GB")
