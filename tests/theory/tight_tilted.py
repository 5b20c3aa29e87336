"""The tilted risk: instances on which a guarantee is as tight as its docstring states, as in ``tight_one_node``."""

import numpy as np

from optcourse.theory import tilted


def risk(losses, t):
    """The definition, for losses and tilts that need no care."""
    return np.log(np.mean(np.exp(t * np.asarray(losses)))) / t


def two_halves(t, slack):
    """Losses 0 and 3, half of the samples each."""
    attained = abs(risk([0.0, 3.0], t) - 1.5)
    return "12.2", tilted.away_from_mean, float(tilted.away_from_mean(spread=3.0, t=t)), attained, slack


def one_extreme(t, slack):
    """One loss lies a unit beyond the 39 others."""
    losses = np.array([np.sign(t), *np.zeros(39)])
    attained = np.sign(t) * (np.sign(t) - risk(losses, t))
    return "12.2", tilted.away_from_extreme, float(tilted.away_from_extreme(n=40, t=t)), attained, slack


def opposite_slopes(L, G, t):
    """l = +-Gx + Lx^2/2: the second derivative at 0 by differences of the risk, good to six digits."""
    h = 1e-3 / (G * np.sqrt(t))
    f = [risk([-G * x + L * x**2 / 2, G * x + L * x**2 / 2], t) for x in (-h, 0.0, h)]
    curvature = (f[0] - 2 * f[1] + f[2]) / h**2
    return "12.2", tilted.smoothness, float(tilted.smoothness(L=L, G=G, t=t)), curvature * (1 - 1e-5), 1.0001


def share_at_the_top(function, q, t, slack):
    """20 losses: the share 1 - q is 7, the rest 2; quantile (just above q) and worst share's mean are both 7."""
    losses = np.full(20, 2.0)
    losses[: round(20 * (1 - q))] = 7.0
    return "12.5", function, float(function(losses=losses, q=q, t=t)), 7.0, slack


ROWS = [
    two_halves(0.01, 1.001),
    two_halves(-0.01, 1.001),
    two_halves(0.1, 1.01),
    one_extreme(60.0, 1.0001),
    one_extreme(-60.0, 1.0001),
    *(opposite_slopes(*numbers) for numbers in ((1.0, 2.0, 3.0), (5.0, 0.5, 0.1), (0.0, 1.0, 2.0))),
    *(share_at_the_top(tilted.quantile_bound, q, t, 1.0) for q in (0.5, 0.75, 0.9) for t in (-0.1, 0.0, 0.3, 4.0)),
    *(share_at_the_top(tilted.superquantile_bound, q, t, 1.001) for q in (0.5, 0.9) for t in (5.0, 50.0)),
]
