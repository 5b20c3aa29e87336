"""The course's figure style: measurements solid with bands over seeds, theory dashed.

>>> fig, ax = figure()
>>> line = theory(ax, [1, 10, 100], [1, 0.1, 0.01], label="bound")
>>> line.get_linestyle()
'--'
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from optcourse.arguments import integer

Region = tuple[tuple[float, float], tuple[float, float]]

#: Colours by meaning, the same in every lecture.
COLORS = {
    "blue": "#0072B2",
    "red": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "yellow": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
    "grey": "#7F7F7F",
}


def use_style() -> None:
    """Switch matplotlib to the course's style."""
    plt.style.use("optcourse.course")  # the file course.mplstyle of the package


def figure(nrows: int = 1, ncols: int = 1, *, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    """A figure as wide as a notebook cell: 6.4 inches for one column, 10 for several.

    ``height`` is that of one row in inches. Returns ``(fig, axes)`` as ``plt.subplots`` does.
    """
    integer("nrows", nrows, 1)
    integer("ncols", ncols, 1)
    width = 6.4 if ncols == 1 else 10.0
    return plt.subplots(nrows, ncols, figsize=(width, height * nrows), **options)


def band(ax: Axes, x: ArrayLike, samples: ArrayLike, *, label: str, **options: Any) -> Line2D:
    """The mean over seeds as a solid line, and the range from the 10th to the 90th percentile.

    ``samples`` has shape ``[seeds, len(x)]``. Raises ``ValueError`` for another shape.
    """
    x, samples = np.asarray(x), np.asarray(samples)
    if samples.ndim != 2 or samples.shape[1] != x.size:
        raise ValueError(f"samples must have shape [seeds, {x.size}], got {list(samples.shape)}")
    (line,) = ax.plot(x, samples.mean(0), label=label, **options)
    low, high = np.percentile(samples, [10, 90], axis=0)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    return line


def theory(ax: Axes, x: ArrayLike, y: ArrayLike, *, label: str, **options: Any) -> Line2D:
    """A prediction: dashed, black unless told otherwise."""
    style = {"color": COLORS["black"], "linestyle": "--", "linewidth": 1.5, "zorder": 3} | options
    (line,) = ax.plot(x, y, label=label, **style)
    return line


def contour(ax: Axes, value: Any, region: Region, *, levels: int = 30) -> None:
    """Level lines of ``value`` (called with points ``[N, N, 2]``) on ``region = ((x0, x1), (y0, y1))``.

    Levels are spaced evenly in the logarithm of the height above the lowest grid point, so that
    a flat valley floor and a steep wall are both visible.
    """
    (x0, x1), (y0, y1) = region
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"region must be ((x0, x1), (y0, y1)) with x0 < x1 and y0 < y1, got {region!r}")
    u, v = np.meshgrid(np.linspace(x0, x1, 200), np.linspace(y0, y1, 200))
    z = value(np.stack([u, v], axis=-1))
    height = np.log10(z - z.min() + 1e-3 * np.ptp(z))
    ax.contour(u, v, height, levels=levels, linewidths=0.7, cmap="Greys", alpha=0.8)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(x0, x1), ylim=(y0, y1))
    ax.grid(False)


def path(ax: Axes, points: ArrayLike, *, label: str, **options: Any) -> Line2D:
    """A trajectory ``[steps, 2]``: a line with a dot per iterate, start and end marked."""
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must have shape [steps, 2], got {list(points.shape)}")
    (line,) = ax.plot(*points.T, marker=".", label=label, **options)
    ax.plot(*points[0], marker="o", color=line.get_color(), markersize=8, fillstyle="none")
    ax.plot(*points[-1], marker="*", color=line.get_color(), markersize=11)
    return line
