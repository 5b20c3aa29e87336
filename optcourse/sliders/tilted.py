"""What a tilt does to a mean (lecture 12)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from optcourse.arguments import real
from optcourse.plotting import COLORS, figure, theory
from optcourse.theory import tilted

#: The sample of :func:`tilt_figure`, and where its outliers are centred.
POINTS, FAR = 60, 6.0


def tilt_figure(t: float, outliers: float) -> Figure:
    r"""One number :math:`\theta` for 60 points with the losses :math:`\frac12(x_i-\theta)^2`, under a tilt.

    A share ``outliers`` of the points lies around 6 instead of 0. Left, the tilted risk above its minimum, for ``t``
    and for the mean, each with its lowest point; right, what every point weighs there, by ``theory.tilted.weights``.

    ``t`` in [-10, 10], ``outliers`` in [0, 1]. Raises ``ValueError`` otherwise.
    """
    real("t", t, -10, 10)
    real("outliers", outliers, 0, 1)
    x = np.random.default_rng(0).standard_normal(POINTS)
    x[: round(outliers * POINTS)] += FAR
    grid = np.linspace(-4, 10, 1401)
    losses = 0.5 * (x - grid[:, None]) ** 2
    fig, (left, right) = figure(ncols=2)
    for tilt, name, color in ((0.0, "mean", "black"), (t, f"t = {t:.3g}", "blue")):
        risk = np.asarray(tilted.value(losses=losses, t=tilt))
        lowest = int(risk.argmin())
        theory(left, grid, risk - risk[lowest], color=COLORS[color], label=f"{name}: lowest at {grid[lowest]:.2f}")
        left.plot(grid[lowest], 0.0, "o", color=COLORS[color])
    left.plot(x, np.full(POINTS, -0.4), "|", color=COLORS["grey"], markersize=10, label="the points")
    left.set(xlabel="θ", ylabel="risk above its minimum", ylim=(-0.7, 6), title="Where the risk is lowest")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))  # inside it would cover a curve
    weights = POINTS * tilted.weights(losses=losses[lowest], t=t)
    right.axhline(1.0, color=COLORS["black"], linestyle="--", linewidth=1.5, label="in a mean")
    right.plot(x, np.maximum(weights, 1e-4), "o", color=COLORS["blue"], label=f"t = {t:.3g}")
    right.set(xlabel="point", ylabel="weight, in units of 1/n", yscale="log", ylim=(5e-5, 100), xlim=(-4, 10))
    right.set_title("What a point weighs there (at least 0.0001 drawn)")
    right.legend(loc="upper right")
    return fig
