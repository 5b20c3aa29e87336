r"""Local SGD (FedAvg): every node takes ``local_steps`` steps of its own, then all average.

x_i <- x_i - lr * g_i(x_i) on each of ``n_nodes`` nodes, and x_i <- mean_j x_j after every ``local_steps``-th step
(never after the first alone). All nodes start equal. Each f_i is L-smooth, f = mean f_i is bounded below by f*,
``delta0`` = f(x_0) - f*; gradients are unbiased and independent between nodes, with variance at most ``sigma2`` given
the iterates; ``zeta2`` bounds mean_i ||grad f_i(x) - grad f(x)||^2 at every x. ``steps`` = T counts the gradients of
one node, and averages over t run over t = 0 ... T-1 with xbar_t the mean of the nodes. Ranges: L, delta0, steps, lr >
0, sigma2, zeta2 >= 0, n_nodes, local_steps >= 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar, tune_step


@in_units("length^2")
def local_drift_bound(
    *, L: ArrayLike, sigma2: ArrayLike, zeta2: ArrayLike, local_steps: ArrayLike, lr: ArrayLike
) -> Bound:
    r"""How far the nodes drift apart between averages.

    Statement: :math:`\frac1T\sum_{t<T}\frac1n\sum_iE\|x_{i,t}-\bar x_t\|^2 \le 2\gamma^2\sigma^2(\tau-1) +
    \frac43\gamma^2\zeta^2(\tau-1)(2\tau-1)` for :math:`\gamma \le 1/(2L\sqrt{\tau(\tau-1)})`.

    Proof: s steps after an average the distance is V_s <= 2 lr^2 s sigma2 + 2 lr^2 s sum_{j<s} (2 L^2 V_j + 2 zeta2)
    (the 2 in front because the noise feeds the drift). Sum over s < tau; by the step condition the V_j on the
    right are at most half of the sum. Tight: for affine f_i the distance is exactly lr^2 s^2 zeta2, an eighth of
    the second term; noise alone reaches a quarter of the first. Slack: 8 and 4.1. Source:
    the argument of Koloskova, Loizou, Boreiri, Jaggi & Stich 2020, "A unified theory of decentralized SGD", with
    the constants kept.

    >>> local_drift_bound(L=1.0, sigma2=1.0, zeta2=3.0, local_steps=2, lr=0.25).terms
    {'noise': 0.125, 'heterogeneity': 0.75}
    """
    L, lr = positive(L=L, lr=lr)
    tau = _local_steps(local_steps)
    noise, heterogeneity = _drift(sigma2, zeta2, tau)
    terms = {"noise": lr**2 * noise, "heterogeneity": lr**2 * heterogeneity}
    condition = 2 * L * lr * np.sqrt(tau * (tau - 1)) <= 1 + 1e-12
    why = f"lr <= 1/(2 L sqrt(local_steps (local_steps - 1))), got lr = {lr}, L = {L} and local_steps = {tau}"
    return Bound.where(condition, why, terms, lr)


@in_units("loss^2/length^2")
def local_sgd_bound(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    n_nodes: ArrayLike,
    local_steps: ArrayLike,
    steps: ArrayLike,
    lr: ArrayLike,
) -> Bound:
    r"""Average squared gradient of local SGD at the mean of the nodes, any constant step size small enough.

    Statement: :math:`\frac1T\sum_{t<T}E\|\nabla f(\bar x_t)\|^2 \le \frac{2\Delta_0}{\gamma T} +
    \frac{L\gamma\sigma^2}n + 2L^2\gamma^2\sigma^2(\tau-1) + \frac43L^2\gamma^2\zeta^2(\tau-1)(2\tau-1)` for
    :math:`\gamma\le\min\{1/L, 1/(2L\sqrt{\tau(\tau-1)})\}`.

    Proof: smoothness at xbar gives E f(xbar+) <= E f(xbar) - lr/2 E||grad f(xbar)||^2 + L lr^2 sigma2/(2n)
    + lr L^2 V/2 with V the distance in :func:`local_drift_bound`; sum over t. Without local steps
    (local_steps = 1) it is mini-batch SGD, ``sgd.sgd_bound_at``. Tight: equality on f = L x^2/2 without noise at
    lr = 1/L, local_steps = 1; half of it where noise/n dominates. Slack: 1 and 2.1; 60 where only the last term
    is left (cosines L (1 - cos(x - phi_i)), ten local steps), more for fewer. Source: as
    :func:`local_drift_bound` (there Theorem 2, constants hidden).

    >>> bound = local_sgd_bound(L=1.0, delta0=0.5, sigma2=1.0, zeta2=3.0, n_nodes=4, local_steps=2, steps=100, lr=0.1)
    >>> {name: round(term, 9) for name, term in bound.terms.items()}
    {'initial gap': 0.1, 'noise': 0.025, 'noise drift': 0.02, 'heterogeneity drift': 0.12}
    """
    L, delta0, T, lr = positive(L=L, delta0=delta0, steps=steps, lr=lr)
    n, tau = np.asarray(real("n_nodes", n_nodes, 1), dtype=float), _local_steps(local_steps)
    noise, heterogeneity = _drift(sigma2, zeta2, tau)
    terms = {
        "initial gap": 2 * delta0 / (lr * T),
        "noise": L * lr * np.asarray(sigma2, dtype=float) / n,
        "noise drift": (L * lr) ** 2 * noise,
        "heterogeneity drift": (L * lr) ** 2 * heterogeneity,
    }
    why = f"lr <= local_sgd_max_step(L, local_steps), got lr = {lr}, L = {L} and local_steps = {tau}"
    return Bound.where(lr <= local_sgd_max_step(L=L, local_steps=tau) * (1 + 1e-12), why, terms, lr)


def local_sgd_max_step(*, L: ArrayLike, local_steps: ArrayLike) -> Number:
    r"""The largest step size of :func:`local_sgd_bound`: :math:`\min\{1/L, 1/(2L\sqrt{\tau(\tau-1)})\}`.

    >>> local_sgd_max_step(L=2.0, local_steps=1)
    0.5
    """
    (L,), tau = positive(L=L), _local_steps(local_steps)
    return scalar(1 / (L * np.maximum(1, 2 * np.sqrt(tau * (tau - 1)))))


@in_units("loss^2/length^2")
def local_sgd_tuned(
    *,
    L: ArrayLike,
    delta0: ArrayLike,
    sigma2: ArrayLike,
    zeta2: ArrayLike,
    n_nodes: ArrayLike,
    local_steps: ArrayLike,
    steps: ArrayLike,
) -> Bound:
    r"""The best order of :func:`local_sgd_bound`: ``stepsize`` chosen by the step-tuning lemma.

    Statement: ``bound.tune_step`` with r0 = 2 delta0, b = L sigma2/n, e = L^2 (2 sigma2 (tau-1) + 4/3 zeta2 (tau-1)
    (2 tau-1)) and 1/d the largest step: :math:`\sqrt{8L\Delta_0\sigma^2/(nT)} + 2e^{1/3}(2\Delta_0/T)^{2/3} +
    2d\Delta_0/T`. The first term falls with n and does not know tau: once T exceeds ``bound.transient``,
    local steps cost the bound a factor of at most 3, which tends to 1. Tight: equality on f = L x^2/2 without noise at
    local_steps = 1. Slack: 1 there, 2.1 where noise/n dominates. Source: as :func:`local_drift_bound`, with the lemma
    of :func:`optcourse.theory.bound.tune_step`.

    >>> float(local_sgd_tuned(L=1.0, delta0=0.5, sigma2=0.0, zeta2=0.0, n_nodes=4, local_steps=1, steps=10))
    0.1
    """
    L, delta0 = positive(L=L, delta0=delta0)
    n, tau = np.asarray(real("n_nodes", n_nodes, 1), dtype=float), _local_steps(local_steps)
    noise, heterogeneity = _drift(sigma2, zeta2, tau)
    return tune_step(
        r0=2 * delta0,
        b=L * np.asarray(sigma2, dtype=float) / n,
        e=L**2 * (noise + heterogeneity),
        d=1 / np.asarray(local_sgd_max_step(L=L, local_steps=tau)),
        steps=steps,
    )


@in_units("loss")
def local_sgd_strongly_convex(
    *,
    mu: float,
    L: float,
    R: float,
    sigma2: float,
    G2: float,
    n_nodes: int,
    local_steps: int,
    steps: int,
    shift: float,
) -> Bound:
    r"""Gap of local SGD on a mu-strongly convex f shared by all nodes (f_i = f), decreasing steps.

    Statement: with :math:`\gamma_t = \frac4{\mu(a+t)}`, :math:`a\ge\max\{16L/\mu,\tau\}`, weights
    :math:`w_t=(a+t)^2`, :math:`S=\sum_{t<T}w_t` and :math:`\hat x=\frac1S\sum_tw_t\bar x_t`:
    :math:`Ef(\hat x)-f^* \le \frac{\mu a^3R^2}{2S} + \frac{4T(T+2a)\sigma^2}{\mu nS} +
    \frac{256TG^2\tau^2L}{\mu^2S}`, where G2 bounds E||g_i||^2 at the iterates and R = ||x_0 - x*||.

    Proof: one step gives E||xbar+ - x*||^2 <= (1 - mu lr) E||xbar - x*||^2 - lr/2 E(f(xbar) - f*) + lr^2 sigma2/n
    + 2 lr L V and V <= 4 lr^2 tau^2 G2; multiply by w_t/lr_t and sum. Tight: no; at T = 1 on f = mu x^2/2 the
    gap is mu R^2/2 and the bound 9 mu R^2. Slack: 18 there. Source: Stich 2019, "Local SGD converges fast and
    communicates little", Theorem 2.2.

    ``stepsize`` holds the T steps; ``shift`` is a. Raises ``ValueError`` unless 0 < mu <= L, R, sigma2, G2 >= 0,
    the integers are >= 1 and shift >= max(16 L/mu, local_steps).

    >>> setting = {"mu": 1.0, "L": 1.0, "R": 1.0, "sigma2": 0.0, "G2": 1.0, "n_nodes": 1, "local_steps": 1}
    >>> float(local_sgd_strongly_convex(**setting, steps=1, shift=16.0))
    9.0
    """
    *_, a = positive(mu=mu, L=L, shift=shift)
    nonnegative(R=R, sigma2=sigma2, G2=G2)
    n, tau = integer("n_nodes", n_nodes, 1), integer("local_steps", local_steps, 1)
    T = integer("steps", steps, 1)
    if mu > L:
        raise ValueError(f"mu must be at most L, got mu = {mu} and L = {L}")
    t = np.arange(T)
    S = np.square(a + t).sum()
    terms = {
        "initial distance": mu * a**3 * R**2 / (2 * S),
        "noise": 4 * T * (T + 2 * a) * sigma2 / (mu * n * S),
        "drift": 256 * T * G2 * tau**2 * L / (mu**2 * S),
    }
    why = f"shift >= max(16 L/mu, local_steps), got shift = {a}, L/mu = {L / mu} and local_steps = {tau}"
    return Bound.where(a >= max(16 * L / mu, tau) * (1 - 1e-12), why, terms, 4 / (mu * (a + t)))


def fedavg_contraction(*, curvatures: ArrayLike, local_steps: int, lr: float) -> float:
    r"""Factor per round of FedAvg on quadratics: the spectral radius of :math:`\frac1n\sum_i(I-\gamma A_i)^\tau`.

    ``curvatures`` of shape [n] (scalars a_i) or [n, d, d] (symmetric A_i). Raises ``ValueError`` for another shape
    and unless lr > 0 and local_steps >= 1.

    >>> fedavg_contraction(curvatures=[1.0, 3.0], local_steps=2, lr=0.5)
    0.25
    """
    keep = _kept(_curvatures(curvatures), local_steps, lr)
    return float(abs(np.linalg.eigvals(keep.mean(0))).max())


def fedavg_fixed_point(*, curvatures: ArrayLike, centers: ArrayLike, local_steps: int, lr: float) -> Number:
    r"""Where FedAvg ends on :math:`f_i(x)=\frac12(x-b_i)^\top A_i(x-b_i)` without noise, exactly.

    Statement: :math:`x=\left(\sum_i(I-(I-\gamma A_i)^\tau)\right)^{-1}\sum_i(I-(I-\gamma A_i)^\tau)b_i`, for scalars
    :math:`\frac{\sum_i(1-(1-\gamma a_i)^\tau)b_i}{\sum_i(1-(1-\gamma a_i)^\tau)}`. An identity: a round maps x to
    mean_i [b_i + (I - lr A_i)^tau (x - b_i)]. It is the minimizer of f for local_steps = 1 or lr -> 0, and tends
    to mean(b_i), the average of the nodes' own minimizers, for many local steps: client drift.

    ``curvatures`` of shape [n] or [n, d, d], ``centers`` of shape [n] or [n, d]; a float or shape [d]. Raises
    ``ValueError`` for other shapes, unless lr > 0 and local_steps >= 1, and where the rounds do not contract.

    >>> round(fedavg_fixed_point(curvatures=[1, 4, 0.5], centers=[0, 1, -3], local_steps=7, lr=0.1), 4)
    0.0373
    """
    A = _curvatures(curvatures)
    b = np.asarray(real("centers", centers), dtype=float)
    is_scalar = np.ndim(curvatures) == 1
    if b.shape != (A.shape[:1] if is_scalar else A.shape[:2]):
        raise ValueError(f"centers must match curvatures of shape {list(np.shape(curvatures))}, got {list(b.shape)}")
    factor = fedavg_contraction(curvatures=curvatures, local_steps=local_steps, lr=lr)
    if factor >= 1:
        raise ValueError(f"lr must make the rounds contract, got lr = {lr} with a factor of {factor} per round")
    pull = np.eye(len(A[0])) - _kept(A, local_steps, lr)
    x = np.linalg.solve(pull.sum(0), np.einsum("nij,nj->i", pull, b.reshape(A.shape[:2])))
    return float(x[0]) if is_scalar else x


def _local_steps(value: ArrayLike) -> np.ndarray:
    return np.asarray(real("local_steps", value, 1), dtype=float)


def _drift(sigma2: ArrayLike, zeta2: ArrayLike, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two terms of the drift, divided by lr^2."""
    sigma2, zeta2 = nonnegative(sigma2=sigma2, zeta2=zeta2)
    return 2 * sigma2 * (tau - 1), 4 * zeta2 * (tau - 1) * (2 * tau - 1) / 3


def _curvatures(values: ArrayLike) -> np.ndarray:
    """The A_i as an array of shape [n, d, d], d = 1 for scalars."""
    A = np.asarray(real("curvatures", values), dtype=float)
    if A.ndim == 1 and A.size:
        return A[:, None, None]
    if A.ndim != 3 or A.size == 0 or A.shape[1] != A.shape[2]:
        raise ValueError(f"curvatures must have shape [n] or [n, d, d], got {list(A.shape)}")
    return A


def _kept(A: np.ndarray, local_steps: int, lr: float) -> np.ndarray:
    """(I - lr A_i)^tau: what local_steps steps leave of the distance to b_i."""
    (gamma,), tau = positive(lr=lr), integer("local_steps", local_steps, 1)
    return np.linalg.matrix_power(np.eye(len(A[0])) - gamma * A, tau)
