"""The batch size worth its price: how noise and curvature limit the useful batch, and how to measure the noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from optcourse.arguments import nonnegative, positive, real
from optcourse.measure import Estimate, ratio_of_means
from optcourse.theory import quadratic
from optcourse.theory.bound import Bound, Number, in_units, scalar

#: Runs are not longer: :func:`steps_to_target` says infinity.
LONGEST = 10**7


class NoisyStep(NamedTuple):
    """The learning rate that decreases the loss most, and by how much it does in expectation."""

    lr: Number
    decrease: Number


def noise_scale(*, gradient: ArrayLike, covariance: ArrayLike, hessian: ArrayLike | None = None) -> float:
    r"""The batch size at which noise and gradient count alike.

    Statement: :math:`B_{noise} = \frac{tr(H\Sigma)}{G^\top HG}`. Without ``hessian`` the simple noise scale
    tr(Sigma)/||G||^2, its value for H a multiple of the identity. An identity. Source: McCandlish, Kaplan, Amodei &
    OpenAI Dota Team 2018, "An empirical model of large-batch training", section 2.2.

    ``gradient`` G, shape [d]; ``covariance`` Sigma of one sample's gradient and ``hessian`` H, shape [d, d]. Raises
    ``ValueError`` for other shapes, or unless G^T H G > 0 and tr(H Sigma) >= 0.

    >>> noise_scale(gradient=[2.0, 0.0], covariance=[[3.0, 0.0], [0.0, 5.0]])
    2.0
    """
    _, curvature, noise = _second_order(gradient, hessian, covariance)
    return noise / curvature


def optimal_step(*, gradient: ArrayLike, hessian: ArrayLike, covariance: ArrayLike, batch_size: ArrayLike) -> NoisyStep:
    r"""The step that decreases a quadratic most in expectation, and the decrease.

    Statement: :math:`\gamma = \frac{\gamma_{max}}{1+B_{noise}/B}` with :math:`\gamma_{max} =
    \frac{\|G\|^2}{G^\top HG}`, and the decrease is :math:`\frac{\gamma_{max}\|G\|^2/2}{1+B_{noise}/B}`: both
    grow with B and saturate at :func:`noise_scale`. Proof: E f(x - lr g) = f - lr ||G||^2 + lr^2/2 (G^T H G +
    tr(H Sigma)/B). An identity for quadratics. Source: McCandlish et al. 2018, equations 2.6 and 2.7.

    Arguments and errors as :func:`noise_scale`; broadcasts over batch_size > 0.

    >>> optimal_step(gradient=[2.0], hessian=[[0.5]], covariance=[[4.0]], batch_size=1)
    NoisyStep(lr=1.0, decrease=2.0)
    """
    (B,) = positive(batch_size=batch_size)
    square, curvature, noise = _second_order(gradient, hessian, covariance)
    lr = square / (curvature + noise / B)
    return NoisyStep(scalar(lr), scalar(lr * square / 2))


def steps_and_examples(*, batch_size: ArrayLike, noise_scale: ArrayLike, min_steps: ArrayLike) -> tuple[Number, Number]:
    r"""Steps :math:`S = S_{min}(1+B_{noise}/B)` and examples E = B S to a goal, when every step is optimal.

    They lie on the hyperbola :math:`(S/S_{min}-1)(E/E_{min}-1) = 1`, E_min = B_noise S_min. At the critical batch
    size B = B_noise = E_min/S_min both are twice their minimum. It supposes that B_noise is the same all along. The
    curve of :func:`optcourse.theory.sgd.sgd_iters` is not this one: its product is never below 2. Source: McCandlish
    et al. 2018, equation 2.11.

    Broadcasts. Raises ``ValueError`` unless all are > 0.

    >>> steps_and_examples(batch_size=64, noise_scale=64, min_steps=100)
    (200.0, 12800.0)
    """
    B, noise, S = positive(batch_size=batch_size, noise_scale=noise_scale, min_steps=min_steps)
    return scalar(S * (1 + noise / B)), scalar(S * (B + noise))


# ---------------------------------------------------------------------------------- measuring the noise scale


def noise_scale_from_norms(
    *, small: ArrayLike, large: ArrayLike, batch_sizes: tuple[float, float], confidence: float = 0.95
) -> Estimate:
    r"""The simple noise scale from squared norms of mini-batch gradients at two batch sizes b < B.

    Statement: :math:`E\|g_B\|^2 = \|G\|^2 + tr\Sigma/B`, so :math:`\frac{B\|g_B\|^2-b\|g_b\|^2}{B-b}` and
    :math:`\frac{\|g_b\|^2-\|g_B\|^2}{1/b-1/B}` are unbiased for :math:`\|G\|^2` and :math:`tr\Sigma`. Their ratio is
    taken of the means over all draws (a mean of ratios would be biased). Source: McCandlish et al. 2018, appendix A.1;
    the interval is that of :func:`optcourse.measure.ratio_of_means`.

    ``small`` and ``large``, both [draws], are the squared norms; draws are independent of each other, the two of one
    draw need not be. Raises ``ValueError`` for other shapes, fewer than two draws, negative numbers, only zeros, or
    unless 0 < b < B.

    >>> print(noise_scale_from_norms(small=[5.0, 6.0, 7.0], large=[3.0, 3.5, 4.0], batch_sizes=(1, 2)))
    5 [2.52, 7.48]
    """
    g_b, g_B = nonnegative(small=small, large=large)
    if g_b.ndim != 1 or g_b.shape != g_B.shape:
        raise ValueError(f"small and large must both have shape [draws], got {list(g_b.shape)} and {list(g_B.shape)}")
    (sizes,) = positive(batch_sizes=batch_sizes)
    if sizes.shape != (2,) or not sizes[0] < sizes[1]:
        raise ValueError(f"batch_sizes must be (b, B) with 0 < b < B, got {batch_sizes!r}")
    unit = max(g_b.max(initial=0.0), g_B.max(initial=0.0))
    if unit == 0:
        raise ValueError("small and large must not be zero everywhere: no gradient, no noise")
    g_b, g_B, b, B = g_b / unit, g_B / unit, *sizes
    return ratio_of_means((g_b - g_B) / (1 / b - 1 / B), (B * g_B - b * g_b) / (B - b), confidence=confidence)


def noise_scale_from_gradients(*, gradients: ArrayLike, confidence: float = 0.95) -> Estimate:
    r"""The simple noise scale from the gradients of single samples, ``[samples, d]``.

    Statement: with their mean g and :math:`\hat{tr\Sigma}=\frac1{n-1}\sum_i\|g_i-g\|^2`, unbiased for the numerator,
    :math:`\|g\|^2-\hat{tr\Sigma}/n` is unbiased for :math:`\|G\|^2`. It is :func:`noise_scale_from_norms` with all
    batches of size 1 and the only one of size n. The interval is that of the jackknife's pseudo-values, whose means
    are these two numbers, because both are U-statistics. It is approximate: for gradients with heavy tails (a trained
    network: few samples have most of the length) it is too short, and some hundred samples cover less often than
    ``confidence`` says. It is infinite where G is not told from zero: about for
    :math:`n \lesssim 3B_{noise}/\sqrt{d_{eff}}` with :math:`d_{eff} = (tr\Sigma)^2/tr\Sigma^2`, for the estimate of
    :math:`\|G\|^2` has standard deviation :math:`\approx\sqrt{2tr\Sigma^2}/n` there. Source: McCandlish et al. 2018,
    appendix A.1; Tukey 1958.

    Raises ``ValueError`` for another shape, fewer than three samples, or only zeros.

    >>> print(noise_scale_from_gradients(gradients=[[1.0, 2.0], [3.0, 1.0], [2.0, 6.0], [6.0, 7.0]], confidence=0.5))
    0.615 [0.418, 1.11]
    """
    g = np.asarray(real("gradients", gradients), dtype=float)
    if g.ndim != 2 or len(g) < 3 or not g.any():
        raise ValueError(f"gradients must have shape [samples >= 3, d], not all of them zero, got {list(g.shape)}")
    n, g = len(g), g / np.abs(g).max()
    mean = g.mean(0)
    apart = g - mean
    squares, along, length = np.square(apart).sum(1), apart @ mean, mean @ mean
    trace = squares.sum() / (n - 1)
    # Without sample i the mean is mean - apart_i / (n - 1).
    traces = (squares.sum() - squares * n / (n - 1)) / (n - 2)
    lengths = length - 2 * along / (n - 1) + squares / (n - 1) ** 2
    square, without = length - trace / n, lengths - traces / (n - 1)
    return ratio_of_means(n * trace - (n - 1) * traces, n * square - (n - 1) * without, confidence=confidence)


# ------------------------------------------------------------------------------------ steps against batch size


class Run(NamedTuple):
    """The fewest steps to a target, and the learning rate that needs them; arrays over the batch sizes."""

    steps: np.ndarray
    lr: np.ndarray


def steps_to_target(
    *, eigenvalues: ArrayLike, x0: ArrayLike, noise_variances: ArrayLike, batch_size: ArrayLike, target: float
) -> Run:
    r"""Steps until E f - f* <= target on a noisy quadratic, at the best constant rate of every batch size.

    The mean loss is that of :func:`optcourse.theory.quadratic.sgd_moments` with noise variances divided by B: exact.
    The best rate is sought on a grid below the edge 2/L, 5 % fine in the end. For small B steps fall as 1/B (perfect
    scaling), for large B not at all. Source of the three regimes: Shallue et al. 2019; of the model: Zhang et al. 2019.

    ``eigenvalues`` > 0, ``x0`` and ``noise_variances`` (of one sample's gradient) [d]; ``batch_size`` [sizes];
    infinity stands for more than ``LONGEST`` steps. Where the mean loss falls and rises again, the first time counts,
    up to dips shorter than 5 % of the steps. Raises ``ValueError`` for other shapes (one number for several is none),
    or unless eigenvalues, batch_size, target > 0 and noise_variances >= 0.

    >>> steps_to_target(eigenvalues=[1.0], x0=[1.0], noise_variances=[0.0], batch_size=[1], target=0.1).steps
    array([1.])
    """
    lam, sizes, goal = positive(eigenvalues=eigenvalues, batch_size=batch_size, target=target)
    (variances,) = nonnegative(noise_variances=noise_variances)
    start = np.asarray(real("x0", x0), dtype=float)
    shapes = {"x0": start.shape, "noise_variances": variances.shape, "batch_size": sizes.shape, "target": goal.shape}
    if shapes != {"x0": lam.shape, "noise_variances": lam.shape, "batch_size": (sizes.size,), "target": ()} or not (
        lam.ndim == 1 and lam.size and sizes.size
    ):
        raise ValueError(
            "eigenvalues, x0 and noise_variances must have shape [d >= 1], batch_size [sizes >= 1] and target none, "
            f"got { ({'eigenvalues': lam.shape} | shapes) }"
        )
    setting = {"eigenvalues": lam, "x0": start}
    trials = np.unique([0, *np.geomspace(1, LONGEST, 330).astype(int)])

    def steps(lr: np.ndarray, noise: np.ndarray) -> np.ndarray:
        def gap(k: np.ndarray) -> np.ndarray:
            return 0.5 * quadratic.sgd_moments(**setting, noise_variances=noise, lr=lr[:, None, None], steps=k) @ lam

        below = gap(trials) <= goal  # not so after 0 steps, see below
        place = below.argmax(1)
        low, high = trials[place - 1], trials[place]
        while (high - low >= 2).any():
            middle = (low + high) // 2
            arrived = gap(middle[:, None])[:, 0] <= goal
            low, high = np.where(arrived, low, middle), np.where(arrived, middle, high)
        return np.where(below.any(1), high, np.inf)

    if 0.5 * lam @ np.square(setting["x0"]) <= goal:
        return Run(np.zeros(len(sizes)), np.full(len(sizes), np.nan))
    found = []
    for B in sizes:
        coarse = 2 / lam.max() * np.geomspace(1e-6, 0.999, 40)
        around = coarse[steps(coarse, variances / B).argmin()] * np.geomspace(1 / 1.4, 1.4, 15)
        rates = around[around * lam.max() < 2]
        needed = steps(rates, variances / B)
        found.append((needed.min(), rates[needed.argmin()]))
    return Run(*np.transpose(found))


class Fit(NamedTuple):
    """The hyperbola of :func:`steps_and_examples` through measured steps, and its largest ratio to one, as a factor."""

    min_steps: float
    noise_scale: float
    factor: float


def fit_steps(*, batch_size: ArrayLike, steps: ArrayLike) -> Fit:
    r"""The :math:`S = S_{min}(1+B_{noise}/B)` nearest to measured steps, in least squares of the logarithms.

    ``batch_size`` and ``steps``, both [sizes], are positive. Raises ``ValueError`` otherwise, or for fewer than two
    different sizes. Steps that do not fall with B are fitted by B_noise near 0; that fall as 1/B, by a large one.

    >>> round(fit_steps(batch_size=[1, 10, 100], steps=[1010.0, 110.0, 20.0]).noise_scale, 3)
    100.0
    """
    B, S = positive(batch_size=batch_size, steps=steps)
    if B.ndim != 1 or B.shape != S.shape or len(np.unique(B)) < 2:
        raise ValueError(f"batch_size and steps must have shape [sizes >= 2], got {list(B.shape)} and {list(S.shape)}")

    def residuals(logs: np.ndarray) -> np.ndarray:
        return logs[0] + np.logaddexp(0, logs[1] - np.log(B)) - np.log(S)

    starts = [(np.log(S.min()), middle) for middle in np.log([B.min(), np.sqrt(B.min() * B.max()), B.max()])]
    eps = np.finfo(float).eps  # noise scales farther out change no digit of 1 + B_noise/B, or of its ratios
    low, high = [-np.inf, np.log(B.min() * eps)], [np.inf, np.log(B.max() / eps)]
    best = min((least_squares(residuals, start, bounds=(low, high)) for start in starts), key=lambda fit: fit.cost)
    least, noise = np.exp(best.x)
    return Fit(float(least), float(noise), float(np.exp(np.abs(best.fun).max())))


# ------------------------------------------------------------------------------------------- linear scaling


def linear_scaling_edge(
    *, lr: ArrayLike, L: ArrayLike, momentum: ArrayLike = 0.0, batch_size: ArrayLike = 1.0
) -> Number:
    r"""The batch size at which linear scaling leaves the region of stability.

    Statement: with the rate ``lr`` B/``batch_size`` heavy ball is stable on a quadratic of largest curvature L if and
    only if :math:`B < B_0\frac{2(1+\beta)}{L\gamma_0}`. An identity (:func:`optcourse.theory.momentum.hb_is_stable`).

    Broadcasts. Raises ``ValueError`` unless lr, L, batch_size > 0 and 0 <= momentum < 1.

    >>> linear_scaling_edge(lr=0.1, L=4.0, batch_size=16)
    80.0
    """
    lr, L, B0 = positive(lr=lr, L=L, batch_size=batch_size)
    beta = np.asarray(real("momentum", momentum, 0, 1, open_high=True), dtype=float)
    return scalar(B0 * 2 * (1 + beta) / (L * lr))


@in_units("length")
def linear_scaling_error(*, L: ArrayLike, G: ArrayLike, lr: ArrayLike, steps: ArrayLike) -> Bound:
    r"""How far k small steps end from one step of k times the rate on the same samples.

    Statement: for mini-batch losses with L-Lipschitz gradients, of norm at most G along the small steps,
    :math:`\|x_k - (x_0 - k\gamma\,\bar g(x_0))\| \le \gamma^2LG\,k(k-1)/2`. Proof: the j-th small step uses a gradient
    at x_j instead of x_0, and :math:`\|x_j-x_0\| \le j\gamma G`; sum over j < k. The steps themselves have length
    :math:`k\gamma G`, so relative to that the error is :math:`(k-1)\gamma L/2`. Small and large steps are those of SGD
    *without* momentum. Tight: equality where all gradients along the way are the same vector and those at x_0 lag
    behind by L times the way. Slack: 1. Source: the argument, without the constant, of Goyal et al. 2017, section 2.1.

    Raises ``ValueError`` unless L, G, lr > 0 and steps k >= 1.

    >>> float(linear_scaling_error(L=2.0, G=3.0, lr=0.5, steps=4))  # 0.25 * 2 * 3 * 6
    9.0
    """
    L, G, lr = positive(L=L, G=G, lr=lr)
    k = np.asarray(real("steps", steps, 1), dtype=float)
    return Bound.where(True, "", {"drift": lr**2 * L * G * k * (k - 1) / 2}, lr)


def _second_order(gradient: ArrayLike, hessian: ArrayLike | None, covariance: ArrayLike) -> tuple[float, float, float]:
    """||G||^2, G^T H G and tr(H Sigma), H the identity by default."""
    G = np.asarray(real("gradient", gradient), dtype=float)
    H = np.asarray(real("hessian", np.eye(G.size) if hessian is None else hessian), dtype=float)
    Sigma = np.asarray(real("covariance", covariance), dtype=float)
    if G.ndim != 1 or H.shape != (G.size, G.size) or Sigma.shape != H.shape:
        raise ValueError(
            "gradient must have shape [d] and the matrices [d, d], got "
            f"gradient {list(G.shape)}, hessian {list(H.shape)}, covariance {list(Sigma.shape)}"
        )
    curvature, noise = float(G @ H @ G), float(np.sum(H * Sigma.T))
    if curvature <= 0 or noise < 0:
        raise ValueError(f"G^T H G must be positive and tr(H Sigma) >= 0, got {curvature} and {noise}")
    return float(G @ G), curvature, noise
