"""Who works and who waits: Gantt charts of synchronous and asynchronous runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from optcourse.arguments import choice, integer, number
from optcourse.nodes.time.clock import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Computing is what a machine was bought for; waiting is as pale as the paper.
_LOOK = {"compute": "blue", "communicate": "yellow", "wait": "#E8E8E8"}


def gantt(
    ax: Axes,
    intervals: Iterable[Interval],
    n_nodes: int,
    *,
    updates: Sequence[float] | Tensor = (),
    end: float | None = None,
    title: str = "",
) -> Tensor:
    """Draw one row of bars per node, node 0 on top: blue computes, yellow communicates, grey waits.

    ``intervals`` is the ``timeline`` of a ``Clock`` that records, or ``Schedule.intervals()``; ``updates`` are times in
    seconds at which the model changed, drawn as ticks on the upper edge. The chart shows 0 to ``end`` seconds, by
    default all. Returns the idle shares, which also stand on the right. Raises ``ValueError`` for nodes outside
    0..n-1, unknown kinds of bars and end <= 0.

    >>> from optcourse.nodes.time.clock import Clock
    >>> from optcourse.plotting import figure
    >>> clock = Clock(compute=[1.0, 4.0], record=True).bind(2)
    >>> clock.compute(); clock.mean(n_bytes=0)
    >>> fig, ax = figure()
    >>> gantt(ax, clock.timeline, n_nodes=2)
    tensor([0.7500, 0.0000], dtype=torch.float64)
    """
    from matplotlib.patches import Patch  # here, so that a process without pictures starts sooner
    from matplotlib.transforms import ScaledTranslation

    from optcourse.plotting import COLORS

    looks: dict[str, dict[str, Any]] = {k: {"facecolor": COLORS.get(color, color)} for k, color in _LOOK.items()}
    bars = list(intervals)
    idle = idle_share(bars, n_nodes, end)
    end = max((bar.end for bar in bars), default=1.0) if end is None else end
    seen = set()
    for node in range(n_nodes):
        for kind, look in looks.items():
            spans = [(b.start, b.end - b.start) for b in bars if (b.node, b.kind) == (node, kind) and b.start < end]
            if spans:
                seen.add(kind)
                ax.broken_barh(spans, (node - 0.38, 0.76), edgecolor="white", linewidth=0.6, **look)
    if len(updates):
        at = torch.as_tensor(updates, dtype=torch.float64)
        ax.vlines(at[at <= end], -0.85, -0.5, color=COLORS["black"], linewidth=0.8)
    ax.set(xlabel="time (s)", xlim=(0, end), ylim=(n_nodes - 0.5, -0.9 if len(updates) else -0.5), title=title)
    labelled = range(0, n_nodes, -(-n_nodes // 16))  # more labels would overlap
    ax.set_yticks(list(labelled), [f"node {node}" for node in labelled])
    for node in labelled:
        share = f"{100 * idle[node]:.0f} % idle"
        ax.text(1.01, node, share, transform=ax.get_yaxis_transform(), va="center", fontsize=9.5)
    ax.grid(False)
    ax.tick_params(axis="y", length=0)
    handles = [Patch(label=kind, **look) for kind, look in looks.items() if kind in seen]
    # In inches, since ticks and label below the axes do not shrink with them.
    below = ax.transAxes + ScaledTranslation(0, -0.45, ax.figure.dpi_scale_trans)
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "bbox_transform": below}
    ax.legend(handles=handles, ncols=3, handlelength=1.2, **place)
    return idle


def idle_share(intervals: Iterable[Interval], n_nodes: int, end: float | None = None) -> Tensor:
    """The part of the time from 0 to ``end`` seconds in which each node does not compute: float64 ``[n]``.

    ``end`` is by default when the last bar ends. Communication counts as idle unless the node computes meanwhile.
    Raises ``ValueError`` for nodes outside 0..n-1, unknown kinds of bars and end <= 0.

    >>> idle_share([Interval(0, 0.0, 3.0, "compute"), Interval(1, 0.0, 4.0, "compute")], n_nodes=2)
    tensor([0.2500, 0.0000], dtype=torch.float64)
    """
    bars, n = list(intervals), integer("n_nodes", n_nodes, 1)
    for bar in bars:
        integer("intervals: node", bar.node, 0, n - 1)
        choice("intervals: kind", bar.kind, list(_LOOK))
    end = max((bar.end for bar in bars), default=1.0) if end is None else end
    end = number("end", end, 0, open_low=True)
    busy = torch.zeros(n, dtype=torch.float64)
    for bar in bars:
        if bar.kind == "compute":
            busy[bar.node] += max(0.0, min(bar.end, end) - bar.start)
    return 1 - busy / end
