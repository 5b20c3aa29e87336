"""Newton's method from many starts at once, where it ends, and conjugate gradients, which need no matrix.

>>> from optcourse.problems import Saddle
>>> path = newton(Saddle().value, torch.tensor([[1.0, 0.1]], dtype=torch.float64), steps=1)
>>> path[:, 0].tolist()  # a quadratic: one step to its stationary point, here a saddle
[[1.0, 0.1], [0.0, 0.0]]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from optcourse.arguments import integer, real
from optcourse.runtime import progress

#: A function of many points at once, ``[n, d] -> [n]``, whose rows do not interact: ``problem.value``, for instance.
Value = Callable[[Tensor], Tensor]


class Derivatives(NamedTuple):
    """Value ``[n]``, gradient ``[n, d]`` and Hessian ``[n, d, d]`` at n points."""

    value: Tensor
    gradient: Tensor
    hessian: Tensor


class Critical(NamedTuple):
    """Points ``[m, d]`` with a vanishing gradient, their values ``[m]`` and indices ``[m]``.

    The index is the number of negative eigenvalues of the Hessian: 0 at a minimum, d at a maximum.
    """

    points: Tensor
    value: Tensor
    index: Tensor


def derivatives(value: Value, x: Tensor) -> Derivatives:
    """All derivatives up to the second at the points x ``[n, d]``: d backward passes through the gradient.

    >>> derivatives(lambda x: x[:, 0] ** 3 * x[:, 1], torch.tensor([[2.0, 5.0]])).hessian.tolist()
    [[[60.0, 12.0], [12.0, 0.0]]]
    """
    x = x.detach().requires_grad_()
    f = value(x)
    if x.dim() != 2 or f.shape != x.shape[:1]:
        raise ValueError(f"value must map points [n, d] to [n], got {list(f.shape)} for {list(x.shape)}")
    (g,) = torch.autograd.grad(f.sum(), x, create_graph=True)  # rows do not interact: the sum has all gradients
    if not g.requires_grad:  # a linear function
        return Derivatives(f.detach(), g.detach(), x.new_zeros(*x.shape, x.shape[1]).detach())
    columns = [torch.autograd.grad(g[:, j].sum(), x, retain_graph=True)[0] for j in range(x.shape[1])]
    return Derivatives(f.detach(), g.detach(), torch.stack(columns, dim=2))


def newton(
    value: Value, start: Tensor, *, steps: int, absolute: bool = False, floor: float = 0.0, longest: float = math.inf
) -> Tensor:
    r"""Newton's iterates from every row of ``start`` [n, d], as [steps + 1, n, d].

    .. math::
        x^+ = x - Q\,\operatorname{diag}(1/\lambda)\,Q^\top\nabla f(x), \qquad
        \nabla^2f(x) = Q\operatorname{diag}(\lambda)Q^\top

    goes to the stationary point of the quadratic model, be it a minimum or not. With ``absolute`` the step is the
    saddle-free one, with :math:`\max(|\lambda|, \text{floor})` in place of :math:`\lambda`: down the slope along
    every eigenvector, where Newton's goes up along those with :math:`\lambda<0`; so saddles repel. A step is cut to the
    length ``longest``.

    A run that overflows or meets an eigenvalue that is zero up to rounding is NaN from there on (not with ``floor``).
    Raises ``ValueError`` for steps < 1, floor < 0, longest <= 0, or a start that is no matrix.

    Source: Dauphin et al. 2014, "Identifying and attacking the saddle point problem in high-dimensional non-convex
    optimization", Algorithm 1 (with the whole Hessian in place of its Krylov approximation).
    """
    integer("steps", steps, 1)
    real("floor", floor, 0.0)
    if not longest > 0:
        raise ValueError(f"longest must be in (0, inf], got {longest!r}")
    if start.dim() != 2:
        raise ValueError(f"start must have shape [n, d], got {list(start.shape)}")
    x, path = start.detach(), [start.detach()]
    for _ in progress(range(steps), desc="Newton"):
        _, g, H = derivatives(value, x)
        eigenvalues, Q = torch.linalg.eigh(H.nan_to_num())  # where H is not finite, neither are g and the step
        zero = eigenvalues.abs() <= x.shape[1] * torch.finfo(x.dtype).eps * eigenvalues.abs().amax(1, keepdim=True)
        if absolute:
            eigenvalues = eigenvalues.abs().clamp(min=floor)
        if not (absolute and floor > 0):
            eigenvalues = eigenvalues.masked_fill(zero, math.nan)
        step = (Q @ ((Q.mT @ g[:, :, None]) / eigenvalues[:, :, None]))[:, :, 0]
        x = x - step * (longest / step.norm(dim=1, keepdim=True)).clamp(max=1.0)
        path.append(x)
    return torch.stack(path)


def critical_points(value: Value, x: Tensor, *, tol: float = 1e-9) -> Critical:
    """Those rows of x ``[n, d]`` whose gradient is at most ``tol`` long, with values and indices.

    Eigenvalues within ``tol`` of zero count as zero. Raises ``ValueError`` unless tol > 0.
    """
    real("tol", tol, 0.0, open_low=True)
    f, g, H = derivatives(value, x)
    at_rest = g.norm(dim=1) <= tol  # never true of NaN
    return Critical(x[at_rest].detach(), f[at_rest], (torch.linalg.eigvalsh(H[at_rest]) < -tol).sum(1))


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor, *, steps: int, tol: float = 0.0) -> Tensor:
    r"""Iterates s_0 = 0, s_1, ... of conjugate gradients on A s = b, as [k + 1, d]; ``product(v)`` is A v.

    .. math::
        s^+ &= s + a\,p,\quad r^+ = r - a\,Ap,\quad a = \frac{r^\top r}{p^\top Ap} \\
        p^+ &= r^+ + \frac{r^{+\top}r^+}{r^\top r}\,p,\qquad r_0 = p_0 = b

    One product a step. Stops after ``steps``, or once the residual r is at most ``tol`` times as long as b. Raises
    ``ValueError`` for a bad argument, and where A has a direction of negative curvature: it must be positive definite.
    Its guarantee is :func:`optcourse.theory.newton.conjugate_gradients`. Source: Hestenes & Stiefel 1952, "Methods of
    conjugate gradients for solving linear systems".

    >>> A = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    >>> conjugate_gradients(lambda v: A @ v, torch.tensor([3.0, 0.0]), steps=2)[-1].tolist()
    [2.0, -1.0]
    """
    integer("steps", steps, 1)
    real("tol", tol, 0.0)
    if b.dim() != 1:
        raise ValueError(f"b must have shape [d], got {list(b.shape)}")
    s, r, p = torch.zeros_like(b), b, b
    iterates, squared = [s], b @ b
    for k in progress(range(steps), desc="conjugate gradients"):
        if squared <= tol**2 * (b @ b):
            break
        Ap = product(p)
        curvature = p @ Ap
        if not curvature > 0:
            raise ValueError(f"product must be positive definite, got p'Ap = {curvature.item():.3g} in step {k}")
        a = squared / curvature
        s, r = s + a * p, r - a * Ap
        squared, before = r @ r, squared
        p = r + squared / before * p
        iterates.append(s)
    return torch.stack(iterates)
