"""The tilted risk: instances on which a guarantee is as tight as its docstring states."""

from functools import partial

import numpy as np

from optcourse.course.book.guarantees.instance import Instance
from optcourse.theory import tilted

TILT = "tilt $t$ (1/loss)"


def risk(losses, t):
    """The definition, for losses and tilts that need no care."""
    return np.log(np.mean(np.exp(t * np.asarray(losses)))) / t


def two_halves(t):
    """Losses 0 and 3, half of the samples each."""
    return tilted.away_from_mean(spread=3.0, t=t), abs(risk([0.0, 3.0], t) - 1.5)


def one_extreme(t):
    """One loss lies a unit beyond the 39 others."""
    losses = np.array([np.sign(t), *np.zeros(39)])
    return tilted.away_from_extreme(n=40, t=t), np.sign(t) * (np.sign(t) - risk(losses, t))


def opposite_slopes(t, L, G):
    """l = +-Gx + Lx^2/2: the second derivative at 0 by differences of the risk, R(h) = R(-h) and R(0) = 0.

    They are too small by at most t h^2 G^2/6 of it, and good to 12 digits where means of exponentials near 1 are.
    """
    h = 1e-3 / (G * np.sqrt(t))
    exponents = t * np.array([-G * h + L * h**2 / 2, G * h + L * h**2 / 2])
    return tilted.smoothness(L=L, G=G, t=t), 2 * np.log1p(np.mean(np.expm1(exponents))) / (t * h**2)


def two_losses(q, low=2.0, high=7.0):
    """20 losses: the share 1 - q is high, the rest low; the largest q-quantile and the worst share's mean are high."""
    losses = np.full(20, low)
    losses[: round(20 * (1 - q))] = high
    return losses


def share_at_the_top(t, function, q):
    """7 and 2, for any tilt."""
    return function(losses=two_losses(q), q=q, t=t), 7.0


def mean_of_three(q):
    """The losses have the mean 3 at every q, so that the worst share is worse the smaller it is."""
    high = 2 + 1 / (1 - q)
    return tilted.quantile_bound(losses=two_losses(q, high=high), q=q, t=0.3), high


def worse_top(high):
    """The share stays, the upper losses move away."""
    return tilted.quantile_bound(losses=two_losses(0.75, high=high), q=0.75, t=-0.1), high


INSTANCES = [
    Instance(
        "12.2",
        tilted.away_from_mean,
        "losses 0 and 3, half of the samples each",
        TILT,
        (-10.0, -1.0, -0.1, -0.01, 0.01, 0.1, 1.0, 10.0),
        two_halves,
        {-0.1: 1.01, -0.01: 1.001, 0.01: 1.001, 0.1: 1.01},
        "distance from the mean",
    ),
    Instance(
        "12.2",
        tilted.away_from_extreme,
        "one loss a unit beyond 39 equal ones",
        TILT,
        (-60.0, -10.0, -3.0, -1.0, 1.0, 3.0, 10.0, 60.0),
        one_extreme,
        {-60.0: 1.0001, 60.0: 1.0001},
        "distance from the extreme",
    ),
    *(
        Instance(
            "12.2",
            tilted.smoothness,
            f"losses $\\pm{G:g}x+{L:g}x^2/2$ at $x=0$, by second differences of the risk",
            TILT,
            values,
            partial(opposite_slopes, L=L, G=G),
            1.00001,
        )
        for L, G, values in (
            (1.0, 2.0, (0.01, 0.1, 0.5, 3.0, 10.0)),
            (5.0, 0.5, (0.1, 1.0, 3.0, 10.0)),
            (0.0, 1.0, (0.1, 0.5, 2.0, 10.0)),
        )
    ),
    Instance(
        "12.5",
        tilted.quantile_bound,
        "20 losses, the share 0.25 at 7 and the rest at 2; the largest 0.75-quantile is 7",
        TILT,
        (-0.1, -0.03, 0.0, 0.05, 0.3, 1.0, 4.0),
        partial(share_at_the_top, function=tilted.quantile_bound, q=0.75),
        1.0,
        "quantile",
    ),
    Instance(
        "12.5",
        tilted.quantile_bound,
        "20 losses of mean 3, the share $1-q$ at one value and the rest at 2, $t=0.3$",
        "level $q$",
        (0.25, 0.5, 0.75, 0.9, 0.95),
        mean_of_three,
        1.0,
        "quantile",
    ),
    Instance(
        "12.5",
        tilted.quantile_bound,
        "20 losses, five of them larger than the rest, which are 2; $q=0.75$, $t=-0.1$",
        "larger loss",
        (2.1, 3.0, 5.0, 10.0, 30.0, 100.0),
        worse_top,
        1.0,
        "quantile",
    ),
    *(
        Instance(
            "12.5",
            tilted.superquantile_bound,
            f"20 losses, the share {1 - q:g} at 7 and the rest at 2; the mean of the worst is 7",
            TILT,
            (0.1, 0.3, 1.0, 5.0, 15.0, 50.0),
            partial(share_at_the_top, function=tilted.superquantile_bound, q=q),
            {5.0: 1.001, 15.0: 1.001, 50.0: 1.001},
            "mean of the worst share",
        )
        for q in (0.5, 0.9)
    ),
]
