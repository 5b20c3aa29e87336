r"""SGD and mini-batch SGD: x_{k+1} = x_k - lr * g_k.

Common assumptions: f is L-smooth and bounded below by f*; E[g_k | x_k] = grad f(x_k); and
E[||g_k - grad f(x_k)||^2 | x_k] <= sigma2 / batch_size. The variance is conditional on x_k, total
over coordinates, and ``sigma2`` is that of a single sample (:func:`sgd_convex` assumes other things, as it says).
``delta0`` = f(x_0) - f*. ``steps`` = T
counts gradients, so the average runs over x_0 ... x_{T-1}. Ranges, unless a docstring says otherwise:
sigma2 >= 0, all other arguments > 0, mu <= L.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive
from optcourse.theory.bound import Bound, Number, in_units, power, scalar


def sgd_step(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, steps: ArrayLike, batch_size: ArrayLike = 1
) -> Number:
    r"""The step size of :func:`sgd_bound`.

    Statement: :math:`\gamma = \left[L + \sqrt{TL\sigma^2/(2\Delta_0B)}\right]^{-1}`. It minimizes the bracket of
    :func:`sgd_bound`'s proof. With ``sigma2 = 0`` it is 1/L. Source: Yuan 2024, "Optimization for Deep Learning (Part
    I)", Theorem 1 (there T = K + 1, and the exponent -1/2 inverts the fraction).

    >>> sgd_step(L=2.0, delta0=1.0, sigma2=0.0, steps=10)
    0.5
    """
    L, delta0, T, B = positive(L=L, delta0=delta0, steps=steps, batch_size=batch_size)
    (sigma2,) = nonnegative(sigma2=sigma2)
    return scalar(1 / (L + np.sqrt(T * L * sigma2 / (2 * delta0 * B))))


@in_units("loss^2/length^2")
def sgd_bound(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, steps: ArrayLike, batch_size: ArrayLike = 1
) -> Bound:
    r"""Average squared gradient of SGD with the step size :func:`sgd_step`.

    Statement:
    :math:`\frac1T\sum_{k<T} E\|\nabla f(x_k)\|^2 \le \frac{2L\Delta_0}{T} + \sqrt{\frac{8L\Delta_0\sigma^2}{BT}}`.

    Proof: put 1/lr = L + a in :func:`sgd_bound_at`; then lr <= 1/a bounds the noise term, and
    2 delta0 a / T + L sigma2 / (a B) is smallest at a = sqrt(T L sigma2 / (2 delta0 B)).

    Tight: equality for sigma2 = 0 on f = L x^2 / 2. When noise dominates, quadratics reach half
    of it. Slack: 1 without noise, 2.1 with. Source: Yuan 2024, Theorem 1; Lin 2024, Theorem 1
    (with O(.) for the constants 2 and sqrt(8)); Ghadimi & Lan 2013, Theorem 2.1 (constant steps, the random iterate
    written as an average).

    >>> sgd_bound(L=1.0, delta0=0.5, sigma2=4.0, steps=100, batch_size=4).terms
    {'deterministic': 0.01, 'noise': 0.2}
    """
    lr = sgd_step(L=L, delta0=delta0, sigma2=sigma2, steps=steps, batch_size=batch_size)
    L, delta0, T, B = positive(L=L, delta0=delta0, steps=steps, batch_size=batch_size)
    (sigma2,) = nonnegative(sigma2=sigma2)
    terms = {"deterministic": 2 * L * delta0 / T, "noise": np.sqrt(8 * L * delta0 * sigma2 / (B * T))}
    return Bound.where(True, "", terms, lr)


@in_units("loss^2/length^2")
def sgd_bound_at(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, steps: ArrayLike, lr: ArrayLike, batch_size: ArrayLike = 1
) -> Bound:
    r"""Average squared gradient of SGD with any constant step size lr <= 1/L.

    Statement, lr <= 1/L:
    :math:`\frac1T\sum_{k<T} E\|\nabla f(x_k)\|^2 \le \frac{2\Delta_0}{\gamma T} + \frac{L\gamma\sigma^2}{B}`.

    Proof: smoothness gives E f(x_{k+1}) <= E f(x_k) - lr (1 - L lr/2) E||grad f||^2 + L lr^2 sigma2/(2B);
    1 - L lr/2 >= 1/2; sum over k. Tight: equality without noise at lr = 1/L on f = L x^2/2; with
    noise that quadratic's long-run value is 1/(2 - L lr) of the second term. Slack: 1 and 2.1.
    Source: Ghadimi & Lan 2013, Theorem 2.1 (constant steps, the random iterate written as an average).

    >>> float(sgd_bound_at(L=1.0, delta0=0.5, sigma2=4.0, steps=100, lr=0.1))
    0.5
    """
    L, delta0, T, lr, B = positive(L=L, delta0=delta0, steps=steps, lr=lr, batch_size=batch_size)
    (sigma2,) = nonnegative(sigma2=sigma2)
    terms = {"initial gap": 2 * delta0 / (lr * T), "noise": L * lr * sigma2 / B}
    return Bound.where(L * lr <= 1 + 1e-12, f"lr <= 1/L, got lr = {lr} and L = {L}", terms, lr)


@in_units("loss^2/length^2")
def sgd_bound_sharp(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, steps: ArrayLike, lr: ArrayLike, batch_size: ArrayLike = 1
) -> Bound:
    r"""The same as :func:`sgd_bound_at` without the step 1 - L lr/2 >= 1/2, valid up to lr < 2/L.

    Statement, lr < 2/L:
    :math:`\frac1T\sum_{k<T} E\|\nabla f(x_k)\|^2 \le \frac{\Delta_0/(\gamma T) + L\gamma\sigma^2/(2B)}{1 - L\gamma/2}`.

    Tight: on f = L x^2/2 the only loss is E f(x_T)/(lr T (1 - L lr/2)), which vanishes relative to
    the noise term as T grows. Slack: 1.01 in that limit. Source: Ghadimi & Lan 2013, the proof of Theorem 2.1.

    >>> float(sgd_bound_sharp(L=1.0, delta0=0.5, sigma2=4.0, steps=100, lr=1.0))
    4.01
    """
    L, delta0, T, lr, B = positive(L=L, delta0=delta0, steps=steps, lr=lr, batch_size=batch_size)
    (sigma2,) = nonnegative(sigma2=sigma2)
    with np.errstate(divide="ignore"):
        descent = 1 - L * lr / 2
        terms = {"initial gap": delta0 / (lr * T) / descent, "noise": L * lr * sigma2 / (2 * B) / descent}
    return Bound.where(L * lr < 2, f"lr < 2/L, got lr = {lr} and L = {L}", terms, lr)


def sgd_iters(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, eps: ArrayLike, batch_size: ArrayLike = 1
) -> Number:
    r"""Steps after which :func:`sgd_bound` guarantees an average squared gradient of ``eps``.

    Statement:
    :math:`T(B) = \frac{2L\Delta_0}{\varepsilon^2}\left(\sqrt{\sigma^2/B+\varepsilon}+\sqrt{\sigma^2/B}\right)^2`,
    the exact inverse of the bound (a quadratic equation in sqrt(T)). For B << 4 sigma2/eps it is
    8 L delta0 sigma2/(B eps^2), for B >> 4 sigma2/eps it is 2 L delta0/eps. The result is real; take
    its ceiling for a number of steps. Source: Lin 2024 gives the order O(sigma2/(B eps^2)).

    >>> round(sgd_iters(L=1.0, delta0=0.5, sigma2=0.0, eps=0.01), 9)
    100.0
    """
    L, delta0, eps, B = positive(L=L, delta0=delta0, eps=eps, batch_size=batch_size)
    (sigma2,) = nonnegative(sigma2=sigma2)
    noise = sigma2 / B
    return scalar(2 * L * delta0 / eps**2 * (np.sqrt(noise + eps) + np.sqrt(noise)) ** 2)


def critical_batch(*, sigma2: ArrayLike, eps: ArrayLike) -> Number:
    r"""The batch size :math:`4\sigma^2/\varepsilon` where the two asymptotes of :func:`sgd_iters` meet.

    >>> critical_batch(sigma2=1.0, eps=0.01)
    400.0
    """
    (eps,), (sigma2,) = positive(eps=eps), nonnegative(sigma2=sigma2)
    return scalar(4 * sigma2 / eps)


def crossover_steps(*, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, batch_size: ArrayLike = 1) -> Number:
    r"""Steps where the two terms of :func:`sgd_bound` are equal: :math:`T = L\Delta_0B/(2\sigma^2)`.

    Before it the deterministic 1/T term is the larger one, after it the noise term 1/sqrt(T).
    Here ``sigma2`` > 0.

    >>> crossover_steps(L=1.0, delta0=2.0, sigma2=0.5, batch_size=8)
    16.0
    """
    L, delta0, sigma2, B = positive(L=L, delta0=delta0, sigma2=sigma2, batch_size=batch_size)
    return scalar(L * delta0 * B / (2 * sigma2))


@in_units("loss")
def sgd_pl(
    *, mu: ArrayLike, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, lr: ArrayLike, steps: ArrayLike
) -> Bound:
    r"""Expected gap of SGD under the Polyak-Lojasiewicz condition ||grad f||^2 >= 2 mu (f - f*).

    Statement, lr <= 1/L: :math:`E f(x_k) - f^* \le (1-\gamma\mu)^k\Delta_0 + \frac{L\gamma\sigma^2}{2\mu}`.

    Proof: the descent inequality of :func:`sgd_bound_at`, then PL, then a geometric sum. Tight: the
    floor is attained for mu = L and lr = 1/L. Slack: 1 there, 2.1 for small lr. Source: the
    argument of Karimi, Nutini & Schmidt 2016, Theorem 4, which bounds E||g||^2 where this bounds the variance.

    ``delta0`` and ``steps`` may be 0.

    >>> float(sgd_pl(mu=1.0, L=1.0, delta0=3.0, sigma2=2.0, lr=1.0, steps=5))
    1.0
    """
    mu, L, lr = positive(mu=mu, L=L, lr=lr)
    delta0, sigma2, k = nonnegative(delta0=delta0, sigma2=sigma2, steps=steps)
    if (mu > L).any():
        raise ValueError(f"mu must be at most L, got mu = {mu} and L = {L}")
    # Rounding must not turn 1 - lr*mu at lr = 1/L = 1/mu into a negative base.
    left = power(kept=np.maximum(1 - lr * mu, 0), lost=lr * mu, steps=k)
    terms = {"initial gap": left * delta0, "floor": L * lr * sigma2 / (2 * mu)}
    return Bound.where(L * lr <= 1 + 1e-12, f"lr <= 1/L, got lr = {lr} and L = {L}", terms, lr)


@in_units("loss")
def sgd_convex(*, R: ArrayLike, G2: ArrayLike, lr: ArrayLike) -> Bound:
    r"""Convex SGD with step sizes lr_0 ... lr_{T-1}: the gap of the weighted average iterate.

    Statement: f convex, not necessarily smooth, E[g_t | x_t] a subgradient at x_t, E||g_t||^2 <= G2 = G^2,
    R = ||x_0 - x*||, and lr fixed in advance; with :math:`\bar x = \sum_t\gamma_tx_t/\sum_t\gamma_t`,
    :math:`E f(\bar x) - f^* \le \frac{R^2 + G^2\sum_t\gamma_t^2}{2\sum_t\gamma_t}`.

    It vanishes when sum lr = infinity and sum lr^2 / sum lr -> 0: "diminishing" alone is not enough.
    Tight: for one step on f = G|x|, started at R with lr = R/G, equality. Slack: 1. Source: Nemirovski,
    Juditsky, Lan & Shapiro 2009, "Robust stochastic approximation".

    ``lr`` is the sequence, shape [T].

    >>> float(sgd_convex(R=1.0, G2=1.0, lr=[1.0]))
    1.0
    """
    R, G2, lr = positive(R=R, G2=G2, lr=lr)
    if lr.ndim != 1 or lr.size == 0:
        raise ValueError(f"lr must be a sequence of shape [T], got shape {list(lr.shape)}")
    terms = {"distance": R**2 / (2 * lr.sum()), "noise": G2 * np.square(lr).sum() / (2 * lr.sum())}
    return Bound.where(True, "", terms, lr)
