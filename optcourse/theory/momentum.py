r"""Heavy ball and Nesterov momentum: rates, stability, stationary noise, and where heavy ball fails.

Heavy ball: x_{k+1} = x_k - lr * grad f(x_k) + momentum * (x_k - x_{k-1}), which is m_k = momentum * m_{k-1}
+ grad f(x_k), x_{k+1} = x_k - lr * m_k at a constant rate. Nesterov (NAG): y_k = x_k + momentum *
(x_k - x_{k-1}), x_{k+1} = y_k - lr * grad f(y_k). Both start with x_{-1} = x_0, that is m_{-1} = 0 (with
m_0 = 0 the first step would go nowhere). ``R`` = ||x_0 - x*||, ``delta0`` = f(x_0) - f*, kappa = L/mu.
Ranges: 0 < mu <= L, R, lr > 0 (R >= 0 in ``nag_strongly_convex``), delta0, noise_variances, steps >= 0,
0 <= momentum < 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, power, scalar
from optcourse.theory.gradient_descent import condition_number


def hb_parameters(*, mu: ArrayLike, L: ArrayLike) -> tuple[Number, Number]:
    r"""The (lr, momentum) of heavy ball that contract fastest on quadratics with eigenvalues in [mu, L].

    Statement: :math:`\gamma = 4/(\sqrt L+\sqrt\mu)^2`, :math:`\beta = \rho^2`, :math:`\rho =
    \frac{\sqrt\kappa-1}{\sqrt\kappa+1}`. Every eigenvalue in between then has radius exactly rho.
    Source: Polyak 1964, "Some methods of speeding up the convergence of iteration methods".

    >>> hb_parameters(mu=1.0, L=9.0)
    (0.25, 0.25)
    """
    rho = nag_coefficient(mu=mu, L=L)
    mu, L = positive(mu=mu, L=L)
    return scalar(4 / (np.sqrt(L) + np.sqrt(mu)) ** 2), scalar(np.square(rho))


@in_units("length")
def hb_bound(*, mu: ArrayLike, L: ArrayLike, R: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Distance after k heavy-ball steps with :func:`hb_parameters` on a *quadratic*.

    Statement: :math:`\|x_k-x^*\| \le (1+(1+\rho)k)\rho^kR` for eigenvalues in [mu, L], every k and
    not only asymptotically. Proof: at L the characteristic polynomial has the double root -rho and x_1 =
    (1 - lr L) x_0 fixes the factor; the Chebyshev form of the other eigenvalues is smaller.

    Tight: equality on an eigenvector of L. Slack: 1. Source: Polyak 1964 for the rate, as :func:`hb_parameters`; the
    factor in front of it is ours. It says nothing about functions that are not quadratic: see
    :func:`lessard_counterexample`.

    >>> float(hb_bound(mu=1.0, L=9.0, R=1.0, steps=2))
    1.0
    """
    rho, (lr, _) = nag_coefficient(mu=mu, L=L), hb_parameters(mu=mu, L=L)
    (R,), (k,) = positive(R=R), nonnegative(steps=steps)
    left = power(kept=rho, lost=2 / (1 + np.sqrt(condition_number(mu=mu, L=L))), steps=k)
    return Bound.where(True, "", {"distance": (1 + (1 + np.asarray(rho)) * k) * left * R}, lr)


def hb_radius(*, eigenvalues: ArrayLike, lr: ArrayLike, momentum: ArrayLike) -> Number:
    r"""Asymptotic factor per step of heavy ball along each eigenvector of a quadratic.

    Statement: the largest modulus among the roots of :math:`z^2-(1+\beta-\gamma\lambda)z+\beta`, which is
    sqrt(momentum) where they are complex. An identity; at a double root accurate to 1e-8. Broadcasts;
    eigenvalues may be negative (then the radius is above 1: momentum leaves saddles faster).

    >>> hb_radius(eigenvalues=[1.0, 4.0], lr=0.25, momentum=0.25)
    array([0.5, 0.5])
    """
    lam, lr, beta = _iteration(eigenvalues, lr, momentum)
    return _radius(1 + beta - lr * lam, beta)


def hb_is_stable(*, eigenvalues: ArrayLike, lr: ArrayLike, momentum: ArrayLike) -> bool | np.ndarray:
    r"""Whether :func:`hb_radius` is below 1.

    Statement: it is exactly for :math:`0 < \gamma\lambda < 2(1+\beta)`. So momentum almost doubles the largest stable
    step. Arguments and errors as :func:`hb_radius`.

    >>> hb_is_stable(eigenvalues=1.0, lr=[3.7, 3.9], momentum=0.9)
    array([ True, False])
    """
    lam, lr, beta = _iteration(eigenvalues, lr, momentum)
    stable = (lr * lam > 0) & (lr * lam < 2 * (1 + beta))
    return stable if stable.ndim else bool(stable)


def hb_stationary_variance(
    *, eigenvalues: ArrayLike, noise_variances: ArrayLike, lr: ArrayLike, momentum: ArrayLike
) -> Number:
    r"""Long-run E[x_i^2] of heavy ball on a quadratic with additive gradient noise.

    Statement: :math:`\frac{\gamma\sigma^2(1+\beta)}{(1-\beta)\lambda(2(1+\beta)-\gamma\lambda)}`, an identity for
    noise that is independent of the past. For small lr it is that of SGD with the rate :math:`\gamma/(1-\beta)`.

    Raises ``ValueError`` unless the iteration is stable (else the moment grows for ever).

    >>> hb_stationary_variance(eigenvalues=1.0, noise_variances=3.0, lr=1.0, momentum=0.0)
    3.0
    """
    lam, lr, beta = _iteration(eigenvalues, lr, momentum)
    (var,) = nonnegative(noise_variances=noise_variances)
    if not np.all(hb_is_stable(eigenvalues=lam, lr=lr, momentum=beta)):
        raise ValueError(f"lr * eigenvalue must be in (0, 2(1 + momentum)), got lr = {lr}, eigenvalues = {lam}")
    return scalar(lr * var * (1 + beta) / ((1 - beta) * lam * (2 * (1 + beta) - lr * lam)))


@dataclass(frozen=True)
class HeavyBallCycle:
    """A function and the tuning with which heavy ball cycles on it; all numbers are exact.

    ``gradient`` maps a number (``Fraction`` or float) to f'(x); ``cycle`` is the period-3 orbit; every
    start x_{-1} = x_0 in ``basin`` falls into it (one interval of several).
    """

    gradient: Callable[[Fraction], Fraction]
    mu: int
    L: int
    lr: Fraction
    momentum: Fraction
    cycle: tuple[Fraction, Fraction, Fraction]
    basin: tuple[Fraction, Fraction]


def lessard_counterexample() -> HeavyBallCycle:
    """A strongly convex function (mu = 1, L = 25) on which heavy ball, tuned for quadratics, cycles for ever.

    Statement: f'(x) = 25x below 1, x + 24 on [1, 2], 25x - 24 above 2; lr = 1/9 and momentum = 4/9 are
    :func:`hb_parameters`. "Can fail" is about this tuning: smaller steps converge, and so does NAG.
    ``problems.HeavyBallTrap`` is the same function for arrays. Source: Lessard, Recht & Packard 2016,
    "Analysis and design of optimization algorithms via integral quadratic constraints".

    >>> a, b, c = (trap := lessard_counterexample()).cycle
    >>> c - trap.lr * trap.gradient(c) + trap.momentum * (c - b) == a
    True
    """

    def gradient(x: Fraction) -> Fraction:
        return 25 * x if x < 1 else x + 24 if x < 2 else 25 * x - 24

    return HeavyBallCycle(
        gradient=gradient,
        mu=1,
        L=25,
        lr=Fraction(1, 9),
        momentum=Fraction(4, 9),
        cycle=(Fraction(792, 1225), Fraction(-2208, 1225), Fraction(2592, 1225)),
        basin=(Fraction(307, 100), Fraction(346, 100)),
    )


def nag_coefficient(*, mu: ArrayLike, L: ArrayLike) -> Number:
    r"""The constant momentum of NAG on strongly convex functions.

    Statement: :math:`\frac{\sqrt\kappa-1}{\sqrt\kappa+1}`.

    >>> nag_coefficient(mu=1.0, L=9.0)
    0.5
    """
    condition_number(mu=mu, L=L)  # refuses mu > L
    mu, L = positive(mu=mu, L=L)
    return scalar((L - mu) / (np.sqrt(L) + np.sqrt(mu)) ** 2)  # no difference of roots: near kappa = 1 it cancels


@in_units("loss")
def nag_convex(*, L: ArrayLike, R: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Gap after N >= 1 steps of NAG on a convex L-smooth function, lr = 1/L and growing momentum.

    Statement: with y_{k+1} = x_{k+1} + k/(k+3) (x_{k+1} - x_k), k = 0, 1, ..., and y_0 = x_0,
    :math:`f(x_N)-f^* \le \frac{2LR^2}{N^2+5N+6}`. At N = 0 the gap can be L R^2/2.

    Tight: equality on the Huber function with knee 4R/(N^2+5N+6) (``problems.Huber``), whose slope stays constant until
    the last step. Slack: 1. The classical 2 L R^2/(N+1)^2 (Nesterov 1983; Beck & Teboulle 2009), which is proved for
    all N, is larger: three times at N = 1, 1.07 times at N = 40. Source: Taylor, Hendrickx & Glineur 2017, "Exact
    worst-case performance of first-order methods for composite convex optimization", Table 1: found by performance
    estimation; equality is attained, the upper side is certified for each N that was solved, and we know of no proof
    for all N.

    >>> float(nag_convex(L=1.0, R=1.0, steps=2))
    0.1
    """
    L, R, N = positive(L=L, R=R, steps=steps)
    return Bound.where(N >= 1, f"steps >= 1, got {steps}", {"gap": 2 * L * R**2 / (N**2 + 5 * N + 6)}, 1 / L)


@in_units("loss")
def nag_strongly_convex(*, mu: ArrayLike, L: ArrayLike, delta0: ArrayLike, R: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Gap of NAG with lr = 1/L and :func:`nag_coefficient` on a mu-strongly convex L-smooth function.

    Statement: :math:`f(x_N)-f^* \le (1-1/\sqrt\kappa)^N(\Delta_0+\mu R^2/2)`.

    Tight: on f = mu x^2/2 the gap is (1-1/sqrt(kappa))^N (1+N/sqrt(kappa))^2/2 of the bound: it tends to 2/e of it at N
    = sqrt(kappa) as kappa grows. Slack: 1.37 there for kappa = 10^4; for larger N that gap falls with the square of the
    rate. Source: Nesterov 2004, "Introductory Lectures on Convex Optimization", section 2.2.

    >>> float(nag_strongly_convex(mu=1.0, L=4.0, delta0=1.5, R=1.0, steps=3))
    0.25
    """
    share = 1 / np.sqrt(condition_number(mu=mu, L=L))
    mu, L = positive(mu=mu, L=L)
    delta0, R, N = nonnegative(delta0=delta0, R=R, steps=steps)
    left = power(kept=(L - mu) / L / (1 + share), lost=share, steps=N)
    terms = {"initial gap": left * delta0, "initial distance": left * mu * R**2 / 2}
    return Bound.where(True, "", terms, 1 / L)


def nag_radius(*, eigenvalues: ArrayLike, lr: ArrayLike, momentum: ArrayLike) -> Number:
    r"""Asymptotic factor per step of NAG along each eigenvector of a quadratic.

    Statement: the largest modulus among the roots of :math:`z^2-(1+\beta)(1-\gamma\lambda)z+\beta(1-\gamma\lambda)`.
    With lr = 1/L and :func:`nag_coefficient` it is 1 - 1/sqrt(kappa) at mu, and less above. Stable for
    :math:`0 < \gamma\lambda < 2(1+\beta)/(1+2\beta)`. Arguments and errors as :func:`hb_radius`.

    >>> nag_radius(eigenvalues=1.0, lr=0.25, momentum=1 / 3)
    0.5
    """
    lam, lr, beta = _iteration(eigenvalues, lr, momentum)
    return _radius((1 + beta) * (1 - lr * lam), beta * (1 - lr * lam))


def nag_stationary_variance(
    *, eigenvalues: ArrayLike, noise_variances: ArrayLike, lr: ArrayLike, momentum: ArrayLike
) -> Number:
    r"""Long-run E[x_i^2] of NAG on a quadratic with additive gradient noise.

    Statement, a = 1 - lr lambda: :math:`\frac{\gamma\sigma^2(1+\beta a)}{(1-\beta a)\lambda(1+a+2\beta a)}`, the
    variance of an AR(2) process with coefficients (1+momentum) a and -momentum a. An identity.

    Raises ``ValueError`` unless the iteration is stable.

    >>> nag_stationary_variance(eigenvalues=1.0, noise_variances=3.0, lr=1.0, momentum=0.9)
    3.0
    """
    lam, lr, beta = _iteration(eigenvalues, lr, momentum)
    (var,) = nonnegative(noise_variances=noise_variances)
    a = 1 - lr * lam
    if ((a >= 1) | (1 + a + 2 * beta * a <= 0)).any():
        raise ValueError(
            f"lr * eigenvalue must be in (0, 2(1 + momentum)/(1 + 2 momentum)), got lr = {lr}, eigenvalues = {lam}"
        )
    return scalar(lr * var * (1 + beta * a) / ((1 - beta * a) * lam * (1 + a + 2 * beta * a)))


def _iteration(eigenvalues: ArrayLike, lr: ArrayLike, momentum: ArrayLike) -> tuple[np.ndarray, ...]:
    lam = np.asarray(real("eigenvalues", eigenvalues), dtype=float)
    beta = np.asarray(real("momentum", momentum, 0, 1, open_high=True), dtype=float)
    return lam, *positive(lr=lr), beta


def _radius(trace: np.ndarray, determinant: np.ndarray) -> Number:
    """The larger modulus of the roots of z^2 - trace z + determinant."""
    discriminant = trace**2 - 4 * determinant
    are_real = (abs(trace) + np.sqrt(np.maximum(discriminant, 0))) / 2
    return scalar(np.where(discriminant < 0, np.sqrt(np.maximum(determinant, 0)), are_real))
