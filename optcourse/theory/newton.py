r"""Newton's method x+ = x - [hess f(x)]^{-1} grad f(x) near a minimizer, and conjugate gradients for its step.

Assumptions: hess f(x*) has smallest eigenvalue ``mu`` > 0, and ||hess f(x) - hess f(y)|| <= ``M`` ||x - y||
(``M``: loss/length^3). ``r`` = ||x - x*||. One step costs O(d^3) in the dimension d (not in the number of
samples, which some slides also call N), against O(d) for a gradient step. Ranges: mu, M > 0, r >= 0; in
``conjugate_gradients`` 0 < mu <= L, R > 0, steps >= 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive
from optcourse.theory.bound import Bound, Number, in_units, power, scalar
from optcourse.theory.gradient_descent import condition_number
from optcourse.theory.momentum import nag_coefficient


@in_units("length", step="1")
def newton_bound(*, mu: ArrayLike, M: ArrayLike, r: ArrayLike) -> Bound:
    r"""Distance to the minimizer after one Newton step from distance r.

    Statement, r < mu/M: :math:`\|x^+-x^*\| \le \frac{Mr^2}{2(\mu-Mr)}`. Proof: x+ - x* is the inverse Hessian
    times the integral of (hess f(x) - hess f(x* + t(x - x*)))(x - x*) over t in [0, 1], at most M r^2/2;
    the inverse is at most 1/(mu - M r). It is smaller than r only below :func:`newton_radius`.

    Tight: equality on f = mu x^2/2 - M|x|^3/6 (``problems.NewtonTrap``). Slack: 1. Source: Nesterov 2004,
    "Introductory Lectures on Convex Optimization", section 1.2.

    >>> float(newton_bound(mu=2.0, M=1.0, r=1.0))
    0.5
    """
    (mu, M), (r,) = positive(mu=mu, M=M), nonnegative(r=r)
    with np.errstate(divide="ignore"):
        distance = M * r**2 / (2 * (mu - M * r))
    return Bound.where(M * r < mu, f"r < mu/M, got r = {r}, mu = {mu} and M = {M}", {"distance": distance}, 1.0)


def newton_radius(*, mu: ArrayLike, M: ArrayLike) -> Number:
    r"""The distance below which Newton's method must converge (quadratically).

    Statement: :math:`2\mu/(3M)`. It cannot be larger: on ``problems.NewtonTrap`` a start at exactly this distance
    alternates between +r and -r for ever.

    >>> newton_radius(mu=3.0, M=1.0)
    2.0
    """
    mu, M = positive(mu=mu, M=M)
    return scalar(2 * mu / (3 * M))


@in_units("loss^0.5", step="1")
def conjugate_gradients(*, mu: ArrayLike, L: ArrayLike, R: ArrayLike, steps: ArrayLike) -> Bound:
    r"""Error in the energy norm after k steps of conjugate gradients on A s = b, eigenvalues of A in [mu, L].

    Statement: :math:`\|s_k-s\|_A \le \frac{2q^k}{1+q^{2k}}R`, :math:`q=\frac{\sqrt\kappa-1}{\sqrt\kappa+1}`,
    R = ||s_0 - s||_A, ||v||_A^2 = v'Av. Proof: s_k is the best point of s_0 plus the Krylov space, so the error is
    that of the best polynomial p of degree k with p(0) = 1 on the spectrum; Chebyshev's, scaled to [mu, L], has the
    maximum 1/T_k((kappa+1)/(kappa-1)), which is the fraction.

    Tight: equality on the k + 1 eigenvalues where Chebyshev's polynomial is extremal, for one start. Slack: 1.
    Source: Shewchuk 1994, "An introduction to the conjugate gradient method without the agonizing pain", section 9.

    >>> float(conjugate_gradients(mu=1.0, L=9.0, R=1.0, steps=1))
    0.8
    """
    q, (R,), (k,) = nag_coefficient(mu=mu, L=L), positive(R=R), nonnegative(steps=steps)
    left = power(kept=q, lost=2 / (1 + np.sqrt(condition_number(mu=mu, L=L))), steps=k)
    return Bound.where(True, "", {"error": 2 * left / (1 + left**2) * R}, 1.0)
