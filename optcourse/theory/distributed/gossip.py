r"""Decentralized SGD: every node steps, then averages with its neighbours in a graph.

DSGD: x_i <- sum_j W_ij (x_j - lr * g_j(x_j)). W is doubly stochastic, W_ij > 0 only for neighbours and for i itself (a
node is its own neighbour). ``spectral_gap`` = 1 - lambda with lambda = ||W - J||_2 and J = 11^T/n; a lambda for common
graphs is in :func:`mixing_rate`. All nodes start equal; each f_i is L-smooth, f = mean f_i is bounded below by f*,
``delta0`` = f(x_0) - f*; gradients are unbiased and independent between nodes, with variance at most ``sigma2`` given
the iterates; ``zeta2`` bounds mean_i ||grad f_i(x) - grad f(x)||^2 at every x. Averages over t run over t = 0 ... T-1
with T = ``steps`` and xbar_t the mean of the nodes. Ranges: L, delta0, steps, lr > 0, sigma2, zeta2 >= 0, n_nodes >= 1,
spectral_gap in (0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import choice, integer, nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar, transient, tune_step
from optcourse.theory.distributed.gossip_exact import SquaredGradients as SquaredGradients
from optcourse.theory.distributed.gossip_exact import dsgd_fixed_point as dsgd_fixed_point
from optcourse.theory.distributed.gossip_exact import dsgd_squared_gradients as dsgd_squared_gradients
from optcourse.theory.distributed.gossip_exact import gradient_tracking_rate as gradient_tracking_rate

TOPOLOGIES = ("ring", "path", "torus", "star", "hypercube", "exponential", "one_peer_exponential", "complete")


@in_units("length^2")
def consensus_bound(
    *, L: ArrayLike, sigma2: ArrayLike, zeta2: ArrayLike, spectral_gap: ArrayLike, lr: ArrayLike
) -> Bound:
    r"""How far the nodes of DSGD are apart, on average over time.

    Statement: :math:`\frac1T\sum_{t<T}\frac1n\sum_iE\|x_{i,t}-\bar x_t\|^2 \le
    \lambda^2\gamma^2\left[\frac{4\zeta^2}{(1-\lambda)^2}+\frac{2\sigma^2}{1-\lambda}\right]` for
    :math:`\gamma\le(1-\lambda)/(2\lambda L)`.

    Proof: V+ <= lambda V + lambda^2 lr^2/(1-lambda) (2 L^2 V + 2 zeta2) + lambda^2 lr^2 sigma2; average over t and use
    the step condition. Tight: for affine f_i with gradients b_i along the slowest eigenvector the distance tends to
    lambda^2 lr^2 zeta2/(1-lambda)^2, a quarter of the first term; noise alone on W near J reaches half of the second.
    Slack: 4 and, at a gap of 0.9, 2.3 (up to 4.1 at smaller ones). Source: the argument of Koloskova, Loizou, Boreiri,
    Jaggi & Stich 2020, "A unified theory of decentralized SGD", constants kept.

    >>> consensus_bound(L=1.0, sigma2=1.0, zeta2=1.0, spectral_gap=0.5, lr=0.5).terms
    {'heterogeneity': 1.0, 'noise': 0.25}
    """
    (L, lr), (gap, lam) = positive(L=L, lr=lr), _gap(spectral_gap)
    heterogeneity, noise = _distance(sigma2, zeta2, gap)
    terms = {"heterogeneity": lr**2 * heterogeneity, "noise": lr**2 * noise}
    why = f"lr <= (1 - lambda)/(2 lambda L), got lr = {lr}, L = {L} and spectral_gap = {gap}"
    return Bound.where(2 * lam * L * lr <= gap * (1 + 1e-12), why, terms, lr)


@in_units("loss^2/length^2")
def dsgd_bound(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    n_nodes: ArrayLike,
    spectral_gap: ArrayLike,
    steps: ArrayLike,
    lr: ArrayLike,
) -> Bound:
    r"""Average squared gradient of DSGD at the mean of the nodes, any constant step size small enough.

    Statement: :math:`\frac1T\sum_{t<T}E\|\nabla f(\bar x_t)\|^2 \le \frac{2\Delta_0}{\gamma T} +
    \frac{L\gamma\sigma^2}n + L^2\lambda^2\gamma^2\left[\frac{4\zeta^2}{(1-\lambda)^2} +
    \frac{2\sigma^2}{1-\lambda}\right]` for :math:`\gamma\le\min\{1/L,(1-\lambda)/(2\lambda L)\}`.

    Proof: smoothness at xbar gives E f(xbar+) <= E f(xbar) - lr/2 E||grad f(xbar)||^2 + L lr^2 sigma2/(2n) + lr L^2 V/2
    with V from :func:`consensus_bound`; sum over t. With spectral_gap = 1 it is ``sgd.sgd_bound_at`` with n times the
    batch. Tight: equality on f = L x^2/2 without noise at spectral_gap = 1, lr = 1/L; half of it where noise/n
    dominates. Slack: 1 and 2.1; 38 at the largest step where only the heterogeneity is left (cosines on a ring of 5),
    more at smaller steps. Source: as :func:`consensus_bound` (there Theorem 2, constants hidden).

    >>> dsgd_bound(
    ...     L=1.0, delta0=0.5, sigma2=1.0, zeta2=1.0, n_nodes=4, spectral_gap=0.5, steps=20, lr=0.5
    ... ).terms
    {'initial gap': 0.1, 'noise': 0.125, 'heterogeneity': 1.0, 'noise apart': 0.25}
    """
    L, delta0, T, lr = positive(L=L, delta0=delta0, steps=steps, lr=lr)
    n, (gap, _) = np.asarray(real("n_nodes", n_nodes, 1), dtype=float), _gap(spectral_gap)
    heterogeneity, noise = _distance(sigma2, zeta2, gap)
    terms = {
        "initial gap": 2 * delta0 / (lr * T),
        "noise": L * lr * np.asarray(sigma2, dtype=float) / n,
        "heterogeneity": (L * lr) ** 2 * heterogeneity,
        "noise apart": (L * lr) ** 2 * noise,
    }
    why = f"lr <= dsgd_max_step(L, spectral_gap), got lr = {lr}, L = {L} and spectral_gap = {gap}"
    return Bound.where(lr <= dsgd_max_step(L=L, spectral_gap=gap) * (1 + 1e-12), why, terms, lr)


def dsgd_max_step(*, L: ArrayLike, spectral_gap: ArrayLike) -> Number:
    r"""The largest step size of :func:`dsgd_bound`: :math:`\min\{1/L,(1-\lambda)/(2\lambda L)\}`.

    >>> dsgd_max_step(L=1.0, spectral_gap=0.2)
    0.125
    """
    (L,), (gap, lam) = positive(L=L), _gap(spectral_gap)
    return scalar(1 / (L * np.maximum(1, 2 * lam / gap)))


@in_units("loss^2/length^2")
def dsgd_tuned(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    n_nodes: ArrayLike,
    spectral_gap: ArrayLike,
    steps: ArrayLike,
) -> Bound:
    r"""The best order of :func:`dsgd_bound`: ``stepsize`` chosen by the step-tuning lemma.

    Statement: ``bound.tune_step`` with r0 = 2 delta0, b = L sigma2/n, e = L^2 lambda^2 [4 zeta2/(1-lambda)^2 +
    2 sigma2/(1-lambda)] and 1/d the largest step. The first term, :math:`\sqrt{8L\Delta_0\sigma^2/(nT)}`, does not know
    the graph: after :func:`dsgd_transient` steps its bound is that of averaging over all, up to a
    factor of 3, which tends to 1. Tight: equality on f = L x^2/2 without noise at spectral_gap = 1. Slack: 1 there, 2.1
    where noise/n dominates. Source: as :func:`consensus_bound`, with the lemma of
    :func:`optcourse.theory.bound.tune_step`.

    >>> float(dsgd_tuned(L=1.0, delta0=0.5, sigma2=0.0, zeta2=0.0, n_nodes=4, spectral_gap=1.0, steps=10))
    0.1
    """
    r0, b, e = _tuning(L, delta0, sigma2, zeta2, n_nodes, spectral_gap)
    return tune_step(r0=r0, b=b, e=e, d=1 / np.asarray(dsgd_max_step(L=L, spectral_gap=spectral_gap)), steps=steps)


def dsgd_transient(
    *, L: ArrayLike, delta0: ArrayLike, sigma2: ArrayLike, zeta2: ArrayLike, n_nodes: ArrayLike, spectral_gap: ArrayLike
) -> Number:
    r"""Steps until the graph no longer matters: the noise term of :func:`dsgd_tuned` then exceeds the drift term.

    Statement: :math:`2\Delta_0e^2/b^3`, that is :math:`2L\Delta_0n^3\lambda^4[4\zeta^2/(1-\lambda)^2 +
    2\sigma^2/(1-\lambda)]^2/\sigma^6`: it grows as n^3/(1-lambda)^4, without heterogeneity as n^3/(1-lambda)^2.

    Here ``sigma2`` > 0.

    >>> dsgd_transient(L=1.0, delta0=0.5, sigma2=1.0, zeta2=0.0, n_nodes=2, spectral_gap=0.5)
    8.0
    """
    positive(sigma2=sigma2)
    r0, b, e = _tuning(L, delta0, sigma2, zeta2, n_nodes, spectral_gap)
    return transient(r0=r0, b=b, e=e)


def mixing_rate(*, topology: str, n_nodes: int) -> float:
    r"""lambda of the usual mixing matrices; ``spectral_gap`` is one minus it.

    Statement: lambda = ||W - J||_2 is

    ======================== ======================== ==========================================================
    topology                 W                        lambda
    ======================== ======================== ==========================================================
    ring, n >= 3             1/3                      1/3 + 2/3 cos(2 pi/n)
    path, n >= 3             Metropolis               1/3 + 2/3 cos(pi/n)
    torus, n = s^2, s >= 3   1/5                      3/5 + 2/5 cos(2 pi/s)
    star, n >= 3             Metropolis               1 - 1/n
    hypercube, n = 2^p       1/(p+1)                  (p-1)/(p+1)
    exponential              1/(t+1), t = ceil log2 n (t-1)/(t+1) for even n, less for odd n (computed)
    one_peer_exponential     1/2, t rounds together   max over k of abs(sin(pi k 2^t/n)/(2^t sin(pi k/n))); 0 at 2^t
    complete                 1/n                      0
    ======================== ======================== ==========================================================

    Two nodes are complete whatever the graph is called. In the exponential graph node i hears i + 2^j mod n for
    all j < t; in the one-peer graph for j = 0, 1, ... in turn, and lambda is that of the product of t rounds (a
    single round can have lambda = 1). Metropolis: W_ij = 1/(1 + max degree). Source: Ying, Yuan, Chen, Hu, Pan &
    Yin 2021, "Exponential graph is provably efficient for decentralized deep training", for both exponential graphs.

    Raises ``ValueError`` for an unknown topology or a number of nodes that it does not have.

    >>> round(1 - mixing_rate(topology="ring", n_nodes=100), 5), round(4 * np.pi**2 / 3 / 100**2, 5)
    (0.00132, 0.00132)
    >>> [round(mixing_rate(topology="one_peer_exponential", n_nodes=n), 3) for n in (8, 12)]
    [0.0, 0.209]
    """
    choice("topology", topology, TOPOLOGIES)
    n = integer("n_nodes", n_nodes, 3 if topology in ("ring", "path", "star") else 2)
    t = (n - 1).bit_length()
    if topology == "complete":
        return 0.0
    if topology == "ring":
        return float((1 + 2 * np.cos(2 * np.pi / n)) / 3)
    if topology == "path":
        return float((1 + 2 * np.cos(np.pi / n)) / 3)
    if topology == "star":
        return 1 - 1 / n
    if topology == "torus":
        s = round(np.sqrt(n))
        if s * s != n or s < 3:
            raise ValueError(f"n_nodes of a torus must be s^2 with s >= 3, got {n}")
        return float((3 + 2 * np.cos(2 * np.pi / s)) / 5)
    if topology == "hypercube":
        if n != 2**t:
            raise ValueError(f"n_nodes of a hypercube must be a power of 2, got {n}")
        return (t - 1) / (t + 1)
    # The matrices of the exponential graphs are circulant: their eigenvalues are Fourier sums over the offsets.
    k = np.arange(1, n)
    if topology == "exponential":
        return float(abs(1 + np.exp(2j * np.pi * np.outer(k, 2 ** np.arange(t)) / n).sum(1)).max() / (t + 1))
    return float(abs(np.sin(np.pi * (k * 2**t % n) / n) / (2**t * np.sin(np.pi * k / n))).max())


def _gap(spectral_gap: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    gap = np.asarray(real("spectral_gap", spectral_gap, 0, 1, open_low=True), dtype=float)
    return gap, 1 - gap


def _distance(sigma2: ArrayLike, zeta2: ArrayLike, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two terms of the consensus distance, divided by lr^2."""
    sigma2, zeta2 = nonnegative(sigma2=sigma2, zeta2=zeta2)
    return 4 * zeta2 * ((1 - gap) / gap) ** 2, 2 * sigma2 * (1 - gap) ** 2 / gap


def _tuning(L, delta0, sigma2, zeta2, n_nodes, spectral_gap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The r0, b and e of the step-tuning lemma."""
    (L, delta0), (gap, _) = positive(L=L, delta0=delta0), _gap(spectral_gap)
    n = np.asarray(real("n_nodes", n_nodes, 1), dtype=float)
    return 2 * delta0, L * np.asarray(sigma2, dtype=float) / n, L**2 * sum(_distance(sigma2, zeta2, gap))
