"""Graphs and mixing matrices against networkx, the closed forms of theory.gossip, and exact fractions."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from graph_cases import connected_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import circulant

from optcourse.nodes.graphs.topology import (
    GRAPHS,
    RULES,
    check_mixing,
    mixing_matrix,
    spectral_gap,
    topology,
)
from optcourse.theory.distributed.gossip import TOPOLOGIES, mixing_rate

SIZES = {"torus": (9, 16, 25, 36, 100), "hypercube": (2, 4, 8, 16, 64, 256)}
NAMED = [
    (name, n)
    for name in TOPOLOGIES
    if name != "one_peer_exponential"
    for n in SIZES.get(name, (3, 4, 5, 6, 7, 12, 33, 50, 101))
]


DOUBLY = [rule for rule in RULES if rule != "push"]


def networkx_graph(name, n):
    side, bits = round(n**0.5), (n - 1).bit_length()
    grid = {"torus": True, "grid": False}
    if name in grid:
        return nx.convert_node_labels_to_integers(nx.grid_2d_graph(side, side, periodic=grid[name]), ordering="sorted")
    if name == "hypercube":
        graph = nx.hypercube_graph(bits)
        return nx.relabel_nodes(graph, {node: sum(bit << k for k, bit in enumerate(node)) for node in graph})
    if name == "exponential":
        sends = circulant([(i & (i - 1)) == 0 < i for i in range(n)])  # to those that are a power of 2 behind
        return nx.from_numpy_array(sends, create_using=nx.DiGraph)
    if name == "directed_ring":
        return nx.cycle_graph(n, create_using=nx.DiGraph)
    makers = {"ring": nx.cycle_graph, "path": nx.path_graph, "complete": nx.complete_graph}
    makers |= {"star": lambda n: nx.star_graph(n - 1), "tree": lambda n: nx.full_rary_tree(2, n)}
    return makers[name](n)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_is_that_of_networkx(name):
    sizes = {"torus": (9, 16, 49), "grid": (4, 9, 49), "hypercube": (4, 8, 64)}.get(name, (3, 4, 5, 17, 32))
    for n in sizes:
        graph = topology(name, n)
        assert list(graph) == list(range(n)) and graph.name == name
        assert graph.is_directed() == (name in ("directed_ring", "exponential"))
        kind = tuple if graph.is_directed() else frozenset
        assert set(map(kind, graph.edges)) == set(map(kind, networkx_graph(name, n).edges))


def test_every_topology_of_the_theory_is_a_graph_here_or_a_schedule():
    assert set(GRAPHS) | {"one_peer_exponential"} == set(TOPOLOGIES) | {"grid", "tree", "directed_ring"}


def test_one_and_two_nodes():
    for name in set(GRAPHS) - {"torus", "grid"}:
        for n in (1, 2):
            graph = topology(name, n)
            assert set(map(frozenset, graph.edges)) == ({frozenset((0, 1))} if n == 2 else set())
            assert torch.equal(mixing_matrix(graph), torch.full((n, n), 1 / n, dtype=torch.float64))
            assert spectral_gap(mixing_matrix(graph)) == pytest.approx(1, abs=1e-15)
    assert list(topology("grid", 1)) == [0]


@pytest.mark.parametrize(
    ("name", "n", "says"),
    [
        ("torus", 10, "s\\^2 with s >= 3 .near: 9, 16"),
        ("torus", 4, "near: 9"),
        ("grid", 8, "near: 4, 9"),
        ("hypercube", 12, "2\\^p .near: 8, 16"),
        ("ring", 0, "n must be at least 1, got 0"),
        ("circle", 5, "name must be one of 'ring'"),
        ("one_peer_exponential", 8, "one_peer_exponential.n. gives"),
    ],
)
def test_refuses_a_graph_that_does_not_exist(name, n, says):
    with pytest.raises(ValueError, match=says):
        topology(name, n)


def test_refuses_a_number_of_nodes_that_is_no_integer():
    with pytest.raises(TypeError, match="n must be an integer"):
        topology("ring", 4.0)


# ---- mixing matrices


@settings(max_examples=80)
@given(graph=connected_graphs(), rule=st.sampled_from(DOUBLY), sparse=st.booleans())
def test_the_matrix_of_any_connected_graph(graph, rule, sparse):
    W, n = mixing_matrix(graph, rule, sparse=sparse), len(graph)
    check_mixing(W, n)
    gap = spectral_gap(W)
    W = W.to_dense().numpy()
    degree = dict(graph.degree)
    expected = np.zeros((n, n))
    for i, j in graph.edges:
        d = max(degree[i], degree[j]) if rule == "metropolis" else max(degree.values())
        expected[i, j] = expected[j, i] = 1 / (1 + d)
    expected += np.diag(1 - expected.sum(1))
    np.testing.assert_allclose(W, expected, rtol=0, atol=1e-15)
    assert (W == W.T).all() and (np.diag(W) > 0).all()
    assert 0 < gap <= 1
    # Independently: for a symmetric W the norm is the second largest modulus of its eigenvalues.
    others = np.sort(abs(np.linalg.eigvalsh(expected)))[:-1]
    assert gap == pytest.approx(1 - others.max(initial=0), abs=1e-13)


@settings(max_examples=40)
@given(graph=connected_graphs(), one_way=st.integers(0, 2**12), sparse=st.booleans())
def test_push_shares_equally_among_a_node_and_those_that_hear_it(graph, one_way, sparse):
    """On any strongly connected digraph: here one that has some of its edges in one direction only."""
    directed = graph.to_directed()
    for k, (i, j) in enumerate(graph.edges):
        directed.remove_edge(i, j)
        if not (one_way >> k & 1 and nx.is_strongly_connected(directed)):
            directed.add_edge(i, j)
    W = mixing_matrix(directed, "push", sparse=sparse)
    check_mixing(W, len(graph), stochastic="columns")
    for j in directed:
        shares = {j, *directed.successors(j)}
        column = [1 / len(shares) if i in shares else 0 for i in range(len(graph))]
        np.testing.assert_allclose(W.to_dense()[:, j].numpy(), column, rtol=0, atol=1e-15)


@pytest.mark.parametrize("n", [3, 8, 25])
def test_the_directed_ring_is_a_lazy_shift(n):
    W = mixing_matrix(topology("directed_ring", n))
    assert torch.equal(W, (torch.eye(n) + torch.eye(n).roll(1, 0)).double() / 2)
    assert torch.equal(W, mixing_matrix(topology("directed_ring", n), "push"))
    assert spectral_gap(W) == pytest.approx(1 - np.cos(np.pi / n), abs=1e-12)  # |1 + exp(2 pi i/n)|/2


@settings(max_examples=30)
@given(graph=connected_graphs(least=2))
def test_self_loops_and_edge_weights_are_not_used(graph):
    other = graph.copy()
    other.add_edge(0, 0)
    nx.set_edge_attributes(other, 7.5, "weight")
    for rule in RULES:
        assert torch.equal(mixing_matrix(graph, rule), mixing_matrix(other, rule))
        assert torch.equal(mixing_matrix(graph, rule), mixing_matrix(graph.to_directed(), rule))


def test_the_bits_do_not_depend_on_how_the_graph_was_built():
    graph = nx.barabasi_albert_graph(60, 3, seed=0)
    other = nx.Graph(list(graph.edges)[::-1])
    for rule in RULES:
        assert torch.equal(mixing_matrix(graph, rule), mixing_matrix(other, rule))


@pytest.mark.parametrize(("name", "n"), NAMED)
@pytest.mark.parametrize("sparse", [False, True])
def test_spectral_gap_is_the_closed_form(name, n, sparse):
    rule = "metropolis" if name in ("path", "star") else "uniform"
    W = mixing_matrix(topology(name, n), rule, sparse=sparse)
    check_mixing(W, n)
    assert spectral_gap(W) == pytest.approx(1 - mixing_rate(topology=name, n_nodes=n), abs=1e-10)
    if rule == "uniform":  # all degrees are equal
        metropolis = mixing_matrix(topology(name, n)).numpy()
        np.testing.assert_allclose(W.to_dense().numpy(), metropolis, rtol=0, atol=1e-15)


def test_the_weights_that_the_lectures_name():
    weights = [("ring", 7, 3), ("torus", 16, 5), ("hypercube", 32, 6), ("exponential", 20, 6), ("complete", 9, 9)]
    for name, n, parts in weights:
        W = mixing_matrix(topology(name, n), "uniform").numpy()
        np.testing.assert_allclose(W[W > 0], 1 / parts, rtol=0, atol=1e-15)
        assert ((W > 0).sum(1) == parts).all()


def test_the_grid_has_the_gaps_of_the_theory_sheet():
    gaps = [spectral_gap(mixing_matrix(topology("grid", n))) for n in (9, 16, 25, 64)]
    assert gaps == pytest.approx([0.2326, 0.1314, 0.0838, 0.0323], abs=5e-5)


def test_an_edge_goes_from_sender_to_receiver():
    W = mixing_matrix(topology("exponential", 8), "uniform")
    assert W[0].nonzero().flatten().tolist() == [0, 1, 2, 4]  # node 0 hears 1, 2, 4
    assert W[:, 0].nonzero().flatten().tolist() == [0, 4, 6, 7]


def test_a_directed_graph_with_unequal_degrees():
    # Two directed cycles that share node 0: everybody hears as many as hear it, node 0 two and the others one.
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0), (0, 3), (3, 0)])
    check_mixing(mixing_matrix(graph, "uniform"), 4)
    # Node 0 hears 1 and 2, the others hear one: W = [[1/3, 1/3, 1/3], [1/3, 2/3, 0], [0, 1/2 or 1/3, 1/2 or 2/3]].
    unequal = nx.DiGraph([(0, 1), (1, 2), (2, 0), (1, 0)])
    for rule, columns in (("metropolis", (2 / 3, 3 / 2, 5 / 6)), ("uniform", (2 / 3, 4 / 3, 1))):
        worst = int(np.argmax(np.abs(np.array(columns) - 1)))
        with pytest.raises(ValueError, match=f"{rule}' is not doubly .* column {worst} sums to {columns[worst]:.6g}"):
            mixing_matrix(unequal, rule)


def test_float32():
    for sparse in (False, True):
        W = mixing_matrix(topology("tree", 300), dtype=torch.float32, sparse=sparse)
        assert W.dtype == torch.float32
        check_mixing(W, 300)
    with pytest.raises(ValueError, match="dtype must be one of torch.float32"):
        mixing_matrix(topology("ring", 3), dtype=torch.float16)


def test_ten_thousand_nodes_without_a_dense_matrix():
    n = 10_000
    for name in ("torus", "exponential", "star"):
        W = mixing_matrix(topology(name, n), sparse=True)
        assert W.layout == torch.sparse_csr and W.shape == (n, n)
        assert len(W.values()) <= n + 2 * 14 * n
        x = torch.linspace(-1, 1, n, dtype=torch.float64)[:, None]
        assert float((W @ x).mean()) == pytest.approx(0, abs=1e-14)
    assert spectral_gap(mixing_matrix(topology("torus", n), sparse=True)) == pytest.approx(
        1 - mixing_rate(topology="torus", n_nodes=n), abs=1e-12
    )


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (nx.Graph(), "at least one node"),
        (
            nx.disjoint_union_all([nx.path_graph(4), nx.path_graph(1), nx.path_graph(2)]),
            "3 components of sizes 4, 2, 1",
        ),
        (nx.path_graph(4, create_using=nx.DiGraph), "strongly connected, got 4 components"),
        (nx.path_graph("abc"), "nodes 0..2 .*, got a, b, c"),
        (nx.path_graph(range(1, 4)), "nodes 0..2 .*, got 1, 2, 3"),
    ],
)
def test_refuses_a_graph_that_cannot_mix(graph, says):
    with pytest.raises(ValueError, match=says):
        mixing_matrix(graph)


def test_refuses_other_objects_and_rules():
    for graph in (nx.MultiGraph([(0, 1), (0, 1)]), np.eye(3)):
        with pytest.raises(TypeError, match="graph must be a networkx Graph or DiGraph"):
            mixing_matrix(graph)
    with pytest.raises(ValueError, match="rule must be one of 'metropolis', 'uniform', 'push', got 'best'"):
        mixing_matrix(topology("ring", 3), "best")
