"""Pictures of graphs: the layouts, the colours and the refusals."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch

from optcourse.nodes.graphs.drawing import draw_topology, node_positions
from optcourse.nodes.graphs.topology import GRAPHS, topology
from optcourse.plotting import figure


@pytest.fixture
def ax():
    return figure()[1]


SIZES = {"torus": (9, 36), "grid": (1, 4, 36), "hypercube": (1, 2, 4, 8, 16, 32, 64)}


@pytest.mark.parametrize(("name", "n"), [(name, n) for name in GRAPHS for n in SIZES.get(name, (1, 2, 3, 9, 64))])
def test_no_two_nodes_in_one_place(name, n):
    where = node_positions(topology(name, n))
    assert sorted(where) == list(range(n))
    places = np.array([where[i] for i in range(n)])
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.eye(n) * 9
    assert np.isfinite(places).all() and apart.min() > 0.01 * max(1, np.ptp(places))


def test_the_shapes():
    for name in ("ring", "exponential", "complete"):
        assert all(math.hypot(*place) == pytest.approx(1) for place in node_positions(topology(name, 7)).values())
    torus = node_positions(topology("torus", 9))
    assert [torus[i] for i in (0, 2, 6, 8)] == [(0, 0), (2, 0), (0, -2), (2, -2)]
    tree = node_positions(topology("tree", 15))
    for i in range(7):
        assert tree[i][0] == pytest.approx((tree[2 * i + 1][0] + tree[2 * i + 2][0]) / 2)
    cube = node_positions(topology("hypercube", 32))  # the circle is a Gray code: a closed walk along edges
    around = sorted(cube, key=lambda i: math.atan2(*cube[i]))
    assert all((i ^ j).bit_count() == 1 for i, j in zip(around, around[1:] + around[:1], strict=True))


def test_values_colour_the_nodes(ax):
    nodes = draw_topology(ax, topology("ring", 5), torch.arange(5.0), label="loss", title="five")
    assert nodes.get_array().tolist() == [0, 1, 2, 3, 4]
    assert len(ax.figure.axes) == 2 and ax.figure.axes[1].get_ylabel() == "loss"
    assert ax.get_title() == "five" and [text.get_text() for text in ax.texts] == list("01234")


@pytest.mark.parametrize("graph", [topology("torus", 16), topology("exponential", 6), nx.petersen_graph()])
def test_draws_every_edge(ax, graph):
    draw_topology(ax, graph)
    lines = sum(len(c.get_segments()) for c in ax.collections if hasattr(c, "get_segments"))
    assert lines + len(ax.patches) == graph.number_of_edges()
    assert len(ax.figure.axes) == 1


def test_large_graphs_have_no_numbers(ax):
    draw_topology(ax, topology("ring", 400))
    assert not ax.texts


def test_refusals(ax):
    with pytest.raises(ValueError, match="values must have shape .5., got .4."):
        draw_topology(ax, topology("ring", 5), [1.0] * 4)
    with pytest.raises(ValueError, match="values must be in"):
        draw_topology(ax, topology("ring", 2), [1.0, float("nan")])
    for graph in (nx.Graph(), nx.path_graph("ab")):
        with pytest.raises(ValueError, match="graph must have the nodes 0..n-1"):
            draw_topology(ax, graph)
