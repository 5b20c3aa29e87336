r"""Compressed gradients: variance and contraction of compressors, where they fail alone, and error feedback.

Two classes. *Unbiased*: E[Q(v)] = v and E||Q(v) - v||^2 <= omega ||v||^2. *Contraction*: E||C(v) - v||^2 <=
(1 - delta)||v||^2 with 0 < delta <= 1, the expectation over C if it is random; C = 0 has no delta > 0 and no guarantee.
n nodes hold f_i; f is their mean, L-smooth and bounded below by f*. E[g_i] = grad f_i(x) given the past, with a
variance of at most sigma2; zeta2 bounds the heterogeneity (1/n) sum ||grad f_i - grad f||^2 at every x, and G2 the
second moment E||g_i||^2. Given the past, noise and compressors are independent of each other and between nodes.
``delta0`` = f(x_0) - f*; ``steps`` = T, so the average runs over x_0 ... x_{T-1}. Ranges: L, delta0, n_nodes, steps,
lr > 0, sigma2, zeta2, G2, omega >= 0, 0 < delta <= 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive, real
from optcourse.theory.bound import Bound, in_units, tune_step
from optcourse.theory.distributed.compressors import delta_low_rank as delta_low_rank
from optcourse.theory.distributed.compressors import delta_sign as delta_sign
from optcourse.theory.distributed.compressors import delta_sparse as delta_sparse
from optcourse.theory.distributed.compressors import delta_top_k as delta_top_k
from optcourse.theory.distributed.compressors import delta_unbiased as delta_unbiased
from optcourse.theory.distributed.compressors import qsgd_omega as qsgd_omega
from optcourse.theory.distributed.compressors import qsgd_variance as qsgd_variance


@in_units("loss^2/length^2")
def unbiased_bound_at(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    omega: ArrayLike,
    n_nodes: ArrayLike,
    steps: ArrayLike,
    lr: ArrayLike,
) -> Bound:
    r"""Average squared gradient of x - lr (1/n) sum Q_i(g_i), Q unbiased, without error feedback.

    Statement, lr <= 1/(L(1+omega/n)): :math:`\frac1T\sum_{t<T}E\|\nabla f(x_t)\|^2 \le \frac{2\Delta_0}{\gamma T} +
    \frac{L\gamma\sigma_\omega^2}n`, :math:`\sigma_\omega^2 = (1+\omega)\sigma^2+\omega\zeta^2`. Proof: the averaged
    message has mean grad f and second moment <= (1+omega/n)||grad f||^2 + sigma_omega^2/n; then as for SGD.

    Tight: random-k scaled by d/k on L||x||^2/2 without noise, at the largest lr, as T grows. Slack: 1 there; 2.1
    where noise dominates. Source: the argument of :func:`optcourse.theory.sgd.sgd_bound_at`, which
    omega = 0 gives back.

    >>> unbiased_bound_at(L=1.0, delta0=1.0, sigma2=1.0, zeta2=2.0, omega=4.0, n_nodes=4, steps=10, lr=0.5).terms
    {'initial gap': 0.4, 'noise': 1.625}
    """
    L, delta0, n, T, lr = positive(L=L, delta0=delta0, n_nodes=n_nodes, steps=steps, lr=lr)
    sigma2, zeta2, omega = nonnegative(sigma2=sigma2, zeta2=zeta2, omega=omega)
    terms = {"initial gap": 2 * delta0 / (lr * T), "noise": L * lr * ((1 + omega) * sigma2 + omega * zeta2) / n}
    condition = L * lr * (1 + omega / n) <= 1 + 1e-12
    return Bound.where(condition, f"lr <= 1/(L (1 + omega/n)), got lr = {lr} and L = {L}", terms, lr)


@in_units("loss^2/length^2")
def unbiased_bound(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    omega: ArrayLike,
    n_nodes: ArrayLike,
    steps: ArrayLike,
) -> Bound:
    r"""The same as :func:`unbiased_bound_at` with its best step size.

    Statement: at most :math:`\frac{2L(1+\omega/n)\Delta_0}T + \sqrt{\frac{8L\Delta_0\sigma_\omega^2}{nT}}` with
    :math:`\gamma = \left[L(1+\omega/n)+\sqrt{TL\sigma_\omega^2/(2n\Delta_0)}\right]^{-1}`.
    Compression costs a factor 1 + omega in the noise, which n nodes still divide by n. Tight: equality without noise
    where :func:`unbiased_bound_at` has it, half of it where noise dominates. Slack: 1.01 and 2.1. Source: as there.

    >>> bound = unbiased_bound(L=1.0, delta0=0.5, sigma2=1.0, zeta2=0.0, omega=3.0, n_nodes=4, steps=100)
    >>> bound.terms
    {'deterministic': 0.0175, 'noise': 0.2}
    """
    L, delta0, n, T = positive(L=L, delta0=delta0, n_nodes=n_nodes, steps=steps)
    sigma2, zeta2, omega = nonnegative(sigma2=sigma2, zeta2=zeta2, omega=omega)
    smooth, noise = L * (1 + omega / n), ((1 + omega) * sigma2 + omega * zeta2) / n
    lr = 1 / (smooth + np.sqrt(T * L * noise / (2 * delta0)))
    terms = {"deterministic": 2 * smooth * delta0 / T, "noise": np.sqrt(8 * L * delta0 * noise / T)}
    return Bound.where(True, "", terms, lr)


@in_units("length^2")
def ef_memory(*, G2: ArrayLike, delta: ArrayLike, lr: ArrayLike) -> Bound:
    r"""Second moment of what error feedback keeps: p = e + lr g, the message is C(p), then e = p - C(p).

    Statement: :math:`E\|e_t\|^2 \le \frac{(1-\delta)\gamma^2G^2}{(1-\sqrt{1-\delta})^2}` for every t, from e_0 = 0.
    Proof: the root m of E||e||^2 obeys m' <= sqrt(1-delta)(m + lr G), by Minkowski's inequality. At most the published
    :math:`4(1-\delta)\gamma^2G^2/\delta^2`, which it meets as delta -> 0.

    Tight: equality in the limit of t for C(p) = (1 - sqrt(1-delta)) p and constant g. Slack: 1. Source: Karimireddy et
    al. 2019, Lemma 3, for the published constant.

    >>> round(float(ef_memory(G2=1.0, delta=0.75, lr=1.0)), 12)
    1.0
    """
    (G2,), (lr,), delta = nonnegative(G2=G2), positive(lr=lr), _delta(delta)
    return Bound.where(True, "", {"memory": _memory(delta) * lr**2 * G2}, lr)


@in_units("loss^2/length^2")
def memory_bound_at(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    memory2: ArrayLike,
    steps: ArrayLike,
    lr: ArrayLike,
    n_nodes: ArrayLike = 1,
) -> Bound:
    r"""Average squared gradient at x where SGD moves another point, w <- w - lr mean g_i(x), and remembers w - x.

    Statement, lr < 1/L: :math:`\frac1T\sum_{t<T}E\|\nabla f(x_t)\|^2 \le \frac1{1-L\gamma}\left[\frac{2\Delta_0}
    {\gamma T}+\frac{L\gamma\sigma^2}n+L^2M\right]` for M (``memory2``) >= (1/T) sum E||w_t - x_t||^2 and delta0 =
    f(w_0) - f*. x may be any function of the past: w without what was not sent yet (:func:`ef_bound_at`), or w pruned
    or rounded. Proof: -<grad f(w), grad f(x)> is at most -||grad f(x)||^2/2 + L^2||w - x||^2/2; E||mean g_i||^2 <=
    ||grad f(x)||^2 + sigma2/n; sum the descent of f(w).

    Tight: f = L(x - 1/2)^2/2, x = w rounded to whole numbers, w_0 = 1/2, lr -> 0: w stays at 1/2, and ||grad f(x)||^2 =
    L^2/4 on every grid point. Slack: 1.01 there, 2.1 where noise dominates, 2.5 for x = w without noise and with
    lr = 0.05 at T = 20. Source: Mania et al. 2017 (perturbed
    iterates); Lin et al. 2020, "Dynamic model pruning with feedback", section 4, with E||g||^2 in place of sigma2.

    >>> memory_bound_at(L=2.0, delta0=1.0, sigma2=1.0, memory2=0.25, steps=40, lr=0.25).terms
    {'initial gap': 0.4, 'noise': 1.0, 'memory': 2.0}
    """
    L, delta0, n, T, lr = positive(L=L, delta0=delta0, n_nodes=n_nodes, steps=steps, lr=lr)
    sigma2, memory2 = nonnegative(sigma2=sigma2, memory2=memory2)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = {"initial gap": 2 * delta0 / (lr * T), "noise": L * lr * sigma2 / n, "memory": L**2 * memory2}
        terms = {name: term / (1 - L * lr) for name, term in raw.items()}
    return Bound.where(L * lr < 1, f"lr < 1/L, got lr = {lr} and L = {L}", terms, lr)


@in_units("loss^2/length^2")
def ef_bound_at(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    G2: ArrayLike,
    delta: ArrayLike,
    n_nodes: ArrayLike,
    steps: ArrayLike,
    lr: ArrayLike,
) -> Bound:
    r"""Average squared gradient of error feedback on n nodes, however different their f_i are.

    Statement, lr < 1/L: that of :func:`memory_bound_at` with M from :func:`ef_memory`. Proof: with e the mean of the
    e_i, w = x - e moves by -lr mean g_i(x). Only f need be L-smooth; heterogeneity enters through G2 alone.

    Tight: up to a constant, on f = x^2/2. Slack: 2.1 where noise dominates; for delta = 0.1, lr = 0.04 without noise 3
    at T = 50, where the initial gap and the memory are alike, and more before and after. Source: Karimireddy et al.
    2019, Theorem II, for one node.

    >>> ef_bound_at(L=1.0, delta0=1.0, sigma2=1.0, G2=2.0, delta=0.75, n_nodes=4, steps=40, lr=0.5).terms
    {'initial gap': 0.2, 'noise': 0.25, 'memory': 1.0}
    """
    memory2 = ef_memory(G2=G2, delta=delta, lr=lr).value
    return memory_bound_at(L=L, delta0=delta0, sigma2=sigma2, memory2=memory2, steps=steps, lr=lr, n_nodes=n_nodes)


@in_units("loss^2/length^2")
def ef_bound(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    G2: ArrayLike,
    delta: ArrayLike,
    n_nodes: ArrayLike,
    steps: ArrayLike,
) -> Bound:
    r"""The same as :func:`ef_bound_at` with the step size of :func:`optcourse.theory.bound.tune_step`, at most 1/(2L).

    Statement: at most :math:`\sqrt{\frac{32L\Delta_0\sigma^2}{nT}} + 2\left(\frac{32L^2\Delta_0^2G^2c}{T^2}
    \right)^{1/3} + \frac{8L\Delta_0}T`, :math:`c = \frac{1-\delta}{(1-\sqrt{1-\delta})^2} \le 4(1-\delta)/\delta^2`.
    Proof: 1/(1 - L lr) <= 2 in :func:`ef_bound_at`. The leading term is twice that of uncompressed SGD; the
    second falls as (1/(delta T))^(2/3) and is behind after :func:`optcourse.theory.bound.transient`. In "1/sqrt(nT)
    + 1/(delta^2 T)" an n is hidden: lr ~ sqrt(n/T) makes the second term n/(delta^2 T).

    Tight: up to a constant, on f = x^2/2. Slack: 4.1 where noise dominates; without noise 3.1 (no compression) and 6.3
    (delta = 0.1, all or nothing, T = 200; more for more steps). Source: as :func:`ef_bound_at`.

    >>> ef_bound(L=1.0, delta0=1.0, sigma2=2.0, G2=9.0, delta=1.0, n_nodes=4, steps=100).terms
    {'noise': 0.4, 'drift': 0.0, 'deterministic': 0.08}
    """
    L, delta0, n, T = positive(L=L, delta0=delta0, n_nodes=n_nodes, steps=steps)
    (sigma2, G2), delta = nonnegative(sigma2=sigma2, G2=G2), _delta(delta)
    return tune_step(r0=4 * delta0, b=2 * L * sigma2 / n, e=2 * L**2 * G2 * _memory(delta), d=2 * L, steps=T)


def _memory(delta: np.ndarray) -> np.ndarray:
    """(1 - delta)/(1 - sqrt(1 - delta))^2 without cancellation for small delta."""
    return (1 - delta) * np.square((1 + np.sqrt(1 - delta)) / delta)


def _delta(value: ArrayLike) -> np.ndarray:
    return np.asarray(real("delta", value, 0, 1, open_low=True), dtype=float)
