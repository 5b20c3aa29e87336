r"""Gradient descent x_{k+1} = x_k - lr * grad f(x_k): tight guarantees by function class.

f is L-smooth and bounded below by f*, with a minimizer x* where ``R`` = ||x_0 - x*|| is needed; ``mu`` is the constant
of strong convexity or of the Polyak-Lojasiewicz (PL) condition. ``steps`` = N counts gradient steps, ``delta0`` =
f(x_0) - f*. Ranges: L, R, delta0, lr > 0 (delta0 >= 0 in ``gd_pl``), 0 < mu <= L, steps >= 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive
from optcourse.theory.bound import Bound, Number, in_units, power, scalar


def condition_number(*, mu: ArrayLike, L: ArrayLike) -> Number:
    """L / mu, at least 1.

    >>> condition_number(mu=2.0, L=10.0)
    5.0
    """
    mu, L = _ordered(mu, L)
    return scalar(L / mu)


@in_units("loss")
def gd_convex(*, L: ArrayLike, R: ArrayLike, lr: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Gap after N steps on a convex L-smooth function.

    Statement, lr <= 1/L: :math:`f(x_N) - f^* \le \frac{LR^2}{4N\gamma L + 2}`.

    Tight: equality for every lr <= 1/L on the Huber function with knee R/(2N lr L + 1) (``problems.Huber``), whose
    slope stays constant to the end. Slack: 1. Source: Drori & Teboulle 2014, "Performance of first-order methods".

    >>> float(gd_convex(L=1.0, R=1.0, lr=1.0, steps=2))
    0.1
    """
    L, R, lr = positive(L=L, R=R, lr=lr)
    (N,) = nonnegative(steps=steps)
    return Bound.where(
        L * lr <= 1 + 1e-12, f"lr <= 1/L, got lr = {lr} and L = {L}", {"gap": L * R**2 / (4 * N * lr * L + 2)}, lr
    )


def gd_contraction(*, mu: ArrayLike, L: ArrayLike, lr: ArrayLike) -> Number:
    r"""Factor per step of ||x_k - x*|| on a mu-strongly convex L-smooth function.

    Statement: :math:`\rho = \max(|1-\gamma\mu|, |1-\gamma L|)`; for lr <= 2/L
    f(x_k) - f* contracts by its square.
    Tight: equality on a quadratic with an eigenvector of the eigenvalue that attains the maximum.
    Slack: 1. Source: Polyak 1987, "Introduction to Optimization", section 1.4, for the distance; Taylor, Hendrickx &
    Glineur 2018, "Exact worst-case convergence rates of the proximal gradient method", for f(x_k) - f*.

    It is a contraction (rho < 1) iff lr < 2/L.

    >>> gd_contraction(mu=1.0, L=9.0, lr=0.2)
    0.8
    """
    (mu, L), (lr,) = _ordered(mu, L), positive(lr=lr)
    return scalar(np.maximum(abs(1 - lr * mu), abs(1 - lr * L)))


def gd_optimal_step(*, mu: ArrayLike, L: ArrayLike) -> Number:
    r"""The step 2/(L + mu) that minimizes :func:`gd_contraction`, where it is (kappa-1)/(kappa+1).

    >>> gd_optimal_step(mu=1.0, L=9.0)
    0.2
    """
    mu, L = _ordered(mu, L)
    return scalar(2 / (L + mu))


@in_units("length")
def gd_strongly_convex(*, mu: ArrayLike, L: ArrayLike, R: ArrayLike, lr: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Distance after N steps on a mu-strongly convex L-smooth function.

    Statement, lr < 2/L: :math:`\|x_N-x^*\| \le \rho^NR`, rho of :func:`gd_contraction`. Tight: equality on quadratics.
    Slack: 1. Source: Polyak 1987, "Introduction to Optimization", section 1.4.

    >>> round(float(gd_strongly_convex(mu=1.0, L=9.0, R=1.0, lr=0.2, steps=2)), 12)
    0.64
    """
    (R,), (N,), rho = positive(R=R), nonnegative(steps=steps), gd_contraction(mu=mu, L=L, lr=lr)
    (mu, L), (lr,) = _ordered(mu, L), positive(lr=lr)
    left = power(kept=rho, lost=np.minimum(lr * mu, 2 - lr * L), steps=N)
    return Bound.where(L * lr < 2, f"lr < 2/L, got lr = {lr} and L = {L}", {"distance": left * R}, lr)


@in_units("loss")
def gd_pl(*, mu: ArrayLike, L: ArrayLike, delta0: ArrayLike, lr: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Gap after N steps under ||grad f||^2 >= 2 mu (f - f*), convex or not.

    Statement, lr < 2/L: :math:`f(x_N) - f^* \le (1-\mu\gamma(2-L\gamma))^N\Delta_0`; at lr = 1/L it is
    :math:`(1-\mu/L)^N\Delta_0`. Proof: descent inequality, then PL.

    Tight: equality at mu = L (f = L x^2/2) for every lr. Slack: 1 there. For mu < L the true worst
    case is smaller: at most (1-q)/(1+q/2) in place of 1-q, q = mu/L, per step at lr = 1/L (Abbaszadehpeivasti,
    de Klerk & Zamani 2023). Source: Karimi, Nutini & Schmidt 2016, Theorem 1.

    >>> float(gd_pl(mu=1.0, L=2.0, delta0=8.0, lr=0.5, steps=3))
    1.0
    """
    (mu, L), (lr,) = _ordered(mu, L), positive(lr=lr)
    delta0, N = nonnegative(delta0=delta0, steps=steps)
    # The same as 1 - mu lr (2 - L lr), which would cancel where mu is near L and lr near 1/L.
    kept = (L - mu) / L + mu / L * (1 - L * lr) ** 2
    left = power(kept=kept, lost=mu * lr * (2 - L * lr), steps=N)
    return Bound.where(L * lr < 2, f"lr < 2/L, got lr = {lr} and L = {L}", {"gap": left * delta0}, lr)


@in_units("loss^2/length^2")
def gd_best_iterate(*, L: ArrayLike, delta0: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Smallest squared gradient among x_0 ... x_N on a smooth non-convex function, lr = 1/L.

    Statement: :math:`\min_{k\le N}\|\nabla f(x_k)\|^2 \le \frac{4L\Delta_0}{3N+2}`.

    Tight: equality on ``problems.BestIterateZigzag``, whose slope falls and recovers between any two
    iterates. Slack: 1. The average over the same iterates obeys only 2 L delta0/(N+1). Source:
    Abbaszadehpeivasti, de Klerk & Zamani 2022, "The exact worst-case convergence rate of the
    gradient method with fixed step lengths for L-smooth functions".

    >>> float(gd_best_iterate(L=1.0, delta0=5.0, steps=6))
    1.0
    """
    (L, delta0), (N,) = positive(L=L, delta0=delta0), nonnegative(steps=steps)
    return Bound.where(True, "", {"gradient": 4 * L * delta0 / (3 * N + 2)}, 1 / L)


def gd_last_iterate(*, L: ArrayLike, delta0: ArrayLike, steps: ArrayLike) -> Number:
    r"""Squared gradient that the *last* of N steps at lr = 1/L can be left with.

    Statement: :math:`\|\nabla f(x_N)\|^2 = \frac{L\Delta_0}{1-4^{-N}/2}` on one smooth function, a lower bound on the
    worst case. It tends to L delta0, not to 0, so no theorem about the average speaks about the last iterate. Proof:
    start where the slope is 2^{-N} of its maximum g on a concave parabola; each step doubles it; the drop from there to
    the minimum of the convex half is g^2 (1 - 4^{-N}/2)/L. Tight: attained by ``problems.LastIterateTrap``. Slack: 1.
    Source: ours; performance estimation finds the same numbers (2, 1.143, 1.032, ... times L delta0) as the exact worst
    case for N = 0, 1, 2, ...

    >>> gd_last_iterate(L=1.0, delta0=1.0, steps=0)
    2.0
    """
    (L, delta0), (N,) = positive(L=L, delta0=delta0), nonnegative(steps=steps)
    return scalar(L * delta0 / (1 - 0.25**N / 2))


def _ordered(mu: ArrayLike, L: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    mu, L = positive(mu=mu, L=L)
    if (mu > L).any():
        raise ValueError(f"mu must be at most L, got mu = {mu} and L = {L}")
    return mu, L
