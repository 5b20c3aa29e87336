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
    matchings,
    mixing_matrix,
    one_peer_exponential,
    random_matching,
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
    for W in (torch.eye(4), random_matching(6, seed=0), *one_peer_exponential(8)):
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


@settings(max_examples=60)
@given(graph=connected_graphs(least=2))
def test_matchings_use_every_edge_once(graph):
    rounds, n = matchings(graph), len(graph)
    most = max(d for _, d in graph.degree)
    assert most <= len(rounds) <= 2 * most - 1
    edges = []
    for W in rounds:
        check_mixing(W, n, connected=False)
        pairs = [(i, j) for i, j in W.nonzero().tolist() if i < j]
        assert pairs and len({i for pair in pairs for i in pair}) == 2 * len(pairs)  # no node twice
        assert all(W[i, i] == W[j, j] == W[i, j] == W[j, i] == 0.5 for i, j in pairs)
        edges += pairs
    assert sorted(edges) == sorted(tuple(sorted(edge)) for edge in graph.edges)


def test_matchings_of_common_graphs():
    assert [len(matchings(topology("ring", n))) for n in (2, 3, 6, 7, 12)] == [1, 3, 2, 3, 2]
    assert len(matchings(topology("star", 9))) == 8
    assert [W.tolist() for W in matchings(topology("ring", 1))] == [[[1.0]]]
    for n in (2, 8, 16):
        rounds = [fractions(W) for W in matchings(topology("hypercube", n))]
        assert reduce(times, rounds) == [[Fraction(1, n)] * n] * n


@pytest.mark.parametrize("n", [1, 2, 5, 8, 601])
def test_a_random_matching_is_a_matching(n):
    W = random_matching(n, seed=3)
    check_mixing(W, n, connected=False)
    assert int((W.diagonal() == 1).sum()) == n % 2 and bool((W @ W == W).all()) and bool((W.T == W).all())
    assert torch.equal(random_matching(n, seed=3, sparse=True).to_dense(), W)
    if n > 2:
        assert not all(torch.equal(W, random_matching(n, seed=3, round=t)) for t in range(1, 9))


def test_random_matchings_are_uniform():
    # The three perfect matchings of four nodes, by the partner of node 0; each with probability 1/3.
    draws = 3000
    partners = [int(random_matching(4, seed=0, round=t)[0, 1:].argmax()) for t in range(draws)]
    frequency = np.bincount(partners, minlength=3) / draws
    chi2 = draws * (np.square(frequency - 1 / 3) / (1 / 3)).sum()
    assert chi2 < 5.99  # the 95% quantile for two degrees of freedom


def test_random_matchings_contract_as_stated():
    # Exactly, over all 15 matchings of six nodes: E||W x - mean||^2 = (n-2)/(2(n-1)) ||x - mean||^2.
    n = 6
    found = {tuple(map(tuple, random_matching(n, seed=0, round=t).tolist())) for t in range(400)}
    assert len(found) == 15
    x = [Fraction(v) for v in (5, -1, 0, 2, 2, -8)]
    before = sum(v * v for v in x)
    after = [sum(sum(Fraction(w) * v for w, v in zip(row, x, strict=True)) ** 2 for row in W) for W in found]
    assert sum(x) == 0 and sum(after) / 15 == Fraction(n - 2, 2 * (n - 1)) * before


def test_schedules_refuse_bad_arguments():
    for call, says in [
        (lambda: one_peer_exponential(0), "n must be at least 1, got 0"),
        (lambda: random_matching(0, seed=0), "n must be at least 1, got 0"),
        (lambda: random_matching(3, seed=-1), "seed must be at least 0, got -1"),
        (lambda: random_matching(3, seed=0, round=-1), "round must be at least 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
