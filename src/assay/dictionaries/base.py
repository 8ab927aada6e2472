"""The contract that every dictionary keeps, and what follows from a file's `select` and `pairs`.

A file in this folder is one architecture. It states its equation once, on pairs (u_bi, p_i) of any shape; `encode`, `decode`,
`loss` and the training engine all follow from that. Shapes: x [batch, d_in], y and x_hat [batch, d_out], f [batch, d_sae];
W_enc [d_in, d_sae], W_dec [d_sae, d_out]; row i of W_dec is the direction of latent i.
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
from assay.core.config import config, require
from assay.core.errors import BadInput
from assay.kernels import Codes, Selection

LIVE: Literal["live"] = "live"
FROZEN: Literal["frozen"] = "frozen"  # W_dec and b_dec detached
GRADIENT, FIT, GIVEN = "gradient", "fit", "given"
SPARSE: Literal["sparse"] = "sparse"  # the engine steps on the support that `select` names
DENSE: Literal["dense"] = "dense"  # `loss` is written by hand and differentiated as a whole

Recon = tuple[str, str] | tuple[str, str, int]  # (code, decoder), or (code, decoder, m): only the latents below m


@config
class Config:
    """What every architecture needs to know."""

    d_in: int
    """Width of the activations that are read."""
    d_sae: int
    """Number of latents."""
    d_out: int | None = None
    """Width of the activations that are predicted; the input's own when not given."""

    def __post_init__(self) -> None:
        require(self.d_in > 0, "d_in", self.d_in, "a positive width")
        require(self.d_sae > 0, "d_sae", self.d_sae, "a positive number of latents")
        require(self.d_out is None or self.d_out > 0, "d_out", self.d_out, "a positive width")


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
    vectors: ClassVar[tuple[str, ...]] = ()  # parameters [d_sae]; W_enc, W_dec, b_dec are implied
    degree: ClassVar[dict[str, int]] = {}  # how each vector and state scales when x does
    reduce: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {}  # penalty -> f(omega [d_sae]); default: sum
    uses_dec_norm: ClassVar[bool] = False  # whether `pairs` reads p.dec_norm
    frozen: ClassVar[tuple[str, ...]] = ()  # parameters that training never changes
    fit_free: ClassVar[
        tuple[str, ...]
    ] = ()  # options that `fit` does not read: dictionaries that differ in them share a fit
    signed: ClassVar[bool] = False
    dead_latents: ClassVar[Literal["resample", "auxk"] | None] = None  # how the trainer revives latents
    beta1: ClassVar[float] = 0.9  # the recipe's first Adam coefficient, used when the run does not say
    exceptions: ClassVar[dict[str, str]] = {}  # shared contract test -> reason why it does not apply

    path: Path | None = None  # where it was loaded from
    provenance: dict[str, Any]  # what is known of its making
    scale: tuple[float, float] = (1.0, 1.0)  # C_in, C_out of the training space; `save` writes them

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        d_in, d_sae, d_out = config.d_in, config.d_sae, config.d_out or config.d_in
        require(
            self.pre_bias is None or d_out == d_in,
            "d_out",
            d_out,
            f"d_in={d_in}, since {self.arch} also subtracts b_dec from x",
        )
        self.W_enc = nn.Parameter(torch.zeros(d_sae, d_in).t())  # stored latent-major, seen as [d_in, d_sae]
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_out))
        self.b_dec = nn.Parameter(torch.zeros(d_out))
        for name in self.vectors:
            self.register_parameter(name, nn.Parameter(torch.zeros(d_sae)))
        if self.skip:
            self.W_skip = nn.Parameter(torch.zeros(d_in, d_out))
        self.provenance = {}

    # ---- what an architecture states -------------------------------------------------------------------------------

    @property
    def arch(self) -> str:
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def pre_bias(self) -> str | None:
        """The parameter that the encoder subtracts, u = (x - b_dec) @ W_enc; None: u = x @ W_enc."""
        return "b_dec"

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
        """Whether a dense path W_skip [d_in, d_out] adds x @ W_skip to every reconstruction."""
        return False

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

    def fit(self, chunks: Iterable[Tensor], rng: torch.Generator) -> None:
        """Learn from chunks [n, d_in]; for architectures that are learned_by = FIT."""
        raise AssertionError(f"{self.arch} does not state `fit`")

    def schedule(self, progress: float) -> dict[str, float]:
        """Scalars in `p` that change along the run, progress in [0, 1]."""
        return {}

    def observe(self, codes: Codes, step: int) -> None:
        """Update state buffers from a training batch's codes, after the parameters' update."""

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
    def d_out(self) -> int:
        return self.W_dec.shape[1]

    def params_at(self, latent: Tensor | None = None, progress: float = 1.0) -> SimpleNamespace:
        """The namespace `p` of `select` and `pairs`: whole vectors [d_sae], or gathered at `latent` [nnz]."""
        vectors = {name: getattr(self, name) for name in self.vectors}
        if self.uses_dec_norm:
            vectors["dec_norm"] = self.W_dec.norm(dim=1)
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
        self.check_width(x, self.W_enc.shape[0])
        rows = x.reshape(-1, x.shape[-1]).to(self.W_enc.dtype)
        whole = self.params_at()
        support = kernels.implementation().encode_select(self.centred(rows), self.W_enc, self.select(whole, training))
        codes, _ = self.pairs(support.value, self.params_at(support.latent))
        return support.with_values(codes[self.main_code]).nonzero()

    def encode(self, x: Tensor, *, training: bool = False) -> Tensor:
        """f [..., d_sae] of x [..., d_in]: the dense view of `encode_sparse`, differentiable where gradients are on."""
        if torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in self.parameters())):
            self.check_width(x, self.W_enc.shape[0])
            rows = x.reshape(-1, x.shape[-1]).to(self.W_enc.dtype)
            f = self._dense_codes(rows, training)[0][self.main_code]
        else:
            f = self.encode_sparse(x, training=training).dense()
        return f.reshape(*x.shape[:-1], f.shape[-1])

    def decode(self, f: Tensor | Codes) -> Tensor:
        """x_hat of codes: [..., d_out] from dense [..., d_sae], or [batch, d_out] from sparse `Codes`."""
        if isinstance(f, Codes):
            return kernels.implementation().decode(f, self.W_dec) + self.b_dec
        self.check_width(f, self.W_dec.shape[0], "f", "d_sae")
        return f @ self.W_dec + self.b_dec

    def reconstruct(self, x: Tensor, f: Tensor | Codes) -> Tensor:
        """x_hat of codes f that `encode` gave for x: `decode(f)`, and the skip path where there is one."""
        x_hat = self.decode(f)
        return x_hat + x.to(self.W_skip.dtype) @ self.W_skip if self.skip else x_hat

    def forward(self, x: Tensor) -> Tensor:
        return self.reconstruct(x, self.encode(x))

    def _dense_codes(
        self, x: Tensor, training: bool, progress: float = 1.0
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Codes, penalties and the boolean support, all [batch, d_sae], under autograd."""
        u = self.centred(x) @ self.W_enc
        p = self.params_at(progress=progress)
        codes, penalties = self.pairs(u, p)
        with torch.no_grad():
            support = chosen(u, self.select(p, training))
        if not isinstance(self.select(p, training), kernels.Above):  # Above may be a superset; `pairs` decides there
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
            W_dec, b_dec = (self.W_dec, self.b_dec) if live else (self.W_dec.detach(), self.b_dec.detach())
            m = prefix[0] if prefix else len(W_dec)
            x_hat[term] = codes[code][:, :m] @ W_dec[:m] + b_dec
            if self.skip:
                x_hat[term] = x_hat[term] + x @ (self.W_skip if live else self.W_skip.detach())
            terms[term] = (x_hat[term] - y).pow(2).sum(-1).mean()
        for term, penalty in penalties.items():
            terms[term] = self.reduce.get(term, torch.sum)(penalty.mean(0))
        return DenseForward(terms, codes[self.main_code], support, x_hat["recon"])

    def gains(self, x: Tensor) -> Codes:
        """df/du at the pairs that are on: what attribution and steering need of any architecture."""
        codes = self.encode_sparse(x)
        rows = self.centred(x.reshape(-1, x.shape[-1]).to(self.W_enc.dtype))
        with torch.enable_grad():
            u = (rows[codes.row] * self.W_enc.t()[codes.latent]).sum(-1).detach().requires_grad_()
            f = self.pairs(u, self.params_at(codes.latent))[0][self.main_code]
            (gain,) = torch.autograd.grad(f.sum(), u)
        return codes.with_values(gain)

    def encoder_vector(self, i: int) -> Tensor:
        """[d_in]: the direction that latent i reads."""
        return self.W_enc[:, i]

    def decoder_vector(self, i: int, site: str | None = None) -> Tensor:
        """[d_out]: the direction that latent i writes."""
        return self.W_dec[i]

    # ---- scale -----------------------------------------------------------------------------------------------------

    def rescaled(self, c_in: float, c_out: float, *, unfold: bool = False) -> dict[str, Tensor]:
        """The state for raw space, where x_raw = c_in * x and y_raw = c_out * y; `unfold` goes back.

        Degree-1 vectors x c_in, W_dec and W_skip x c_out / c_in, b_dec x c_out, W_enc and degree-0 vectors unchanged.
        """
        if self.pre_bias == "b_dec" and c_in != c_out:
            raise AssertionError("b_dec is also subtracted from x: c_in and c_out must be equal")
        factors = {"W_dec": c_out / c_in, "b_dec": c_out, **{n: c_in**d for n, d in self.degree.items()}}
        if self.skip:
            factors["W_skip"] = c_out / c_in
        state = {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}
        for name, factor in factors.items():
            state[name] *= 1 / factor if unfold else factor
        return state

    # ---- shared pieces of `init` -----------------------------------------------------------------------------------

    @torch.no_grad()
    def init_tied(self, rng: torch.Generator, norm: float = 1.0) -> None:
        """Random rows of length `norm` in W_dec, W_enc = W_dec^T (for predicting one's own input only)."""
        rows = torch.randn(self.W_dec.shape, generator=rng).to(self.W_dec)
        self.W_dec.copy_(norm * rows / rows.norm(dim=1, keepdim=True))
        if self.W_enc.shape[0] == self.W_dec.shape[1]:
            self.W_enc.copy_(self.W_dec.t())
        else:
            columns = torch.randn(self.W_enc.shape, generator=rng).to(self.W_enc)
            self.W_enc.copy_(columns / columns.norm(dim=0, keepdim=True))

    @torch.no_grad()
    def firing_threshold(self, x: Tensor, l0: float) -> Tensor:
        """[d_sae]: the level of u that each latent exceeds on a share l0 / d_sae of the sample x [n, d_in].

        A bias of minus this makes the starting L0 about `l0`, instead of about half of all latents.
        """
        n_above = max(1, min(len(x) - 1, round(len(x) * l0 / self.W_enc.shape[1])))
        centred = self.centred(x.to(self.W_enc))
        blocks = self.W_enc.split(max(1, (1 << 24) // len(x)), dim=1)
        return torch.cat([(centred @ block).topk(n_above + 1, dim=0).values[-1] for block in blocks])


def chosen(u: Tensor, selection: Selection) -> Tensor:
    """The support of u [B, F] as a boolean mask, by the definition."""
    from assay.kernels import reference

    return reference.chosen(u, selection)


def geometric_median(points: Tensor, n_steps: int = 100) -> Tensor:
    """The point of least summed distance to `points` [n, d], by Weiszfeld's iteration: [d]."""
    guess = points.mean(0)
    for _ in range(n_steps):
        weight = 1 / (points - guess).norm(dim=1).clamp_min(1e-8)
        moved = (points * weight[:, None]).sum(0) / weight.sum()
        if (moved - guess).norm() <= 1e-7 * guess.norm().clamp_min(1e-12):
            return moved
        guess = moved
    return guess
