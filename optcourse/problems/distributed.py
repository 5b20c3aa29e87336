"""Functions shared by n nodes, f = (1/n) Σ f_i, with exactly known heterogeneity ζ²."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from optcourse.arguments import positive, real
from optcourse.problems.base import Noise, Problem, as_like, diagonal, floating, namespace


class Distributed(Problem):
    """f(x) = (1/n) Σ f_i(x), where node i owns f_i.

    ``value``, ``gradient`` and ``hessian`` are those of the mean f, at points ``[..., d]``.
    ``node_value`` and ``node_gradient`` take one point per node, ``[..., n, d]``. Here ``L`` is the
    smallest smoothness constant valid for every f_i (that of f may be smaller), ``mu`` belongs to f,
    and ``sigma2`` is the variance of one sample at one node.
    """

    n_nodes: int

    def node_value(self, x: Any) -> Any:
        """f_i at row i: ``[..., n, d] -> [..., n]``. Raises ``ValueError`` for another number of rows or columns."""
        return self._node_value(self._rows(x))

    def node_gradient(self, x: Any) -> Any:
        """∇f_i at row i: ``[..., n, d] -> [..., n, d]``. Raises ``ValueError`` as ``node_value`` does."""
        return self._node_gradient(self._rows(x))

    def stochastic_node_gradient(self, x: Any, rng: np.random.Generator, batch_size: int = 1) -> Any:
        """``node_gradient`` plus noise of variance ``sigma2 / batch_size``, independent from node to node."""
        x = self._rows(x)
        return self._node_gradient(x) + self._sample_noise(x, rng, batch_size)

    def heterogeneity(self, x: Any) -> Any:
        """(1/n) Σ‖∇f_i(x) − ∇f(x)‖² at one common point: ``[..., d] -> [...]``; ``zeta2`` is its supremum."""
        x = self._point(x)
        everywhere = namespace(x).broadcast_to(x[..., None, :], (*x.shape[:-1], self.n_nodes, self.dim))
        return ((self._node_gradient(everywhere) - self._gradient(x)[..., None, :]) ** 2).sum(-1).mean(-1)

    def _rows(self, x: Any) -> Any:
        x = floating(x)
        if tuple(x.shape[-2:]) != (self.n_nodes, self.dim):
            raise ValueError(
                f"x must have last dimensions {(self.n_nodes, self.dim)} (n_nodes and dim of "
                f"{type(self).__name__}), got shape {tuple(x.shape)}"
            )
        return x

    def _node_value(self, x: Any) -> Any:
        raise NotImplementedError

    def _node_gradient(self, x: Any) -> Any:
        raise NotImplementedError


def _node_matrix(name: str, value: Any) -> np.ndarray:
    """A float64 copy of shape [n, d]; a vector [n] means d = 1."""
    rows = np.array(real(name, value), dtype=float)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.size == 0:
        raise ValueError(f"{name} must have shape [n] or [n, d], neither of them 0, got {rows.shape}")
    return rows


class OffsetNodes(Distributed):
    """f_i(x) = f(x) + ⟨b_i, x⟩ with Σ b_i = 0: any problem, made heterogeneous.

    The mean is f itself, so all its constants stay; ζ² = (1/n) Σ‖b_i‖² at every x.

    >>> from optcourse.problems import Quadratic
    >>> f = OffsetNodes(Quadratic([1.0, 4.0]), offsets=[[3.0, 0.0], [-3.0, 0.0]])
    >>> f.zeta2, f.gradient([1.0, 1.0]), f.node_gradient(np.ones((2, 2)))[0]
    (9.0, array([1., 4.]), array([4., 4.]))
    """

    def __init__(self, base: Problem, offsets: Any) -> None:
        """``base`` gives f and its noise; ``offsets`` b [n, d] sum to zero over the nodes."""
        if not isinstance(base, Problem) or isinstance(base, Distributed):
            raise TypeError(f"base must be a problem that is not distributed itself, got {base!r}")
        self.base, self.offsets = base, _node_matrix("offsets", offsets)
        self.n_nodes = len(self.offsets)
        if self.offsets.shape[1] != base.dim:
            raise ValueError(f"offsets must have {base.dim} columns (the dim of base), got shape {self.offsets.shape}")
        if not np.allclose(self.offsets.sum(0), 0, rtol=0, atol=1e-12 * abs(self.offsets).sum()):
            raise ValueError(f"offsets must sum to zero over the nodes, got {self.offsets.sum(0)!r}")
        for name in ("dim", "L", "convex", "mu", "fstar", "minimizer", "sigma2", "noise_variances", "noise"):
            setattr(self, name, getattr(base, name))
        self.zeta2 = float((self.offsets**2).sum(-1).mean())

    def _value(self, x: Any) -> Any:
        return self.base.value(x)

    def _gradient(self, x: Any) -> Any:
        return self.base.gradient(x)

    def _hessian(self, x: Any) -> Any:
        return self.base.hessian(x)

    def _node_value(self, x: Any) -> Any:
        return self.base.value(x) + (as_like(self.offsets, x) * x).sum(-1)

    def _node_gradient(self, x: Any) -> Any:
        return self.base.gradient(x) + as_like(self.offsets, x)

    def stochastic_gradient(self, x: Any, rng: np.random.Generator, batch_size: int = 1) -> Any:
        """The stochastic gradient of ``base``."""
        return self.base.stochastic_gradient(x, rng, batch_size)

    def stochastic_node_gradient(self, x: Any, rng: np.random.Generator, batch_size: int = 1) -> Any:
        """b_i plus a stochastic gradient of ``base`` at row i, independent from node to node."""
        x = self._rows(x)
        return self.base.stochastic_gradient(x, rng, batch_size) + as_like(self.offsets, x)


class CosineNodes(Distributed):
    """f_i(x) = L Σ_j (1 − cos(x_j − φ_ij)): non-convex, with heterogeneous Hessians.

    With c_j = mean_i e^{iφ_ij} and z_ij = e^{−iφ_ij} − c̄_j: f* = L Σ_j (1 − |c_j|) at x_j = arg c_j,
    and ζ² = ½L² Σ_j (mean_i |z_ij|² + |mean_i z_ij²|), a supremum that is attained: ∇f_i − ∇f is
    L Im(e^{ix} z), and (Im w)² = ½(|w|² − Re w²). The smoothness of the mean f is L max_j |c_j|.

    >>> f = CosineNodes(L=1.0, phases=[0.0, np.pi / 2])
    >>> round(f.fstar, 6), f.minimizer / np.pi, round(f.zeta2, 6)
    (0.292893, array([0.25]), 0.5)
    """

    def __init__(self, L: float, phases: Any, **noise: Unpack[Noise]) -> None:
        """``L`` > 0; ``phases`` φ [n, d], or [n] for d = 1."""
        positive(L=L)
        self.phases = _node_matrix("phases", phases)
        self.n_nodes, dim = self.phases.shape
        super().__init__(dim, **noise)
        self.L = float(L)
        c = np.exp(1j * self.phases).mean(0)
        z = np.exp(-1j * self.phases) - c.conj()
        self._c_abs, self.minimizer = abs(c), np.angle(c)
        self.fstar = float(self.L * (1 - self._c_abs).sum())
        self.zeta2 = float(self.L**2 / 2 * ((abs(z) ** 2).mean(0) + abs((z**2).mean(0))).sum())

    def _value(self, x: Any) -> Any:
        y = x - as_like(self.minimizer, x)
        return self.L * (1 - as_like(self._c_abs, x) * namespace(x).cos(y)).sum(-1)

    def _gradient(self, x: Any) -> Any:
        y = x - as_like(self.minimizer, x)
        return self.L * as_like(self._c_abs, x) * namespace(x).sin(y)

    def _hessian(self, x: Any) -> Any:
        y = x - as_like(self.minimizer, x)
        return diagonal(self.L * as_like(self._c_abs, x) * namespace(x).cos(y))

    def _node_value(self, x: Any) -> Any:
        return self.L * (1 - namespace(x).cos(x - as_like(self.phases, x))).sum(-1)

    def _node_gradient(self, x: Any) -> Any:
        return self.L * namespace(x).sin(x - as_like(self.phases, x))


class QuadraticNodes(Distributed):
    """f_i(x) = ½ Σ_j a_ij (x_j − b_ij)²: strongly convex, every fixed point in closed form.

    x* = Σ_i a_i b_i / Σ_i a_i per coordinate, L = max a_ij, μ = min_j mean_i a_ij. ζ² is finite only
    when the nodes share their curvatures (``zeta2`` is None otherwise; see ``heterogeneity``).

    >>> f = QuadraticNodes(a=[1.0, 4.0, 0.5], b=[0.0, 1.0, -3.0])
    >>> f.minimizer.round(4), f.L, round(f.mu, 4), f.zeta2
    (array([0.4545]), 4.0, 1.8333, None)
    """

    convex = True

    def __init__(self, a: Any, b: Any, **noise: Unpack[Noise]) -> None:
        """``a`` > 0 and ``b``, both [n, d], or [n] for d = 1."""
        self.a, self.b = _node_matrix("a", a), _node_matrix("b", b)
        positive(a=self.a)
        if self.a.shape != self.b.shape:
            raise ValueError(f"b must have the shape of a, {self.a.shape}, got {self.b.shape}")
        self.n_nodes, dim = self.a.shape
        super().__init__(dim, **noise)
        self.L, self.mu = float(self.a.max()), float(self.a.mean(0).min())
        self.minimizer = (self.a * self.b).sum(0) / self.a.sum(0)
        self.fstar = float(self._value(self.minimizer))
        if (self.a == self.a[0]).all():
            self.zeta2 = float(((self.a * (self.b - self.b.mean(0))) ** 2).sum(-1).mean())

    def _value(self, x: Any) -> Any:
        return self._node_value(x[..., None, :]).mean(-1)

    def _gradient(self, x: Any) -> Any:
        return self._node_gradient(x[..., None, :]).mean(-2)

    def _hessian(self, x: Any) -> Any:
        return diagonal(as_like(self.a.mean(0), x) + namespace(x).zeros_like(x))

    def _node_value(self, x: Any) -> Any:
        return 0.5 * (as_like(self.a, x) * (x - as_like(self.b, x)) ** 2).sum(-1)

    def _node_gradient(self, x: Any) -> Any:
        return as_like(self.a, x) * (x - as_like(self.b, x))
