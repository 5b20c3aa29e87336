r"""Lookahead around SGD on a noisy quadratic, exactly: rate, noise floor, stability edge, and the best setting.

f(x) = 1/2 sum_i a_i x_i^2, gradients a_i x_i + noise of variance ``noise_variances[i]``, independent from step to step.
Every coordinate goes by itself. With P = 1 - lr a a fast step is x <- P x - lr noise, so k of them from the slow weight
phi end at P^k phi plus noise of variance :math:`\gamma^2\sigma^2G_k`, :math:`G_k = \sum_{j<k}P^{2j}`, and one outer
step is

.. math:: \varphi \leftarrow \rho\,\varphi + \alpha\cdot\text{noise}, \qquad \rho = 1 - \alpha + \alpha P^k.

Source: Zhang, Lucas, Hinton & Ba 2019, "Lookahead optimizer: k steps forward, 1 step back", section 3.1, where noise
variances are a^2 sigma_c^2. Ranges: eigenvalues, lr > 0, noise_variances >= 0, alpha in (0, 1], k an integer >= 1 (or
an array of them); arguments broadcast. alpha = 1 is SGD, and so is k = 1, at the rate alpha lr.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.theory.bound import Number, scalar


class Moments(NamedTuple):
    """E phi_i and E phi_i^2 of the slow weights."""

    mean: Number
    second: Number


class Setting(NamedTuple):
    """Step size and interpolation, and the expected gap that they reach."""

    lr: float
    alpha: float
    gap: float


def contraction(*, eigenvalues: ArrayLike, lr: ArrayLike, k: ArrayLike, alpha: ArrayLike) -> Number:
    r"""The factor of the mean per outer step, :math:`\rho = 1 - \alpha + \alpha(1-\gamma a)^k`; squared the variance's.

    >>> contraction(eigenvalues=1.0, lr=0.5, k=2, alpha=0.5)
    0.625
    """
    u, k, alpha = _setting(eigenvalues, lr, k, alpha)
    return scalar(_factor(u, k, alpha))


def stability_edge(*, k: ArrayLike, alpha: ArrayLike) -> Number:
    r"""The number below which lr a must be for Lookahead to be stable.

    Statement: 2 for even k, :math:`1 + (2/\alpha-1)^{1/k}` for odd k. Proof: |rho| < 1 says :math:`1 - 2/\alpha < P^k <
    1`. An even power is below 1 for |P| < 1 only, and never below the other end; an odd one is below 1 for every lr >
    0, and above the other end for :math:`\gamma a < 1 + (2/\alpha-1)^{1/k}`.

    >>> print(stability_edge(k=[4, 1, 3], alpha=0.2).round(3))
    [ 2.   10.    3.08]
    """
    k, alpha = _outer(k, alpha)
    return scalar(np.where(k % 2 == 0, 2.0, 1 + (2 / alpha - 1) ** (1 / k)))


def moments(
    *,
    eigenvalues: ArrayLike,
    x0: ArrayLike,
    noise_variances: ArrayLike,
    lr: ArrayLike,
    k: ArrayLike,
    alpha: ArrayLike,
    outer_steps: ArrayLike,
) -> Moments:
    r"""Mean and second moment of the slow weights after t outer steps (k t gradients) from x0; stable or not.

    Statement: :math:`E\varphi_t = \rho^tx_0` and :math:`E\varphi_t^2 = \rho^{2t}x_0^2 +
    \alpha^2\gamma^2\sigma^2G_k\sum_{s<t}\rho^{2s}`. An identity.

    ``outer_steps`` are integers t >= 0. Infinite where an unstable setting overflows, on the way or in the end.

    >>> moments(eigenvalues=1.0, x0=2.0, noise_variances=3.0, lr=1.0, k=5, alpha=0.5, outer_steps=1)
    Moments(mean=1.0, second=1.75)
    """
    u, k, alpha = _setting(eigenvalues, lr, k, alpha)
    (variance,), t = nonnegative(noise_variances=noise_variances), _integers("outer_steps", outer_steps, 0)
    start = np.asarray(real("x0", x0), dtype=float)
    missing = alpha * _missing(u, k)
    with np.errstate(over="ignore", invalid="ignore"):  # a start or a noise of zero stays zero where powers overflow
        mean = np.where(start == 0, 0.0, _factor(u, k, alpha) ** t * start)
        noise = np.square(alpha * lr) * variance * _squares(u, k) * _squares(missing, t)
        noise = np.where(np.isnan(noise), np.inf, noise)  # a tiny factor beside one that has overflowed
        second = np.square(mean) + np.where(variance * t == 0, 0.0, noise)
    return Moments(scalar(mean), scalar(second))


def noise_floor(
    *,
    eigenvalues: ArrayLike,
    noise_variances: ArrayLike,
    lr: ArrayLike,
    k: ArrayLike,
    alpha: ArrayLike,
    fast_steps: ArrayLike = 0,
) -> Number:
    r"""Long-run variance of the slow weights, or of the fast ones j = ``fast_steps`` steps after a synchronization.

    Statement: slow, :math:`V = \frac{\alpha\gamma^2\sigma^2G_k}{(1-P^k)(2-\alpha+\alpha P^k)}`, the fixed point of
    :func:`moments`, which is :math:`\frac{\alpha(1+P^k)}{2-\alpha+\alpha P^k}` times SGD's floor
    :math:`\frac{\gamma^2\sigma^2}{1-P^2}`; fast, :math:`P^{2j}V + \gamma^2\sigma^2G_j`. An identity.
    Source: Zhang et al. 2019, proposition 2, with the factor as
    :math:`\frac{\alpha^2(1-P^{2k})}{\alpha^2(1-P^{2k})+2\alpha(1-\alpha)(1-P^k)}`.

    Raises ``ValueError`` unless 0 < lr a < :func:`stability_edge`.

    >>> noise_floor(eigenvalues=1.0, noise_variances=3.0, lr=1.0, k=5, alpha=0.5)
    1.0
    """
    u, k, alpha = _setting(eigenvalues, lr, k, alpha)
    (variance,), j = nonnegative(noise_variances=noise_variances), _integers("fast_steps", fast_steps, 0)
    missing = _missing(u, k)
    if not ((missing > 0) & (alpha * missing < 2)).all():
        raise ValueError(
            "lr must be above 0 and below stability_edge/eigenvalue for a stationary state, "
            f"got lr = {lr}, eigenvalues = {eigenvalues}, k = {k}, alpha = {alpha}"
        )
    step = np.square(lr) * variance
    slow = alpha * step * _squares(u, k) / (missing * (2 - alpha * missing))
    return scalar((1 - _missing(u, 2 * j)) * slow + step * _squares(u, j))


def best(*, eigenvalues: ArrayLike, x0: ArrayLike, noise_variances: ArrayLike, steps: int, k: int) -> Setting:
    r"""The setting with the lowest expected gap :math:`\frac12\sum_ia_iE\varphi_i^2` after ``steps`` gradients from x0.

    Searched over lr a_max in [1e-9, 3] and alpha in [0.01, 1], first on a grid of both, then downhill from its best
    point and from the best SGD (alpha = 1), which is why it is never worse than that; k = 1 is SGD and has alpha = 1.
    Noise that calls for a smaller rate than these, or so little of it that a larger one is best, leaves lr on the edge.

    ``eigenvalues`` (not all zero), ``x0``, ``noise_variances`` of shape [d]. Raises ``ValueError`` unless k divides
    steps, both integers >= 1.

    >>> best(eigenvalues=[1.0], x0=[1.0], noise_variances=[0.0], steps=6, k=3).gap < 1e-12
    True
    """
    if integer("steps", steps, 1) % integer("k", k, 1):
        raise ValueError(f"k must divide steps, got k={k!r} and steps={steps!r}")
    a = np.atleast_1d(nonnegative(eigenvalues=eigenvalues)[0])
    for name, value in (("x0", x0), ("noise_variances", noise_variances)):
        if a.ndim != 1 or np.shape(value) not in ((), a.shape):
            raise ValueError(f"{name} must have shape [d] as eigenvalues, got {np.shape(value)} and {a.shape}")
    (top,) = positive(largest_eigenvalue=a.max(initial=0.0))

    def gap(log_u: ArrayLike, alpha: ArrayLike) -> np.ndarray:
        lr, alpha = np.exp(log_u)[..., None] / top, np.asarray(alpha)[..., None]
        setting = {"eigenvalues": a, "x0": x0, "noise_variances": noise_variances, "lr": lr, "k": k, "alpha": alpha}
        second = moments(**setting, outer_steps=steps // k).second
        with np.errstate(over="ignore", invalid="ignore"):  # an eigenvalue 0 beside an infinite moment counts as that
            return np.fmin(0.5 * second @ a, np.finfo(float).max)

    low, high = np.log(1e-9), np.log(3.0)
    # Rates this small move so little that a coarser grid finds the valley of the best.
    grid = np.concatenate([np.linspace(low, np.log(1e-3), 24, endpoint=False), np.linspace(np.log(1e-3), high, 60)])
    least = 1.0 if k == 1 else 0.01
    alphas = np.linspace(max(least, 0.05), 1, 20)
    gaps = gap(grid[:, None], alphas)
    starts = [np.unravel_index(gaps.argmin(), gaps.shape), (gaps[:, -1].argmin(), -1)]
    ends = [((low, high), (least, 1.0)), ((low, high), (1.0, 1.0))]
    found = []
    for (i, j), bounds in zip(starts, ends, strict=True):
        start = [grid[i], alphas[j]]
        end = minimize(lambda z: float(gap(z[0], z[1])), start, method="Nelder-Mead", bounds=bounds)
        found.append(Setting(float(np.exp(end.x[0]) / top), float(end.x[1]), float(end.fun)))
    return min(found, key=lambda setting: setting.gap)


def _setting(
    eigenvalues: ArrayLike, lr: ArrayLike, k: ArrayLike, alpha: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """lr a, k and alpha as float arrays."""
    (a,), (lr,) = nonnegative(eigenvalues=eigenvalues), positive(lr=lr)
    with np.errstate(over="ignore"):
        return lr * a, *_outer(k, alpha)


def _outer(k: ArrayLike, alpha: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """k and alpha as float arrays."""
    return _integers("k", k, 1), np.asarray(real("alpha", alpha, 0, 1, open_low=True), dtype=float)


def _integers(name: str, value: ArrayLike, low: int) -> np.ndarray:
    array = np.asarray(real(name, value, low), dtype=float)
    if (array != np.rint(array)).any():
        raise ValueError(f"{name} must hold integers, got {value!r}")
    return array


def _factor(u: np.ndarray, k: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """rho: near zero (alpha = 1, P^k tiny) 1 - alpha (1 - P^k) would have no digit left."""
    with np.errstate(over="ignore"):
        return (1 - alpha) + alpha * (1 - u) ** k


def _missing(u: np.ndarray, n: np.ndarray) -> np.ndarray:
    """1 - (1 - u)^n for n >= 0, to full precision also where u or 2 - u is tiny."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # log 0 at u = 1, whose powers are 0
        log = n * np.log1p(np.where(u < 1, -u, u - 2))  # of |1 - u|^n
        found = np.where((u < 1) | (n % 2 == 0), -np.expm1(log), 1 + np.exp(log))
    return np.where(n == 0, 0.0, found)


def _squares(u: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The sum of (1 - u)^(2j) over j < n."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        below = u * (2 - u)  # 1 - (1 - u)^2
        found = np.where(below == 0, n, _missing(u, 2 * n) / below)
    return np.where(n < 2, n, np.where(np.isnan(found), np.inf, found))  # NaN: both have overflowed
