"""One-dimensional functions on which a method is as slow as it can be, or fails."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from optcourse.arguments import integer, positive
from optcourse.problems.base import Noise, Problem, as_like, diagonal, namespace


class PiecewiseQuadratic(Problem):
    """A function on R whose second derivative is ``curvatures[j]`` from knot j−1 up to knot j.

    f'(x) = f'(t_0) + c_0(x − t_0) + Σ_j (c_{j+1} − c_j) max(x − t_j, 0), and f is its integral, shifted
    so that f* = 0. L = max |c_j|.
    """

    def __init__(self, knots: Any, curvatures: Any, *, slope: float, minimizer: float, **noise: Unpack[Noise]) -> None:
        """``knots`` t [m] increasing, ``curvatures`` c [m + 1], ``slope`` f'(t_0), ``minimizer`` where f = f*."""
        self.knots, self.curvatures = np.asarray(knots, dtype=float), np.asarray(curvatures, dtype=float)
        if self.knots.ndim != 1 or self.knots.size == 0 or (np.diff(self.knots) <= 0).any():
            raise ValueError(f"knots must be a non-empty increasing vector, got {knots!r}")
        if self.curvatures.shape != (self.knots.size + 1,):
            raise ValueError(f"curvatures must have shape ({self.knots.size + 1},), got {self.curvatures.shape}")
        super().__init__(1, **noise)
        self.slope = slope
        self.L = float(np.abs(self.curvatures).max())
        self.minimizer = np.array([float(minimizer)])
        self._shift = 0.0
        self._shift = float(self._value(self.minimizer))
        self.fstar = 0.0

    def _ramps(self, x: Any) -> Any:
        """max(x − t_j, 0) for all knots: ``[..., 1] -> [..., m]``."""
        return namespace(x).clip(x - as_like(self.knots, x), 0, None)

    def _value(self, x: Any) -> Any:
        u = x[..., 0] - float(self.knots[0])
        bends = (as_like(np.diff(self.curvatures), x) * self._ramps(x) ** 2).sum(-1)
        return self.slope * u + 0.5 * (float(self.curvatures[0]) * u**2 + bends) - self._shift

    def _gradient(self, x: Any) -> Any:
        bends = (as_like(np.diff(self.curvatures), x) * self._ramps(x)).sum(-1)[..., None]
        return self.slope + float(self.curvatures[0]) * (x - float(self.knots[0])) + bends

    def _hessian(self, x: Any) -> Any:
        beyond = as_like(np.diff(self.curvatures), x) * (x >= as_like(self.knots, x))
        return diagonal(float(self.curvatures[0]) + beyond.sum(-1)[..., None])


class BestIterateZigzag(PiecewiseQuadratic):
    """Gradient descent with step 1/L sees the slope −L at each of x_0 = 0, x_1 = 1, …, x_N = N.

    Between two iterates the slope eases to −L/2 and stiffens again, so each step gains as little as
    smoothness allows: 3L/4. Then min‖∇f(x_k)‖² = 4LΔ0/(3N+2), which no smooth function exceeds.
    μ = L/(6N+1) is the Polyak–Łojasiewicz constant, attained at x = ½ (for N = 0, f is a quadratic).

    >>> f = BestIterateZigzag(L=1.0, steps=6)
    >>> f.gradient([[0.0], [1.0], [6.0]]).ravel(), float(f.delta0(f.start))
    (array([-1., -1., -1.]), 5.0)
    """

    def __init__(self, L: float = 1.0, steps: int = 5, **noise: Unpack[Noise]) -> None:
        """``L`` > 0; ``steps`` N >= 0, the number of steps that it fools."""
        positive(L=L)
        N = integer("steps", steps, 0)
        curvatures = [L, *[L, -L] * N, L]
        super().__init__(np.arange(2 * N + 1) / 2, curvatures, slope=-L, minimizer=N + 1, **noise)
        self.start = np.zeros(1)
        self.mu = L / (6 * N + 1)


class LastIterateTrap(PiecewiseQuadratic):
    """A gentle hilltop that steepens to the slope −L at 0, then a bowl with its minimum at 1.

    Started where the slope is 2^{−N} of the steepest, gradient descent with step 1/L doubles it each
    step and stands at 0 after N: ‖∇f(x_N)‖² = LΔ0/(1 − 4^{−N}/2). Left of −1 f is constant.

    >>> f = LastIterateTrap(L=1.0, steps=2)
    >>> x = f.start
    >>> for _ in range(2):
    ...     x = x - f.gradient(x)
    >>> float(x[0]), float(f.gradient(x)[0])
    (0.0, -1.0)
    """

    def __init__(self, L: float = 1.0, steps: int = 5, **noise: Unpack[Noise]) -> None:
        """``L`` > 0; ``steps`` N in 0..50, the number of steps after which the slope is largest."""
        positive(L=L)
        N = integer("steps", steps, 0, 50)
        super().__init__([-1.0, 0.0], [0.0, -L, L], slope=0.0, minimizer=1.0, **noise)
        self.start = np.array([-(1.0 - 0.5**N)])


class HeavyBallTrap(PiecewiseQuadratic):
    """A bowl with f″ = 25 but for a gentle stretch f″ = 1 on [1, 2]: strongly convex, μ = 1, L = 25.

    Heavy ball with the parameters for quadratics of this μ and L (γ = 1/9, β = 4/9) cycles for ever from
    ``start`` (Lessard, Recht & Packard 2016); the exact cycle is ``theory.momentum.lessard_counterexample``.

    >>> f = HeavyBallTrap()
    >>> f.gradient([[0.5], [1.5], [3.0]]).ravel()
    array([12.5, 25.5, 51. ])
    """

    convex = True
    mu = 1.0

    def __init__(self, **noise: Unpack[Noise]) -> None:
        """No parameters but the noise: the constants make the cycle."""
        super().__init__([1.0, 2.0], [25.0, 1.0, 25.0], slope=25.0, minimizer=0.0, **noise)
        self.start = np.array([3.3])


class NewtonTrap(Problem):
    """f″(x) = max(μ − M|x|, 0): μx²/2 − M|x|³/6 up to |x| = μ/M, then straight lines; convex.

    Newton's method from |x| = r < μ/M lands at exactly Mr²/(2(μ − Mr)), on the other side: the worst case
    for a Hessian with Lipschitz constant M. From ``start`` = 2μ/(3M) it alternates between ±2μ/(3M); the
    Hessian vanishes from μ/M on. ``L`` = μ; the problem's ``mu`` is 0 because of the straight ends.

    >>> f = NewtonTrap(curvature=3.0, M=1.0)
    >>> x = f.start
    >>> float(x[0]), float((x - f.gradient(x) / f.hessian(x)[0])[0])
    (2.0, -2.0)
    """

    sigma2: float
    convex = True
    mu = 0.0
    fstar = 0.0

    def __init__(self, curvature: float = 1.0, M: float = 1.0, **noise: Unpack[Noise]) -> None:
        """``curvature`` μ = f″(0) > 0; ``M`` > 0, the Lipschitz constant of f″."""
        positive(curvature=curvature, M=M)
        super().__init__(1, **noise)
        self.curvature, self.M = float(curvature), float(M)
        self.L = self.curvature
        self.minimizer = np.zeros(1)
        self.start = np.array([2 * self.curvature / (3 * self.M)])
        self.G2 = (self.curvature**2 / (2 * self.M)) ** 2 + self.sigma2

    def _value(self, x: Any) -> Any:
        u = x[..., 0]
        inner = namespace(x).clip(u, -self.curvature / self.M, self.curvature / self.M)
        cubic = self.curvature * inner**2 / 2 - self.M * abs(inner) ** 3 / 6
        return cubic + self.curvature**2 / (2 * self.M) * abs(u - inner)

    def _gradient(self, x: Any) -> Any:
        inner = namespace(x).clip(x, -self.curvature / self.M, self.curvature / self.M)
        return self.curvature * inner - self.M * inner * abs(inner) / 2

    def _hessian(self, x: Any) -> Any:
        return diagonal(namespace(x).clip(self.curvature - self.M * abs(x), 0, None))
