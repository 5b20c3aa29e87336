r"""SGD on a quadratic, exactly: no inequality anywhere.

f(x) = 1/2 sum_i lambda_i x_i^2 and g = grad f + noise with variance ``noise_variances[i]`` in coordinate
i. Each coordinate is a first-order recursion x+ = (1 - lr lambda) x - lr noise, so every second
moment has a closed form. These moments are the measuring stick for the bounds of ``sgd``. Ranges: lr > 0,
eigenvalues, noise_variances, steps >= 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive
from optcourse.theory.bound import Number, scalar


def sgd_moments(
    *, eigenvalues: ArrayLike, x0: ArrayLike, noise_variances: ArrayLike, lr: ArrayLike, steps: ArrayLike
) -> np.ndarray:
    r"""Second moments E[x_i(k)^2] of SGD on the quadratic, exactly.

    Statement: :math:`E x_i^2(k) = r_i^kx_i^2(0) + \gamma^2\sigma_i^2\frac{1-r_i^k}{1-r_i}`, r_i = (1 - lr lambda_i)^2
    (the fraction is k where r_i = 1). Any noise law of mean zero with these variances, drawn
    anew in every step.

    ``eigenvalues, x0, noise_variances`` have shape [d]; ``steps`` an integer or array [...] of step
    numbers k >= 0; the result has shape [..., d].

    >>> sgd_moments(eigenvalues=[1.0], x0=[2.0], noise_variances=[3.0], lr=1.0, steps=[0, 1, 2])
    array([[4.],
           [3.],
           [3.]])
    """
    (lr,) = positive(lr=lr)
    lam, var, k = nonnegative(eigenvalues=eigenvalues, noise_variances=noise_variances, steps=steps)
    lam, var, x0, k = np.atleast_1d(lam), np.atleast_1d(var), np.asarray(x0, dtype=float), k[..., None]
    r, lost = (1 - lr * lam) ** 2, lr * lam * (2 - lr * lam)
    with np.errstate(all="ignore"):
        little = np.expm1(k * np.log1p(-lost))  # r^k - 1 without cancellation where a step loses little
        left, fallen = np.where(abs(lost) < 0.5, (1 + little, -little), (r**k, 1 - r**k))
        geometric = np.where(lost == 0, k, fallen / lost)
        # Nothing stays nothing, also where the factor has become infinite.
        start, noise = np.where(x0 == 0, 0, left * x0**2), np.where(var == 0, 0, np.square(lr) * var * geometric)
    return start + noise


def average_squared_gradient(
    *, eigenvalues: ArrayLike, x0: ArrayLike, noise_variances: ArrayLike, lr: float, steps: int
) -> float:
    r"""The left side of the non-convex theorem on a quadratic: (1/T) sum_{k<T} E||grad f(x_k)||^2, exactly.

    Arguments and errors as in :func:`sgd_moments`; ``steps`` = T >= 1.

    >>> average_squared_gradient(eigenvalues=[1.0], x0=[2.0], noise_variances=[0.0], lr=1.0, steps=4)
    1.0
    """
    positive(steps=steps)
    moments = sgd_moments(
        eigenvalues=eigenvalues, x0=x0, noise_variances=noise_variances, lr=lr, steps=np.arange(steps)
    )
    return float((np.square(np.asarray(eigenvalues, dtype=float)) * moments).sum(-1).mean())


def expected_gap(*, eigenvalues: ArrayLike, x0: ArrayLike, noise_variances: ArrayLike, lr: ArrayLike) -> np.ndarray:
    r"""E f(x_k) - f* of SGD on a quadratic, exactly, for a rate that changes: k = 0 ... len(lr).

    Statement: :math:`E x_i^2(k+1) = (1-\gamma_k\lambda_i)^2E x_i^2(k) + \gamma_k^2\sigma_i^2`, the recursion behind
    :func:`sgd_moments`, and :math:`E f - f^* = \frac12\sum_i\lambda_iE x_i^2`.

    ``eigenvalues, x0`` [d]; ``noise_variances`` [d], or [steps, d] when the batch grows; ``lr`` [steps].

    >>> expected_gap(eigenvalues=[1.0], x0=[2.0], noise_variances=[3.0], lr=[1.0, 0.5])
    array([2.  , 1.5 , 0.75])
    """
    (lr,) = positive(lr=lr)
    lam, variances = nonnegative(eigenvalues=eigenvalues, noise_variances=noise_variances)
    variances = np.broadcast_to(variances, (lr.size, lam.size))
    moments = np.empty((lr.size + 1, lam.size))
    moments[0] = np.square(np.asarray(x0, dtype=float))
    for k in range(lr.size):
        moments[k + 1] = (1 - lr[k] * lam) ** 2 * moments[k] + lr[k] ** 2 * variances[k]
    return 0.5 * moments @ lam


def noise_floor(*, eigenvalues: ArrayLike, noise_variances: ArrayLike, lr: ArrayLike) -> Number:
    r"""Long-run second moment of each coordinate.

    Statement: :math:`E x_i^2 = \frac{\gamma\sigma_i^2}{\lambda_i(2-\gamma\lambda_i)}`, the fixed point of
    :func:`sgd_moments`, proportional to lr for small lr. Broadcasts. Raises ``ValueError`` unless
    0 < lr * eigenvalue < 2 (else the moment grows for ever).

    >>> noise_floor(eigenvalues=1.0, noise_variances=3.0, lr=1.0)
    3.0
    """
    lam, lr = positive(eigenvalues=eigenvalues, lr=lr)
    (var,) = nonnegative(noise_variances=noise_variances)
    if (lr * lam >= 2).any():
        raise ValueError(f"lr must be below 2/eigenvalue for a stationary state, got lr = {lr}, eigenvalues = {lam}")
    return scalar(lr * var / (lam * (2 - lr * lam)))


def loss_floor(*, eigenvalues: ArrayLike, noise_variances: ArrayLike, lr: float) -> float:
    r"""Long-run expected gap E f(x) - f* = 1/2 sum_i lambda_i E x_i^2. Arguments as :func:`noise_floor`.

    >>> loss_floor(eigenvalues=[1.0], noise_variances=[3.0], lr=1.0)
    1.5
    """
    moments = noise_floor(eigenvalues=eigenvalues, noise_variances=noise_variances, lr=lr)
    return float(0.5 * np.sum(np.asarray(eigenvalues, dtype=float) * moments))
