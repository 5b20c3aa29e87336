r"""SGD with arbitrary sampling: f = E_v[(1/N) sum_i v_i f_i] whenever E[v_i] = 1.

A :class:`Sampling` is the law of the random weights v in R^N, known through its covariance and a
way to draw it. The stochastic gradient is g = (1/N) sum_i v_i grad f_i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.theory.bound import Bound, in_units, power


@dataclass(frozen=True)
class Sampling:
    """The law of v: ``covariance`` is Cov(v), shape [N, N]; ``draw(rng, size)`` gives v, shape [size, N]."""

    name: str
    covariance: np.ndarray
    draw: Callable[[np.random.Generator, int], np.ndarray]

    @property
    def n(self) -> int:
        """Number of terms N in the finite sum."""
        return len(self.covariance)

    def variance(self, gradients: ArrayLike) -> float:
        r"""Total variance of g, exactly.

        Statement: :math:`\frac1{N^2}\sum_{ij}\mathrm{Cov}(v)_{ij}\langle\nabla f_i,\nabla f_j\rangle`.
        ``gradients`` has shape [N, d]. Raises ``ValueError`` for another first dimension.
        """
        g = np.asarray(gradients, dtype=float)
        if g.ndim != 2 or len(g) != self.n:
            raise ValueError(f"gradients must have shape [{self.n}, d], got {list(g.shape)}")
        return float(np.einsum("ij,id,jd->", self.covariance, g, g, optimize=True)) / self.n**2

    def expected_smoothness(self, *, L: float, L_samples: ArrayLike) -> float:
        r"""A constant with E||g(x) - g(x*)||^2 <= 2 * constant * (f(x) - f*), for convex f_i.

        Statement: the mean of v contributes L, and Cov(v) = diag(c) + (a constant matrix) adds
        max_i c_i L_i / N, where a negative constant part -b reduces the L of the mean to (1-b) L.
        It covers all four laws of this module; for mini-batches it is the constant of Gower et al.
        2019. An upper bound: the true constant is often smaller.

        ``L`` is that of f, ``L_samples`` those of the f_i, shape [N]. Raises ``ValueError``
        unless they are positive.
        """
        _, L_samples = positive(L=L, L_samples=L_samples)
        if L_samples.shape != (self.n,):
            raise ValueError(f"L_samples must have shape [{self.n}], got {list(L_samples.shape)}")
        constant = self.covariance[0, -1]
        diagonal = np.diag(self.covariance) - constant
        return float((1 + constant) * L + (diagonal * L_samples).max() / self.n)


def minibatch(n: int, batch_size: int) -> Sampling:
    """``batch_size`` of ``n`` terms without replacement, all subsets alike (B-nice sampling): v_i = n/B or 0."""
    B = integer("batch_size", batch_size, 1, integer("n", n, 1))
    together = (n / B) * (B - 1) / max(n - 1, 1) - 1
    covariance = np.full((n, n), together)
    np.fill_diagonal(covariance, n / B - 1)

    def draw(rng: np.random.Generator, size: int) -> np.ndarray:
        chosen = rng.permuted(np.tile(np.arange(n), (size, 1)), axis=1)[:, :B]
        v = np.zeros((size, n))
        np.put_along_axis(v, chosen, n / B, axis=1)
        return v

    return Sampling(f"{B} of {n} without replacement", covariance, draw)


def with_replacement(probabilities: ArrayLike, batch_size: int = 1) -> Sampling:
    """``batch_size`` independent draws of one term with the given probabilities: v_i = count_i/(B p_i).

    Uniform probabilities are ordinary SGD; p_i proportional to L_i or to ||grad f_i|| is importance
    sampling. Raises ``ValueError`` unless the probabilities are > 0 and sum to 1.
    """
    (p,) = positive(probabilities=np.atleast_1d(probabilities))
    if p.ndim != 1 or abs(p.sum() - 1) > 1e-9:
        raise ValueError(f"probabilities must have shape [N] and sum to 1, got sum {p.sum():.6g}")
    B = integer("batch_size", batch_size, 1)
    return Sampling(
        f"{B} with replacement",
        (np.diag(1 / p) - 1) / B,
        lambda rng, size: rng.multinomial(B, p, size=size) / (B * p),
    )


def independent(probabilities: ArrayLike) -> Sampling:
    """Each term is included by its own coin with probability p_i: v_i = 1/p_i or 0.

    Raises ``ValueError`` unless all p_i are in (0, 1].
    """
    p = np.atleast_1d(np.asarray(real("probabilities", probabilities, 0, 1, open_low=True), dtype=float))
    return Sampling("independent coins", np.diag(1 / p - 1), lambda rng, size: (rng.random((size, p.size)) < p) / p)


def minibatch_variance(*, gradients: ArrayLike, batch_size: int, replace: bool = True) -> float:
    r"""Total variance of the mini-batch gradient, exactly.

    Statement: with replacement :math:`\sigma^2/B`; without, :math:`\frac{\sigma^2}{B}\frac{N-B}{N-1}`, where
    :math:`\sigma^2=\frac1N\sum_i\|\nabla f_i-\nabla f\|^2`. An identity. ``gradients`` has shape [N, d].
    Raises ``ValueError`` for another shape or a batch size outside 1..N (1.. with replacement).

    >>> minibatch_variance(gradients=[[1.0], [-1.0]], batch_size=2, replace=False)
    0.0
    """
    g = np.asarray(gradients, dtype=float)
    if g.ndim != 2:
        raise ValueError(f"gradients must have shape [N, d], got {list(g.shape)}")
    N = len(g)
    B = integer("batch_size", batch_size, 1, None if replace else N)
    sigma2 = np.square(g - g.mean(0)).sum(1).mean()
    correction = 1.0 if replace or N == 1 else (N - B) / (N - 1)
    return float(sigma2 / B * correction)


@in_units("length^2")
def sgd_strongly_convex(
    *, mu: ArrayLike, smoothness: ArrayLike, R: ArrayLike, sigma2_opt: ArrayLike, lr: ArrayLike, steps: ArrayLike
) -> Bound:
    r"""Squared distance of SGD with arbitrary sampling on a mu-strongly convex f.

    Statement, lr <= 1/(2 smoothness): for f mu-strongly convex with minimizer x*, g unbiased given x_k, and
    E||g(x) - g(x*)||^2 <= 2 smoothness (f(x) - f*) for every x (:meth:`Sampling.expected_smoothness` is such a constant
    where the f_i are convex and L_i-smooth: with Cov(v)_ij = b for i != j and Cov(v)_ii = b + c_i it is
    (1 + b) L + max_i c_i L_i/N), :math:`E\|x_k-x^*\|^2 \le (1-\gamma\mu)^kR^2 + 2\gamma\sigma_*^2/\mu`, where
    R = ||x_0 - x*|| and ``sigma2_opt`` = :math:`\sigma_*^2` is the variance :meth:`Sampling.variance` of the gradients
    *at the minimizer*. It follows that mu <= smoothness. Tight: the second term is within a factor 4 of the long-run
    value on f = x^2/2 with additive noise. Slack: 4.1 there. Source: Gower, Loizou, Qian, Sailanbayev, Shulgin &
    Richtarik 2019, Theorem 3.1.

    Raises ``ValueError`` unless 0 < mu <= smoothness, lr > 0, R, sigma2_opt, steps >= 0 and the step is small enough.

    >>> float(sgd_strongly_convex(mu=1.0, smoothness=1.0, R=0.0, sigma2_opt=2.0, lr=0.5, steps=9))
    2.0
    """
    mu, smoothness, lr = positive(mu=mu, smoothness=smoothness, lr=lr)
    R, sigma2_opt, k = nonnegative(R=R, sigma2_opt=sigma2_opt, steps=steps)
    if (mu > smoothness * (1 + 1e-12)).any():  # of a constant that was computed
        raise ValueError(f"mu must be at most smoothness, got mu = {mu} and smoothness = {smoothness}")
    terms = {"distance": power(lost=lr * mu, steps=k) * R**2, "noise": 2 * lr * sigma2_opt / mu}
    why = f"lr <= 1/(2 smoothness), got lr = {lr} and smoothness = {smoothness}"
    return Bound.where(2 * smoothness * lr <= 1 + 1e-12, why, terms, lr)
