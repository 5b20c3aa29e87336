r"""Sharpness: the worst perturbation of SAM, its cycle on a quadratic, wells under noise, and the flatness bound.

SAM steps with the gradient of another point: :math:`x \leftarrow x - \gamma \nabla f(x + \hat\varepsilon)`, where
:math:`\hat\varepsilon` maximizes the linearized loss over :math:`\|\varepsilon\|_p \le \rho`. Ranges: rho, lr, widths,
curvatures > 0, depths in (0, 1], p in [1, infinity].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import integer, nonnegative, positive, real
from optcourse.theory.bound import Bound, Number, in_units, scalar

# ------------------------------------------------------------------------------------- the ascent


def worst_perturbation(*, gradient: ArrayLike, rho: float, p: float = 2) -> np.ndarray:
    r"""The epsilon that maximizes :math:`\langle\varepsilon,g\rangle` over the ball :math:`\|\varepsilon\|_p\le\rho`.

    Statement: with 1/p + 1/q = 1,
    :math:`\hat\varepsilon_i = \rho\,\operatorname{sign}(g_i)\,|g_i|^{q-1} / \|g\|_q^{q-1}`, and the maximum is
    :math:`\rho\|g\|_q`. For p = infinity it is rho sign(g); for p = 1 all of rho is on one coordinate where
    \|g_i\| is largest (the first). Proof: Hoelder's inequality, and equality in it. Zero where g is. Source: Foret,
    Kleiner, Mobahi & Neyshabur 2021, "Sharpness-aware minimization for efficiently improving generalization", equation
    (2), which writes the denominator as :math:`(\|g\|_q^q)^{1/p}`, the same.

    ``gradient`` g has shape [..., d]; so has the result.

    >>> worst_perturbation(gradient=[3.0, -4.0], rho=0.5)
    array([ 0.3, -0.4])
    """
    g = np.asarray(real("gradient", gradient), dtype=float)
    if g.ndim == 0 or g.shape[-1] == 0:
        raise ValueError(f"gradient must have shape [..., d] with d >= 1, got {list(g.shape)}")
    nonnegative(rho=rho)
    if p == math.inf:
        return rho * np.sign(g)
    real("p", p, 1.0)
    largest = np.abs(g).max(-1, keepdims=True)
    u = np.abs(g) / (largest + (largest == 0))  # so that no power overflows; a row of zeros over 1
    if p == 1:
        return rho * np.sign(g) * (np.arange(g.shape[-1]) == u.argmax(-1)[..., None])
    power = 1 / (p - 1)  # q - 1
    length = (u ** (1 + power)).sum(-1, keepdims=True) ** (1 / p)
    return rho * np.sign(g) * u**power / np.maximum(length, 1.0)  # at least 1, but for a row of zeros


# ------------------------------------------------------------------------------- SAM on a quadratic


def sam_cycle(*, curvature: ArrayLike, rho: ArrayLike, lr: ArrayLike) -> Number:
    r"""Where SAM on :math:`\lambda x^2/2` ends.

    Statement: at u, -u, u, ... with :math:`u = \gamma\lambda\rho/(2-\gamma\lambda)`. Proof: the step is x+ = (1 - a) x
    - a rho sign(x), a = lr lambda, and x+ = -x has the solution u. While the sign stays, \|x\| falls; where it changes,
    \|x+\| - u = -(1 - a)(\|x\| - u), a contraction for 0 < a < 2. So every start ends there that does not step on 0
    exactly, and a constant rate leaves a loss of lambda u^2/2. An identity.

    Broadcasts. Raises ``ValueError`` unless 0 < lr * curvature < 2. Source: Bartlett, Long & Bousquet 2022, "The
    dynamics of sharpness-aware minimization: bouncing across ravines and drifting towards wide minima".

    >>> sam_cycle(curvature=3.0, rho=0.5, lr=0.25)
    0.3
    """
    lam, lr, rho = positive(curvature=curvature, lr=lr, rho=rho)
    a = _stable(lam, lr)
    return scalar(a * rho / (2 - a))


def sam_cycle_factors(*, eigenvalues: ArrayLike, along: int, lr: float) -> np.ndarray:
    r"""By what one step multiplies a small deviation from the cycle along eigenvector i, for each eigenvector j.

    Statement: :math:`1 - \gamma\lambda_j - (\lambda_j/\lambda_i)^2(2-\gamma\lambda_i)` for :math:`j\neq i`, and
    :math:`-(1-\gamma\lambda_i)` for the amplitude itself, whatever rho. So the cycle is stable if and only if lambda_i
    is the largest (for a second one of equal size the factor is -1): SAM ends by bouncing in the *steepest* direction.
    Proof: at x = u e_i + delta e_j the ascent's part along e_j is rho lambda_j delta/(lambda_i u) to first order, and
    rho/u = (2 - a)/a from :func:`sam_cycle`. Source: Bartlett et al. 2022 (see there).

    ``eigenvalues`` [d]; ``along`` is i, 0 .. d - 1. Raises ``ValueError`` unless 0 < lr * eigenvalues[along] < 2.

    >>> sam_cycle_factors(eigenvalues=[4.0, 2.0], along=0, lr=0.25)
    array([-0.  ,  0.25])
    """
    lam, lr_ = positive(eigenvalues=eigenvalues, lr=lr)
    if lam.ndim != 1 or lam.size == 0 or lr_.ndim:
        got = f"{list(lam.shape)} and {list(lr_.shape)}"
        raise ValueError(f"eigenvalues must have shape [d] with d >= 1 and lr be a number, got the shapes {got}")
    along = integer("along", along, 0, lam.size - 1)
    a = _stable(lam[along], lr_)
    factors = 1 - lr_ * lam - (lam / lam[along]) ** 2 * (2 - a)
    factors[along] = -(1 - a)
    return factors


def _stable(curvature: np.ndarray, lr: np.ndarray) -> np.ndarray:
    a = lr * curvature
    if not (a < 2).all():
        raise ValueError(f"lr must be below 2/curvature for a cycle, got lr = {lr}, curvature = {curvature}")
    return a


# ------------------------------------------------------------------------------------------- wells


def noisy_wells(
    *, x: ArrayLike, depths: ArrayLike, centers: ArrayLike, widths: ArrayLike, noise: ArrayLike = 0.0
) -> np.ndarray:
    r"""Expected loss at x + tau z, z standard normal, of :math:`\ell(x) = 1 - \sum_i a_i e^{-\|x-c_i\|^2/(2s_i^2)}`.

    Statement: :math:`1 - \sum_i a_i \big(\frac{s_i^2}{s_i^2+\tau^2}\big)^{d/2} e^{-\|x-c_i\|^2/(2(s_i^2+\tau^2))}`. An
    identity: the convolution of two Gaussians.

    ``x`` [..., d]; ``depths`` a and ``widths`` s [wells]; ``centers`` [wells, d]; ``noise`` tau >= 0 broadcasts with
    the points; the result has the shape [...].

    >>> noisy_wells(x=[[0.0]], depths=[0.5], centers=[[0.0]], widths=[1.0], noise=[0.0, 3**0.5])
    array([0.5 , 0.75])
    """
    (tau,), (s,) = nonnegative(noise=noise), positive(widths=widths)
    a = np.asarray(real("depths", depths, 0, 1, open_low=True), dtype=float)
    x, c = (np.asarray(real(name, value), dtype=float) for name, value in (("x", x), ("centers", centers)))
    if a.ndim != 1 or s.shape != a.shape or c.ndim != 2 or len(c) != len(a) or x.ndim == 0 or x.shape[-1] != c.shape[1]:
        raise ValueError(
            "depths and widths must have shape [wells], centers [wells, d] and x [..., d], got "
            f"{list(a.shape)}, {list(s.shape)}, {list(c.shape)} and {list(x.shape)}"
        )
    wide = s**2 + tau[..., None] ** 2
    distance2 = np.square(x[..., None, :] - c).sum(-1)
    return 1 - (a * (s**2 / wide) ** (c.shape[1] / 2) * np.exp(-distance2 / (2 * wide))).sum(-1)


def swap_noise(*, flat: tuple[float, float], sharp: tuple[float, float], dimension: int = 1) -> float:
    r"""The noise tau above which the bottom of a flat well is better than that of a deeper, sharper one.

    Statement: :math:`\tau^2 = \frac{s^2r^2(\kappa-1)}{s^2-\kappa r^2}`, :math:`\kappa = (b/a)^{2/d}`, for wells of
    depth and width (a, s), flat, and (b, r), sharp, far apart. Proof: by :func:`noisy_wells` they are equal where
    a (s^2/(s^2 + tau^2))^{d/2} = b (r^2/(r^2 + tau^2))^{d/2}. As d grows, tau^2 -> 2 r^2 s^2 log(b/a)/(d (s^2 - r^2)):
    in many dimensions little noise suffices.

    Raises ``ValueError`` unless a < b and s^2 > kappa r^2 (else the sharp well is better under any noise).

    >>> swap_noise(flat=(0.5, 2.0), sharp=(1.0, 0.5), dimension=2)
    0.5345224838248488
    """
    (a, s), (b, r) = _well("flat", flat), _well("sharp", sharp)
    d = _number("dimension", dimension, 1.0, math.inf)
    with np.errstate(over="ignore"):  # an infinite kappa is refused below
        more = float(np.expm1(2 / d * np.log(b / a)))  # kappa - 1, which rounding must not make zero for a large d
    left = (s - r) * (s + r) - more * r**2  # s^2 - kappa r^2
    if not (a < b and left > 0):
        raise ValueError(f"flat must be less deep and wider (s^2 > kappa r^2) than sharp, got {flat!r} and {sharp!r}")
    return s * r * math.sqrt(more / left)


def swap_radius(*, flat: tuple[float, float], sharp: tuple[float, float]) -> float:
    r"""The radius rho above which the *robust* loss, the maximum in a ball, is lower at the flat well's bottom.

    Statement: :math:`\rho^2 = \frac{2\log(b/a)}{1/r^2-1/s^2}` in any dimension, wells as in :func:`swap_noise`. Proof:
    the maximum in the ball is on its surface, 1 - a exp(-rho^2/(2 s^2)).

    >>> swap_radius(flat=(0.5, 2.0), sharp=(1.0, 0.5))
    0.6080119211813511
    """
    (a, s), (b, r) = _well("flat", flat), _well("sharp", sharp)
    if not (a < b and s > r):
        raise ValueError(f"flat must be less deep and wider than sharp, got {flat!r} and {sharp!r}")
    return float(np.sqrt(2 * np.log(b / a) / (1 / r**2 - 1 / s**2)))


def _well(name: str, well: tuple[float, float]) -> tuple[float, float]:
    """The depth and the width of one well."""
    if not isinstance(well, (tuple, list)) or len(well) != 2:
        raise ValueError(f"{name} must be a pair (depth, width), got {well!r}")
    return _number("depth", well[0], 0.0, 1.0, open_low=True), _number("width", well[1], 0.0, math.inf, open_low=True)


def _number(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> float:
    if np.ndim(real(name, value, low, high, open_low=open_low)):
        raise ValueError(f"{name} must be a single number, got {value!r}")
    return float(value)


# -------------------------------------------------------------------------------- the flatness bound


@in_units("1")
def flatness_bound(
    *,
    training_loss: ArrayLike,
    worst_loss: ArrayLike,
    w2: ArrayLike,
    rho: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""The bound on the population loss from which SAM was derived, with its constants.

    Statement: for a loss in [0, 1], rho and delta fixed before the data are seen, with probability 1 - delta over n
    independent samples, for all w in k dimensions with
    :math:`L_D(w) \le E L_D(w+\varepsilon)` (epsilon normal, see :func:`flatness_bound_sharp`),

    .. math::
        L_D(w) \le L_S(w) + \big[\max_{\|\varepsilon\|\le\rho} L_S(w+\varepsilon) - L_S(w)\big] + h, \qquad
        h^2 = \frac{k\log\big(1+\frac{\|w\|^2}{\rho^2}(1+\sqrt{\log n/k})^2\big) + 4\log\frac n\delta
        + 8\log(6n+3k)}{n-1} .

    Proof: twice the root in :func:`flatness_bound_sharp`, with its last two summands doubled, exceeds that root and the
    term 1/sqrt(n). Tight: no. Slack: 2.02 for k = 1000, 2.6 for k = 6 against the PAC-Bayes theorem behind it, with the
    best prior by search. Vacuous (>= 1) where :math:`k\log(1+\dots)\ge n-1`, since then h >= 1: k >= n - 1 with
    ||w||^2 >= (e - 1) rho^2 suffices. With a larger rho h can be small, but then max L_S is near 1 for most losses.
    Source: Foret et al. 2021, theorem 2 of appendix A.1.

    Terms: training loss, flatness, and h in three parts, in proportion to what stands under its root: ``dimension``,
    ``confidence``, ``scales``. ``training_loss`` <= ``worst_loss`` in [0, 1]; ``w2`` = \|\|w\|\|^2 >= 0; rho > 0;
    k >= 1; n >= 2; delta in (0, 1). Broadcasts. Raises ``ValueError`` outside.

    >>> bound = flatness_bound(training_loss=0.1, worst_loss=0.15, w2=50.0, rho=0.5, k=6, n=20_000)
    >>> f"{bound.terms['flatness']:.2f} {float(bound):.3f}"
    '0.05 0.247'
    """
    training, worst = _losses(training_loss, worst_loss)
    parts = _parts(w2, rho, k, n, delta)
    h = _root({"dimension": 4 * parts[0], "confidence": 4 * parts[1], "scales": 4 * parts[2]}, n)
    return Bound.where(True, "", {"training loss": training, "flatness": worst - training} | h)


@in_units("1")
def flatness_bound_sharp(
    *,
    training_loss: ArrayLike,
    worst_loss: ArrayLike,
    w2: ArrayLike,
    rho: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    delta: ArrayLike = 0.05,
) -> Bound:
    r"""What the proof of :func:`flatness_bound` gives before it rounds up.

    Statement: as there, with h replaced by

    .. math::
        \frac{1-\max L_S}{\sqrt n} + \sqrt{\frac{\frac k4\log\big(1+\frac{\|w\|^2}{k\sigma^2}\big) + \frac14
        + \frac12\log\frac n\delta + \log(6n+3k)}{n-1}}, \qquad \sigma = \frac{\rho}{\sqrt k+\sqrt{\log n}}

    (sigma is the standard deviation of epsilon). Proof: PAC-Bayes with Q = N(w, sigma^2 I) and priors
    N(0, c e^{(1-j)/k} I) with probability proportional to 1/j^2, c = sigma^2 (1 + e^{4n/k}); the nearest prior has
    KL <= (1 + k log(1 + ||w||^2/(k sigma^2)))/2 and j <= 1 + k log 2 + 4n; and ||epsilon|| <= rho but with probability
    1/sqrt(n) (Laurent & Massart). Tight: nearly, for large k. Slack: 1.03 for k = 1000, 1.2 for k = 6 against the same
    theorem with the best j and the exact tail, by search. Source: Foret et al. 2021, the proof in appendix A.1 (where
    the last two summands are doubled, and 1/4 is lost in the last line).

    Terms: as there, and ``escape``, the probability to leave the ball. Arguments and errors as there.

    >>> bound = flatness_bound_sharp(training_loss=0.1, worst_loss=0.15, w2=50.0, rho=0.5, k=6, n=20_000)
    >>> f"{bound.terms['escape']:.3f} {float(bound):.3f}"
    '0.006 0.194'
    """
    training, worst = _losses(training_loss, worst_loss)
    dimension, confidence, scales = _parts(w2, rho, k, n, delta)
    h = _root({"dimension": dimension + 0.25, "confidence": confidence / 2, "scales": scales / 2}, n)
    (n_,) = positive(n=n)
    losses = {"training loss": training, "flatness": worst - training, "escape": (1 - worst) / np.sqrt(n_)}
    return Bound.where(True, "", losses | h)


def _losses(training_loss: ArrayLike, worst_loss: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    training = np.asarray(real("training_loss", training_loss, 0, 1), dtype=float)
    worst = np.asarray(real("worst_loss", worst_loss, 0, 1), dtype=float)
    if (worst < training).any():
        raise ValueError(f"worst_loss must be at least training_loss, got {worst_loss!r} and {training_loss!r}")
    return training, worst


def _parts(
    w2: ArrayLike, rho: ArrayLike, k: ArrayLike, n: ArrayLike, delta: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k/4 log(1 + ||w||^2/(k sigma^2)), log(n/delta), 2 log(6n + 3k)."""
    (w2,), (rho,) = nonnegative(w2=w2), positive(rho=rho)
    k, n = np.asarray(real("k", k, 1), dtype=float), np.asarray(real("n", n, 2), dtype=float)
    delta = np.asarray(real("delta", delta, 0, 1, open_low=True, open_high=True), dtype=float)
    with np.errstate(divide="ignore"):  # log 0 is -infinity, and right here
        log_ratio = np.log(w2) - 2 * np.log(rho) + 2 * np.log1p(np.sqrt(np.log(n) / k))
    dimension = k / 4 * np.logaddexp(0, log_ratio)
    return dimension, np.log(n / delta), 2 * np.log(6 * n + 3 * k)


def _root(summands: dict[str, np.ndarray], n: ArrayLike) -> dict[str, np.ndarray]:
    """The root of their sum over n - 1, dealt out in proportion."""
    total = np.asarray(sum(summands.values()))
    root = np.sqrt(total / (np.asarray(n, dtype=float) - 1))
    return {name: root * summand / total for name, summand in summands.items()}
