"""TrainConfig: what is refused, and what follows from the options."""

from __future__ import annotations

import pytest

from assay.core.config import from_json, to_json
from assay.core.errors import BadOption
from assay.training.options import TrainConfig


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_tokens", 0), ("n_tokens", 100), ("batch_size", 0), ("batch_size", -1), ("lr", 0.0), ("lr", -1e-3),
        ("lr", float("nan")), ("lr", float("inf")), ("beta1", 1.0), ("beta1", -0.1), ("beta2", 1.0), ("lr_warmup",
        -0.1),
        ("lr_warmup", 1.1), ("lr_warmup", 0.9), ("lr_decay", 2.0), ("sparsity_warmup", -0.5), ("sparsity_warmup", 1.5),
        ("clip", 0.0), ("clip", -1.0), ("resample_at", (0.0,)), ("resample_at", (1.0,)), ("resample_at",
        (float("nan"),)),
        ("dead_after", 0), ("dead_after", -5), ("log_every", 0), ("checkpoint_every", 0), ("shuffle_rows", 0),
        ("scale", "rms2"), ("seed", "many"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused_by_flag(option, value) -> None:
    with pytest.raises(BadOption, match="--" + option.replace("_", "-")):
        TrainConfig(**{option: value})


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(BadOption, match=r'"batchsize" is not an option of TrainConfig\. Did you mean "batch_size"\?'):
        TrainConfig(batchsize=3)


def test_what_follows() -> None:
    options = TrainConfig(n_tokens=1050, batch_size=100, seed=3)
    assert options.n_steps == 10
    assert options.dead_tokens == 105
    assert options.stream_seed == 3
    assert TrainConfig(n_tokens=1_000_000_000).dead_tokens == 10_000_000
    assert TrainConfig(dead_after=7).dead_tokens == 7
    assert TrainConfig(seed=3, order_seed=0).stream_seed == 0


def test_options_survive_json() -> None:
    options = TrainConfig(resample_at=(0.1, 0.5), clip=1.0, scale="norm1")
    assert from_json(TrainConfig, to_json(options)) == options
