"""The figure of an instance: the bound as a line, what is attained as dots, both on logarithmic axes."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from optcourse import files, plotting
from optcourse.course.book.guarantees import table
from optcourse.course.book.guarantees.instance import Instance, Point

#: What the figures depend on, beside the versions of libraries.
SOURCES = ("theory", "problems", "course/book/guarantees", "plotting.py", "course.mplstyle")
#: Inches; pixels on paper for each on the page.
WIDTH, HEIGHT, DENSITY = 3.8, 2.7, 1.5
#: Between two labels of an axis, in pixels of the page.
SPACE = 32


class Drawn(NamedTuple):
    """An instance with its points and its figure, a PNG."""

    instance: Instance
    points: list[Point]
    png: bytes


def everything() -> list[Drawn]:
    """All instances; computed again only when the theory or an instance has changed."""
    path, listed = files.folder() / f"handbook-{_digest()}.npz", table.instances()
    names = [f"{part}{i}" for part in ("points", "png") for i in range(len(listed))]
    kept = files.load(path, "handbook", names)
    if kept is None:
        kept = _measured(listed)
        for old in path.parent.glob("handbook-*.npz"):
            with contextlib.suppress(OSError):
                old.unlink()
        files.save(path, kept, "handbook")
    return [
        Drawn(instance, [Point(*map(float, row)) for row in kept[f"points{i}"]], kept[f"png{i}"].tobytes())
        for i, instance in enumerate(listed)
    ]


def _measured(instances: list[Instance]) -> dict[str, np.ndarray]:
    found = {}
    with plt.style.context("optcourse.course"):
        for i, instance in enumerate(instances):
            points = [instance.point(value) for value in instance.values]
            found[f"points{i}"] = np.array(points)
            found[f"png{i}"] = np.frombuffer(draw(instance, points), dtype=np.uint8)
    return found


def draw(instance: Instance, points: list[Point]) -> bytes:
    """The figure as a PNG of ``WIDTH`` times ``HEIGHT`` inches, in the style that is in use."""
    fig = Figure(figsize=(WIDTH, HEIGHT))
    fig.set_layout_engine("none")
    ax = fig.add_axes((0.14, 0.2, 0.82, 0.66))
    bounds, attained = np.transpose(points)
    values = np.array(instance.values, dtype=float)
    apart = 0 if 0 in values else np.searchsorted(values, 0)  # no line from minus to plus across what is not swept
    plotting.theory(ax, *(np.insert(line, apart, np.nan) for line in (values, bounds)), label="bound")
    ax.plot(values, attained, "o", color=plotting.COLORS["blue"], markersize=5.5, label="instance", zorder=4)
    _scale(ax, instance.values, min(attained.min(), bounds.min()), max(attained.max(), bounds.max()))
    ax.set_xlabel(instance.axis)
    ax.set_title(instance.measured, loc="left", fontsize=11, y=1.03)  # set, not sought: that takes time
    ax.legend()
    png = io.BytesIO()
    fig.savefig(png, format="png", dpi=100 * DENSITY, metadata={"Software": None})
    return png.getvalue()


def _scale(ax: Axes, values: tuple[float, ...], low: float, high: float) -> None:
    """Logarithmic axes with ticks that can be read, also where they show less than a decade."""
    if values[0] <= 0:
        ax.set_xscale("symlog", linthresh=min(abs(value) for value in values if value), linscale=0.5)
    else:
        ax.set_xscale("log")
    ax.set_yscale("log")
    if high < 4 * low:
        ax.set_ylim(low / 2, high * 3)  # the legend stands above a level line
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
    if values[0] <= 0 or values[-1] < 80 * values[0]:
        places = ax.transData.transform([(value, low) for value in values])[:, 0]
        ticks = [values[-1]]
        for value, place in zip(values[-2::-1], places[-2::-1], strict=True):
            if places[values.index(ticks[-1])] - place > SPACE:
                ticks.append(value)
        ax.set_xticks(ticks, [f"{value:.3g}" for value in ticks])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())


def _digest() -> str:
    paths = [p for name in SOURCES for p in _under(files.PACKAGE / name)]
    content = hashlib.sha256(repr(files.versions()).encode())
    for path in sorted(paths):
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()[:16]


def _under(path: Path) -> list[Path]:
    return [*path.rglob("*.py")] if path.is_dir() else [path]
