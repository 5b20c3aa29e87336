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
    """l = +-Gx + Lx^2/2: the second derivative at 0 by differences of the risk, good to six digits."""
    h = 1e-3 / (G * np.sqrt(t))
    f = [risk([-G * x + L * x**2 / 2, G * x + L * x**2 / 2], t) for x in (-h, 0.0, h)]
    curvature = (f[0] - 2 * f[1] + f[2]) / h**2
    return tilted.smoothness(L=L, G=G, t=t), curvature * (1 - 1e-5)


def share_at_the_top(t, function, q):
    """20 losses: the share 1 - q is 7, the rest 2; quantile (just above q) and worst share's mean are both 7."""
    losses = np.full(20, 2.0)
    losses[: round(20 * (1 - q))] = 7.0
    return function(losses=losses, q=q, t=t), 7.0


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
            1.0001,
        )
        for L, G, values in (
            (1.0, 2.0, (0.01, 0.1, 0.5, 3.0, 10.0)),
            (5.0, 0.5, (0.1, 1.0, 3.0, 10.0)),
            (0.0, 1.0, (0.1, 0.5, 2.0, 10.0)),
        )
    ),
    *(
        Instance(
            "12.5",
            tilted.quantile_bound,
            f"20 losses, the share {1 - q:g} at 7 and the rest at 2; the largest {q:g}-quantile is 7",
            TILT,
            (-0.1, -0.03, 0.0, 0.05, 0.3, 1.0, 4.0),
            partial(share_at_the_top, function=tilted.quantile_bound, q=q),
            1.0,
            "quantile",
        )
        for q in (0.5, 0.75, 0.9)
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
