"""Surfaces over the plane, to watch optimizers on: Rosenbrock, Beale, long valley, saddles, plateau, two wells."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from optcourse.arguments import integer, positive, real
from optcourse.problems.base import Noise, Problem, as_like, namespace

Region = tuple[tuple[float, float], tuple[float, float]]


class Surface(Problem):
    """A function of two variables, with a ``region`` ((x_low, x_high), (y_low, y_high)) to plot and a ``start`` [2]."""

    region: Region
    start: np.ndarray
    sigma2: float

    def __init__(self, *, start: tuple[float, float], region: Region, **noise: Unpack[Noise]) -> None:
        """Two-dimensional, with the noise of :class:`Problem`."""
        super().__init__(2, **noise)
        self.start, self.region = np.array(start, dtype=float), region

    def local_L(self, region: Region | None = None, *, points: int = 101, rounds: int = 8) -> float:
        """Largest |eigenvalue| of the Hessian on a box (default ``region``): the local smoothness constant.

        Found on a grid (corners included) that is refined ``rounds`` times around its best point:
        accurate for these smooth surfaces, but a numerical value, not a proof.
        """
        box = np.array(real("region", self.region if region is None else region), dtype=float)
        if box.shape != (2, 2) or (box[:, 0] >= box[:, 1]).any():
            raise ValueError(f"region must be ((x_low, x_high), (y_low, y_high)) with low < high, got {region!r}")
        integer("points", points, 2)
        low, high = box.T
        best = 0.0
        for _ in range(integer("rounds", rounds, 1)):
            axes = np.linspace(low, high, points)
            grid = np.stack(np.meshgrid(axes[:, 0], axes[:, 1]), -1).reshape(-1, 2)
            curvature = abs(np.linalg.eigvalsh(self.hessian(grid))).max(-1)
            best = max(best, float(curvature.max()))
            centre, width = grid[curvature.argmax()], 2 * (high - low) / (points - 1)
            low, high = np.maximum(box[:, 0], centre - width), np.minimum(box[:, 1], centre + width)
        return best


def _vector(x: Any, y: Any) -> Any:
    """[..., 2] from the components."""
    return namespace(x).stack([x, y], -1)


def _symmetric(xx: Any, xy: Any, yy: Any) -> Any:
    """[..., 2, 2] from the entries."""
    return namespace(xx).stack([_vector(xx, xy), _vector(xy, yy)], -1)


class Rosenbrock(Surface):
    """f(x, y) = (a − x)² + b(y − x²)²: a curved valley with steep walls.

    f* = 0 at (a, a²). Its curvature is unbounded, so there is no global ``L`` (see ``local_L``),
    and it has no μ. Rosenbrock (1960) used a = 1, b = 100 and the start (−1.2, 1).

    >>> f = Rosenbrock()
    >>> round(float(f.value(f.start)), 6), f.minimizer
    (24.2, array([1., 1.]))
    """

    fstar = 0.0

    def __init__(self, a: float = 1.0, b: float = 100.0, **noise: Unpack[Noise]) -> None:
        """Any real ``a``, ``b`` > 0."""
        real("a", a)
        positive(b=b)
        super().__init__(start=(-1.2, 1.0), region=((-2.0, 2.0), (-1.0, 3.0)), **noise)
        self.a, self.b = float(a), float(b)
        self.minimizer = np.array([self.a, self.a**2])

    def _value(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return (self.a - x) ** 2 + self.b * (y - x**2) ** 2

    def _gradient(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return _vector(-2 * (self.a - x) - 4 * self.b * x * (y - x**2), 2 * self.b * (y - x**2))

    def _hessian(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return _symmetric(2 - 4 * self.b * (y - 3 * x**2), -4 * self.b * x, 2 * self.b + 0 * x)


class Beale(Surface):
    """f(x, y) = Σ_k (c_k − x + x yᵏ)², k = 1, 2, 3, c = (1.5, 2.25, 2.625): flat inside, steep in the corners.

    f* = 0 at (3, ½), and a saddle at (0, 1). No global ``L`` (see ``local_L``) and no μ. From Beale (1958).

    >>> f = Beale()
    >>> float(f.value([0.0, 0.0])), f.gradient(f.minimizer)
    (14.203125, array([0., 0.]))
    """

    fstar = 0.0

    def __init__(self, **noise: Unpack[Noise]) -> None:
        """Only the noise can be chosen."""
        super().__init__(start=(1.0, 1.0), region=((-4.5, 4.5), (-4.5, 4.5)), **noise)
        self.minimizer = np.array([3.0, 0.5])

    def _terms(self, p: Any) -> tuple[Any, ...]:
        """t_k and its derivatives ∂x, ∂y, ∂x∂y, ∂y² (∂x² is zero), each [..., 3]."""
        x, y = p[..., :1], p[..., 1:]
        c, k = as_like([1.5, 2.25, 2.625], p), as_like([1.0, 2.0, 3.0], p)
        t = c - x + x * y**k
        # k = 1 has no second derivative in y; its exponent is 0, not -1, so that y = 0 is no special case.
        y_to_k_minus_2 = y ** as_like([0.0, 0.0, 1.0], p)
        return t, y**k - 1, k * x * y ** (k - 1), k * y ** (k - 1), k * (k - 1) * x * y_to_k_minus_2

    def _value(self, p: Any) -> Any:
        return (self._terms(p)[0] ** 2).sum(-1)

    def _gradient(self, p: Any) -> Any:
        t, tx, ty, _, _ = self._terms(p)
        return _vector((2 * t * tx).sum(-1), (2 * t * ty).sum(-1))

    def _hessian(self, p: Any) -> Any:
        t, tx, ty, txy, tyy = self._terms(p)
        return 2 * _symmetric((tx * tx).sum(-1), (tx * ty + t * txy).sum(-1), (ty * ty + t * tyy).sum(-1))


class LongValley(Surface):
    """f = ½κv² + s(√(1 + u²) − 1): steep walls across (v), a long and gently falling floor along (u).

    (u, v) are the coordinates (x, y) turned by ``angle`` (radians); at angle 0 the valley lies along
    the x axis. Far away the floor's slope tends to s while the walls limit the step to 2/κ.
    Convex, μ = 0, L = max(κ, s), f* = 0 at 0.

    >>> f = LongValley(steepness=100.0, slope=1.0)
    >>> f.gradient([-1e6, 0.1]), f.L
    (array([-1., 10.]), 100.0)
    """

    convex = True
    mu = 0.0
    fstar = 0.0

    def __init__(
        self, steepness: float = 100.0, slope: float = 1.0, angle: float = 0.0, **noise: Unpack[Noise]
    ) -> None:
        """``steepness`` κ > 0, ``slope`` s > 0, ``angle`` in radians."""
        positive(steepness=steepness, slope=slope)
        c, s = np.cos(real("angle", angle)), np.sin(angle)
        self.axes = np.array([[c, -s], [s, c]])  # columns: along, across
        super().__init__(start=tuple(self.axes @ [-10.0, 1.0]), region=((-12.0, 4.0), (-4.0, 4.0)), **noise)
        self.steepness, self.slope = float(steepness), float(slope)
        self.L = max(self.steepness, self.slope)
        self.minimizer = np.zeros(2)

    def _along_across(self, p: Any) -> tuple[Any, Any]:
        q = p @ as_like(self.axes, p)
        return q[..., 0], q[..., 1]

    def _value(self, p: Any) -> Any:
        u, v = self._along_across(p)
        return self.steepness * v**2 / 2 + self.slope * (namespace(p).sqrt(1 + u**2) - 1)

    def _gradient(self, p: Any) -> Any:
        u, v = self._along_across(p)
        g = _vector(self.slope * u / namespace(p).sqrt(1 + u**2), self.steepness * v)
        return g @ as_like(self.axes.T, p)

    def _hessian(self, p: Any) -> Any:
        u, _ = self._along_across(p)
        along, across = as_like(self.axes.T, p)
        H = self.slope * (1 + u**2)[..., None, None] ** -1.5 * (along[:, None] * along)
        return H + self.steepness * (across[:, None] * across)


class Saddle(Surface):
    """f(x, y) = ½L(x² − y²): unbounded below, a saddle at 0.

    Gradient descent that starts with y = 0 stays there and converges to the saddle.

    >>> f = Saddle()
    >>> f.gradient([1.0, 0.0]), f.fstar
    (array([ 1., -0.]), None)
    """

    L: float

    def __init__(self, L: float = 1.0, **noise: Unpack[Noise]) -> None:
        """``L`` > 0."""
        positive(L=L)
        super().__init__(start=(1.0, 1e-2), region=((-1.5, 1.5), (-1.5, 1.5)), **noise)
        self.L = float(L)

    def _value(self, p: Any) -> Any:
        return self.L / 2 * (p[..., 0] ** 2 - p[..., 1] ** 2)

    def _gradient(self, p: Any) -> Any:
        return self.L * as_like([1.0, -1.0], p) * p

    def _hessian(self, p: Any) -> Any:
        return self.L * as_like(np.diag([1.0, -1.0]), p) + 0 * p[..., None]


class BoundedSaddle(Surface):
    """f(x, y) = L(½x² + cos y − 1): near 0 the saddle ½L(x² − y²), but bounded below.

    f* = −2L at (0, ±π); the same L everywhere. Δ0 is finite, so the theorems of SGD apply.

    >>> f = BoundedSaddle()
    >>> f.fstar, float(f.delta0([0.0, 0.0]))
    (-2.0, 2.0)
    """

    def __init__(self, L: float = 1.0, **noise: Unpack[Noise]) -> None:
        """``L`` > 0."""
        positive(L=L)
        super().__init__(start=(1.0, 1e-2), region=((-2.0, 2.0), (-5.0, 5.0)), **noise)
        self.L = float(L)
        self.fstar, self.minimizer = -2 * self.L, np.array([0.0, np.pi])

    def _value(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return self.L * (x**2 / 2 + namespace(p).cos(y) - 1)

    def _gradient(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return self.L * _vector(x, -namespace(p).sin(y))

    def _hessian(self, p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return self.L * _symmetric(0 * x + 1, 0 * x, -namespace(p).cos(y))


class Plateau(Surface):
    """f(x) = depth · (1 − exp(−‖x‖²/(2 width²))): a well in a plain; far away the gradient vanishes.

    f* = 0 at 0, L = depth/width² (at 0), ‖∇f‖² ≤ depth²/(e width²) = G2 − σ² (at ‖x‖ = width). Not
    convex, and no Polyak–Łojasiewicz constant: on the plain ∇f → 0 while f → depth.

    >>> f = Plateau(depth=2.0, width=0.5)
    >>> f.L, bool(abs(f.gradient([5.0, 0.0])).max() < 1e-20)
    (8.0, True)
    """

    fstar = 0.0

    def __init__(self, depth: float = 1.0, width: float = 1.0, **noise: Unpack[Noise]) -> None:
        """``depth`` > 0 and ``width`` > 0."""
        positive(depth=depth, width=width)
        side = (-5.0 * width, 5.0 * width)
        super().__init__(start=(3.0 * width, 0.0), region=(side, side), **noise)
        self.depth, self.width = float(depth), float(width)
        self.L = self.depth / self.width**2
        self.G2 = self.depth**2 / (np.e * self.width**2) + self.sigma2
        self.minimizer = np.zeros(2)

    def _bell(self, p: Any) -> Any:
        return namespace(p).exp(-(p**2).sum(-1) / (2 * self.width**2))

    def _value(self, p: Any) -> Any:
        return self.depth * (1 - self._bell(p))

    def _gradient(self, p: Any) -> Any:
        return self.L * self._bell(p)[..., None] * p

    def _hessian(self, p: Any) -> Any:
        curvature = as_like(np.eye(2), p) - p[..., :, None] * p[..., None, :] / self.width**2
        return self.L * self._bell(p)[..., None, None] * curvature


class TwoWells(Surface):
    """f(x, y) = ¼(x² − 1)² + ⅕x + ½y²: a deep well near x = −1.09, a poor one near 0.88, a ridge near 0.21.

    ``bottoms``: the x of the deep well, the ridge and the poor well. f* at the deep one; no global L, no μ.

    >>> TwoWells().bottoms.round(2)
    array([-1.09,  0.21,  0.88])
    """

    def __init__(self, **noise: Unpack[Noise]) -> None:
        """Only the noise can be chosen."""
        super().__init__(start=(1.1, 0.8), region=((-2.0, 2.0), (-1.5, 1.5)), **noise)
        self.bottoms = np.sort(np.roots([1.0, 0.0, -1.0, 0.2]).real)
        self.minimizer = np.array([self.bottoms[0], 0.0])
        self.fstar = float(self._value(self.minimizer))

    def _value(self, p: Any) -> Any:
        return (p[..., 0] ** 2 - 1) ** 2 / 4 + p[..., 0] / 5 + p[..., 1] ** 2 / 2

    def _gradient(self, p: Any) -> Any:
        return _vector(p[..., 0] ** 3 - p[..., 0] + 0.2, p[..., 1])

    def _hessian(self, p: Any) -> Any:
        return _symmetric(3 * p[..., 0] ** 2 - 1, 0 * p[..., 0], 1 + 0 * p[..., 1])
