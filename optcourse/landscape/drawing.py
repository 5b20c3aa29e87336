"""Planes of a loss side by side: as hills, and as level lines on the same levels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from optcourse.landscape.surface import Plane
from optcourse.plotting import figure


def draw_planes(planes: Mapping[str, Plane], *, ceiling: float | None = None, height: float = 3.4) -> Figure:
    """A column for each plane: hills above, level lines below, colours and levels the same in all of them.

    Losses above ``ceiling`` (None: the highest finite one) are cut off. Heights and levels are logarithmic: a flat
    valley and a steep wall are both visible. Raises ``ValueError`` for no planes, or flat ones.
    """
    if not planes:
        raise ValueError("planes must hold at least one plane, got none")
    fig, axes = figure(2, len(planes), height=height, squeeze=False)
    finite = np.concatenate([plane.values[np.isfinite(plane.values)] for plane in planes.values()])
    if not len(finite):
        raise ValueError("planes must hold a finite loss, got none")
    top = finite.max() if ceiling is None else ceiling
    low, high = np.log10(max(finite.min(), 1e-12)), np.log10(top)
    if not low < high:
        raise ValueError(f"planes must have losses of more than one height below ceiling={ceiling!r}")
    levels = np.linspace(low, high, 25)
    for column, (title, plane) in enumerate(planes.items()):
        z = np.log10(np.clip(np.where(np.isfinite(plane.values), plane.values, top), 10**low, top))
        a, b = np.meshgrid(plane.alphas, plane.betas, indexing="ij")
        upper, lower = axes[0, column], axes[1, column]
        place = upper.get_subplotspec()
        upper.remove()
        hills = fig.add_subplot(place, projection="3d")
        hills.plot_surface(a, b, z, cmap="viridis", vmin=low, vmax=high, rcount=60, ccount=60, linewidth=0)
        hills.set(title=title, xlabel="α", ylabel="β", zlabel="loss", zlim=(low, high))
        hills.zaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{10**t:.2g}"))
        shades = lower.contourf(a, b, z, levels=levels, cmap="viridis")
        lower.contour(a, b, z, levels=levels, colors="white", linewidths=0.4, linestyles="solid")
        lower.plot(0, 0, marker="*", color="white", markersize=9)
        lower.set(xlabel="α", ylabel="β", aspect="equal")
        lower.grid(False)
    bar = fig.colorbar(shades, ax=list(axes[1]), label="loss")
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{10**t:.2g}"))
    return fig
