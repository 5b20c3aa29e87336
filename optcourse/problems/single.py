"""One function on one machine: quadratic, cosine, pseudo-Huber, Huber, Polyak–Łojasiewicz."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from optcourse.arguments import positive
from optcourse.problems.base import Noise, Problem, as_like, diagonal, namespace, vector


class Quadratic(Problem):
    """f(x) = ½ Σ λ_i y_i², with y = Rᵀ(x − x*) the coordinates along the eigenvectors.

    L = max λ, μ = min λ, f* = 0. Without ``rotation`` R is the identity. The noise is
    independent along the *eigenvectors* (``noise_variances[i]`` belongs to λ_i), so that SGD
    decouples: with step γ, E y_i² follows an exact recursion with factor (1 − γλ_i)².

    >>> f = Quadratic([1.0, 4.0], sigma2=2.0)
    >>> float(f.value([1.0, 1.0])), f.gradient([1.0, 1.0]), f.L, f.mu, f.sigma2
    (2.5, array([1., 4.]), 4.0, 1.0, 2.0)
    """

    L: float
    mu: float
    convex = True
    fstar = 0.0

    def __init__(self, eigenvalues: Any, *, minimizer: Any = 0.0, rotation: Any = None, **noise: Unpack[Noise]) -> None:
        """``eigenvalues`` [d] >= 0, not all 0; ``minimizer`` a number or [d]; ``rotation`` R, orthogonal [d, d]."""
        self.eigenvalues = vector("eigenvalues", eigenvalues, low=0.0)
        super().__init__(self.eigenvalues.size, **noise)
        self.L, self.mu = float(self.eigenvalues.max()), float(self.eigenvalues.min())
        if self.L == 0:
            raise ValueError("eigenvalues must contain a number > 0, got only zeros")
        self.minimizer = vector("minimizer", minimizer, self.dim)
        self.rotation = None if rotation is None else _orthogonal("rotation", rotation, self.dim)

    def _to_eigenvectors(self, x: Any) -> Any:
        return x if self.rotation is None else x @ as_like(self.rotation, x)

    def _from_eigenvectors(self, y: Any) -> Any:
        return y if self.rotation is None else y @ as_like(self.rotation.T, y)

    def _value(self, x: Any) -> Any:
        y = self._to_eigenvectors(x - as_like(self.minimizer, x))
        return 0.5 * (as_like(self.eigenvalues, x) * y**2).sum(-1)

    def _gradient(self, x: Any) -> Any:
        y = self._to_eigenvectors(x - as_like(self.minimizer, x))
        return self._from_eigenvectors(as_like(self.eigenvalues, x) * y)

    def _hessian(self, x: Any) -> Any:
        R = np.eye(self.dim) if self.rotation is None else self.rotation
        return as_like(R * self.eigenvalues @ R.T, x) + namespace(x).zeros_like(x)[..., None]

    def _sample_noise(self, x: Any, rng: np.random.Generator, batch_size: int) -> Any:
        return self._from_eigenvectors(super()._sample_noise(x, rng, batch_size))


def _orthogonal(name: str, matrix: Any, dim: int) -> np.ndarray:
    R = np.array(matrix, dtype=float)
    if R.shape != (dim, dim):
        raise ValueError(f"{name} must have shape {(dim, dim)}, got {R.shape}")
    if not np.allclose(R.T @ R, np.eye(dim), rtol=0, atol=1e-10):
        raise ValueError(f"{name} must be orthogonal, got max |RᵀR − I| = {abs(R.T @ R - np.eye(dim)).max():.3g}")
    return R


class Cosine(Problem):
    """f(x) = L Σ (1 − cos x_i): smooth and non-convex.

    f* = 0, attained at 0 (and at every multiple of 2π). ‖∇f‖² = L² Σ sin² x_i, so G2 = L²d + σ².

    >>> f = Cosine(L=2.0, dim=1)
    >>> float(f.value([np.pi])), f.gradient([np.pi / 2])
    (4.0, array([2.]))
    """

    sigma2: float
    fstar = 0.0

    def __init__(self, L: float = 1.0, dim: int = 1, **noise: Unpack[Noise]) -> None:
        """``L`` > 0, ``dim`` >= 1."""
        positive(L=L)
        super().__init__(dim, **noise)
        self.L = float(L)
        self.minimizer = np.zeros(dim)
        self.G2 = self.L**2 * dim + self.sigma2

    def _value(self, x: Any) -> Any:
        return self.L * (1 - namespace(x).cos(x)).sum(-1)

    def _gradient(self, x: Any) -> Any:
        return self.L * namespace(x).sin(x)

    def _hessian(self, x: Any) -> Any:
        return diagonal(self.L * namespace(x).cos(x))


class PseudoHuber(Problem):
    """f(x) = Σ (√(1 + x_i²) − 1): convex, not strongly, with bounded gradients.

    L = 1 (at 0), f* = 0, ‖∇f‖² < d, so G2 = d + σ² (a supremum, approached far away).

    >>> f = PseudoHuber(dim=1)
    >>> round(float(f.value([np.sqrt(3.0)])), 12), f.L, f.G2
    (1.0, 1.0, 1.0)
    """

    sigma2: float
    L = 1.0
    convex = True
    mu = 0.0
    fstar = 0.0

    def __init__(self, dim: int = 1, **noise: Unpack[Noise]) -> None:
        """``dim`` >= 1."""
        super().__init__(dim, **noise)
        self.minimizer = np.zeros(dim)
        self.G2 = dim + self.sigma2

    def _value(self, x: Any) -> Any:
        return (namespace(x).sqrt(1 + x**2) - 1).sum(-1)

    def _gradient(self, x: Any) -> Any:
        return x / namespace(x).sqrt(1 + x**2)

    def _hessian(self, x: Any) -> Any:
        return diagonal((1 + x**2) ** -1.5)


class Huber(Problem):
    """f(x) = ½Lx² for |x| ≤ knee, else L·knee·(|x| − ½knee); one-dimensional and convex.

    f* = 0, G2 = (L·knee)² + σ². With the knee R/(2N+1) it is the worst function for N steps of
    gradient descent with step 1/L from distance R (Drori & Teboulle 2014): f(x_N) = LR²/(4N+2).

    >>> f, x = Huber(knee=1 / 5), np.ones(1)
    >>> for _ in range(2):
    ...     x = x - f.gradient(x)
    >>> round(float(f.value(x)), 12)
    0.1
    """

    sigma2: float
    convex = True
    mu = 0.0
    fstar = 0.0

    def __init__(self, knee: float, L: float = 1.0, **noise: Unpack[Noise]) -> None:
        """``knee`` > 0, ``L`` > 0."""
        positive(knee=knee, L=L)
        super().__init__(1, **noise)
        self.knee, self.L = float(knee), float(L)
        self.minimizer = np.zeros(1)
        self.G2 = (self.L * self.knee) ** 2 + self.sigma2

    def _value(self, x: Any) -> Any:
        xp, a = namespace(x), self.knee
        return self.L * xp.where(abs(x) <= a, x**2 / 2, a * (abs(x) - a / 2)).sum(-1)

    def _gradient(self, x: Any) -> Any:
        return self.L * namespace(x).clip(x, -self.knee, self.knee)

    def _hessian(self, x: Any) -> Any:
        xp = namespace(x)
        return diagonal(self.L * xp.where(abs(x) <= self.knee, xp.ones_like(x), xp.zeros_like(x)))


class PolyakLojasiewicz(Problem):
    """f(x) = x² + 3 sin² x: non-convex (f'' goes down to −4), yet every stationary point is a minimum.

    L = 8, f* = 0 at 0, and |f'|² ≥ 2μf with best μ = 0.17553… (at |x| ≈ 2.2017). The example, with
    the valid but loose μ = 1/32, is from Karimi, Nutini & Schmidt (2016), section 2.2.

    >>> f = PolyakLojasiewicz()
    >>> f.hessian([[0.0], [np.pi / 2]]).ravel()
    array([ 8., -4.])
    """

    L = 8.0
    mu = 0.1755309858  # minimum of |f'|²/(2f), rounded down
    fstar = 0.0

    def __init__(self, **noise: Unpack[Noise]) -> None:
        """One-dimensional; only the noise can be chosen."""
        super().__init__(1, **noise)
        self.minimizer = np.zeros(1)

    def _value(self, x: Any) -> Any:
        return (x**2 + 3 * namespace(x).sin(x) ** 2).sum(-1)

    def _gradient(self, x: Any) -> Any:
        return 2 * x + 3 * namespace(x).sin(2 * x)

    def _hessian(self, x: Any) -> Any:
        return diagonal(2 + 6 * namespace(x).cos(2 * x))
