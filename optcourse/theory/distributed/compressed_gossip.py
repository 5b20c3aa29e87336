r"""CHOCO-Gossip: averaging with neighbours by compressed messages.

Node i keeps x_i and a public copy hat x_i that its neighbours know as well. In every round it sends q_i =
C(x_i - hat x_i), all who know the copy add q_i to it, and x_i moves by eta sum_j W_ij (hat x_j - hat x_i), eta =
``consensus_lr``. W is doubly stochastic, ``spectral_gap`` = rho = 1 - ||W - J||_2 with J = 11^T/n, ``beta`` =
||I - W||_2 <= 2; C is a contraction, E||C(v) - v||^2 <= (1 - ``delta``)||v||^2 given v. The mean xbar of the nodes
never changes. The error of round t is e_t = sum_i E||x_i - xbar||^2 + E||x_i - hat x_i||^2 with the copies *after* the
messages of this round; ``e0`` = e_0. Ranges: spectral_gap, delta in (0, 1], beta in [0, 2], steps, e0 >= 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, power, scalar


def choco_gossip_step(*, spectral_gap: ArrayLike, delta: ArrayLike, beta: ArrayLike) -> Number:
    r"""The largest step towards the neighbours for which :func:`choco_gossip_bound_at` holds.

    Statement: :math:`\eta^\star=\frac{\rho\delta}D` with :math:`D=16\rho+\rho^2+4\beta^2+2\rho\beta^2-8\rho\delta`. Not
    the largest that works: for random-k on rings of 3 to 6 nodes the best step is 6 to 38 times as large.

    Source: Koloskova, Stich & Jaggi 2019, "Decentralized stochastic optimization and gossip algorithms with compressed
    communication", Theorem 2; printed with rho^2 delta in the numerator (so quoted by Koloskova, Lin, Stich & Jaggi
    2020, Theorem 4.1), see :func:`choco_gossip_bound`.

    >>> round(1 / choco_gossip_step(spectral_gap=1.0, delta=1.0, beta=1.0), 9)
    15.0
    """
    rho, delta, beta = _constants(spectral_gap, delta, beta)
    D = 16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * delta
    return scalar(rho * delta / D)


@in_units("length^2", step="1")
def choco_gossip_bound_at(
    *,
    spectral_gap: ArrayLike,
    delta: ArrayLike,
    beta: ArrayLike,
    steps: ArrayLike,
    e0: ArrayLike,
    consensus_lr: ArrayLike,
) -> Bound:
    r"""The error of CHOCO-Gossip after ``steps`` = t rounds, any step towards the neighbours that is small enough.

    Statement, :math:`0<\eta\le\eta^\star`: :math:`e_t\le(1-\eta\rho/2)^te_0`.

    Proof: let a_t and b_t be the two parts of e_t. The disagreement is multiplied by (1 - eta) I + eta W, of norm at
    most 1 - eta rho on deviations, and pushed by eta (I - W) times the error of the copies. That error is multiplied by
    I + eta (I - W), pushed by eta (I - W) times the disagreement, and compressed. By Young's inequality, with constants
    eta rho/2 and delta/2,

    .. math:: a_{t+1}&\le(1-\eta\rho)^2(1+\tfrac{\eta\rho}2)\,a_t+\eta^2\beta^2(1+\tfrac2{\eta\rho})\,b_t \\
              b_{t+1}&\le(1-\delta)\left[\eta^2\beta^2(1+\tfrac2\delta)\,a_t+(1+\eta\beta)^2(1+\tfrac\delta2)\,b_t\right].

    The factors of a_t add up to at most 1 - 3 eta rho/2 + (eta rho)^3/2 + 2 eta^2 beta^2/delta, those of b_t, by
    eta <= 1 and beta <= 2, to 1 - delta/2 + eta (beta^2 + 2 beta^2/rho + 8 - 4 delta). Both are at most 1 - eta rho/2:
    the second exactly for eta <= eta*, which is where D comes from, and then the first by 4 beta^2 <= D.

    Tight: no. Slack: a factor of four in the exponent. Without compression along the slowest eigenvector e_t =
    (1 - eta rho)^(2t) e_0: 4.5 to 4.8 after 1/(eta rho) rounds. With random-k it is no less: at eta* the exponent is
    4.01 to 4.19 times the stated one on rings of 3 to 6 nodes. Source: as :func:`choco_gossip_step`.

    >>> choco_gossip_bound_at(spectral_gap=1.0, delta=1.0, beta=1.0, steps=2, e0=32.0, consensus_lr=1 / 16).terms
    {'error': 30.03125}
    """
    (eta,), (t, e0) = positive(consensus_lr=consensus_lr), nonnegative(steps=steps, e0=e0)
    rho, delta, beta = _constants(spectral_gap, delta, beta)
    largest = np.asarray(choco_gossip_step(spectral_gap=rho, delta=delta, beta=beta))
    why = f"consensus_lr <= choco_gossip_step = {largest}, got consensus_lr = {eta}"
    lost = eta * rho / 2
    return Bound.where(eta <= largest * (1 + 1e-12), why, {"error": power(lost=lost, steps=t) * e0}, eta)


@in_units("length^2", step="1")
def choco_gossip_bound(
    *, spectral_gap: ArrayLike, delta: ArrayLike, beta: ArrayLike, steps: ArrayLike, e0: ArrayLike
) -> Bound:
    r"""The error of CHOCO-Gossip after ``steps`` = t rounds with the step of :func:`choco_gossip_step`.

    Statement: :math:`e_t\le\left(1-\frac{\rho^2\delta}{2D}\right)^te_0\le\left(1-\frac{\rho^2\delta}{82}\right)^te_0`.
    Proof: :func:`choco_gossip_bound_at` at eta*; D < 41, its value at rho = 1, beta = 2, delta = 0.

    The second form is the published rate. The published step, rho^2 delta/D, is smaller by a factor of rho, and with it
    only 1 - rho^3 delta/(2D) follows. The published pair is not true in general: without compression (delta = 1) the
    slowest eigenvector shrinks by exactly (1 - rho^3/D)^2 per round. That exceeds 1 - rho^2/82 where the gap is small:
    on rings with weights 1/3 from 17 nodes on.

    Tight: no. Slack: a factor of four in the exponent, 4.5 to 4.8 after 1/(eta rho) rounds without compression, as
    :func:`choco_gossip_bound_at`. Source: as :func:`choco_gossip_step`.

    >>> choco_gossip_bound(spectral_gap=1.0, delta=1.0, beta=1.0, steps=[0, 1, 2], e0=900.0).value.round(9)
    array([900., 870., 841.])
    """
    constants = {"spectral_gap": spectral_gap, "delta": delta, "beta": beta}
    return choco_gossip_bound_at(**constants, steps=steps, e0=e0, consensus_lr=choco_gossip_step(**constants))


def _constants(spectral_gap: ArrayLike, delta: ArrayLike, beta: ArrayLike) -> tuple[np.ndarray, ...]:
    rho = real("spectral_gap", spectral_gap, 0, 1, open_low=True)
    delta = real("delta", delta, 0, 1, open_low=True)
    return tuple(np.asarray(value, dtype=float) for value in (rho, delta, real("beta", beta, 0, 2)))
