"""The contract that every dictionary keeps, and what follows from a file's `select` and `pairs`.

A file in this folder is one architecture. It states its equation once, on pairs (u_bi, p_i) of any shape; `encode`, `decode`,
`loss` and the training engine all follow from that. Shapes: x [batch, d_in], y and x_hat [batch, d_out], f [batch, d_sae];
W_enc [d_in, d_sae], W_dec [d_sae, d_out]; row i of W_dec is the direction of latent i. Where several sites are wired
(`wiring.py`), W_enc and W_dec are lists with one matrix a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from assay import kernels
from assay.core import distribution, latent_shards
from assay.core.config import require
from assay.core.errors import BadInput
from assay.dictionaries.options import Config, unusual
from assay.dictionaries.rows import normalised, undone
from assay.dictionaries.wiring import Block, Scale, Support, across, blocks_of, chosen, part, slices
from assay.kernels import Codes, Selection, Shared

LIVE: Literal["live"] = "live"
FROZEN: Literal["frozen"] = "frozen"  # W_dec and b_dec detached
GRADIENT, FIT, GIVEN = "gradient", "fit", "given"
SPARSE: Literal["sparse"] = "sparse"  # the engine steps on the support that `select` names
DENSE: Literal["dense"] = "dense"  # `loss` is written by hand and differentiated as a whole

# (code, decoder), or (code, decoder, m): only the latents below m. A decoder is LIVE, FROZEN, or the name of an extra one,
# which leaves b_dec and W_skip detached
Recon = tuple[str, str] | tuple[str, str, int]


@dataclass(frozen=True)
class DenseForward:
    """terms: named, unweighted; f [batch, d_sae]; support [batch, d_sae] bool; x_hat [batch, d_out]."""

    terms: dict[str, Tensor]
    f: Tensor
    support: Tensor
    x_hat: Tensor


class Dictionary(nn.Module):
    """Base of all dictionaries. A subclass sets the class attributes and writes `select` and `pairs`; see `gated.py`."""

    Config: ClassVar[type] = Config
    learned_by: ClassVar[str] = GRADIENT
    # Those without ClassVar may depend on the options: set them on the instance before `super().__init__(config)`.
    vectors: tuple[str, ...] = ()  # parameters [d_sae]; W_enc, W_dec, b_dec are implied
    extra_encoders: tuple[str, ...] = ()  # more matrices like W_enc; only in an instance that steps DENSE, of one block
    extra_decoders: tuple[str, ...] = ()  # more matrices like W_dec, for terms of `recon`; only with one block
    degree: dict[str, int] = {}  # how each vector and state scales when x does
    logarithms: tuple[str, ...] = ()  # vectors of degree 0 that hold the logarithm of a number of degree 1
    reduce: dict[str, Callable[[Tensor], Tensor]] = {}  # penalty -> f(omega [d_sae]); default: sum
    uses_dec_norm: bool = False  # whether `pairs` reads p.dec_norm
    frozen: tuple[str, ...] = ()  # parameters that training never changes; a matrix's name stands for all its blocks
    # its part in an evaluation, unless that says otherwise
    role: ClassVar[Literal["method", "baseline", "control"]] = "method"
    batch_codes: ClassVar[bool] = False  # whether in training a row's codes depend on its batch, so that L0 differs
    seedless: ClassVar[bool] = False  # whether no seed changes it
    # options that make it another arm where they differ from their default
    variants: ClassVar[tuple[str, ...]] = ("wiring",)
    # options that `fit` does not read: dictionaries that differ in them share a fit
    fit_free: ClassVar[tuple[str, ...]] = ()
    signed: ClassVar[bool] = False
    dead_latents: Literal["resample", "auxk"] | None = None  # how the trainer revives latents
    beta1: ClassVar[float] = 0.9  # the recipe's first Adam coefficient, used when the run does not say
    exceptions: dict[str, str] = {}  # shared contract test -> reason why it does not apply

    path: Path | None = None  # where it was loaded from
    provenance: dict[str, Any]  # what is known of its making
    n_steps: int = 1  # length of the run that trains it; the trainer writes it, `observe` may read it
    scale: tuple[Scale, Scale] = (1.0, 1.0)  # C_in, C_out of the training space, one number a site; `save` writes them

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        d_in, d_sae, d_out = config.d_in, self.d_sae, config.d_out or config.d_in
        require(
            self.pre_bias is None or d_out == d_in,
            "d_out",
            d_out,
            f"d_in={d_in}, since {self.arch} also subtracts b_dec from x; wiring=transcoder predicts another site",
        )
        shapes = [block.shape for block in self.blocks]
        # stored latent-major, seen as [d_in, d_sae]
        enc = [nn.Parameter(torch.zeros(f, n_in).t()) for n_in, f, _ in shapes]
        dec = [nn.Parameter(torch.zeros(f, n_out)) for _, f, n_out in shapes]
        self.W_enc: Any = enc[0] if len(shapes) == 1 else nn.ParameterList(enc)
        self.W_dec: Any = dec[0] if len(shapes) == 1 else nn.ParameterList(dec)
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        for name in self.vectors:
            self.register_parameter(name, nn.Parameter(torch.zeros(d_sae)))
        for name in self.extra_encoders:
            self.register_parameter(name, nn.Parameter(torch.zeros(d_sae, d_in).t()))
        for name in self.extra_decoders:
            self.register_parameter(name, nn.Parameter(torch.zeros(d_sae, d_out)))
        if self.skip:
            skips = [nn.Parameter(torch.zeros(n_in, n_out)) for n_in, _, n_out in shapes]
            self.W_skip: Any = skips[0] if len(shapes) == 1 else nn.ParameterList(skips)
        self.provenance = {}

    # ---- what an architecture states -------------------------------------------------------------------------------

    @property
    def arch(self) -> str:
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """How latents are wired to sites: from `config` alone."""
        return blocks_of(self.config)

    def row_norms(self, W_dec: Tensor) -> Tensor:
        """p.dec_norm of one block's decoder rows [latents, written width]: their length; in a crosscoder the sum over sites."""
        if self.config.wiring == "crosscoder":
            return torch.stack([W_dec[:, site].norm(dim=1) for site in slices(self.config.widths_out)]).sum(0)
        return W_dec.norm(dim=1)

    @property
    def pre_bias(self) -> str | None:
        """The parameter that the encoder subtracts, u = (x - b_dec) @ W_enc; None: u = x @ W_enc, as in all but SAEs."""
        return "b_dec" if self.config.wiring == "sae" else None

    @property
    def recon(self) -> dict[str, Recon]:
        """Reconstruction terms of the loss: term -> (code, decoder), or (code, decoder, m) over the first m latents only."""
        return {"recon": ("f", LIVE)}

    @property
    def step(self) -> Literal["sparse", "dense"]:
        """How training steps: on the support that `select` names, or DENSE where no support is known beforehand (say why)."""
        return SPARSE

    @property
    def skip(self) -> bool:
        """Whether a dense path W_skip [d_in, d_out] (of several layers one each) adds x @ W_skip to every reconstruction."""
        return self.config.skip

    @property
    def unit_norm(self) -> bool:
        """Whether training keeps the rows of W_dec at length 1."""
        return True

    def select(self, p: SimpleNamespace, training: bool) -> Selection:
        """Which pairs may be on. Outside them every code, penalty and derivative must be 0."""
        raise AssertionError(f"{self.arch} does not state `select`")

    def pairs(self, u: Tensor, p: SimpleNamespace) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Codes and penalties, elementwise in (u, p), any shape."""
        raise AssertionError(f"{self.arch} does not state `pairs`")

    def weights(self, ramp: float) -> dict[str, float]:
        """The weight of each term of `loss`; `ramp` rises from 0 to 1 during the sparsity warm-up."""
        return dict.fromkeys(self.recon, 1.0)

    def init(self, rng: torch.Generator, x: Tensor, y: Tensor) -> None:
        """Set the parameters for training from a sample in training space: x [n, d_in], and y [n, d_out] to predict."""
        raise AssertionError(f"{self.arch} does not state `init`")

    def normal_numbers(self, matrix: Tensor, axis: int, rng: torch.Generator) -> Tensor:
        """Standard normal numbers for a block's matrix, which has its latents along `axis`; a shard keeps its part of the whole's."""
        return torch.randn(matrix.shape, generator=rng).to(matrix)

    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        """Learn from chunks [n, d_in]; for architectures that are learned_by = FIT."""
        raise AssertionError(f"{self.arch} does not state `fit`")

    def schedule(self, progress: float) -> dict[str, float]:
        """Scalars in `p` that change along the run, progress in [0, 1]."""
        return {}

    def observe(self, codes: Codes, step: int) -> None:
        """Update state buffers from a training batch's codes, after the parameters' update."""

    def diagnose(self, x: Tensor, start: dict[str, Tensor]) -> dict[str, Any]:
        """More for a line of the training log, from a batch x [n, d_in] and the vectors as the run found them.

        A "warning" in it is one sentence for the user; the trainer keeps it at the end of the run only.
        """
        return {}

    def constrain(self) -> None:
        """Bring the parameters back to where they must lie, after each update; unit rows are the trainer's own affair."""

    def training_batch(self, x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is trained on instead of the batch (x, y); a control that destroys structure overrides this."""
        return x, y

    # ---- what follows ----------------------------------------------------------------------------------------------

    @property
    def main_code(self) -> str:
        return self.recon["recon"][0]

    @property
    def d_in(self) -> int:
        return self.config.d_in

    @property
    def d_sae(self) -> int:
        return self.config.d_sae

    @property
    def d_out(self) -> int:
        return self.b_dec.shape[0]

    @property
    def label(self) -> str:
        """The architecture, and what makes it another arm: "relu", "relu-free", "gated-r_mag-off"."""
        return "-".join([self.arch, *unusual(self.config, self.variants)])

    @property
    def wired(self) -> list[tuple[Block, Tensor, Tensor]]:
        """Every block with its W_enc [read width, latents] and W_dec [latents, written width]."""
        if len(self.blocks) == 1:
            return [(self.blocks[0], self.W_enc, self.W_dec)]
        return list(zip(self.blocks, self.W_enc, self.W_dec, strict=True))

    @property
    def matrix_names(self) -> list[tuple[str, str]]:
        """The parameters' names of each block's two matrices."""
        n = len(self.blocks)
        return [("W_enc", "W_dec")] if n == 1 else [(f"W_enc.{i}", f"W_dec.{i}") for i in range(n)]

    def params_at(self, latent: Tensor | None = None, progress: float = 1.0) -> SimpleNamespace:
        """The namespace `p` of `select` and `pairs`: whole vectors [d_sae], or gathered at `latent` [nnz]."""
        vectors = {name: getattr(self, name) for name in self.vectors}
        if self.uses_dec_norm:
            vectors["dec_norm"] = torch.cat([self.row_norms(W_dec) for _, _, W_dec in self.wired])
        if latent is not None:
            vectors = {name: vector[latent] for name, vector in vectors.items()}
        return SimpleNamespace(**vectors, **self.schedule(progress))

    def centred(self, x: Tensor) -> Tensor:
        """What the encoder's matrix multiplies: x, or x less the pre-encoder bias."""
        return x if self.pre_bias is None else x - getattr(self, self.pre_bias)

    def check_width(self, x: Tensor, expected: int, what: str = "x", name: str = "d_in") -> None:
        if x.shape[-1] != expected:
            site = self.provenance.get("site")
            raise BadInput(
                f"{what} has last axis {x.shape[-1]}, this dictionary was trained on {name}={expected}"
                + (f" (site {site})" if site else "")
                + "; give it activations of that site and model."
            )

    @torch.no_grad()
    def encode_sparse(self, x: Tensor, *, training: bool = False) -> Codes:
        """Codes of x [n, d_in]; only pairs with f != 0. Raises BadInput on a wrong width."""
        support = self.support(self.rows_of(x), training=training)
        codes, _ = self.pairs(support.value, self.params_at(support.latent))
        return support.joined(codes[self.main_code]).nonzero()

    def rows_of(self, x: Tensor) -> Tensor:
        """x [..., d_in] as rows [n, d_in] of this dictionary's precision, normalised as `config.rows` says; raises BadInput on a wrong width."""
        self.check_width(x, self.d_in)
        return normalised(x.reshape(-1, x.shape[-1]).to(self.b_dec.dtype), self.config.rows)

    def support(
        self,
        rows: Tensor,
        *,
        training: bool,
        progress: float = 1.0,
        kernel: Any = None,
        centred: Tensor | None = None,
        shared: Shared | None = None,
    ) -> Support:
        """The pairs that `select` names among rows [n, d_in], with u at them; centred: `self.centred(rows)` where it is known;
        shared: of these rows, where other dictionaries read them too."""
        kernel = kernel or kernels.implementation(like=self.wired[0][1])
        selection = self.select(self.params_at(progress=progress), training)
        centred, here = self.centred(rows) if centred is None else centred, across(selection)
        bias = None if self.pre_bias is None else self.get_parameter(self.pre_bias)
        parts = [
            kernel.encode_select(centred[:, b.reads], W_enc, part(here, b), shared and shared.less(bias, b.reads))
            for b, W_enc, _ in self.wired
        ]
        return Support(self.blocks, parts).joint(here).over_all(selection)

    def pre_activations(self, rows: Tensor) -> Tensor:
        """u [n, d_sae] of rows [n, d_in], dense."""
        centred = self.centred(rows)
        u = [centred[:, b.reads] @ W_enc for b, W_enc, _ in self.wired]
        return u[0] if len(u) == 1 else torch.cat(u, dim=1)

    def encode(self, x: Tensor, *, training: bool = False) -> Tensor:
        """f [..., d_sae] of x [..., d_in]: the dense view of `encode_sparse`, differentiable where gradients are on."""
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            f = self._dense_codes(self.rows_of(x), training)[0][self.main_code]
        else:
            f = self.encode_sparse(x, training=training).dense()
        return f.reshape(*x.shape[:-1], f.shape[-1])

    def decode(self, f: Tensor | Codes) -> Tensor:
        """x_hat of codes: [..., d_out] from dense [..., d_sae], or [batch, d_out] from sparse `Codes`."""
        if isinstance(f, Codes):
            both = zip(Support.of(f, self.blocks).parts, self.wired, strict=True)
            return self.written([kernels.implementation(like=w).decode(part, w) for part, (_, _, w) in both])
        self.check_width(f, self.d_sae, "f", "d_sae")
        return self.written([f[..., b.latents] @ W_dec for b, _, W_dec in self.wired])

    def written(self, parts: list[Tensor], b_dec: Tensor | None = None) -> Tensor:
        """b_dec plus what each block writes to its columns: [..., d_out] from parts [..., written width]."""
        b_dec = self.b_dec if b_dec is None else b_dec
        if len(parts) == 1:
            return parts[0] + b_dec
        total = b_dec.expand(*parts[0].shape[:-1], len(b_dec))
        for block, piece in zip(self.blocks, parts, strict=True):
            total = total + torch.nn.functional.pad(piece, (block.writes.start, len(b_dec) - block.writes.stop))
        return total

    def reconstruct(self, x: Tensor, f: Tensor | Codes) -> Tensor:
        """x_hat of codes f that `encode` gave for x: `decode(f)`, the skip path where there is one, and x's own rows put back in scale."""
        x_hat = undone(self.decode(f), x.to(self.b_dec.dtype), self.config.rows)
        return x_hat + self.skipped(x.to(self.b_dec.dtype)) if self.skip else x_hat

    @property
    def skips(self) -> list[tuple[Block, str]]:
        """Every block with the name of its W_skip [read width, written width]; empty without a skip path."""
        names = ["W_skip"] if len(self.blocks) == 1 else [f"W_skip.{i}" for i in range(len(self.blocks))]
        return list(zip(self.blocks, names, strict=True)) if self.skip else []

    def skipped(self, x: Tensor, live: bool = True) -> Tensor:
        """[..., d_out]: what the skip paths add for x [..., d_in]; with their weights detached unless `live`."""
        matrices = [(b, self.get_parameter(name)) for b, name in self.skips]
        parts = [x[..., b.reads] @ (W_skip if live else W_skip.detach()) for b, W_skip in matrices]
        return self.written(parts, torch.zeros_like(self.b_dec))

    def forward(self, x: Tensor) -> Tensor:
        return self.reconstruct(x, self.encode(x))

    def _dense_codes(
        self, x: Tensor, training: bool, progress: float = 1.0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Codes, penalties and the boolean support, all [batch, d_sae], under autograd."""
        u = self.pre_activations(x)
        p = self.params_at(progress=progress)
        codes, penalties = self.pairs(u, p)
        with torch.no_grad():
            selection = self.select(p, training)
            support = chosen(u, selection, self.blocks)
        if not (training and isinstance(selection, kernels.Above)):  # in training `pairs` decides within Above
            codes = {name: code * support for name, code in codes.items()}
            penalties = {name: penalty * support for name, penalty in penalties.items()}
        return codes, penalties, support

    def loss(self, x: Tensor, y: Tensor | None = None, *, progress: float = 1.0) -> dict[str, Tensor]:
        """The named, unweighted terms of the loss, under autograd on all batch x d_sae pairs: the truth.

        Reconstructions: squared error summed over d_out, mean over tokens. Penalties: mean over tokens for each latent,
        then `reduce` (default: sum over latents). The weighted sum with `weights(ramp)` is what training minimises.
        """
        return self.dense_forward(x, x if y is None else y, progress).terms

    def dense_forward(self, x: Tensor, y: Tensor, progress: float = 1.0) -> DenseForward:
        """`loss` with what it was computed from; the trainer's dense path differentiates this."""
        codes, penalties, support = self._dense_codes(x, training=True, progress=progress)
        terms: dict[str, Tensor] = {}
        x_hat: dict[str, Tensor] = {}
        for term, (code, decoder, *prefix) in self.recon.items():
            live = decoder == LIVE
            f = codes[code]
            if prefix:
                f = f * (torch.arange(f.shape[1], device=f.device) < prefix[0])
            own = decoder in self.extra_decoders
            matrices = [(b, self.get_parameter(decoder) if own else W_dec) for b, _, W_dec in self.wired]
            x_hat[term] = self.written(
                [f[:, b.latents] @ (W_dec.detach() if decoder == FROZEN else W_dec) for b, W_dec in matrices],
                self.b_dec if live else self.b_dec.detach(),
            )
            if self.skip:
                x_hat[term] = x_hat[term] + self.skipped(x, live)
            terms[term] = (x_hat[term] - y).pow(2).sum(-1).mean()
        for term, penalty in penalties.items():
            terms[term] = self.reduce.get(term, torch.sum)(latent_shards.whole(distribution.mean(penalty.mean(0))))
        return DenseForward(terms, codes[self.main_code], support, x_hat["recon"])

    def gains(self, x: Tensor) -> Codes:
        """df/du at the pairs that are on: what attribution and steering need of any architecture."""
        support = self.support(self.rows_of(x), training=False)
        with torch.enable_grad():
            u = support.value.detach().requires_grad_()
            f = self.pairs(u, self.params_at(support.latent))[0][self.main_code]
            (gain,) = torch.autograd.grad(f.sum(), u)
        codes, gains = support.joined(f.detach()), support.joined(gain)
        on = codes.value != 0
        return Codes(codes.row[on], codes.latent[on], gains.value[on], codes.shape)

    def block_of(self, i: int) -> int:
        """Which block latent i belongs to."""
        return next(n for n, b in enumerate(self.blocks) if b.latents.start <= i < b.latents.stop)

    def encoder_vector(self, i: int) -> Tensor:
        """[d_in]: the direction that latent i reads; 0 at sites that it does not read."""
        block, W_enc, _ = self.wired[self.block_of(i)]
        read = W_enc[:, i - block.latents.start]
        return torch.nn.functional.pad(read, (block.reads.start, self.d_in - block.reads.stop))

    def decoder_vector(self, i: int, site: int | None = None) -> Tensor:
        """[d_out]: the direction that latent i writes, 0 at sites that it does not; of one output site when `site` is its index."""
        block, _, W_dec = self.wired[self.block_of(i)]
        write = W_dec[i - block.latents.start]
        whole = torch.nn.functional.pad(write, (block.writes.start, self.d_out - block.writes.stop))
        return whole if site is None else whole[slices(self.config.widths_out)[site]]
