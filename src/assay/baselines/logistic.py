r"""Many L2-penalised logistic regressions at once.

Each problem p is a matrix X_p [n, d]; each of its columns m has row weights w (a fold is a mask) and a strength C:

    minimise over beta, b:   (1/N) sum_i w_i log(1 + exp(-s_i (x_i beta + b))) + ||beta||^2 / (2 C N),   N = sum_i w_i,  s = 2y - 1

which is scikit-learn's objective divided by C N; the intercept b is not penalised. Nonlinear conjugate gradients (Polak and Ribiere 1969,
never below 0) with Newton's method along each direction. Coordinates are the eigenvectors of X^T X, in which the Hessian is nearly
diagonal and known, variance * mean p(1-p) + 1/(C N), at every C and on every fold: each step is divided by it. A step of all columns is
two products, X with a block of directions and X^T with a block of residuals; no Hessian is ever built.

A column is done when ||step||_H <= tol ||beta||_H for the step that the diagonal says is left: of the spread of its scores, the share
`tol` is not yet explained. Those that are not done after `max_iter` steps are told, never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.core.errors import BadInput

COMPACT = 0.75  # finished columns are set aside when less than this share is still open
GUARD = 0.3  # along a direction the slope has to fall to this share of what it was
PROBES = 30  # places along one direction that are looked at
NULL = 1e-9  # directions with less than this share of the largest variance hold nothing and are left out
OFF_CENTRE = 0.01  # of a mean square may be a squared mean; beyond, columns are centred first
ROUNDING = 4.0  # units of the last place in which no step can be told from none


@dataclass(frozen=True)
class Fit:
    """coef [P, d, M], intercept [P, M], converged [P, M] bool, n_iter steps of the slowest column."""

    coef: Tensor
    intercept: Tensor
    converged: Tensor
    n_iter: int

    def scores(self, x: Tensor) -> Tensor:
        """x beta + b [P, rows, M] of x [P, rows, d]."""
        return x @ self.coef + self.intercept[:, None, :]


def fit(x: Tensor, y: Tensor, weight: Tensor, c: Tensor, *, tol: float = 1e-5, max_iter: int = 500) -> Fit:
    """Fit all columns of all problems.

    x [P, n, d] float32 or float64 (fastest as a view of [P, d, n]); y [P, n] with 0 and 1 (or [P, n, M], other labels in each
    column); weight [P, n, M] >= 0, or [P, n, 1] for all columns; c [M] or [P, M] > 0. Memory: about 6 copies of [P, n, M] and one
    or two of x. Raises `BadInput` for shapes that do not fit, a column without rows of both classes, or values that are not finite.
    """
    y = y[..., None] if y.ndim == 2 else y
    _check(x, y, weight, c)
    total = weight.sum(1)
    share = (weight / total[:, None, :]).transpose(1, 2).to(x.dtype).contiguous()  # [P, M or 1, n]
    mean = share.mean(1, keepdim=True)
    centre = x.transpose(1, 2) @ mean.transpose(1, 2)  # [P, d, 1]
    if not bool(torch.isfinite(centre).all()):
        raise BadInput("x holds values that are not finite; a logistic regression cannot be fitted to them.")
    design, basis, variance, moved = _rotated(x.transpose(1, 2), mean, centre)
    columns = max(c.shape[-1], y.shape[-1], weight.shape[-1])
    penalty = (1 / (c * total)).to(x.dtype).expand(len(x), columns)
    found = _Descent(design, share, share * y.transpose(1, 2).to(x.dtype), penalty, variance)
    beta, done, n_iter = found.solve(tol, max_iter)
    coef = basis @ beta[..., :-1].transpose(1, 2)
    intercept = beta[..., -1]
    return Fit(coef, intercept - (centre * coef).sum(1) if moved else intercept, done, n_iter)


def _check(x: Tensor, y: Tensor, weight: Tensor, c: Tensor) -> None:
    n_problems, n, _ = x.shape
    columns = c.shape[-1]
    shapes = ((n_problems, n, columns), (n_problems, n, 1))
    if weight.shape not in shapes or y.shape not in shapes:
        raise BadInput(
            f"x is {tuple(x.shape)}, y {tuple(y.shape)}, weight {tuple(weight.shape)}, C {tuple(c.shape)}; rows must agree."
        )
    if c.shape not in ((columns,), (n_problems, columns)) or not bool((c > 0).all()):
        raise BadInput(f"C is {tuple(c.shape)}; positive strengths are needed, one a column.")
    if not bool(((weight * y).sum(1) > 0).all() and ((weight * (1 - y)).sum(1) > 0).all()):
        raise BadInput("A fit has rows of one class only; both are needed.")


def _rotated(xt: Tensor, mean: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
    """z [P, r + 1, n] = V^T X^T over a row of ones, V [P, d, r] orthonormal, the variances along it [P, r], whether x was centred.

    xt [P, d, n], mean [P, 1, n] the rows' weights, centre [P, d, 1]. The penalty does not see a rotation, and a coefficient outside
    the rows' span is 0, so nothing is lost; r = min(n, d).
    """
    n_problems, d, n = xt.shape
    if n < d:
        return *_spanned(xt - centre, mean), True
    gram = (
        xt @ xt.transpose(1, 2) / n
    )  # without weights: rows of weight 0 or 1 in folds change it little, and nothing but speed
    moved = bool((centre[..., 0].square() > OFF_CENTRE * gram.diagonal(dim1=1, dim2=2)).any())
    if moved:
        xt = xt - centre
        gram = xt @ xt.transpose(1, 2) / n
    variance, basis = torch.linalg.eigh(gram)
    z = xt.new_empty(n_problems, d + 1, n)
    torch.bmm(basis.transpose(1, 2), xt, out=z[:, :-1])
    z[:, -1] = 1
    return z, basis, variance.clamp_min(0), moved


def _spanned(xt: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_rotated` for fewer rows than columns, from the products of rows with rows."""
    size, left = torch.linalg.eigh((xt.transpose(1, 2) @ xt).double())
    length = size.clamp_min(0).sqrt()
    kept = size > NULL * size[:, -1:]
    inverse = torch.where(kept, 1 / length.clamp_min(1e-300), 0.0)
    basis = (xt.double() @ left * inverse[:, None, :]).to(xt.dtype)
    rows = (left * torch.where(kept, length, 0.0)[:, None, :]).transpose(1, 2).to(xt.dtype)
    variance = (rows.square() * mean).sum(2)
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1), basis, variance


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


class _Descent:
    """All columns in the coordinates in which they are solved; z [P, D, n] ends in a row of ones. Finished ones are set aside.

    beta, gradient, direction [P, M, D]; margin and the other quantities of rows [P, M, n].
    """

    def __init__(self, z: Tensor, share: Tensor, target: Tensor, penalty: Tensor, variance: Tensor) -> None:
        self.z, self.share, self.target = z, share, target  # target = share * y
        self.penalty = penalty[..., None].repeat(1, 1, z.shape[1])
        self.penalty[..., -1] = 0
        least = torch.finfo(z.dtype).tiny * 1e12  # so that a column of zeros has a step, of 0
        self.variance = torch.nn.functional.pad(variance.clamp_min(least), (0, 1), value=1.0)[:, None]
        shape = (*penalty.shape, z.shape[2])
        self.beta, self.margin = torch.zeros_like(self.penalty), z.new_zeros(shape)
        self._room(shape)
        self._refresh()

    def _room(self, shape: tuple[int, ...]) -> None:
        self.left, self.curve, self.along, self.scratch = (self.z.new_empty(shape) for _ in range(4))

    def _refresh(self) -> None:
        """At the margins: residuals share (p - y) in `left` and curvatures share p (1 - p) in `curve`."""
        p = torch.sigmoid(self.margin, out=self.scratch)
        seen = torch.mul(self.share, p, out=self.left)
        torch.addcmul(seen, seen, p, value=-1, out=self.curve)
        seen -= self.target

    def _along(self, rows: Tensor) -> Tensor:
        """Sums of a quantity of rows times `along` [P, M, 1]."""
        return torch.mul(rows, self.along, out=self.scratch).sum(-1, keepdim=True)

    def solve(self, tol: float, max_iter: int) -> tuple[Tensor, Tensor, int]:
        """beta [P, M, D], which columns are done [P, M], and how many steps the slowest took."""
        rounding = ROUNDING * torch.finfo(self.z.dtype).eps
        wanted, floor = max(tol, rounding) ** 2, rounding**2
        whole, done_all = self.beta.clone(), torch.zeros(self.beta.shape[:2], dtype=torch.bool)
        place = torch.arange(len(whole))[:, None], torch.arange(whole.shape[1])
        last: tuple[Tensor, ...] = ()  # gradient and its size, direction and the slope that is left along it
        for step in range(max_iter + 1):
            gradient = torch.baddbmm(self.penalty * self.beta, self.left, self.z.transpose(1, 2))
            diagonal = torch.addcmul(self.penalty, self.variance, self.curve.sum(-1, keepdim=True))
            ready = gradient / diagonal
            size = _dot(gradient, ready)
            reached = _dot((diagonal * self.beta)[..., :-1], self.beta[..., :-1])
            done = (size <= (wanted * reached).clamp_min(floor))[..., 0]
            n_open = done.numel() - int(done.sum())
            if n_open < COMPACT * done.numel() or step == max_iter:
                whole[place], done_all[place] = self.beta, done
                if not n_open or step == max_iter:
                    return whole, done_all, step
                some, columns = (~done.all(dim) for dim in (1, 0))
                if int(some.sum()) * int(columns.sum()) < COMPACT * done.numel():
                    kept = some.nonzero(), columns.nonzero()[:, 0]
                    place = place[0][kept[0][:, 0]], place[1][kept[1]]
                    gradient, ready, size, done, *last_kept = (t[kept] for t in (gradient, ready, size, done, *last))
                    last = tuple(last_kept)
                    self._keep(*kept)
            last = self._step(gradient, ready, size, done, last)
        raise AssertionError("the loop returns")

    def _keep(self, problems: Tensor, columns: Tensor) -> None:
        n_problems, n_columns, _ = self.margin.shape
        whole = len(problems) == n_problems, len(columns) == n_columns

        def kept(t: Tensor) -> Tensor:
            t = t if whole[0] else t.index_select(0, problems[:, 0])
            return t if whole[1] or t.shape[1] == 1 else t.index_select(1, columns)

        self.share, self.target, self.penalty, self.beta, self.margin, curve = (
            kept(t) for t in (self.share, self.target, self.penalty, self.beta, self.margin, self.curve)
        )
        self.z, self.variance = (t if whole[0] else t.index_select(0, problems[:, 0]) for t in (self.z, self.variance))
        self._room(tuple(self.margin.shape))
        self.curve = curve

    def _step(
        self, gradient: Tensor, ready: Tensor, size: Tensor, done: Tensor, last: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        direction, slope = -ready, -size
        if last:
            before, size_before, came, here = last
            turned = ((size - _dot(before, ready)) / size_before.clamp_min(torch.finfo(size.dtype).tiny)).clamp_min(0)
            turned = turned.masked_fill(turned * here >= size, 0)  # it would lead uphill
            direction, slope = torch.addcmul(direction, turned, came), torch.addcmul(slope, turned, here)
        torch.bmm(direction, self.z, out=self.along)
        return gradient, size, direction, self._line(direction, slope, done[..., None])

    def _line(self, direction: Tensor, slope: Tensor, done: Tensor) -> Tensor:
        """Moves beta along its direction to where the slope is nearly flat: Newton's method in one variable, within brackets.

        Gives the slope that is left.
        """
        shrunk = self.penalty * direction
        bend_beta, slope_beta = _dot(shrunk, direction), _dot(shrunk, self.beta)
        length = (-slope / self._bend(bend_beta)).masked_fill(done, 0)
        self.margin.addcmul_(length, self.along)
        low = high = torch.zeros_like(slope)
        here, flat = slope, -GUARD * slope
        for probe in range(PROBES):
            self._refresh()
            here = self._along(self.left) + torch.addcmul(slope_beta, length, bend_beta)
            done = done | (here.abs() <= flat)
            if bool(done.all()):
                break
            high = high if probe else torch.full_like(slope, torch.inf)
            low, high = torch.where(here < 0, length, low), torch.where(here > 0, length, high)
            there = length - here / self._bend(bend_beta)
            middle = torch.where(high.isinf(), 2 * length, (low + high) / 2)
            there = torch.where((there > low) & (there < high), there, middle)
            there = torch.where(done, length, there)
            self.margin.addcmul_(there - length, self.along)
            length = there
        self.beta = torch.addcmul(self.beta, length, direction)
        return here

    def _bend(self, bend_beta: Tensor) -> Tensor:
        """The second derivative along the direction [P, M, 1]."""
        torch.mul(self.curve, self.along, out=self.scratch)
        return (self._along(self.scratch) + bend_beta).clamp_min(1e-30)
