r"""Plateaus and saddles: how long gradient descent stays, and how rare minima are among random critical points.

x_{k+1} = x_k - lr * grad f(x_k). Ranges: every argument > 0 unless said otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expi

from optcourse.arguments import integer, positive
from optcourse.theory.bound import Number, scalar


def escape_steps(*, curvature: ArrayLike, lr: ArrayLike, offset: ArrayLike, radius: ArrayLike) -> Number:
    r"""Steps until gradient descent is ``radius`` away from a saddle, from ``offset`` along the descending direction.

    Statement: along an eigenvector with eigenvalue :math:`-\lambda<0` of a quadratic saddle every step multiplies the
    distance by :math:`1+\gamma\lambda`, so it takes :math:`\lceil\ln(r/\delta)/\ln(1+\gamma\lambda)\rceil` steps: only
    the logarithm of the offset counts. An equality, not a bound.

    ``curvature`` is lambda; offset <= radius. Raises ``ValueError`` otherwise.

    >>> escape_steps(curvature=1.0, lr=1.0, offset=0.125, radius=1.0)
    3.0
    """
    lam, lr, offset, radius = positive(curvature=curvature, lr=lr, offset=offset, radius=radius)
    if (offset > radius).any():
        raise ValueError(f"offset must be at most radius, got offset = {offset} and radius = {radius}")
    exact = np.log(radius / offset) / np.log1p(lr * lam)
    return scalar(np.ceil(exact * (1 - 1e-12)))  # a quotient that is an integer but for rounding is that integer


def plateau_time(*, depth: ArrayLike, width: ArrayLike, distance: ArrayLike) -> Number:
    r"""Time of gradient flow, x' = -grad f(x), from ``distance`` to ``width`` in ``problems.Plateau``.

    Statement: :math:`t=\int_w^r\frac{ds}{f'(s)}=\frac{w^2}{2D}\big(\mathrm{Ei}(\tfrac{r^2}{2w^2})-
    \mathrm{Ei}(\tfrac12)\big)`, f'(s) = D s/w^2 exp(-s^2/(2 w^2)), for depth D, width w and distance r >= w.
    Gradient descent with a small rate needs about t/lr steps: exponentially many in the squared distance, and twice
    as many at half the rate.

    >>> round(plateau_time(depth=1.0, width=1.0, distance=4.0), 1)
    220.0
    """
    depth, width, distance = positive(depth=depth, width=width, distance=distance)
    if (distance < width).any():
        raise ValueError(f"distance must be at least width, got distance = {distance} and width = {width}")
    return scalar(width**2 / (2 * depth) * (expi((distance / width) ** 2 / 2) - expi(0.5)))


def positive_definite_share(*, dim: int) -> float:
    r"""Probability that a random symmetric matrix of the Gaussian orthogonal ensemble (GOE) is positive definite.

    Statement: the eigenvalues have the density
    :math:`\propto\prod_{i<j}|\lambda_i-\lambda_j|\prod_ie^{-\lambda_i^2/2}`, so by de Bruijn's formula the
    integral over any set is a Pfaffian, whose square is the determinant of

    .. math:: A_{jk}=\iint\operatorname{sign}(y-x)\,x^jy^k\,e^{-(x^2+y^2)/2}\,dx\,dy,\qquad 0\le j,k<N,

    for odd N bordered by :math:`m_j=\int x^je^{-x^2/2}dx`. The share is the ratio of the integral over the positive
    numbers and that over all. It falls like exp(-(ln 3/4) N^2), not like 2^-N: eigenvalues repel each other.

    ``dim`` is N, an integer in 1..8 (beyond, rounding eats the determinants).
    Source: de Bruijn 1955, "On some multiple integrals involving determinants"; Dean & Majumdar 2006, "Large
    deviations of extreme eigenvalues of random matrices", for the exponent.

    >>> round(positive_definite_share(dim=2), 12), round((2 - 2**0.5) / 4, 12)
    (0.146446609407, 0.146446609407)
    """
    integer("dim", dim, 1, 8)
    return math.sqrt(_determinant(dim, half_line=True) / _determinant(dim, half_line=False))


def _determinant(dim: int, *, half_line: bool) -> float:
    """The determinant of A, over the positive numbers or over all, in polar coordinates x = r cos t, y = r sin t.

    Up to a factor that depends on ``dim`` alone.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    start, end = np.pi / 4, np.pi / 2 if half_line else 5 * np.pi / 4  # where y > x; the rest is its mirror image
    t = start + (end - start) * (nodes + 1) / 2
    j, k = np.arange(dim)[:, None, None], np.arange(dim)[:, None]
    c, s = np.cos(t), np.sin(t)
    angular = (c**j * s**k - c**k * s**j) @ weights * (end - start)
    radial = np.array([[2 ** (n / 2) * math.gamma(n / 2 + 1) for n in range(m, m + dim)] for m in range(dim)])
    A = angular * radial
    if dim % 2:
        n = np.arange(dim)
        moments = np.array([2 ** (m / 2) * math.gamma((m + 1) / 2) for m in range(dim)])
        border = moments if half_line else 2 * moments * (n % 2 == 0)
        A = np.block([[A, border[:, None]], [-border, np.zeros(1)]])
    return float(np.linalg.det(A))
