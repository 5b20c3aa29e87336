r"""The tilted risk of losses l_1 ... l_n, :math:`\tilde R_t = \frac1t\log\big(\frac1n\sum_ie^{tl_i}\big)`, and bounds.

t = 0 is the mean, t = inf the largest and t = -inf the smallest loss. ``losses`` are finite, of shape [..., n], differ
by less than 1.8e308/n (``ValueError`` otherwise); ``t`` is any number, infinite too unless a docstring says otherwise,
or an array that broadcasts with [...]. Source: Li, Beirami, Sanjabi & Smith 2021, "Tilted
empirical risk minimization" (ICLR).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from optcourse.arguments import nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar

EPS = np.finfo(float).eps
#: Of two formulas the one that keeps digits near 0 is taken up to here; around here both are as good.
TURN = 1


def value(*, losses: ArrayLike, t: ArrayLike) -> Number:
    r"""The tilted risk, from the smallest loss (t = -inf) over the mean to the largest (t = inf), never falling in t.

    The extreme loss is taken out first, and small t go through expm1: neither overflow nor cancellation costs digits.

    >>> [round(float(r), 3) for r in value(losses=[1.0, 2.0, 6.0], t=[-np.inf, -1.0, 0.0, 1.0, np.inf])]
    [1.0, 1.78, 3.0, 4.926, 6.0]
    """
    x, t = _losses(losses), _tilts(t)
    extreme = _extreme(x, t)
    away = x - extreme[..., None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        z = t[..., None] * away  # -inf at worst, whose exponential is 0
        near = np.log1p(np.expm1(z).mean(-1))
        far = np.log(np.exp(z).mean(-1))
        spread = np.ptp(x, -1) * np.abs(t)
        above = np.where(spread <= EPS, away.mean(-1), np.where(spread <= TURN, near, far) / t)
    return scalar(np.where(np.isinf(t), extreme, extreme + above))


def weights(*, losses: ArrayLike, t: ArrayLike) -> np.ndarray:
    r"""What each loss weighs in the gradient, shape [..., n]: :math:`w_i = e^{tl_i}/\sum_je^{tl_j}`.

    The derivative of :func:`value` in l_i; equal among the extreme losses where t is infinite.

    >>> weights(losses=[0.0, 1.0, 1.0], t=np.inf)
    array([0. , 0.5, 0.5])
    """
    x, t = _losses(losses), _tilts(t)
    extreme = _extreme(x, t)[..., None]
    tied = np.broadcast_to(x, np.broadcast_shapes(x.shape, extreme.shape)) == extreme
    with np.errstate(over="ignore", invalid="ignore"):
        finite = softmax(t[..., None] * (x - extreme), axis=-1)
    return np.where(np.isinf(t)[..., None], tied / tied.sum(-1, keepdims=True), finite)


def slope(*, losses: ArrayLike, t: ArrayLike) -> Number:
    r"""How fast the tilted risk grows with t: :math:`\frac{d\tilde R_t}{dt} = \frac1{t^2}KL(w\,\|\,\tfrac1n) \ge 0`.

    w are the :func:`weights`, KL = :math:`\sum_iw_i\log(nw_i)`. At t = 0 it is half the variance (over n, not n - 1).
    Proof: with K(t) = log mean e^{tl}, the derivative of K/t is (tK' - K)/t^2, K' = sum w_i l_i, and
    log(n w_i) = t l_i - K. ``t`` is finite.

    >>> slope(losses=[0.0, 2.0], t=0.0)
    0.5
    """
    x, t = _losses(losses), np.asarray(real("t", t), dtype=float)
    centred = x - x.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        z = t[..., None] * centred
        spread = np.abs(t) * np.ptp(x, -1)
        # Means of z vanish: leaving them out keeps digits where z is small.
        u = (np.expm1(z) - z).mean(-1)
        near = (z * np.expm1(z)).mean(-1) / (1 + u) - np.log1p(u)
        w = weights(losses=x, t=t)
        far = np.where(w > 0, w * np.log(w * x.shape[-1]), 0.0).sum(-1)
        divergence = np.where(spread <= TURN, near, far) / t**2
    series = (centred**2).mean(-1) / 2 + t * (centred**3).mean(-1) / 3
    return scalar(np.where(spread <= 1e-5, series, divergence))


@in_units("loss")
def away_from_mean(*, spread: ArrayLike, t: ArrayLike) -> Bound:
    r"""How far the tilted risk lies from the mean.

    Statement: :math:`|\tilde R_t-\bar R|\le|t|\,(\max l-\min l)^2/8`. Proof: Hoeffding's lemma, log mean
    e^{t(l - mean)} <= t^2 spread^2/8. Tight: two losses, each on half of the samples, as t -> 0. Slack: 1 in the limit.
    Source: Hoeffding 1963, section 4.

    ``spread`` = max l - min l >= 0, ``t`` finite.

    >>> float(away_from_mean(spread=2.0, t=-0.5))
    0.25
    """
    (spread,), t = nonnegative(spread=spread), np.asarray(real("t", t), dtype=float)
    return Bound.where(True, "", {"curvature": np.abs(t) * spread**2 / 8}, np.nan)


@in_units("loss")
def away_from_extreme(*, n: ArrayLike, t: ArrayLike) -> Bound:
    r"""How far the tilted risk lies below the largest loss (t > 0), or above the smallest (t < 0).

    Statement: at most :math:`\log(n)/|t|`. Proof: the mean of n exponentials is at least 1/n times the largest. Tight:
    a single extreme loss, as |t| grows. Slack: 1 in that limit. Source: the bounds of a log-sum-exp, as in Boyd &
    Vandenberghe 2004, "Convex Optimization", section 3.1.5.

    ``n`` >= 1 losses, ``t`` finite and not 0.

    >>> round(float(away_from_extreme(n=100, t=-10.0)), 4)
    0.4605
    """
    (n,), t = positive(n=n), np.asarray(real("t", t), dtype=float)
    real("n", n, 1)
    if (t == 0).any():
        raise ValueError("t must not be 0, where the tilted risk is the mean")
    return Bound.where(True, "", {"number of losses": np.log(n) / np.abs(t)}, np.nan)


@in_units("loss/length^2")
def smoothness(*, L: ArrayLike, G: ArrayLike, t: ArrayLike) -> Bound:
    r"""The smoothness constant of the tilted risk, and with it the stable step size 1/value.

    Statement: if every loss is L-smooth and has gradients of norm at most G, the tilted risk is
    :math:`(L+|t|G^2)`-smooth. Proof: its Hessian is :math:`\sum_iw_i\nabla^2l_i+t\,\mathrm{Cov}_w(\nabla l)`, and a
    covariance of vectors of norm at most G has no eigenvalue above G^2. Tight: l = +-Gx + Lx^2/2 at x = 0, t > 0.
    Slack: 1. Source: Li et al. 2021, section 3 and its appendix (with |t| G^2 of the same order). On
    squared losses G, and with it the constant, is unbounded.

    ``L``, ``G`` >= 0, ``t`` finite. The Bound's ``stepsize`` is 1/value.

    >>> smoothness(L=1.0, G=2.0, t=3.0).value
    13.0
    """
    (L, G), t = nonnegative(L=L, G=G), np.asarray(real("t", t), dtype=float)
    terms = {"losses": L, "spread of gradients": np.abs(t) * G**2}
    with np.errstate(divide="ignore"):
        return Bound.where(True, "", terms, 1 / (L + np.abs(t) * G**2))


@in_units("loss")
def quantile_bound(*, losses: ArrayLike, q: ArrayLike, t: ArrayLike) -> Bound:
    r"""A bound on every q-quantile of the losses from their tilted risk and the smallest loss m.

    Statement: at most :math:`m+\frac1t\log\Big(1+\frac{e^{t(\tilde R_t-m)}-1}{1-q}\Big)`, for t of either sign. Proof:
    :math:`\phi(l)=(e^{t(l-m)}-1)/t` is increasing and >= 0, so the share of losses >= a is at most mean(phi(l))/phi(a)
    (Markov); that share is at least 1 - q at every q-quantile a, also at the largest, :math:`\inf\{x: F(x)>q\}` with
    F the share of losses <= x (numpy's ``inverted_cdf`` is the smallest; they differ where qn is an integer). At t = 0
    it is Markov's bound m + (mean - m)/(1 - q), for t -> inf Chernoff's :math:`\tilde R_t+\frac1t\log\frac1{1-q}`.
    Tight: losses m and a, a share 1 - q at a, every t, for the largest q-quantile (a; the smallest is m). Slack: 1.
    Source: Li et al. 2021, section 2.3 (there as a bound on the share).

    For t < 0 the logarithm may have nothing to be taken of: no finite a is excluded then, and the bound is infinite. So
    it is where rounding cannot tell, because all the exponentials of losses above m are lost beside the 1 of m.
    ``q`` in [0, 1), ``t`` finite.

    >>> round(float(quantile_bound(losses=[0.0, 0.0, 0.0, 5.0], q=0.75, t=-2.0)), 6)
    5.0
    """
    x, t = _losses(losses), np.asarray(real("t", t), dtype=float)
    p, m = 1 - np.asarray(real("q", q, 0, 1, open_high=True), dtype=float), x.min(-1)
    x = x - m[..., None]
    above = value(losses=x, t=t)
    s = t * above
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # The mean below is within this factor of the true one. Away from 0 it errs on the safe side: of a mean too near
        # to 0 the logarithm of the little that is left of 1 would make a bound that is far too small.
        rounded = 1 + (4 + x.shape[-1] / 2) * EPS
        falling = np.log1p(np.maximum(np.expm1(t[..., None] * x).mean(-1) * rounded / p, -1.0)) / t
        low = np.log1p(np.expm1(s) / p) / t
        high = (s - np.log(p) + np.log1p(-(1 - p) * np.exp(-s))) / t
        found = np.where(s <= TURN, low, high)
        found = np.where(np.abs(s) <= EPS * p, above / p, np.where(t < 0, falling, found))
    return Bound.where(True, "", {"smallest": m, "above it": found}, np.nan)


@in_units("loss")
def superquantile_bound(*, losses: ArrayLike, q: ArrayLike, t: ArrayLike) -> Bound:
    r"""A bound on the mean of the worst share 1 - q of the losses (superquantile, CVaR).

    Statement: at most :math:`\tilde R_t+\frac1t\log\frac1{1-q}`, t > 0. Proof: for every distribution w,
    :math:`\sum_iw_il_i\le\tilde R_t+\frac1tKL(w\,\|\,\tfrac1n)`, with equality for the tilted weights; the worst share
    has weights of at most 1/((1-q)n), so KL <= log 1/(1-q). Tight: a share 1 - q at the largest loss, as t grows.
    Slack: 1 in that limit. Source: Ahmadi-Javid 2012 ("entropic value-at-risk" is its smallest value over t).

    ``q`` in [0, 1), ``t`` > 0 and finite.

    >>> round(float(superquantile_bound(losses=[0.0, 1.0], q=0.5, t=50.0)), 6)
    1.0
    """
    (t,), x = positive(t=t), _losses(losses)
    p = 1 - np.asarray(real("q", q, 0, 1, open_high=True), dtype=float)
    return Bound.where(True, "", {"tilted risk": value(losses=x, t=t), "divergence": -np.log(p) / t}, np.nan)


def _losses(losses: ArrayLike) -> np.ndarray:
    x = np.asarray(real("losses", losses), dtype=float)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"losses must have shape [..., n] with n >= 1, got {list(x.shape)}")
    n = x.shape[-1]
    with np.errstate(over="ignore"):
        if not np.isfinite(n * np.ptp(x, -1)).all():
            raise ValueError(
                f"losses must differ by less than {np.finfo(float).max / n:g}, got {np.ptp(x, -1).max():g}"
            )
    return x


def _extreme(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The largest loss for positive t, the smallest else."""
    return np.where(t > 0, x.max(-1), x.min(-1))


def _tilts(t: ArrayLike) -> np.ndarray:
    """Checked as always, but that an infinity passes as the largest number does."""
    if isinstance(t, (bool, str)) or t is None:
        real("t", t)
    tilts = np.asarray(t, dtype=float)
    real("t", np.clip(tilts, np.finfo(float).min, np.finfo(float).max))
    return tilts
