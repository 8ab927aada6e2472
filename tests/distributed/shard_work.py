"""What the processes of the shard tests run: `python shard_work.py OUT [--few] [--slow] [--resume]` starts four of them."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from assay.activations.source import TensorSource
from assay.activations.stream import Stream
from assay.core import distribution
from assay.dictionaries import Dictionary, build, config_class
from assay.dictionaries.wiring import Block, chosen, gathered
from assay.kernels import BatchTop, Codes, Top, reference
from assay.training import Plan, TrainConfig, maker, sweep
from assay.training.shard import divided_axis, part_of

D, D_SAE, BATCH, STEPS = 12, 82, 64, 12  # four shards of 82 latents are unequal
CASES = {  # name -> (arch, options): selections of each kind, reduces that are no sum, prefixes, skips, AuxK, resampling, state
    "topk": ("topk", {"k": 3, "k_aux": 4}),
    "topk_dense": ("topk", {"k": 9}),
    "signed": ("abstopk", {"k": 3}),
    "gated": ("gated", {"l1_coef": 0.5, "init_l0": 3.0}),
    "gated_dense": ("gated", {"l1_coef": 0.5}),
    "own_decoder": ("gated", {"l1_coef": 0.5, "init_l0": 3.0, "auxiliary": "own_decoder"}),
    "relu": ("relu", {"l1_coef": 0.5, "init_l0": 3.0, "decoder_norm": "free"}),
    "batchtopk": ("batchtopk", {"k": 3}),
    "matryoshka": ("matryoshka", {"k": 3, "groups": (10, 30, 42)}),
    "matryoshka_dense": ("matryoshka", {"k": 9, "groups": (10, 30, 42)}),
    "frequency": ("jumprelu", {"l0_coef": 0.1, "penalty": "frequency", "pre_bias": True}),
    "target": ("jumprelu", {"l0_coef": 0.1, "penalty": "target", "l0_target": 5.0, "init_l0": 3.0}),
    "panneal": ("panneal", {"lp_coef": 0.5, "init_l0": 3.0}),
    "skip": ("skip_transcoder", {"k": 3}),
    "transcoder": ("transcoder", {"l1_coef": 0.3, "init_l0": 3.0, "skip": True}),
    "soft_frozen": ("soft_frozen", {"k": 3}),
}
FEW = ("topk", "batchtopk")
SOME = (*FEW, "gated", "frequency", "skip")


def plans(shards: int, names: Sequence[str], target: bool) -> list[Plan]:
    options = TrainConfig(
        n_tokens=BATCH * STEPS, batch_size=BATCH, lr=3e-3, log_every=4, checkpoint_every=3, resample_at=(0.4,), dead_after=BATCH,
        clip=0.5, latent_shards=shards,
    )  # fmt: skip
    across = {"skip", "transcoder"}
    return [
        Plan(name, config_class(arch)(d_in=D, d_sae=D_SAE, **given, **({"d_out": 5} if target else {})), options)
        for name, (arch, given) in CASES.items()
        if name in names and (name in across) == target
    ]


def stream() -> Stream:
    rng = torch.Generator().manual_seed(3)
    hidden = torch.randn(2000, 20, generator=rng).relu()
    x = hidden @ torch.randn(20, D, generator=rng) + torch.randn(D, generator=rng)
    y = hidden.tanh() @ torch.randn(20, 5, generator=rng) + torch.randn(5, generator=rng)
    return Stream(TensorSource({"x": x, "y": y}), batch_size=BATCH)


class Noted(maker.Member):
    """Remembers the members of this process, so that it can be said what each of them holds."""

    made: ClassVar[list[Noted]] = []

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.made.append(self)

    def held(self) -> dict[str, Any]:
        """n_bytes: of parameters, state, moments and counters; replicated: what has no axis of latents, to the last bit."""
        state = self.dictionary.state_dict()
        kept = [*state.values(), *self.first.values(), *self.second.values(), self.silent_tokens]
        same = {n: state[n].flatten().tolist() for n in ("b_dec", "W_skip", "threshold") if n in state}
        return {"n_bytes": sum(t.numel() * t.element_size() for t in kept), "replicated": same}


def tied(shards: int) -> None:
    """What is selected among keys that are tied within and across shards, against the definition over all of them."""
    F, B = 22, 12
    u = torch.randint(0, 4, (B, F), generator=torch.Generator().manual_seed(5)).float()
    bias = torch.tensor([0.0, 1.0]).repeat(F // 2)
    with distribution.divided(shards), distribution.split_rows(), distribution.split_latents():
        rows, held = distribution.share(B), distribution.held(F)
        n = held.stop - held.start
        for selection in (Top(3, bias), Top(9, bias), Top(F, bias), BatchTop(3, bias), BatchTop(7), BatchTop(F)):
            expected = reference.chosen(u, selection)
            mine = selection.key_bias if selection.key_bias is None else selection.key_bias[held]
            blocks = (Block(slice(0, 1), slice(0, n), slice(0, 1)),)
            here = replace(selection, key_bias=mine)
            found = chosen(u[rows, held], here, blocks)
            assert torch.equal(found, expected[rows, held]), (shards, selection)
            row, latent = found.nonzero(as_tuple=True)
            everything = gathered(Codes(row, latent, u[rows, held][row, latent], (B // distribution.parts(), n)))
            assert torch.equal(everything.dense(), u * expected), (shards, selection)
            assert torch.equal(everything.row * F + everything.latent, expected.flatten().nonzero().flatten())


def few_dead(n: int) -> None:
    """AuxK and resampling with dead latents in the first shard alone, against four processes that divide only the rows."""
    x = torch.randn(BATCH, D, generator=torch.Generator().manual_seed(1)) + 0.5
    for arch, given in (CASES["topk"], CASES["gated"]):
        config = config_class(arch)(d_in=D, d_sae=D_SAE, **given)

        def worked(made: Dictionary, first: int, config: Any = config) -> maker.Member:
            made.init(torch.Generator().manual_seed(2), x, x)
            member = maker.Member(
                ".", made, TrainConfig(n_tokens=BATCH * 9, batch_size=BATCH, dead_after=BATCH * 3), 1.0
            )
            dead = torch.arange(first, first + made.d_sae) < 6
            member.silent_tokens[dead] = BATCH * 3
            member.step(0, x, x)
            member.silent_tokens[dead] = BATCH * 3
            if made.dead_latents == "resample":
                assert member.resample(1, x, x) > 0 and member.last_resample == 1
            return member

        whole = worked(build(config), 0)
        with distribution.divided(n):
            held = distribution.held(D_SAE)
            part = worked(part_of(config, held), held.start)
        for name, tensor in part.dictionary.state_dict().items():
            expected = whole.dictionary.state_dict()[name]
            axis = divided_axis(tensor, expected)
            expected = expected if axis is None else expected.narrow(axis, held.start, part.dictionary.d_sae)
            torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)


def main(out: Path, shards: int, names: Sequence[str], *, slow: bool = False, resume: bool = False) -> None:
    torch.set_num_threads(1)
    maker.Member = Noted  # type: ignore[misc]
    Noted.made.clear()
    source = stream()
    if slow:  # so that a kill finds it at work
        fetch = source.source.fetch
        source.source.fetch = lambda *words: (time.sleep(0.1), fetch(*words))[1]  # type: ignore[method-assign]
    for target in (False, True):
        if wanted := plans(shards, names, target):
            folder, other = out / ("across" if target else "own"), "y" if target else None
            sweep(wanted, source, folder, site="x", target=other, resume=resume, quiet=True)
    (out / f"held-{distribution.rank()}.json").write_text(json.dumps({m.name: m.held() for m in Noted.made}))


def run(folder: Path, words: Sequence[str]) -> None:
    with distribution.joined():
        if "--few" in words:
            return main(folder / "2", 2, FEW, slow="--slow" in words, resume="--resume" in words)
        for n, cases in ((4, tuple(CASES)), (2, SOME)):
            tied(n)
            few_dead(n)
            main(folder / str(n), n, cases)


def forked(n: int, work: Callable[[], None]) -> None:
    """work() in n processes that know each other, as torchrun would start them, but without loading everything n times."""
    importlib.import_module("torch.fx.experimental.symbolic_shapes")  # what autograd loads when it is first used
    for arch, _ in CASES.values():
        config_class(arch)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listening.getsockname()[1])}
    children: set[int] = set()
    for rank in range(n):
        if (child := os.fork()) == 0:
            os.environ.update(address, WORLD_SIZE=str(n), RANK=str(rank), LOCAL_RANK=str(rank))
            try:
                work()
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        children.add(child)
    failed = False
    while children:
        child, status = os.wait()
        children.discard(child)
        if status and not failed:
            failed = True
            for other in children:
                os.kill(other, signal.SIGKILL)
    sys.exit(int(failed))


if __name__ == "__main__":
    forked(4, partial(run, Path(sys.argv[1]), sys.argv[2:]))
