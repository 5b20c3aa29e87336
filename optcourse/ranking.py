"""Who is faster, over several problems: performance profiles and their scores.

``times`` has shape ``[..., problems, methods]``, positive, in any unit (steps, seconds); ``inf`` where a method never
gets to the target. A problem that nobody solves counts as one that everybody fails.

Source: Dolan & Moré, Benchmarking optimization software with performance profiles (Mathematical Programming 2002);
the score as in Dahl et al., Benchmarking neural network training algorithms (2023), section 4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import rankdata

from optcourse.arguments import integer, real
from optcourse.measure import Estimate


def ratios(times: ArrayLike) -> np.ndarray:
    """How many times longer than the best method of the problem, ``[..., problems, methods]``; ``inf`` for never.

    Raises ``ValueError`` for times that are not positive, NaN, or of fewer than two axes.

    >>> ratios([[10.0, 20.0], [np.inf, 5.0]])
    array([[ 1.,  2.],
           [inf,  1.]])
    """
    t = np.asarray(times)
    if t.dtype.kind not in "iuf" or t.ndim < 2 or 0 in t.shape:
        raise ValueError(f"times must be real numbers [..., problems, methods], got {t.dtype} {list(t.shape)}")
    t = t.astype(float)  # quotients of half precision would overflow
    if not (t > 0).all():
        raise ValueError("times must be positive (inf for never), got zero, a negative number or NaN")
    best = t.min(-1, keepdims=True)
    with np.errstate(over="ignore"):  # beyond every number: as good as never
        return np.divide(t, best, out=np.full(t.shape, np.inf), where=np.isfinite(best))


def performance_profile(times: ArrayLike, tau: ArrayLike) -> np.ndarray:
    r"""The share of problems that each method solves within ``tau`` times the best time: ``[..., methods, tau]``.

    :math:`\rho_s(\tau)=\frac1{|P|}\,|\{p\in P: r_{p,s}\le\tau\}|` with the :func:`ratios` r. ``tau`` has shape
    ``[tau]``, each at least 1; errors as in :func:`ratios`.

    >>> performance_profile([[10.0, 20.0], [np.inf, 5.0]], [1.0, 2.0])
    array([[0.5, 0.5],
           [0.5, 1. ]])
    """
    at = np.atleast_1d(real("tau", tau, 1.0))
    return (ratios(times)[..., None] <= at).mean(-3)


def score(times: ArrayLike, tau_max: float = 4.0) -> np.ndarray:
    r"""The mean height of the profile between 1 and ``tau_max``, in [0, 1]: ``[..., methods]``.

    :math:`\frac1{\tau_{\max}-1}\int_1^{\tau_{\max}}\rho_s\,d\tau`; a problem with ratio r adds
    :math:`(\tau_{\max}-r)_+/(\tau_{\max}-1)`, so no grid is needed. 1: the fastest on every problem; 0: never within
    ``tau_max`` times the best. The score depends on who else takes part: the best time is that of the field.

    >>> score([[10.0, 20.0], [np.inf, 5.0]], tau_max=3.0)
    array([0.5 , 0.75])
    """
    real("tau_max", tau_max, 1.0, open_low=True)
    r = np.minimum(ratios(times), tau_max)
    return ((tau_max - r) / (tau_max - 1)).mean(-2)


def bootstrap_score(
    times: ArrayLike,
    rng: np.random.Generator,
    *,
    tau_max: float = 4.0,
    draws: int = 1000,
    problems: bool = False,
    confidence: float = 0.95,
) -> Estimate:
    """The :func:`score` ``[methods]`` of ``times [seeds, problems, methods]``, with a percentile bootstrap interval.

    Each seed of a problem is a race of its own, and the score is the mean over them. A draw takes for every problem as
    many of its seeds, with replacement, the same for all methods; with ``problems`` it first draws the problems, too.
    Without, the interval is about other seeds on *these* problems; with it, about other problems of their kind, as far
    as a few can tell. It is somewhat short: percentiles of few values know no tails (tests say how much is covered).

    Raises ``ValueError`` for another number of axes or a single seed, and as :func:`ratios`.
    """
    t = np.asarray(times)
    if t.ndim != 3 or len(t) < 2:
        raise ValueError(f"times must have shape [seeds >= 2, problems, methods], got {list(t.shape)}")
    integer("draws", draws, 2)
    real("confidence", confidence, 0, 1, open_low=True, open_high=True)
    n, p, _ = t.shape
    each = np.stack([score(t[:, [i]], tau_max) for i in range(p)], axis=1)  # [seeds, problems, methods]
    which = rng.integers(p, size=(draws, p)) if problems else np.tile(np.arange(p), (draws, 1))
    drawn = each[rng.integers(n, size=(draws, n, p)), which[:, None]].mean((1, 2))  # [draws, methods]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    value = each.mean((0, 1))
    return Estimate(value, np.minimum(low, value), np.maximum(high, value), drawn.std(0, ddof=1), n)


def rank_correlation(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Spearman's correlation of two scorings ``[methods]`` of the same methods: 1 for the same order.

    The interval is Fisher's, the tanh of arctanh r ± z/√(n - 3), for methods drawn from a population of them; no seeds
    stand behind it (``seeds`` is 0). Equal (or opposite) orders prove no correlation of one: ±1, where arctanh is
    infinite, counts as half a step inside, 1 - 6/(n³ - n), for the inner end; r moves in steps of 12/(n³ - n).
    Raises ``ValueError`` for other shapes, fewer than four methods, scores that are all equal or not finite.

    >>> print(rank_correlation([0.9, 0.5, 0.4, 0.2, 0.1], [0.8, 0.6, 0.2, 0.3, 0.0]))
    0.9 [0.0861, 0.993]
    """
    x, y = (np.asarray(real(name, values), dtype=float) for name, values in (("a", a), ("b", b)))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 4:
        raise ValueError(f"a and b must have one shape [methods >= 4], got {list(x.shape)} and {list(y.shape)}")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("a and b must each hold different scores, got equal ones")
    real("confidence", confidence, 0, 1, open_low=True, open_high=True)
    value = float(np.clip(np.corrcoef(rankdata(x), rankdata(y))[0, 1], -1.0, 1.0))  # beyond by rounding
    inside = 1 - 6 / (len(x) ** 3 - len(x))
    centre, half = np.arctanh(np.clip(value, -inside, inside)), ndtri((1 + confidence) / 2) / np.sqrt(len(x) - 3)
    low, high = np.tanh([centre - half, centre + half])
    low, high = (low if value > -inside else -1.0), (high if value < inside else 1.0)
    return Estimate(value, float(low), float(high), (1 - value**2) / np.sqrt(len(x) - 1), 0)
