"""No straw man: dictionaries trained by the real dictionary_learning 0.1.0 and by assay are the same, from the same start and recipe.

Two proofs. The losses agree step by step while rounding has not yet grown. The finished dictionaries agree on held-out rows in L0, FVU
and gamma: the whole 95 % interval of the paired difference over three seeds lies inside a stated margin. Both are shown to notice half
a penalty. `docs/results/no-straw-man.md` holds the figures of a longer run and the differences of recipe.
"""

from __future__ import annotations

from collections.abc import Iterator

import peer_environment
import pytest
import torch
from agreement import METRICS, apart, difference
from peer_recipe import PEERS, Recipe
from safetensors.torch import load_file
from side_by_side import Rows, Run, prepare, train_ours, train_theirs

pytestmark = pytest.mark.slow

SEEDS = (0, 1, 2)
RECIPE = Recipe().shorter(1200)
# (steps, largest relative difference of the loss). Measured: gated 1e-4 and 5e-4, relu 3e-4 and 2e-3, topk 2e-7. TopK jumps when rounding
# changes which latent is the k-th, and its AuxK switches on and off with a single dead latent, so its losses part for good sooner.
CLOSE = {
    "gated": ((300, 1e-3), (RECIPE.n_steps, 1e-2)),
    "relu": ((300, 1e-3), (RECIPE.n_steps, 1e-2)),
    "topk": ((100, 1e-3),),
}

Theirs = dict[tuple[str, int], Run]
Ours = dict[tuple[str, str, int], Run]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: threads that wait for each other on a busy machine cost far more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Rows:
    try:
        peer_environment.python()
    except peer_environment.Unavailable as reason:
        pytest.skip(str(reason))
    return prepare(tmp_path_factory.mktemp("side-by-side"), RECIPE)


@pytest.fixture(scope="module")
def theirs(rows: Rows) -> Theirs:
    return train_theirs(rows, SEEDS)[0]


@pytest.fixture(scope="module")
def ours(rows: Rows, theirs: Theirs) -> Ours:
    return train_ours(rows, theirs, SEEDS, ("same",))


@pytest.fixture(scope="module")
def half(rows: Rows, theirs: Theirs) -> Theirs:
    """The deliberate slip: their L1 trainer with half the penalty."""
    return train_theirs(rows, SEEDS, ("relu",), penalty=0.5, name="half")[0]


@pytest.mark.parametrize("arch", PEERS)
def test_the_losses_agree_step_by_step(arch: str, ours: Ours, theirs: Theirs) -> None:
    for seed in SEEDS:
        for n_steps, tolerance in CLOSE[arch]:
            assert apart(ours["same", arch, seed].loss, theirs[arch, seed].loss, n_steps) < tolerance, (seed, n_steps)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("arch", PEERS)
def test_the_finished_dictionaries_agree(arch: str, metric: str, ours: Ours, theirs: Theirs) -> None:
    mine = [ours["same", arch, seed].reading[metric] for seed in SEEDS]
    yours = [theirs[arch, seed].reading[metric] for seed in SEEDS]
    found = difference(metric, mine, yours)
    assert found.agrees, f"{found}: ours {mine}, theirs {yours}"


@pytest.mark.parametrize("arch", PEERS)
def test_their_weights_mean_the_same_in_ours(arch: str, rows: Rows, theirs: Theirs) -> None:
    """Trained by them, read by us: the codes and reconstructions that their own encode and decode gave."""
    run = theirs[arch, 0]
    assert run.file is not None
    stored = load_file(run.file)
    dictionary = PEERS[arch].adopted(PEERS[arch].config(RECIPE, rows.train.shape[1]), stored, "after")
    x = rows.held_out / rows.scale(0)[0]
    codes = dictionary.encode_sparse(x)
    theirs_dense = torch.sparse_coo_tensor(
        torch.stack([stored["row"], stored["latent"]]), stored["value"], codes.shape
    ).to_dense()
    flipped = (codes.dense() != 0) != (theirs_dense != 0)
    assert float(flipped.float().mean()) < 1e-6  # pairs at a threshold, where rounding decides
    whole = ~flipped.any(1)
    torch.testing.assert_close(codes.dense()[whole], theirs_dense[whole], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(dictionary.decode(codes)[whole], stored["x_hat"][whole], rtol=1e-3, atol=1e-3)


def test_half_a_penalty_is_seen_in_the_losses(ours: Ours, half: Theirs) -> None:
    assert all(apart(ours["same", "relu", seed].loss, half["relu", seed].loss, 300) > 10 * 1e-3 for seed in SEEDS)


@pytest.mark.parametrize("metric", METRICS)
def test_half_a_penalty_is_seen_in_the_dictionaries(metric: str, ours: Ours, half: Theirs) -> None:
    mine = [ours["same", "relu", seed].reading[metric] for seed in SEEDS]
    assert not difference(metric, mine, [half["relu", seed].reading[metric] for seed in SEEDS]).agrees
