r"""AdaGrad's regret, Adam's bias, RAdam's rectification, and where Adam does not converge.

t counts steps from 1, and the second moment contains the current gradient: v_t = beta2 v_{t-1} +
(1 - beta2) g_t^2 with v_0 = 0 is used in step t (with v_{t-1} the first step would divide 0 by 0).
Moments are per coordinate. Bias corrections are written out where they are meant. Ranges: steps >= 1,
betas in [0, 1), D_inf, rho, sigma2 > 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from optcourse.arguments import positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar


@in_units("loss", step="length")
def adagrad_regret(*, gradients: ArrayLike, D_inf: float) -> Bound:
    r"""Regret of diagonal AdaGrad, projected onto a box, against any fixed point of the box.

    Statement: with :math:`\gamma = D_\infty/\sqrt2` and steps :math:`\gamma g_{t,i}/\|g_{1:t,i}\|`,
    :math:`\sum_tf_t(x_t)-f_t(x) \le \sqrt2D_\infty\sum_i\|g_{1:T,i}\|_2` for convex losses f_t, however they are
    chosen. A coordinate with rare gradients pays only for those.

    Tight: two steps from a corner attain 0.737 of it; a search over ten steps found 0.8. Slack: 1.36.
    Source: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods".

    ``gradients`` g_t have shape [T, d]; ``D_inf`` is the longest edge of the box.

    >>> round(float(adagrad_regret(gradients=[[3.0, 0.0], [4.0, 0.0]], D_inf=2**0.5)), 12)
    10.0
    """
    g, (D,) = np.asarray(real("gradients", gradients), dtype=float), positive(D_inf=D_inf)
    if g.ndim != 2:
        raise ValueError(f"gradients must have shape [T, d], got {list(g.shape)}")
    regret = np.sqrt(2) * D * np.linalg.norm(g, axis=0).sum()
    return Bound.where(True, "", {"regret": regret}, D / np.sqrt(2))


def adam_moments(
    *, mean: ArrayLike, second_moment: ArrayLike, steps: ArrayLike, betas: tuple[float, float]
) -> tuple[Number, Number]:
    r"""Expectations of Adam's two averages after t steps, before bias correction.

    Statement, for gradients with constant E[g] and E[g^2]: :math:`E m_t = (1-\beta_1^t)E[g]`, :math:`E v_t =
    (1-\beta_2^t)E[g^2]`. An identity: dividing by these factors removes the bias exactly, for v too
    (but not for its square root). Source: Kingma & Ba 2015, "Adam", section 3.

    Broadcasts. Raises ``ValueError`` unless second_moment >= mean^2, steps >= 1 and the betas are in [0, 1).

    >>> adam_moments(mean=2.0, second_moment=8.0, steps=1, betas=(0.5, 0.75))
    (1.0, 2.0)
    """
    (t, beta1, beta2), mean = _averages(steps, *betas), np.asarray(real("mean", mean), dtype=float)
    square = np.asarray(real("second_moment", second_moment, 0), dtype=float)
    if (square < mean**2 * (1 - 1e-12)).any():
        raise ValueError(f"second_moment must be at least mean^2, got {square} and mean = {mean}")
    return scalar((1 - beta1**t) * mean), scalar((1 - beta2**t) * square)


def adam_gain(*, steps: ArrayLike, betas: tuple[float, float]) -> Number:
    r"""Length of Adam's step t in units of lr *without* bias correction, under a constant gradient.

    Statement: :math:`(1-\beta_1^t)/\sqrt{1-\beta_2^t}`. With bias correction it is 1 for every t. For (0.9,
    0.999) it starts at 3.16 and peaks at 6.57 in step 12: the correction avoids large early steps. An
    identity (epsilon = 0).

    >>> adam_gain(steps=[1, 12, 100_000], betas=(0.9, 0.999)).round(2)
    array([3.16, 6.57, 1.  ])
    """
    t, beta1, beta2 = _averages(steps, *betas)
    return scalar((1 - beta1**t) / np.sqrt(1 - beta2**t))


def radam_length(*, steps: ArrayLike, beta2: ArrayLike) -> Number:
    r"""Length of the simple moving average that is centred where Adam's v_t is.

    Statement: :math:`\rho_t = \rho_\infty - 2t\beta_2^t/(1-\beta_2^t)`, :math:`\rho_\infty = 2/(1-\beta_2)-1`; it grows
    from 1 to rho_infinity. Source: Liu, Jiang, He, Chen, Liu, Gao & Han 2020, "On the variance of the
    adaptive learning rate and beyond" (RAdam).

    >>> round(radam_length(steps=1, beta2=0.999), 9)
    1.0
    """
    t, beta2 = _averages(steps, beta2)
    return scalar(2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t))


def radam_rectification(*, steps: ArrayLike, beta2: ArrayLike) -> Number:
    r"""RAdam's factor on the step: the ratio of standard deviations that keeps the rate's variance constant.

    Statement: :math:`r_t = \sqrt{\frac{(\rho_t-4)(\rho_t-2)\rho_\infty}{(\rho_\infty-4)(\rho_\infty-2)\rho_t}}` where
    :math:`\rho_t > 4`, else 0, which stands for a step without second moment; rho from :func:`radam_length`.
    It is sqrt(V(rho_inf)/V(rho_t)) with V the first-order variance of :func:`adaptive_rate_variance`.
    Source: Liu et al. 2020, algorithm 2. PyTorch rectifies only from rho_t > 5.

    >>> radam_rectification(steps=[4, 10**6], beta2=0.999)
    array([0., 1.])
    """
    rho = np.asarray(radam_length(steps=steps, beta2=beta2))
    _, beta2 = _averages(steps, beta2)
    final = 2 / (1 - beta2) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        square = (rho - 4) * (rho - 2) * final / ((final - 4) * (final - 2) * rho)
        return scalar(np.where(rho > 4, np.sqrt(square), 0.0))


def adaptive_rate_variance(*, rho: ArrayLike, sigma2: ArrayLike, first_order: bool = False) -> Number:
    r"""Variance of 1/sqrt(v) where v is the mean square of ``rho`` independent N(0, sigma2) gradients.

    Statement: 1/v is scaled inverse chi-square, so the variance is :math:`\frac1{\sigma^2}\left(\frac\rho{\rho-2}
    - \frac\rho2\left[\frac{\Gamma((\rho-1)/2)}{\Gamma(\rho/2)}\right]^2\right)`, infinite for rho <= 2. An identity,
    also for rho that is no integer. ``first_order``: the delta method :math:`\frac\rho{2(\rho-2)(\rho-4)\sigma^2}`
    instead, infinite for rho <= 4, which :func:`radam_rectification` uses. Source: Liu et al. 2020 (with a Beta
    function for the Gammas).

    ``sigma2``: (loss/length)^2.

    >>> round(adaptive_rate_variance(rho=4.0, sigma2=1.0), 4), round(2 - np.pi / 2, 4)
    (0.4292, 0.4292)
    """
    rho, sigma2 = positive(rho=rho, sigma2=sigma2)
    with np.errstate(divide="ignore", invalid="ignore"):
        if first_order:
            return scalar(np.where(rho > 4, rho / (2 * (rho - 2) * (rho - 4) * sigma2), np.inf))
        ratio = np.exp(gammaln((rho - 1) / 2) - gammaln(rho / 2))
        return scalar(np.where(rho > 2, (rho / (rho - 2) - rho / 2 * ratio**2) / sigma2, np.inf))


@dataclass(frozen=True)
class ReddiProblem:
    """Linear losses f_t(x) = slope(t) x on [-1, 1] on which Adam moves to the worst point.

    ``betas`` of Adam, its rates lr/sqrt(t) with lr < ``lr_limit``; ``minimizer`` -1 of the sum of losses,
    ``limit`` +1 of Adam's iterates from x_1 = 1, ``average_regret`` the limit of (regret after T)/T.
    """

    C: float
    betas: tuple[float, float]
    lr_limit: float
    average_regret: float
    minimizer: float = -1.0
    limit: float = 1.0

    def slope(self, t: ArrayLike) -> Number:
        """The gradient in round t = 1, 2, ...: C when t mod 3 = 1, else -1."""
        return scalar(np.where(np.asarray(t) % 3 == 1, self.C, -1.0))


def reddi_problem(*, C: float) -> ReddiProblem:
    r"""An online convex problem on which Adam's average regret does not vanish, but tends to 2(C-2)/3.

    Statement, C > 2: slopes C, -1, -1, repeated; beta1 = 0, beta2 = 1/(1+C^2), rates lr/sqrt(t), lr <
    sqrt(1-beta2). The large gradient is divided by its own size, the two small ones by their own too,
    so that they outvote it. AMSGrad, with the running maximum of v, has vanishing average regret. Source:
    Reddi, Kale & Kumar 2018, "On the convergence of Adam and beyond".

    >>> reddi_problem(C=5.0).average_regret, reddi_problem(C=3.0).betas
    (2.0, (0.0, 0.1))
    """
    C = float(real("C", C, 2, open_low=True))
    beta2 = 1 / (1 + C**2)
    return ReddiProblem(C=C, betas=(0.0, beta2), lr_limit=(1 - beta2) ** 0.5, average_regret=2 * (C - 2) / 3)


def _averages(steps: ArrayLike, *betas: ArrayLike) -> tuple[np.ndarray, ...]:
    t = np.asarray(real("steps", steps, 1), dtype=float)
    names = ("beta1", "beta2") if len(betas) == 2 else ("beta2",)
    checked = (real(name, beta, 0, 1, open_high=True) for name, beta in zip(names, betas, strict=True))
    return t, *(np.asarray(beta, dtype=float) for beta in checked)
