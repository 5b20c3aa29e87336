r"""Asynchronous SGD: x_{k+1} = x_k - lr * g(x_{k-d_k}), gradients that are ``d_k <= delay`` steps old.

f is L-smooth and bounded below, ``delta0`` = f(x_0) - f*, x_k = x_0 for k < 0. A gradient's noise has mean zero and
variance at most ``sigma2`` given all iterates up to the one to which it is *applied*, not only the one at which it was
taken (fresh samples for every gradient; one seed on all nodes breaks it), and the delays do not depend on the noise.
``steps`` = T, and averages run over x_0 ... x_{T-1}. Ranges: L, delta0, steps, lr, eigenvalue > 0, sigma2 >= 0, and
delay >= 0: below 1 only as 0, and whole numbers where it is constant (``delay_...``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar, tune_step


def async_max_step(*, L: ArrayLike, delay: ArrayLike) -> Number:
    r"""The largest step size of :func:`async_bound`: :math:`1/(2L\tau)`, and 1/L without delay.

    >>> async_max_step(L=1.0, delay=4)
    0.125
    """
    (L,), tau = positive(L=L), _delay(delay)
    return scalar(1 / (L * np.maximum(1, 2 * tau)))


@in_units("loss^2/length^2")
def async_bound(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, delay: ArrayLike, steps: ArrayLike, lr: ArrayLike
) -> Bound:
    r"""Average squared gradient of SGD whose gradients are at most ``delay`` = tau steps old.

    Statement: :math:`\frac1T\sum_{k<T}E\|\nabla f(x_k)\|^2 \le \frac{2\Delta_0}{\gamma T} + L\gamma\sigma^2 +
    2L^2\gamma^2\tau\sigma^2` for :math:`\gamma\le1/(2L\tau)` (1/L without delay).

    Delay costs step size, and noise only to second order. Proof: the descent inequality with the old gradient
    leaves -lr (1 - L lr)/2 ||grad f(x_{k-d})||^2 and + lr L^2/2 ||x_k - x_{k-d}||^2; the latter is at most
    2 lr^2 tau sigma2 + 2 lr^2 tau sum_{j=k-tau}^{k-1} ||grad f(x_{j-d_j})||^2, and 2 L^2 lr^2 tau^2 <= 1 - L lr.
    Tight: f = L x^2/2 with constant delay and lr = 1/(2 L tau) reaches 1/1.43 of it at tau = 1 without noise and
    1/2.9 for long delays; with noise half of it for small steps, 1/2.4 for lr = 1/(2 L tau). Slack: 1.5, 3,
    2.1 and 2.4. Source: the argument of Lian, Huang, Li & Liu 2015, "Asynchronous parallel stochastic gradient for
    nonconvex optimization", and Stich & Karimireddy 2020, "The error-feedback framework", with constants kept.

    >>> bound = async_bound(L=1.0, delta0=0.5, sigma2=1.0, delay=5, steps=100, lr=0.1)
    >>> {name: round(term, 9) for name, term in bound.terms.items()}
    {'initial gap': 0.1, 'noise': 0.1, 'delayed noise': 0.1}
    """
    L, delta0, T, lr = positive(L=L, delta0=delta0, steps=steps, lr=lr)
    (sigma2,), tau = nonnegative(sigma2=sigma2), _delay(delay)
    terms = {
        "initial gap": 2 * delta0 / (lr * T),
        "noise": L * lr * sigma2,
        "delayed noise": 2 * (L * lr) ** 2 * tau * sigma2,
    }
    why = f"lr <= 1/(2 L delay), or 1/L without delay, got lr = {lr}, L = {L} and delay = {tau}"
    return Bound.where(lr <= async_max_step(L=L, delay=tau) * (1 + 1e-12), why, terms, lr)


@in_units("loss^2/length^2")
def async_tuned(*, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, delay: ArrayLike, steps: ArrayLike) -> Bound:
    r"""The best order of :func:`async_bound`: ``stepsize`` chosen by the step-tuning lemma.

    Statement: ``bound.tune_step`` with r0 = 2 delta0, b = L sigma2, e = 2 L^2 tau sigma2 and 1/d the largest step:
    :math:`\sqrt{8L\Delta_0\sigma^2/T}+2(2L^2\tau\sigma^2)^{1/3}(2\Delta_0/T)^{2/3}+2\max(1,2\tau)L\Delta_0/T`, whose
    first term is that of SGD without delay. Tight: equality on f = L x^2/2 without noise or delay. Slack: 1 there, 2.1
    where noise dominates, 3 for long delays without noise. Source: as :func:`async_bound`, with the lemma of
    :func:`optcourse.theory.bound.tune_step`.

    >>> float(async_tuned(L=1.0, delta0=0.5, sigma2=0.0, delay=5, steps=100))
    0.1
    """
    L, delta0 = positive(L=L, delta0=delta0)
    (sigma2,), tau = nonnegative(sigma2=sigma2), _delay(delay)
    d = 1 / np.asarray(async_max_step(L=L, delay=tau))
    return tune_step(r0=2 * delta0, b=L * sigma2, e=2 * L**2 * tau * sigma2, d=d, steps=steps)


def delay_max_step(*, eigenvalue: ArrayLike, delay: ArrayLike) -> Number:
    r"""Where gradient descent with constant delay tau turns unstable on :math:`\lambda x^2/2`, exactly.

    Statement: x_{k+1} = x_k - lr lambda x_{k-tau} converges from every start if and only if
    :math:`0<\gamma\lambda<2\sin\frac{\pi}{2(2\tau+1)}`: 2, 1, 0.618, 0.445, ... and about pi/(2 tau) for long delays.
    Proof: on the boundary a root of z^(tau+1) - z^tau + lr lambda lies on the unit circle; at z = e^{i theta} this
    needs theta (2 tau + 1) = pi (mod 2 pi), and lr lambda = 2 sin(theta/2). Source: Levin & May 1976, "A note on
    difference-delay equations".

    >>> [round(delay_max_step(eigenvalue=1.0, delay=tau), 3) for tau in (0, 1, 2, 3)]
    [2.0, 1.0, 0.618, 0.445]
    """
    (lam,), tau = positive(eigenvalue=eigenvalue), _whole(delay)
    return scalar(2 * np.sin(np.pi / (2 * (2 * tau + 1))) / lam)


def delay_best_step(*, eigenvalue: ArrayLike, delay: ArrayLike) -> Number:
    r"""The step with which that iteration converges fastest; its factor per step is then :math:`\frac\tau{\tau+1}`.

    Statement: the largest modulus of a root of :math:`z^{\tau+1}-z^\tau+\gamma\lambda` is at least tau/(tau+1) for
    every lr, and equal to it at :math:`\gamma\lambda=\frac{\tau^\tau}{(\tau+1)^{\tau+1}}` (1 without delay). Proof: the
    derivative vanishes at tau/(tau+1) whatever lr is, so by Gauss and Lucas this point is in the convex hull of the
    roots. At the stated lr it is a double root, and no root is larger: on the circle through it |z^tau (1 - z)| >= lr
    lambda, so that by Rouche a smaller lr has exactly one root outside, the one that comes from 1.

    >>> delay_best_step(eigenvalue=1.0, delay=[0, 1]).tolist()
    [1.0, 0.25]
    """
    (lam,), tau = positive(eigenvalue=eigenvalue), _whole(delay)
    return scalar((tau / (tau + 1)) ** tau / ((tau + 1) * lam))


def delay_radius(*, eigenvalue: float, delay: int, lr: float) -> float:
    r"""Asymptotic factor per step of that iteration.

    Statement: the largest modulus of a root of :math:`z^{\tau+1}-z^\tau+\gamma\lambda`. Below 1 exactly for lr <
    :func:`delay_max_step`.

    >>> delay_radius(eigenvalue=1.0, delay=1, lr=0.25)
    0.5
    """
    (lam, gamma), tau = positive(eigenvalue=eigenvalue, lr=lr), integer("delay", delay, 0)
    coefficients = np.zeros(tau + 2)
    coefficients[0], coefficients[1] = 1, -1
    coefficients[-1] += gamma * lam
    return float(abs(np.roots(coefficients)).max())


def delay_noise_floor(*, eigenvalue: ArrayLike, delay: ArrayLike, lr: ArrayLike, sigma2: ArrayLike) -> Number:
    r"""Long-run second moment of SGD with constant delay on :math:`\lambda x^2/2`, exactly (independent noise).

    Statement: :math:`Ex^2=\frac{\gamma\sigma^2}{2\lambda}\cdot\frac{1+\sin u}{\cos u\,\cos(\theta/2)}` with
    :math:`2\sin\frac\theta2=\gamma\lambda` and :math:`u=\theta(\tau+\frac12)`. It is infinite where u = pi/2, at
    :func:`delay_max_step`, and ``quadratic.noise_floor`` for tau = 0.

    Proof: c_j = E x_k x_{k-j} obeys c_{j+1} = c_j - a c_{tau-j} for j < tau, a = lr lambda, which is solved by
    c_j = C cos(theta j - u/2 + pi/4); squaring the update gives 2 c_tau = a c_0 + lr^2 sigma2/a, and so C.

    Raises ``ValueError`` unless lr < delay_max_step (else the moment grows for ever).

    >>> delay_noise_floor(eigenvalue=1.0, delay=[0, 1], lr=0.5, sigma2=3.0).round(6)
    array([1. , 1.8])
    """
    (lam, lr), (sigma2,), tau = positive(eigenvalue=eigenvalue, lr=lr), nonnegative(sigma2=sigma2), _whole(delay)
    if (lr >= np.asarray(delay_max_step(eigenvalue=lam, delay=tau))).any():
        raise ValueError(f"lr must be below delay_max_step for a stationary state, got lr = {lr} with delay = {tau}")
    theta = 2 * np.arcsin(lr * lam / 2)
    u = theta * (tau + 0.5)
    return scalar(lr * sigma2 / (2 * lam) * (1 + np.sin(u)) / (np.cos(u) * np.cos(theta / 2)))


@in_units("length^2")
def delay_noise_bound(*, eigenvalue: ArrayLike, delay: ArrayLike, lr: ArrayLike, sigma2: ArrayLike) -> Bound:
    r"""A simpler upper bound of :func:`delay_noise_floor`; the lower one is ``quadratic.noise_floor``.

    Statement: :math:`\frac{\gamma\sigma^2}{2\lambda}\cdot\frac1{1-a/2}\le Ex^2\le
    \frac{\gamma\sigma^2}{2\lambda}\cdot\frac1{1-a(\tau+\frac12)}`, :math:`a=\gamma\lambda`, for
    :math:`a(\tau+\frac12)<1`. Both tend to :math:`\gamma\sigma^2/2\lambda`: small steps do not feel the delay.

    Proof: c_tau = c_0 - a (c_1 + ... + c_tau) and c_j <= c_0, in 2 c_tau = a c_0 + lr^2 sigma2/a. Tight: equality
    without delay and as a -> 0. Slack: 1.2 for a (tau + 1/2) <= 1/2. Source: ours, from the exact covariances behind
    :func:`delay_noise_floor`.

    >>> delay_noise_bound(eigenvalue=1.0, delay=1, lr=0.5, sigma2=3.0).terms
    {'noise': 3.0}
    """
    (lam, lr), (sigma2,), tau = positive(eigenvalue=eigenvalue, lr=lr), nonnegative(sigma2=sigma2), _whole(delay)
    left = 1 - lr * lam * (tau + 0.5)
    with np.errstate(divide="ignore"):
        terms = {"noise": lr * sigma2 / (2 * lam * left)}
    why = f"lr < 1/(eigenvalue (delay + 1/2)), got lr = {lr}, eigenvalue = {lam} and delay = {tau}"
    return Bound.where(left > 0, why, terms, lr)


def random_assignment_rate(*, seconds: ArrayLike) -> float:
    r"""Updates per second when n nodes of exponential times share n jobs, each handed to a node drawn uniformly.

    ``seconds`` [n] are the mean times of a gradient; a node computes its queue in order. Statement: the closed network
    of n queues is in a state with k_i jobs at node i with probability proportional to :math:`\prod_im_i^{k_i}`, so
    that the rate is :math:`n\,G(n-1)/G(n)`, G(k) the sum of these weights over all ways to place k jobs. Of equal means
    m it is :math:`\frac{n^2}{(2n-1)\,m}`. Exact. Source: Gordon & Newell 1967, "Closed queuing systems with exponential
    servers", for the weights; Buzen 1973, "Computational algorithms for closed queueing networks", for their sums.

    Raises ``ValueError`` unless seconds has shape [n], n >= 1, with entries > 0.

    >>> round(random_assignment_rate(seconds=[1.0, 1.0]), 6)  # fixed assignment: 2
    1.333333
    """
    (means,) = positive(seconds=seconds)
    if means.ndim != 1 or not means.size:
        raise ValueError(f"seconds must have shape [n], n >= 1, got shape {list(means.shape)}")
    n, longest = len(means), means.max()
    ways = np.eye(n + 1)[0]  # summed weights of all ways to place 0 ... n jobs on the nodes so far
    for share in means / longest:
        for jobs in range(1, n + 1):
            ways[jobs] += share * ways[jobs - 1]
    return float(n * ways[-2] / ways[-1] / longest)


def _delay(value: ArrayLike) -> np.ndarray:
    tau = np.asarray(real("delay", value, 0), dtype=float)
    if ((tau > 0) & (tau < 1)).any():
        raise ValueError(f"delay must be 0 or at least 1, got {value!r}")
    return tau


def _whole(value: ArrayLike) -> np.ndarray:
    """Delays of the recursion with constant delay: integers."""
    tau = np.asarray(real("delay", value, 0), dtype=float)
    if (tau % 1 != 0).any():
        raise ValueError(f"delay must be an integer, got {value!r}")
    return tau
