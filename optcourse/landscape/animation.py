"""Paths over level lines, as a figure and as a player that needs nothing but the page it stands in.

The player is one picture of the level lines with the paths above it as vector lines: a few hundred
kilobytes for ten methods on four surfaces. Where scripts do not run, the finished paths are shown.
"""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections.abc import Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from optcourse.arguments import integer
from optcourse.landscape.surface import Plane
from optcourse.plotting import contour, figure
from optcourse.problems import Surface

#: Title of a panel: its surface and the paths [steps + 1, 2] by name.
Panels = Mapping[str, tuple[Surface | Plane, Mapping[str, ArrayLike]]]

DASHES = ("-", (0, (4, 1.5)))  # after one round of colours
TICK_MS = 50

SCRIPT = """
(() => {
  const root = document.getElementById("@name"), find = name => root.querySelector(name);
  const slider = find("input"), button = find("button");
  const lines = [...root.querySelectorAll("polyline")].map(
    line => [line, line.nextElementSibling, line.getAttribute("points").split(" ")]);
  let timer = null;
  const show = step => {
    find("output").value = "step " + step;
    for (const [line, head, points] of lines) {
      const last = Math.min(step, points.length - 1), [x, y] = points[last].split(",");
      line.setAttribute("points", points.slice(0, last + 1).join(" "));
      head.setAttribute("cx", x); head.setAttribute("cy", y);
    }
  };
  const pause = () => { clearInterval(timer); timer = null; button.textContent = "▶ play"; };
  const tick = () => {
    slider.value = +slider.value + @stride; show(+slider.value);
    if (+slider.value >= +slider.max) pause();
  };
  button.onclick = () => {
    if (timer) return pause();
    if (+slider.value >= +slider.max) slider.value = 0;
    button.textContent = "❚❚ pause"; timer = setInterval(tick, @tick);
  };
  slider.oninput = () => { pause(); show(+slider.value); };
  find(".controls").style.display = "block";
})();
"""


def draw(panels: Panels, *, steps: int | None = None, columns: int = 2, height: float = 3.4) -> Figure:
    """One panel per surface with its level lines and the paths up to ``steps`` (None: to their ends).

    Every name has one colour in all panels; a circle marks where each path starts. Raises
    ``ValueError`` for no panels or a path that is not [steps + 1, 2].
    """
    if not panels:
        raise ValueError("panels must hold at least one surface, got none")
    rows = math.ceil(len(panels) / integer("columns", columns, 1))
    fig, axes = figure(rows, min(columns, len(panels)), height=height, squeeze=False)
    styles = _styles(panels)
    for ax, (title, (surface, paths)) in zip(axes.flat, panels.items(), strict=False):
        contour(ax, surface.value, surface.region)
        ax.set_title(title)
        for name, path in paths.items():
            points = _points(name, path)[: None if steps is None else integer("steps", steps, 0) + 1]
            style = styles[name]
            ax.plot(*points.T, **style)
            ax.plot(*points[0], marker="o", fillstyle="none", markersize=8, color="black", markeredgewidth=0.8)
            ax.plot(*points[-1], marker="o", markersize=5, color=style["color"])
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
    return fig


def player(panels: Panels, *, columns: int = 2, height: float = 3.4, seconds: float = 8.0) -> HTML:
    """The paths of :func:`draw` growing step by step, with a slider and a play button.

    Everything is embedded; nothing is loaded. A path that stops being finite ends there. Playing takes
    about ``seconds``. Raises as :func:`draw`, and ``ValueError`` unless seconds > 0.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be in (0, inf), got {seconds!r}")
    background = draw(panels, steps=0, columns=columns, height=height)
    background.canvas.draw()
    picture = io.BytesIO()
    background.savefig(picture, format="png")
    width, total = (background.get_size_inches() * background.dpi).round().astype(int).tolist()
    styles, shapes = _styles(panels), []
    for ax, (_, paths) in zip(background.axes, panels.values(), strict=False):
        lines = "".join(_polyline(ax, _points(name, path), total, styles[name]) for name, path in paths.items())
        shapes.append(_window(ax, total, lines))
    plt.close(background)
    steps = max(len(_points(n, p)) - 1 for _, paths in panels.values() for n, p in paths.items())
    stride = max(1, round(steps * TICK_MS / (1000 * seconds)))
    encoded = base64.b64encode(picture.getvalue()).decode()
    drawing = (
        f'<svg viewBox="0 0 {width} {total}" style="width:100%;max-width:{width}px;height:auto;display:block">'
        f'<image href="data:image/png;base64,{encoded}" width="{width}" height="{total}"/>{"".join(shapes)}</svg>'
    )
    # A name of its own, the same in every run, for each player in a page.
    name = f"player-{zlib.crc32(drawing.encode()):08x}"
    controls = (
        '<div class="controls" style="display:none"><button type="button">▶ play</button> '
        f'<input type="range" min="0" max="{steps}" value="{steps}" aria-label="step" style="width:60%"> '
        f"<output>step {steps}</output></div>"
    )
    script = SCRIPT.replace("@name", name).replace("@stride", str(stride)).replace("@tick", str(TICK_MS))
    return HTML(f'<div id="{name}">{drawing}{controls}<script>{script}</script></div>')


def _styles(panels: Panels) -> dict[str, dict]:
    """Colour and dashes by name, in the order in which names appear."""
    names = list(dict.fromkeys(name for _, paths in panels.values() for name in paths))
    colors = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    dashes = [dash for dash in DASHES for _ in colors]
    looks = zip(cycle(colors), cycle(dashes))
    return {name: {"color": c, "linestyle": d} for name, (c, d) in zip(names, looks, strict=False)}


def _points(name: str, path: ArrayLike) -> np.ndarray:
    """The finite beginning of a path."""
    points = np.asarray(path, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points[:1]).all() or not len(points):
        raise ValueError(f"path {name!r} must have shape [steps + 1, 2] and a finite start, got {list(points.shape)}")
    bad = ~np.isfinite(points).all(1)
    return points[: bad.argmax()] if bad.any() else points


def _polyline(ax: Axes, points: np.ndarray, total: int, style: dict) -> str:
    """A path in pixels from the top left, and a dot at its end."""
    pixels = ax.transData.transform(points) * [1, -1] + [0, total]
    pixels = np.clip(pixels, -2 * total, 3 * total)  # what runs away is cut off by the window anyway
    color = to_hex(style["color"])
    dashes = "" if style["linestyle"] == "-" else ' stroke-dasharray="6 3"'
    coordinates = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    x, y = pixels[-1]
    return (
        f'<polyline points="{coordinates}" fill="none" stroke="{color}" stroke-width="2"{dashes}/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>'
    )


def _window(ax: Axes, total: int, content: str) -> str:
    """``content`` cut off at the borders of the panel: an inner svg clips."""
    box = ax.get_window_extent()
    place = f'x="{box.x0:.1f}" y="{total - box.y1:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    view = f'viewBox="{box.x0:.1f} {total - box.y1:.1f} {box.width:.1f} {box.height:.1f}"'
    return f"<svg {place} {view}>{content}</svg>"
