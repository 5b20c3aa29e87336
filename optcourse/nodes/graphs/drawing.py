"""Pictures of graphs in the course's figure style."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from optcourse.arguments import real

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection


def draw_topology(
    ax: Axes, graph: nx.Graph, values: ArrayLike | None = None, *, label: str = "", title: str | None = None
) -> PathCollection:
    """Draw a graph with the nodes 0..n-1, each kind of ``graphs.topology`` in the shape that gives it its name.

    ``values`` of shape [n] colours the nodes (torch tensors are welcome) and adds a colour bar called ``label``;
    without it all nodes are blue. Edges of a directed graph have arrows from sender to receiver. Graphs that do not
    come from ``graphs.topology`` are laid out by networkx's Kamada-Kawai method. ``title`` is the name of the graph
    and its number of nodes unless given. Returns the nodes, so that a later frame can call ``set_array``. Raises
    ``ValueError`` for nodes that are not 0..n-1 and values that are not finite or not of shape [n].

    >>> from optcourse.nodes.graphs.topology import topology
    >>> from optcourse.plotting import figure
    >>> fig, ax = figure()
    >>> nodes = draw_topology(ax, topology("ring", 8), range(8), label="loss")
    >>> nodes.get_offsets().shape, ax.get_title()
    ((8, 2), 'ring, n = 8')
    """
    from optcourse.plotting import COLORS  # here, so that a process without pictures starts sooner

    n = len(graph)
    if n == 0 or set(graph) != set(range(n)):
        raise ValueError(f"graph must have the nodes 0..n-1, got {list(graph)[:8]}")
    if values is not None:
        values = np.asarray(real("values", values), dtype=float)
        if values.shape != (n,):
            raise ValueError(f"values must have shape [{n}], got {list(values.shape)}")
    where = node_positions(graph)
    places = np.array([where[i] for i in range(n)])
    diameter = _diameter(ax, places)
    size = diameter**2
    _draw_edges(ax, graph, where, size)
    x, y = places.T
    colours: dict[str, Any] = {"color": COLORS["sky"]} if values is None else {"c": values}
    nodes = ax.scatter(x, y, s=size, edgecolors="white", linewidths=0.05 * diameter, zorder=2, **colours)
    if values is not None:
        ax.figure.colorbar(nodes, ax=ax, label=label, shrink=0.8)
    font = 0.55 * diameter
    if font >= 6:  # smaller numbers cannot be read
        for i in range(n):
            dark = values is not None and np.less(nodes.norm(values[i]), 0.6)
            colour = "white" if dark else COLORS["black"]
            ax.text(x[i], y[i], str(i), color=colour, fontsize=font, ha="center", va="center", zorder=3)
    ax.set_title(f"{graph.name or 'graph'}, n = {n}" if title is None else title)
    ax.set_axis_off()
    ax.margins(0.12)
    ax.set_aspect("equal", adjustable="datalim")
    return nodes


def node_positions(graph: nx.Graph) -> dict[int, tuple[float, float]]:
    """Where :func:`draw_topology` puts the nodes 0..n-1: {node: (x, y)}, chosen by ``graph.name``.

    >>> from optcourse.nodes.graphs.topology import topology
    >>> node_positions(topology("path", 3))
    {0: (0.0, 0.0), 1: (1.0, 0.0), 2: (2.0, 0.0)}
    """
    n, name, side = len(graph), graph.name, math.isqrt(len(graph))
    place: dict[str, Callable[[int], tuple[float, float]]] = {
        "path": lambda i: (float(i), 0.0),
        "star": lambda i: _on_circle(i - 1, n - 1) if i else (0.0, 0.0),
        "tree": lambda i: _in_tree(i, n),
        "hypercube": lambda i: _in_hypercube(i, n),
    }
    place |= dict.fromkeys(("torus", "grid"), lambda i: (float(i % side), -float(i // side)))
    place |= dict.fromkeys(("ring", "directed_ring", "exponential", "complete"), lambda i: _on_circle(i, n))
    if n > 1 and name in place:
        return {i: place[name](i) for i in range(n)}
    return {i: (float(x), float(y)) for i, (x, y) in nx.kamada_kawai_layout(graph, weight=None).items()}


def _on_circle(i: int, n: int) -> tuple[float, float]:
    """Clockwise, starting at the top."""
    return math.sin(2 * math.pi * i / n), math.cos(2 * math.pi * i / n)


def _in_hypercube(i: int, n: int) -> tuple[float, float]:
    """Up to 8 nodes a cube in perspective, 16 the tesseract's most symmetric shadow, more a circle in Gray code."""
    if n > 16:
        rank = i
        while i := i >> 1:
            rank ^= i
        return _on_circle(rank, n)
    steep = [(math.cos(math.pi * (2 * k + 1) / 8), math.sin(math.pi * (2 * k + 1) / 8)) for k in range(4)]
    along = steep if n == 16 else [(1.0, 0.0), (0.0, 1.0), (0.45, 0.35)]
    x, y = (sum(move[axis] for k, move in enumerate(along) if i >> k & 1) for axis in (0, 1))
    return x, y


def _in_tree(i: int, n: int) -> tuple[float, float]:
    """Node i of the heap-ordered binary tree: level by level, each parent over the middle of its children."""
    level, deepest = (i + 1).bit_length() - 1, n.bit_length() - 1
    place = i + 1 - 2**level
    return (place + 0.5) / 2**level, -0.6 * level / deepest


def _diameter(ax: Axes, places: np.ndarray) -> float:
    """Of a node, in points: at most 17, and so that the closest nodes do not touch."""
    from scipy.spatial import KDTree

    if len(places) == 1:
        return 17.0
    closest = KDTree(places).query(places, k=2)[0][:, 1].min()
    box = ax.get_window_extent()
    points = min(box.width, box.height) * 72 / ax.figure.dpi
    return float(np.clip(0.7 * points * closest / np.ptp(places, axis=0).max(), 3, 17))


def _draw_edges(ax: Axes, graph: nx.Graph, where: dict[int, tuple[float, float]], size: float) -> None:
    """Straight lines or arrows; the edges with which a torus closes are bent, so that they pass beside the others."""
    from optcourse.plotting import COLORS

    width = 1.2 if len(graph) <= 64 else 0.6
    style: dict[str, Any] = {"ax": ax, "edge_color": COLORS["grey"], "width": width, "node_size": size}
    edges = [(i, j) for i, j in graph.edges if i != j]
    if graph.is_directed():
        nx.draw_networkx_edges(graph, where, edges, arrows=True, arrowsize=min(9, 0.6 * size**0.5), **style)
        return
    far = [(i, j) for i, j in edges if graph.name == "torus" and math.dist(where[i], where[j]) > 1.5]
    near = list(set(edges) - set(far))
    nx.draw_networkx_edges(graph, where, near, arrows=False, **style)
    for i, j in far:
        bend = 0.18 if (where[i][0] == where[j][0]) == (i < j) else -0.18
        bent: dict[str, Any] = {"arrows": True, "arrowstyle": "-", "connectionstyle": f"arc3,rad={bend}"}
        nx.draw_networkx_edges(graph, where, [(i, j)], **{**style, **bent, "edge_color": COLORS["sky"]})
