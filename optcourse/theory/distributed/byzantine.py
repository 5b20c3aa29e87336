r"""Robust aggregation with ``n_byzantine`` = f arbitrary vectors among n: how far from the honest mean it can end.

The honest vectors x_1 ... x_{n-f} have mean xbar and V = mean ||x_i - xbar||^2. A rule has constant kappa when
||rule(all n vectors) - xbar||^2 <= kappa V for every choice of the honest and of the f other vectors. Ranges:
n_nodes >= 1, 0 <= n_byzantine <= n_nodes, L, delta0, steps, lr > 0, zeta2, kappa, distance, variance >= 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import choice, integer, nonnegative, positive
from optcourse.theory.bound import Bound, in_units

RULES = ("mean", "trimmed_mean", "median", "geometric_median", "krum", "krum_paper", "centered_clipping")
RULES += ("mda", "monna", "meamed")


def breakdown(*, rule: str, n_nodes: int) -> int:
    """The largest number of Byzantine nodes for which ``rule`` has a finite :func:`kappa`.

    Statement: 0 for the mean, the largest f < n/2 for the others; ``krum_paper`` asks for 2f + 2 < n. Beyond n/2 no
    rule can work: the attackers could be the majority.

    >>> [breakdown(rule=rule, n_nodes=10) for rule in ("mean", "median", "krum_paper")]
    [0, 4, 3]
    """
    choice("rule", rule, RULES)
    n = integer("n_nodes", n_nodes, 1)
    if rule == "mean":
        return 0
    return max(0, (n - 3) // 2 if rule == "krum_paper" else (n - 1) // 2)


def kappa(*, rule: str, n_nodes: int, n_byzantine: int) -> float:
    r"""The constant of a robust rule, infinite beyond its :func:`breakdown`.

    Statement: of n vectors, f of which are arbitrary,

    ==================== ===================================== ==========================================
    rule                 kappa                                 statement
    ==================== ===================================== ==========================================
    mean                 0 for f = 0, else infinite            exact
    trimmed_mean         f/(n-2f)                              exact in any dimension; f cut at each end
    median               (n-1)/(n-2f+1), n odd;                exact in any dimension, coordinate by
                         (n-2)/(n-2f+2), n even                coordinate, mean of the two middle values
    geometric_median     4 ((n-f)/(n-2f))^2                    upper bound
    krum                 (3+2 sqrt(2)) (n-f)/(n-2f)            upper bound; n-f nearest, itself included
    krum_paper           (3+2 sqrt(2)) (n-f)/(n-2f-1)          upper bound; n-f-2 nearest others
    centered_clipping    f/(n-2f)                              exact, in the limit of steps with the
                                                               radius :func:`clipping_radius`
    mda                  8 f^2/(n-f)                           upper bound
    monna                4 f                                   upper bound, for an honest reference; on average
                                                               over the honest references 8 f/(n-f)
    meamed               4 f/(n-f) (1 + that of the median)    upper bound
    ==================== ===================================== ==========================================

    Proof: order statistics are monotone in every input, so the worst attack is at +-infinity; the trimmed mean is
    then the mean of the n-2f largest honest values and the median an honest order statistic, and Cauchy-Schwarz
    gives (m-k)/k for the k of m honest values on one side. Geometric median: its sum of distances is at most that of
    xbar; split it over honest and other vectors. Krum: the winner's score is at most the honest average 2 (n-f) V, and
    at least n-2f of the vectors counted in it are honest; Minkowski's inequality. Averages of the n-f vectors nearest
    to a point p: r <= f liars x_k in them took the place of r honest y_k that are no nearer, so they err by at most
    1/(n-f) sum_k 2||y_k - p||, whose square is at most 4f/(n-f) (V + ||p - xbar||^2); and an honest p has
    ||p - xbar||^2 <= (n-f-1) V. Minimum diameter: pairs x_k, y_k are at most two honest diameters apart, each of which
    squared is at most 2(n-f)V. Smaller than f/(n-2f) is impossible: :func:`kappa_lower_bound`. Source: of the rules,
    Yin, Chen, Ramchandran & Bartlett 2018 (median, trimmed mean), Blanchard, El Mhamdi, Guerraoui & Stainer 2017
    (Krum), Karimireddy, He & Jaggi 2021 (clipping), and in ``nodes.byzantine.subsets``.

    >>> [kappa(rule=rule, n_nodes=5, n_byzantine=1) for rule in ("mean", "median", "trimmed_mean")]
    [inf, 1.0, 0.3333333333333333]
    """
    choice("rule", rule, RULES)
    n = integer("n_nodes", n_nodes, 1)
    f = integer("n_byzantine", n_byzantine, 0, n)
    if rule == "mean" and f == 0:
        return 0.0
    if f > breakdown(rule=rule, n_nodes=n) or (rule == "krum_paper" and n < 3):
        return np.inf
    if rule == "median":
        return (n - 1) / (n - 2 * f + 1) if n % 2 else (n - 2) / (n - 2 * f + 2)
    if rule == "geometric_median":
        return 4 * ((n - f) / (n - 2 * f)) ** 2
    if rule == "krum":
        return (1 + np.sqrt(2)) ** 2 * (n - f) / (n - 2 * f)
    if rule == "krum_paper":
        return (1 + np.sqrt(2)) ** 2 * (n - f) / (n - 2 * f - 1)
    if rule == "mda":
        return 8 * f**2 / (n - f)
    if rule == "monna":
        return 4.0 * f
    if rule == "meamed":
        return 4 * f / (n - f) * (1 + kappa(rule="median", n_nodes=n, n_byzantine=f))
    return f / (n - 2 * f)


def kappa_lower_bound(*, n_nodes: int, n_byzantine: int) -> float:
    r"""No rule has a smaller constant than this.

    Statement: :math:`\kappa\ge\frac f{n-2f}`, infinite for f >= n/2 (0 for f = 0). Proof: of f times -1, n-2f times 0
    and f times +1, either the first or the last f may be the liars. The honest mean is f/(n-f) in one case and -f/(n-f)
    in the other, V = f(n-2f)/(n-f)^2 in both; one output is at least f/(n-f) from one of them. Since V, and the
    distance of either mean from 0, are the same in both cases, a rule that is told them, as clipping is, does no
    better. The trimmed mean attains it.

    >>> kappa_lower_bound(n_nodes=10, n_byzantine=3)
    0.75
    """
    n = integer("n_nodes", n_nodes, 1)
    f = integer("n_byzantine", n_byzantine, 0, n)
    return f / (n - 2 * f) if 2 * f < n else np.inf


def clipping_radius(*, distance: float, variance: float, n_nodes: int, n_byzantine: int) -> float:
    r"""The best radius of a step v + mean_i clip(x_i - v).

    Statement: :math:`\sqrt{(1-\delta)(V+B^2)/(4\delta)}`, delta = f/n. ``distance`` B = ||v - xbar||, ``variance`` V:
    both must be known, which a server cannot. Needs n_byzantine >= 1.

    >>> clipping_radius(distance=0.0, variance=4.0, n_nodes=5, n_byzantine=1)
    2.0
    """
    B, V, delta = _clipping(distance, variance, n_nodes, n_byzantine)
    return float(np.sqrt((1 - delta) * (V + B**2) / (4 * delta)))


def clipping_step(*, distance: float, variance: float, n_nodes: int, n_byzantine: int) -> float:
    r"""Distance to the honest mean after one step of clipping with :func:`clipping_radius`, at most.

    Statement: :math:`\delta B+\sqrt{\delta(1-\delta)(V+B^2)}`, delta = f/n. Proof: the honest part errs by (1-delta)
    mean (||x_i - v|| - tau)_+ with (a - tau)_+ <= a^2/(4 tau), the others add delta tau, and delta B is the honest
    weight that is missing. Repeated, it tends to B with B^2 = V delta/(1-2 delta) for delta < 1/2: ``kappa`` of
    ``"centered_clipping"``. Source: Karimireddy, He & Jaggi 2021, "Learning from history for Byzantine robust
    optimization", for the rule.

    Arguments and errors as :func:`clipping_radius`.

    >>> clipping_step(distance=0.0, variance=4.0, n_nodes=5, n_byzantine=1)
    0.8
    """
    B, V, delta = _clipping(distance, variance, n_nodes, n_byzantine)
    return float(delta * B + np.sqrt(delta * (1 - delta) * (V + B**2)))


@in_units("loss^2/length^2")
def robust_gd_bound(
    *, L: ArrayLike, delta0: ArrayLike, zeta2: ArrayLike, kappa: ArrayLike, steps: ArrayLike, lr: ArrayLike
) -> Bound:
    r"""Average squared gradient of the honest loss f_H under x_{k+1} = x_k - lr * rule(g_1 ... g_n), exact gradients.

    Statement: :math:`\frac1T\sum_{k<T}\|\nabla f_H(x_k)\|^2 \le \frac{2\Delta_0}{\gamma T} + \kappa\zeta^2` for
    :math:`\gamma\le1/L` and a rule with the constant :func:`kappa`, f_H the mean of the honest f_i, L-smooth and
    bounded below by f_H*, delta0 = f_H(x_0) - f_H*, and ``zeta2`` at least mean_i ||grad f_i - grad f_H||^2 over the
    honest, at every x.

    The floor does not vanish with the step size: heterogeneity hides attackers. Proof: f_H(x+) <= f_H(x) - lr/2
    ||grad f_H||^2 + lr/2 ||rule - grad f_H||^2 for lr <= 1/L. Tight: honest quadratics with gradients in the
    extremal configuration of the trimmed mean end where the floor is attained. Slack: 1. Source: the argument of
    Karimireddy, He & Jaggi 2022, "Byzantine-robust learning on heterogeneous datasets via bucketing", with the kappa of
    Allouah, Farhadkhani, Guerraoui, Gupta, Pinot & Stephan 2023, "Fixing by mixing: a recipe for optimal Byzantine ML
    under heterogeneity".

    >>> robust_gd_bound(L=1.0, delta0=0.5, zeta2=4.0, kappa=0.25, steps=100, lr=0.5).terms
    {'initial gap': 0.02, 'attack': 1.0}
    """
    L, delta0, T, lr = positive(L=L, delta0=delta0, steps=steps, lr=lr)
    zeta2, kappa = nonnegative(zeta2=zeta2, kappa=kappa)
    terms = {"initial gap": 2 * delta0 / (lr * T), "attack": kappa * zeta2}
    return Bound.where(L * lr <= 1 + 1e-12, f"lr <= 1/L, got lr = {lr} and L = {L}", terms, lr)


def _clipping(distance: float, variance: float, n_nodes: int, n_byzantine: int) -> tuple[float, float, float]:
    B, V = nonnegative(distance=distance, variance=variance)
    n = integer("n_nodes", n_nodes, 1)
    return float(B), float(V), integer("n_byzantine", n_byzantine, 1, n) / n
