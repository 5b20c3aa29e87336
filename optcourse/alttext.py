"""What a figure shows, in words: for readers who cannot see it, and for search.

>>> from optcourse.plotting import figure, plt
>>> fig, ax = figure()
>>> _ = ax.plot([1, 10, 100], [3.0, 1.0, 0.5], label="SGD")
>>> _ = ax.set(xlabel="step", ylabel="loss", yscale="log")
>>> describe(fig)
'loss (logarithmic) against step: SGD from 3 to 0.5.'
>>> plt.close(fig)
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

#: Curves that a panel tells one by one; of more it says how many there are.
MOST = 8
_SIGNS = {
    "sqrt": "√",
    "times": "×",
    "le": "≤",
    "leq": "≤",
    "ge": "≥",
    "geq": "≥",
    "cdot": "·",
    "infty": "∞",
    "nabla": "∇",
}


def describe(fig: Figure) -> str:
    """The title, and for each panel its title, axes and named curves with the values at their ends."""
    panels = [text for ax in fig.axes if ax.get_visible() and (text := _panel(ax))]
    many = len(panels) > 1
    parts = [f"Panel {i}, {text}." if many else f"{text}." for i, text in enumerate(panels, 1)]
    title = plain(fig.get_suptitle())
    return " ".join([f"{title}."] * bool(title) + parts) or "An empty figure."


def with_pictures(shell: Any) -> None:
    """Let a notebook's kernel send :func:`describe` along with every figure (IPython's metadata ``alt``)."""
    import matplotlib_inline.backend_inline  # noqa: F401  # registers IPython's own picture of a figure, ours goes around it

    formatter = shell.display_formatter.formatters["image/png"]
    png = formatter.for_type(Figure)
    if png is None or getattr(png, "describes", False):
        return

    def described(fig: Figure) -> Any:
        made = png(fig)
        data, metadata = made if isinstance(made, tuple) else (made, {})
        try:
            return data, {**metadata, "alt": describe(fig)}
        except Exception:  # a figure that cannot be described is shown all the same
            return made

    described.describes = True  # pyright: ignore[reportFunctionMemberAccess]
    formatter.for_type(Figure, described)


def _panel(ax: Axes) -> str:
    if ax.get_label() == "<colorbar>":  # its label belongs to the panel beside it
        return ""
    x, y = (_axis(ax, which) for which in "xy")
    axes = f"{y} against {x}" if x and y else x or y
    return ": ".join(filter(None, [plain(ax.get_title()), axes, _content(ax)]))


def _axis(ax: Axes, which: str) -> str:
    name, scale = plain(getattr(ax, f"get_{which}label")()), getattr(ax, f"get_{which}scale")()
    return f"{name} (logarithmic)" if name and scale == "log" else name


def _content(ax: Axes) -> str:
    handles, names = ax.get_legend_handles_labels()
    told = [f"{plain(name)}{_ends(handle)}" for handle, name in zip(handles, names, strict=True)]
    if len(told) > MOST:
        told = [*told[:MOST], f"and {len(told) - MOST} more"]
    if told:
        return ", ".join(told)
    if ax.images:
        shape = ax.images[0].get_array()
        return f"an image of {shape.shape[0]} by {shape.shape[1]} points" if shape is not None else "an image"
    if ax.lines:
        return f"{len(ax.lines)} curves"
    bars = sum(len(container) for container in ax.containers if isinstance(container, Container))
    return f"{bars} bars" if bars else "a map of colours" if ax.collections else ""


def _ends(handle: Any) -> str:
    """From where to where a curve runs, or its level where both ends are alike."""
    line = handle[0] if isinstance(handle, tuple) and handle else handle
    if not isinstance(line, Line2D):
        return ""
    try:
        values = np.asarray(line.get_ydata(), dtype=float)
    except (TypeError, ValueError):  # names, dates
        return ""
    values = values[np.isfinite(values)]
    if not values.size:
        return ""
    first, last = f"{values[0]:.2g}", f"{values[-1]:.2g}"
    return f" at {first}" if first == last else f" from {first} to {last}"


def plain(text: str) -> str:
    """A label without the marks of formulas, on one line."""
    text = re.sub(r"\\frac\s*(\{[^{}]*\}|\w)\s*(\{[^{}]*\}|\w)", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _sign(found[1]), text)
    return " ".join(re.sub(r"[${}\\]", "", text).split())


def _sign(command: str) -> str:
    """What a command of a formula looks like; its own letters where there is no such sign."""
    if command in _SIGNS:
        return _SIGNS[command]
    size = "CAPITAL" if command[0].isupper() else "SMALL"
    name = {"lambda": "lamda"}.get(command.lower(), command)
    try:
        return unicodedata.lookup(f"GREEK {size} LETTER {name.upper()}")
    except KeyError:
        return "" if command in ("mathrm", "mathbf", "text", "left", "right", "mathcal") else command
