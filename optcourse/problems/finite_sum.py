"""Finite sums f = (1/N) Σ f_i, sampled in mini-batches: the objective of a training set."""

from __future__ import annotations

from typing import Any

import numpy as np

from optcourse.arguments import integer
from optcourse.problems.base import Problem, as_like, diagonal, namespace, vector


class FiniteSum(Problem):
    """f = (1/N) Σ f_i. A subclass gives ``n_samples``, ``batch_gradient`` and ``variance_of_one``.

    The variance depends on x, so ``sigma2`` is None; ``variance(x)`` is exact at every point.
    """

    n_samples: int

    def batch_gradient(self, x: Any, batch: Any) -> Any:
        """Mean of ∇f_i(x) over the indices ``batch`` [..., B], whose leading axes match those of x: ``[..., d]``."""
        raise NotImplementedError

    def variance_of_one(self, x: Any) -> Any:
        """V(x) = (1/N) Σ‖∇f_i(x) − ∇f(x)‖², exactly: ``[..., d] -> [...]``."""
        raise NotImplementedError

    def variance(self, x: Any, batch_size: int = 1, *, replace: bool = True) -> Any:
        """Exact E‖g − ∇f(x)‖² of a mini-batch gradient: V/B with replacement, V/B·(N−B)/(N−1) without."""
        B, N = self._batch_size(batch_size, replace), self.n_samples
        V = self.variance_of_one(self._point(x))
        return V / B if replace or N == 1 else V / B * (N - B) / (N - 1)

    def stochastic_gradient(
        self, x: Any, rng: np.random.Generator, batch_size: int = 1, *, replace: bool = True
    ) -> Any:
        """Gradient on a random mini-batch, drawn anew for every copy in the leading axes: ``[..., d] -> [..., d]``.

        Unbiased, with conditional variance ``variance(x, batch_size, replace=replace)``. Without
        replacement ``batch_size`` is at most N.
        """
        x, B = self._point(x), self._batch_size(batch_size, replace)
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
        copies = tuple(x.shape[:-1])
        if replace:
            return self.batch_gradient(x, rng.integers(self.n_samples, size=(*copies, B)))
        # The B smallest of N random keys are a uniform subset, for all copies at once.
        return self.batch_gradient(x, rng.random((*copies, self.n_samples)).argsort(-1)[..., :B])

    def _batch_size(self, batch_size: int, replace: bool) -> int:
        return integer("batch_size", batch_size, 1, None if replace else self.n_samples)


class LeastSquares(FiniteSum):
    """f(x) = (1/N) Σ f_i(x) with f_i(x) = ½(a_iᵀx − b_i)²: a finite sum, sampled in mini-batches.

    L and μ are the extreme eigenvalues of AᵀA/N (μ = 0 when the rank is below d), ``sample_L[i]``
    = ‖a_i‖², the minimizer is the one of least norm. The variance depends on x (``variance``);
    ``sigma2_star`` = (1/N) Σ‖∇f_i(x*)‖² is that of one sample at the minimizer.

    >>> f = LeastSquares(features=[[1.0], [2.0]], targets=[1.0, 0.0])
    >>> f.L, f.minimizer, f.fstar, f.sample_L
    (2.5, array([0.2]), 0.2, array([1., 4.]))
    """

    convex = True

    def __init__(self, features: Any, targets: Any) -> None:
        """``features`` A [N, d], not all 0; ``targets`` b, a number or [N]."""
        self.features = np.array(features, dtype=float)
        if self.features.ndim != 2 or not self.features.any() or not np.isfinite(self.features).all():
            raise ValueError(
                f"features must be a finite, non-zero matrix [N, d], got {features!r} of shape {self.features.shape}"
            )
        self.n_samples, dim = self.features.shape
        super().__init__(dim)
        self.targets = vector("targets", targets, self.n_samples)
        A = self.features
        eigenvalues = np.linalg.eigvalsh(A.T @ A / self.n_samples)
        self.minimizer, _, rank, _ = np.linalg.lstsq(A, self.targets, rcond=None)
        self.L, self.mu = float(eigenvalues[-1]), float(eigenvalues[0]) if rank == dim else 0.0
        self.sample_L = (A**2).sum(-1)
        self.fstar = float(self._value(self.minimizer))
        self.sigma2_star = float((self.sample_gradients(self.minimizer) ** 2).sum(-1).mean())
        self.sigma2 = None

    def _residuals(self, x: Any) -> Any:
        return x @ as_like(self.features.T, x) - as_like(self.targets, x)

    def _value(self, x: Any) -> Any:
        return 0.5 * (self._residuals(x) ** 2).mean(-1)

    def _gradient(self, x: Any) -> Any:
        return self._residuals(x) @ as_like(self.features, x) / self.n_samples

    def _hessian(self, x: Any) -> Any:
        return as_like(self.features.T @ self.features / self.n_samples, x) + namespace(x).zeros_like(x)[..., None]

    def sample_gradients(self, x: Any) -> Any:
        """∇f_i(x) = (a_iᵀx − b_i) a_i for all i: ``[..., d] -> [..., N, d]``."""
        x = self._point(x)
        return self._residuals(x)[..., None] * as_like(self.features, x)

    def batch_gradient(self, x: Any, batch: Any) -> Any:
        """Mean of ∇f_i(x) over the indices ``batch`` [..., B], whose leading axes broadcast with those of x."""
        x, batch = self._point(x), np.asarray(batch)
        if batch.ndim == 0 or not np.isin(batch, np.arange(self.n_samples)).all() or batch.size == 0:
            raise ValueError(f"batch must hold indices in 0..{self.n_samples - 1} along its last axis, got {batch!r}")
        a, b = as_like(self.features[batch], x), as_like(self.targets[batch], x)
        return (((a * x[..., None, :]).sum(-1) - b)[..., None] * a).mean(-2)

    def variance_of_one(self, x: Any) -> Any:
        """V(x) = (1/N) Σ‖∇f_i(x) − ∇f(x)‖², exactly: ``[..., d] -> [...]``."""
        return ((self.sample_gradients(x) - self.gradient(x)[..., None, :]) ** 2).sum(-1).mean(-1)


class SoftmaxRegression(FiniteSum):
    """Cross-entropy of linear scores s = X h on a data set: f_i(X) = logsumexp(X h_i) − (X h_i)_{y_i}.

    x is X [C, p] flattened. Convex and non-negative; f* has no closed form (``fstar`` is None). ``L`` =
    ½ λ_max(HᵀH/N) and ``sample_L[i]`` = ½‖h_i‖², because the Hessian in s, diag(p) − ppᵀ, has eigenvalues
    of at most ½: attained at x = 0 for two classes, an upper bound for more. μ = 0: adding one vector
    to all rows of X changes nothing.

    >>> f = SoftmaxRegression(features=[[1.0], [-1.0]], labels=[0, 1])
    >>> round(float(f.value([0.0, 0.0])), 6), f.gradient([0.0, 0.0]), f.L
    (0.693147, array([-0.5,  0.5]), 0.5)
    """

    convex = True
    mu = 0.0

    def __init__(self, features: Any, labels: Any) -> None:
        """``features`` h [N, p], finite; ``labels`` y [N], integers 0..C−1."""
        self.features, self.labels = np.array(features, dtype=float), np.asarray(labels)
        if self.features.ndim != 2 or self.features.size == 0 or not np.isfinite(self.features).all():
            raise ValueError(f"features must be a finite, non-empty matrix [N, p], got shape {self.features.shape}")
        self.n_samples, p = self.features.shape
        if self.labels.shape != (self.n_samples,) or not np.issubdtype(self.labels.dtype, np.integer):
            raise ValueError(f"labels must be {self.n_samples} integers, got {self.labels.dtype} {self.labels.shape}")
        if self.labels.min() < 0:
            raise ValueError(f"labels must be at least 0, got {self.labels.min()}")
        self.n_classes = int(self.labels.max()) + 1
        super().__init__(self.n_classes * p)
        self._onehot = np.eye(self.n_classes)[self.labels]
        self.sample_L = 0.5 * (self.features**2).sum(-1)
        self.L = 0.5 * float(np.linalg.eigvalsh(self.features.T @ self.features / self.n_samples)[-1])
        self.sigma2 = None

    def scores(self, x: Any, features: Any = None) -> Any:
        """s = X h for all samples, or for ``features`` [..., M, p]: ``[..., d] -> [..., N, C]``."""
        return namespace(x).swapaxes(self._scores(x, self.features if features is None else features), -1, -2)

    def _scores(self, x: Any, features: Any) -> Any:
        """The same by class, ``[..., C, N]``: sums over few classes are fast where many samples lie side by side."""
        X = x.reshape((*x.shape[:-1], self.n_classes, self.features.shape[-1]))
        return X @ namespace(x).swapaxes(as_like(features, x), -1, -2)

    def _value(self, x: Any) -> Any:
        xp, s = namespace(x), self._scores(x, self.features)
        top = xp.amax(s, axis=-2, keepdims=True)
        logsumexp = top[..., 0, :] + xp.log(xp.exp(s - top).sum(-2))
        return (logsumexp - (s * as_like(self._onehot.T, x)).sum(-2)).mean(-1)

    def _hessian(self, x: Any) -> Any:
        xp, h = namespace(x), as_like(self.features, x)
        p = xp.swapaxes(self._errors(x, self.features, 0 * self._onehot), -1, -2)
        in_scores = diagonal(p) - p[..., :, None] * p[..., None, :]
        blocks = xp.einsum("...nij,na,nb->...iajb", in_scores, h, h) / self.n_samples
        return blocks.reshape((*x.shape, self.dim))

    def _errors(self, x: Any, features: Any, onehot: Any) -> Any:
        """p − y for each sample, by class: ``[..., C, M]``."""
        xp, s = namespace(x), self._scores(x, features)
        e = xp.exp(s - xp.amax(s, axis=-2, keepdims=True))
        return e / e.sum(-2)[..., None, :] - xp.swapaxes(as_like(onehot, x), -1, -2)

    def _outer(self, errors: Any, features: Any) -> Any:
        """The mean of (p − y) hᵀ, flattened like x."""
        gradient = errors @ as_like(features, errors) / features.shape[-2]
        return gradient.reshape((*gradient.shape[:-2], self.dim))

    def _gradient(self, x: Any) -> Any:
        return self._outer(self._errors(x, self.features, self._onehot), self.features)

    def batch_gradient(self, x: Any, batch: Any) -> Any:
        """Mean of ∇f_i(x) = (p_i − y_i) h_iᵀ over ``batch`` [..., B]: ``[..., d] -> [..., d]``."""
        x, batch = self._point(x), np.asarray(batch)
        return self._outer(self._errors(x, self.features[batch], self._onehot[batch]), self.features[batch])

    def variance_of_one(self, x: Any) -> Any:
        """V(x) = (1/N) Σ‖p_i − y_i‖²‖h_i‖² − ‖∇f(x)‖²: ``[..., d] -> [...]``."""
        x = self._point(x)
        errors = self._errors(x, self.features, self._onehot)
        squares = (errors**2).sum(-2) * as_like((self.features**2).sum(-1), x)
        return squares.mean(-1) - (self._gradient(x) ** 2).sum(-1)
