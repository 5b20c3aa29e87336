"""The check of mixing matrices, large spectral gaps, and schedules with one neighbour per round."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from itertools import permutations

import networkx as nx
import numpy as np
import pytest
import torch
from graph_cases import connected_graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.graphs.topology import (
    check_mixing,
    mixing_matrix,
    one_peer_exponential,
    spectral_gap,
    topology,
)
from optcourse.theory.distributed.gossip import mixing_rate

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR")


def ring(n=5, **options):
    return mixing_matrix(topology("ring", n), **options)


def changed(W, i, j, value):
    W = W.clone()
    W[i, j] = value
    return W


# ---- check_mixing


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("W", "says"),
    [
        (changed(ring(), 1, 2, float("nan")), "finite entries, got W.1, 2. = nan"),
        (changed(ring(), 4, 0, float("inf")), "finite entries, got W.4, 0. = inf"),
        (changed(ring(), 0, 3, -0.1), "non-negative entries, got W.0, 3. = -0.1"),
        (changed(ring(), 3, 2, 0.5), "rows that sum to 1, row 3 sums to 1.16667 .off by 0.167"),
        (changed(ring(), 3, 2, 1 / 3 + 1e-9), "row 3 sums to 1 .off by 1e-09"),
        (torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "columns that sum to 1, column 0 sums to 2 .off by 1"),
        (torch.eye(3), "connect all nodes, got 3 components of sizes 1, 1, 1"),
        (torch.block_diag(ring(4), ring(3)), "2 components of sizes 4, 3"),
    ],
)
def test_names_what_is_wrong(W, says, sparse):
    with pytest.raises(ValueError, match=says):
        check_mixing(W.to_sparse_csr() if sparse else W, len(W))


def test_refuses_other_shapes_and_kinds():
    for W, n, says in [
        (ring(5), 6, "shape .6, 6., got .5, 5."),
        (torch.ones(2, 3), 2, "shape .2, 2., got .2, 3."),
        (torch.ones(4), 4, "dense or CSR matrix"),
        (torch.eye(3).to_sparse_coo(), 3, "dense or CSR matrix .* got torch.sparse_coo"),
        (torch.eye(3, dtype=torch.long), 3, "of float32 or float64"),
        (torch.zeros(0, 0), 0, "n must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=says):
            check_mixing(W, n)
    with pytest.raises(TypeError, match="W must be a tensor, got ndarray"):
        check_mixing(np.eye(2), 2)


def test_a_round_of_a_schedule_need_not_connect_all():
    for W in (torch.eye(4), *one_peer_exponential(8)):
        check_mixing(W, len(W), connected=False)


@settings(max_examples=50)
@given(graph=connected_graphs(least=2), data=st.data(), size=st.floats(1e-12, 1.0))
def test_notices_one_changed_entry(graph, data, size):
    n = len(graph)
    i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    W = mixing_matrix(graph)
    with pytest.raises(ValueError, match=f"row {i} sums"):
        check_mixing(changed(W, i, j, W[i, j] + size), n)


# ---- spectral_gap


@pytest.mark.parametrize(
    "graph",
    [
        topology("ring", 700),
        topology("exponential", 601),
        topology("tree", 511),
        nx.gnp_random_graph(600, 0.02, seed=1),
    ],
    ids=["ring", "exponential", "tree", "random"],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_iterative_gap_is_the_dense_one(graph, sparse):
    W = mixing_matrix(graph, "uniform")
    dense = 1 - np.linalg.norm(W.numpy() - 1 / len(graph), 2)
    assert spectral_gap(W.to_sparse_csr() if sparse else W) == pytest.approx(dense, abs=1e-12)


@pytest.mark.parametrize("n", [64, 640])
def test_the_ends_of_the_range(n):
    assert spectral_gap(torch.full((n, n), 1 / n)) == pytest.approx(1, abs=1e-7)  # float32
    assert spectral_gap(torch.full((n, n), 1 / n, dtype=torch.float64)) == pytest.approx(1, abs=1e-12)
    assert spectral_gap(torch.eye(n)) == pytest.approx(0, abs=1e-15)
    assert spectral_gap(torch.block_diag(ring(n // 2), ring(n // 2))) == pytest.approx(0, abs=1e-13)
    cycle = torch.eye(n).roll(1, 0)
    check_mixing(cycle, n)  # strongly connected, and yet a shift brings nobody closer
    assert spectral_gap(cycle) == pytest.approx(0, abs=1e-13)
    assert 0 <= spectral_gap(cycle)


def test_the_gap_needs_a_doubly_stochastic_matrix():
    with pytest.raises(ValueError, match="columns that sum to 1"):
        spectral_gap(torch.tensor([[0.5, 0.5], [0.4, 0.6]]))


@settings(max_examples=40)
@given(graph=connected_graphs(least=2), seed=st.integers(0, 2**32 - 1))
def test_mixing_brings_the_nodes_together_by_the_gap(graph, seed):
    W = mixing_matrix(graph)
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal((len(graph), 3)))
    apart = x - x.mean(0)
    mixed = W @ x - x.mean(0)
    assert float(mixed.norm()) <= (1 - spectral_gap(W) + 1e-13) * float(apart.norm())


# ---- one peer at a time


def fractions(W):
    return [[Fraction(value) for value in row] for row in W.tolist()]


def times(A, B):
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*B, strict=True)] for row in A]


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_one_peer_averages_exactly_in_any_order(n):
    exact = [[Fraction(1, n)] * n] * n
    rounds = [fractions(W) for W in one_peer_exponential(n)]
    for order in permutations(rounds):
        assert reduce(times, order) == exact


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 12, 24, 33, 64, 100, 256])
@pytest.mark.parametrize("sparse", [False, True])
def test_one_peer_has_the_gap_of_the_theory(n, sparse):
    rounds = one_peer_exponential(n, sparse=sparse)
    assert len(rounds) == int(np.ceil(np.log2(n)))
    for k, W in enumerate(rounds):
        check_mixing(W, n, connected=False)
        expected = np.eye(n) / 2
        expected[range(n), (np.arange(n) + 2**k) % n] += 0.5
        assert (W.to_dense().numpy() == expected).all()
    together = torch.linalg.multi_dot([torch.eye(n, dtype=torch.float64), *(W.to_dense() for W in rounds)])
    rate = mixing_rate(topology="one_peer_exponential", n_nodes=n)
    assert spectral_gap(together) == pytest.approx(1 - rate, abs=1e-10)


def test_schedules_refuse_bad_arguments():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        one_peer_exponential(0)


def test_columns_or_rows_alone_where_one_asks_for_them():
    W = torch.tensor([[0.5, 1.0], [0.5, 0.0]])
    check_mixing(W, 2, stochastic="columns")
    check_mixing(W.T, 2, stochastic="rows")
    for bad, kind, line in ((W, "rows", "rows"), (W.T, "columns", "columns"), (W, "doubly", "rows")):
        with pytest.raises(ValueError, match=f"W must have {line} that sum to 1"):
            check_mixing(bad, 2, stochastic=kind)
    with pytest.raises(ValueError, match="stochastic must be one of 'doubly', 'columns', 'rows', got 'column'"):
        check_mixing(W, 2, stochastic="column")
