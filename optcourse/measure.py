"""Honest numbers from repeated runs: means, paired comparisons and fitted slopes, each with its interval.

A comparison is decided when the interval leaves the bound out; ``check`` takes these estimates as they are and
says *undecided* otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import real


@dataclass(frozen=True)
class Estimate:
    """A mean over ``seeds`` with its confidence interval and standard error: numbers, or arrays of one shape."""

    value: Any
    low: Any
    high: Any
    stderr: Any
    seeds: int

    def __float__(self) -> float:
        """The point estimate."""
        return float(self.value)

    def __str__(self) -> str:
        """``value [low, high]``, to be read in a figure's legend."""
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def side_of(self, bound: float) -> Any:
        """1 where the whole interval lies above ``bound``, −1 where it lies below, 0 where the seeds do not decide."""
        return np.greater(self.low, bound).astype(int) - np.less(self.high, bound)

    def errors_from(self, prediction: ArrayLike) -> Any:
        """Student's statistic: how many standard errors the mean lies above ``prediction``.

        Infinite where all samples are equal and not the prediction, and 0 where they are.

        >>> print(f"{mean([1.0, 2.0, 3.0]).errors_from(0.0):.3f}")  # 2 / (1 / sqrt(3))
        3.464
        """
        away = self.value - np.asarray(prediction, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(away == 0, 0.0, away / self.stderr)[()]


def mean(samples: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The mean of independent samples with Student's t interval.

    ``samples`` has shape [seeds, …], one or more numbers for each of at least two seeds; the estimate has shape […].
    Raises ``ValueError`` otherwise, and for samples that are not finite.

    >>> print(mean([1.0, 2.0, 3.0]))
    2 [-0.484, 4.48]
    """
    x = _samples("samples", samples)
    real("confidence", confidence, 0, 1, open_low=True, open_high=True)
    apart = x - x[0]  # exactly zero where all samples are equal
    value, stderr = x[0] + apart.mean(0), apart.std(0, ddof=1) / np.sqrt(len(x))
    half = _student(len(x) - 1, confidence) * stderr
    return Estimate(value, value - half, value + half, stderr, len(x))


def paired(a: ArrayLike, b: ArrayLike, *, ratio: bool = False, confidence: float = 0.95) -> Estimate:
    """How much larger ``a`` is than ``b`` when each seed saw both: the mean of a − b with Student's t interval.

    What the seeds have in common (first weights, mini-batches) cancels in the differences. With ``ratio`` the
    geometric mean of a / b, from the differences of logarithms; then the comparison is with 1, and the standard error
    is that of the logarithm times the ratio. Both have the shape [seeds, …]. Raises ``ValueError`` for different
    shapes, fewer than two seeds, samples that are not finite, and with ``ratio`` samples that are not positive.

    >>> print(paired([3.0, 5.0, 7.0], [2.0, 3.0, 4.0]))
    2 [-0.484, 4.48]
    >>> print(paired([2.0, 8.0], [1.0, 1.0], ratio=True, confidence=0.5))
    4 [2, 8]
    """
    a, b = _samples("a", a), _samples("b", b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have the same shape to be paired, got {list(a.shape)} and {list(b.shape)}")
    if not ratio:
        return mean(a - b, confidence=confidence)
    if (a <= 0).any() or (b <= 0).any():
        raise ValueError("a and b must be positive to have a ratio, got a number <= 0")
    log = mean(np.log(a) - np.log(b), confidence=confidence)
    value = np.exp(log.value)
    return Estimate(value, np.exp(log.low), np.exp(log.high), value * log.stderr, log.seeds)


def ratio_of_means(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    r"""E a / E b from independent pairs: the ratio of the means (a mean of ratios has a bias).

    The interval holds the ratios r for which :math:`\overline{a - r b}` lies within t standard errors of zero: this
    is exact for Gaussian pairs, however noisy b. Where the pairs cannot tell E b from zero the set of these ratios is
    unbounded, the whole line or all of it but a gap in the middle; [-∞, ∞] then covers it and leaves the gap unsaid.
    The value is infinite for a mean of b that is zero, and NaN if that of a is zero, too. The standard error is that
    of first order. Source: Fieller, Some problems in interval estimation (1954).

    Both have shape [pairs], at least two. Raises ``ValueError`` otherwise, and for samples that are not finite.

    >>> print(ratio_of_means([1.0, 3.0, 5.0], [1.0, 1.0, 1.0]))
    3 [-1.97, 7.97]
    """
    a, b = _samples("a", a), _samples("b", b)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a and b must have shape [pairs], got {list(a.shape)} and {list(b.shape)}")
    real("confidence", confidence, 0, 1, open_low=True, open_high=True)
    over, under = a.mean(), b.mean()
    (aa, ab), (_, bb) = np.cov(a, b) / len(a)
    t2 = _student(len(a) - 1, confidence) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        value = over / under
        stderr = np.sqrt(max(aa - 2 * value * ab + value**2 * bb, 0.0)) / abs(under)
    if under**2 <= t2 * bb:
        return Estimate(value, -np.inf, np.inf, stderr, len(a))
    # (over - r under)^2 <= t^2 (aa - 2 r ab + r^2 bb) is a quadratic inequality in r.
    square, middle, rest = under**2 - t2 * bb, over * under - t2 * ab, over**2 - t2 * aa
    half = np.sqrt(max(middle**2 - square * rest, 0.0))
    return Estimate(value, (middle - half) / square, (middle + half) / square, stderr, len(a))


def loglog_slope(x: ArrayLike, samples: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The exponent p of ``samples ~ c * x**p``, with an interval that reflects the seeds.

    ``x`` has shape [points], ``samples`` [seeds, points], all positive. A straight line is fitted
    to log(samples) against log(x) for each seed; the slopes of independent seeds are independent
    draws, so their mean has Student's t interval. Points of one seed may be correlated (they
    often come from one trajectory): the interval does not assume otherwise. Raises
    ``ValueError`` for other shapes or values that are not positive.

    >>> x = np.array([1.0, 10.0, 100.0])
    >>> print(loglog_slope(x, np.stack([2 / x, 3 / x])))
    -1 [-1, -1]
    """
    x, y = np.asarray(x, dtype=float), _samples("samples", samples)
    if y.ndim != 2 or x.shape != y.shape[1:] or x.size < 2:
        raise ValueError(
            f"x must have shape [points] and samples [seeds, points] with at least two points, "
            f"got {list(x.shape)} and {list(y.shape)}"
        )
    if (x <= 0).any() or (y <= 0).any():
        raise ValueError("x and samples must be positive to be drawn on log axes")
    slopes = np.polynomial.polynomial.polyfit(np.log(x), np.log(y).T, 1)[1]
    return mean(slopes, confidence=confidence)


class Groups(NamedTuple):
    """What :func:`by_group` found, group by group in the order of ``labels`` (sorted)."""

    labels: np.ndarray
    means: np.ndarray
    counts: np.ndarray
    #: The label of the worst group (the first of several), and its mean.
    worst: Any
    worst_mean: float


def by_group(values: ArrayLike, groups: ArrayLike, *, higher_is_better: bool = False) -> Groups:
    """The mean of ``values`` in each group that is present: losses, or hits with ``higher_is_better`` (accuracy).

    Both have shape [n], arrays, sequences or tensors; ``values`` are finite real numbers or bools, ``groups`` labels of
    any sortable kind. Raises ``TypeError`` for others, ``ValueError`` for other shapes, n = 0, infinities and NaN.

    >>> found = by_group([True, True, False], ["a", "b", "b"], higher_is_better=True)
    >>> print(found.worst, found.worst_mean, found.means)
    b 0.5 [1.  0.5]
    """
    given, labels = _array(values), _array(groups)
    if given.ndim != 1 or labels.shape != given.shape or given.size == 0:
        raise ValueError(
            f"values and groups must have one shape [n], n >= 1, got {list(given.shape)} and {list(labels.shape)}"
        )
    if given.dtype.kind not in "biuf":
        raise TypeError(f"values must be real numbers or bools, got {given.dtype}")
    x, unequal = given.astype(float), np.not_equal(labels, labels).any()  # NaN and NaT, also among objects
    if not np.isfinite(x).all() or unequal or (labels.dtype.kind in "fc" and not np.isfinite(labels).all()):
        raise ValueError("values and groups must be finite, got NaN or infinity")
    try:
        labels, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(f"groups must be labels that can be sorted: {error}") from None
    with np.errstate(over="ignore"):
        sums = np.bincount(member, weights=x)
    # Added before they are divided, so that equal hits are equal means; the other order where the sum overflows.
    means = np.where(np.isfinite(sums), sums / counts, np.bincount(member, weights=x / counts[member]))
    worst = int(means.argmin() if higher_is_better else means.argmax())
    return Groups(labels, means, counts, labels[worst], float(means[worst]))


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor: with a gradient, on a device, or of a float type that numpy lacks
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def first_below(samples: ArrayLike, target: float) -> np.ndarray:
    """Index of the first entry <= ``target`` in each row of ``samples`` [seeds, points]; NaN where there is none.

    >>> first_below([[3.0, 2.0, 1.0], [5.0, 4.0, 4.0]], 2.5)
    array([ 1., nan])
    """
    below = np.atleast_2d(np.asarray(samples, dtype=float)) <= target
    return np.where(below.any(1), below.argmax(1), np.nan)


def _student(freedom: int, confidence: float) -> float:
    """Half the width of an interval, in standard errors."""
    from scipy.special import stdtrit  # late: most of the time of "import optcourse", which few need

    return stdtrit(freedom, 0.5 + confidence / 2)


def _samples(name: str, samples: ArrayLike) -> np.ndarray:
    x = np.asarray(samples, dtype=float)
    if x.ndim == 0 or len(x) < 2:
        raise ValueError(f"{name} must have shape [seeds, …] with at least two seeds, got {list(x.shape)}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return x
