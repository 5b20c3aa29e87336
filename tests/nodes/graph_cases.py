"""Random connected graphs for hypothesis."""

from __future__ import annotations

import networkx as nx
from hypothesis import strategies as st


@st.composite
def connected_graphs(draw, least=1, most=14):
    """A random tree, further random edges, and node numbers in random order."""
    n = draw(st.integers(least, most))
    order = draw(st.permutations(range(n)))
    graph = nx.Graph()
    graph.add_nodes_from(order)
    graph.add_edges_from((order[draw(st.integers(0, i - 1))], order[i]) for i in range(1, n))
    extra = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1))
    graph.add_edges_from((i, j) for i, j in draw(st.lists(extra, max_size=2 * n)) if i != j)
    return graph
