r"""Many L2-penalised logistic regressions at once.

Each problem p is a matrix X_p [n, d]; each of its columns m has row weights w (a fold is a mask) and a strength C:

    minimise over beta, b:   (1/N) sum_i w_i log(1 + exp(-s_i (x_i beta + b))) + ||beta||^2 / (2 C N),   N = sum_i w_i,  s = 2y - 1

which is scikit-learn's objective divided by C N; the intercept b is not penalised. Newton's method with a backtracking line search on
the margins. Up to EXACT_UP_TO features the Hessian is built and solved; beyond it the step comes from conjugate gradients,
preconditioned in the eigenbasis of X^T X, where (mean p(1-p)) sigma^2 + 1/(C N) is near the Hessian's diagonal. Folds and values of C
share one matrix, so a step is a few products of X with a block of columns and no matrix of d x d is ever built for each of them.
A column is done when its Newton step is below `tol` relative to its coefficients; those that are not done are told, never hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.core.errors import BadInput

EXACT_UP_TO = 24  # features; beyond, conjugate gradients cost less than building Hessians
MAX_CG = 60
FORCING = (
    1e-3,
    0.1,
)  # conjugate gradients stop at this share of the gradient: tighter near the end, never into rounding
COMPACT = 0.75  # finished columns are set aside when less than this share is still open
HALVINGS = 30
SUFFICIENT = 1e-4  # of the predicted decrease (Armijo)
NULL = 1e-9  # directions with less than this share of the largest variance hold nothing and are left out


@dataclass(frozen=True)
class Fit:
    """coef [P, d, M], intercept [P, M], converged [P, M] bool, n_iter Newton steps of the slowest column."""

    coef: Tensor
    intercept: Tensor
    converged: Tensor
    n_iter: int

    def scores(self, x: Tensor) -> Tensor:
        """x beta + b [P, rows, M] of x [P, rows, d]."""
        return x @ self.coef + self.intercept[:, None, :]


def fit(x: Tensor, y: Tensor, weight: Tensor, c: Tensor, *, tol: float = 1e-5, max_iter: int = 50) -> Fit:
    """Fit all columns of all problems.

    x [P, n, d] float32 or float64; y [P, n] with 0 and 1 (or [P, n, M], other labels in each column); weight [P, n, M] >= 0;
    c [M] or [P, M] > 0. Memory: about 8 copies of [P, n, M] and one of x. Raises `BadInput` for shapes that do not fit, a
    column without rows of both classes, or values that are not finite.
    """
    y = y[..., None] if y.ndim == 2 else y
    _check(x, y, weight, c)
    total = weight.sum(1)
    share = weight / total[:, None, :]
    penalty = (1 / (c * total)).to(x.dtype)
    centre = (x * share.mean(2)[..., None]).sum(1)  # nothing but the intercept changes, and it becomes well conditioned
    x = x - centre[:, None]
    design, basis, variance = (x, None, None) if x.shape[2] <= EXACT_UP_TO else _rotated(x, share.mean(2))
    ones = torch.ones_like(design[..., :1])
    problem = _Problem(torch.cat([design, ones], -1), y.to(x.dtype), share, penalty, variance)
    beta, done, n_iter = problem.solve(tol, max_iter)
    coef = beta[:, :-1] if basis is None else basis @ beta[:, :-1]
    return Fit(coef, beta[:, -1] - (centre[..., None] * coef).sum(1), done, n_iter)


def _check(x: Tensor, y: Tensor, weight: Tensor, c: Tensor) -> None:
    n_problems, n, _ = x.shape
    columns = weight.shape[-1]
    if weight.shape != (n_problems, n, columns) or y.shape[:2] != (n_problems, n) or y.shape[2] not in (1, columns):
        raise BadInput(f"x is {tuple(x.shape)}, y {tuple(y.shape)} and weight {tuple(weight.shape)}; rows must agree.")
    if c.shape not in ((columns,), (n_problems, columns)) or not bool((c > 0).all()):
        raise BadInput(f"C is {tuple(c.shape)}; {columns} positive strengths are needed, one a column.")
    if not bool(torch.isfinite(x).all()):
        raise BadInput("x holds values that are not finite; a logistic regression cannot be fitted to them.")
    if not bool(((weight * y).sum(1) > 0).all() and ((weight * (1 - y)).sum(1) > 0).all()):
        raise BadInput("A fit has rows of one class only; both are needed.")


def _rotated(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z = x V [P, n, r], V [P, d, r] orthonormal and the variances [P, r] along it; r = min(n, d).

    The penalty does not see a rotation, and a coefficient outside the rows' span is 0, so nothing is lost.
    """
    n, d = x.shape[1:]
    if n >= d:
        variance, basis = torch.linalg.eigh(x.transpose(1, 2) @ (x * share[..., None]))
        return x @ basis, basis, variance.clamp_min(0)
    size, left = torch.linalg.eigh((x @ x.transpose(1, 2)).double())
    length = size.clamp_min(0).sqrt()
    kept = size > NULL * size[:, -1:]
    inverse = torch.where(kept, 1 / length.clamp_min(1e-300), 0.0)
    basis = (x.transpose(1, 2).double() @ left * inverse[:, None, :]).to(x.dtype)
    design = (left * torch.where(kept, length, 0.0)[:, None, :]).to(x.dtype)
    return design, basis, (design.square() * share[..., None]).sum(1)


class _Problem:
    """The problems in the coordinates in which they are solved; `z` ends in a column of ones. Finished ones are set aside."""

    def __init__(self, z: Tensor, y: Tensor, share: Tensor, penalty: Tensor, variance: Tensor | None) -> None:
        self.z, self.y, self.share = z, y, share
        size = z.shape[-1]
        self.penalty = penalty[:, None, :].expand(-1, size, -1).clone()  # [P, size, M]
        self.penalty[:, -1] = 0
        self.variance = None if variance is None else torch.nn.functional.pad(variance, (0, 1), value=1.0)

    def solve(self, tol: float, max_iter: int) -> tuple[Tensor, Tensor, int]:
        n_problems, _, columns = self.share.shape
        whole = self.z.new_zeros(n_problems, self.z.shape[-1], columns)
        done_all = torch.zeros(n_problems, columns, dtype=torch.bool)
        rows, cols = torch.arange(n_problems)[:, None], torch.arange(columns)
        beta, done = whole.clone(), done_all.clone()
        margin = torch.zeros_like(self.share)
        for step in range(1, max_iter + 1):
            beta, margin, done = self._newton(beta, margin, done, tol)
            whole[rows, :, cols] = beta.transpose(1, 2)
            done_all[rows, cols] = done
            p_open, m_open = ~done.all(1), ~done.all(0)
            if not bool(p_open.any()):
                return whole, done_all, step
            if int(p_open.sum()) * int(m_open.sum()) < COMPACT * done.numel():
                rows, cols = rows[p_open], cols[m_open]
                beta, margin, done = (t[p_open][..., m_open] for t in (beta, margin, done))
                self._keep(p_open, m_open)
        return whole, done_all, max_iter

    def _keep(self, problems: Tensor, columns: Tensor) -> None:
        whole = bool(problems.all())
        self.share, self.penalty = (t[problems][..., columns] for t in (self.share, self.penalty))
        self.y = self.y[problems] if self.y.shape[-1] == 1 else self.y[problems][..., columns]
        if not whole:
            self.z = self.z[problems]
            self.variance = None if self.variance is None else self.variance[problems]

    def _newton(self, beta: Tensor, margin: Tensor, done: Tensor, tol: float) -> tuple[Tensor, Tensor, Tensor]:
        p = torch.sigmoid(margin)
        gradient = self.z.transpose(1, 2) @ (self.share * (p - self.y)) + self.penalty * beta
        curve = self.share * p * (1 - p)
        step = self._exact(curve, gradient) if self.variance is None else self._conjugate(curve, gradient, done)
        slope = (gradient * step).sum(1)
        along = self.z @ step
        length = self._line(beta, margin, step, along, slope) * ~done
        small = step.abs().amax(1) <= tol * (1 + beta.abs().amax(1))
        beta = beta + length[:, None] * step
        return beta, margin + length[:, None] * along, done | small

    def _loss(self, margin: Tensor, beta: Tensor) -> Tensor:
        fit = torch.nn.functional.softplus(margin) - self.y * margin
        return (self.share * fit).sum(1) + (self.penalty * beta.square()).sum(1) / 2

    def _line(self, beta: Tensor, margin: Tensor, step: Tensor, along: Tensor, slope: Tensor) -> Tensor:
        """The largest of 1, 1/2, 1/4, ... that lowers the loss enough [P, M]; 1 where the step is lost in rounding."""
        start = self._loss(margin, beta)
        noise = 8 * torch.finfo(beta.dtype).eps * start.abs()
        length = torch.ones_like(slope)
        for _ in range(HALVINGS):
            moved = self._loss(margin + length[:, None] * along, beta + length[:, None] * step)
            bad = ~(moved <= start + SUFFICIENT * length * slope + noise)
            if not bool(bad.any()):
                break
            length = torch.where(bad, length / 2, length)
        return length

    def _exact(self, curve: Tensor, gradient: Tensor) -> Tensor:
        """-H^-1 g with the whole Hessian of each column."""
        weighted = curve.transpose(1, 2).sqrt()[..., None] * self.z[:, None]  # [P, M, n, size]
        hessian = weighted.transpose(2, 3) @ weighted
        hessian.diagonal(dim1=2, dim2=3).add_(self.penalty.transpose(1, 2))
        ridge = torch.finfo(curve.dtype).eps * hessian.diagonal(dim1=2, dim2=3).amax(-1, keepdim=True)
        hessian.diagonal(dim1=2, dim2=3).add_(ridge)
        factor = torch.linalg.cholesky_ex(hessian)[0]
        return -torch.cholesky_solve(gradient.transpose(1, 2)[..., None], factor)[..., 0].transpose(1, 2)

    def _conjugate(self, curve: Tensor, gradient: Tensor, done: Tensor) -> Tensor:
        """-H^-1 g to a tolerance that tightens as the gradient falls, by preconditioned conjugate gradients."""
        assert self.variance is not None
        scale = self.variance[:, :, None] * curve.sum(1)[:, None, :] + self.penalty
        scale = scale.clamp_min(torch.finfo(curve.dtype).tiny * 1e6)
        residual = -gradient
        step = torch.zeros_like(gradient)
        ready = residual / scale
        direction = ready.clone()
        rho = (residual * ready).sum(1)
        size = rho.clone()  # of the gradient in the preconditioner's norm
        wanted = size.sqrt().clamp(*FORCING).square() * size
        columns = torch.arange(size.shape[1])
        penalty, found = self.penalty, step
        for _ in range(MAX_CG):
            busy = (rho > wanted) & ~done
            open_ = busy.any(0)
            if not bool(open_.any()):
                break
            if int(open_.sum()) < COMPACT * len(open_):
                found[..., columns] = step
                columns = columns[open_]
                step, residual, direction, scale, penalty, curve, rho, wanted, busy, done = (
                    t[..., open_] for t in (step, residual, direction, scale, penalty, curve, rho, wanted, busy, done)
                )
            product = self.z.transpose(1, 2) @ (curve * (self.z @ direction)) + penalty * direction
            bend = (direction * product).sum(1)
            alpha = torch.where(busy & (bend > 0), rho / bend.clamp_min(1e-30), 0.0)[:, None]
            step = step + alpha * direction
            residual = residual - alpha * product
            ready = residual / scale
            fresh = (residual * ready).sum(1)
            direction = ready + torch.where(busy, fresh / rho.clamp_min(1e-30), 0.0)[:, None] * direction
            rho = torch.where(busy, fresh, rho)
        found[..., columns] = step
        return found
