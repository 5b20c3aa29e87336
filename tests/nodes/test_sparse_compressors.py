"""Top-k and random-k against sorting, the calculators of the theory, and the law of the drawn positions."""

from itertools import combinations

import numpy as np
import pytest
import torch
from compressor_cases import normal, same, streams, within
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from optcourse.nodes.messages.compressors import random_k, top_k
from optcourse.theory import compression as theory


@settings(max_examples=100)
@given(rows=st.lists(st.lists(st.integers(-3, 3), min_size=9, max_size=9), min_size=1, max_size=4), k=st.integers(1, 9))
def test_top_k_keeps_the_first_of_equals(rows, k):
    q = top_k(k)(torch.tensor(rows, dtype=torch.float64))
    for row, found, sent in zip(rows, q.dense().tolist(), q.payload[1].tolist(), strict=True):
        kept = sorted(range(9), key=lambda i: (-abs(row[i]), i))[:k]
        assert sent == sorted(kept)
        assert found == [a if i in kept else 0 for i, a in enumerate(row)]
        if any(row):
            delta = theory.delta_top_k(vector=row, kept=k)
            assert sum(a * a for a in found) == pytest.approx(delta * sum(a * a for a in row), rel=1e-12)


def test_top_k_of_many_entries_against_numpy():
    p = normal(2, 20_000, torch.float32).round(decimals=2)  # about 800 different values
    for k in (1, 200, 19_999):
        order = np.argsort(-p.abs().numpy(), axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(top_k(k)(p).payload[1].numpy(), np.sort(order, axis=1))


def test_contraction_of_sparse_messages_is_tight_for_equal_magnitudes():
    p = torch.tensor([[2.0, -2.0] * 5] * 3)
    for compress in (top_k(4), random_k(4, streams(range(3)))):
        error = (compress(p).dense() - p).square().sum(1) / p.square().sum(1)
        assert (error.double() == torch.tensor(1 - theory.delta_sparse(size=10, kept=4)).float().double()).all()


def test_random_k_draws_every_subset_equally_often():
    n, d, k = 2000, 5, 2
    indices = random_k(k, streams(range(n)))(normal(n, d)).payload[1]
    subsets = list(combinations(range(d), k))
    counts = [sum(tuple(row) == subset for row in indices.tolist()) for subset in subsets]
    assert sum(counts) == n  # distinct and ascending
    assert stats.chisquare(counts).pvalue > 1e-3  # nine degrees of freedom


def test_random_k_contracts_as_in_theory_and_is_unbiased_when_scaled():
    n, k = 2000, 2
    v = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, -4.0], dtype=torch.float64)
    p, d = v.expand(n, -1), len(v)
    error = (random_k(k, streams(range(n)))(p).dense() - p).square().sum(1)
    within(error, (1 - theory.delta_sparse(size=d, kept=k)) * v.square().sum())
    Q = random_k(k, streams(range(n), seed=1), unbiased=True)(p).dense()
    within(Q, v)
    omega = d / k - 1
    assert theory.delta_unbiased(omega=omega) == theory.delta_sparse(size=d, kept=k)
    within((Q - p).square().sum(1), omega * v.square().sum())


def test_shared_positions_are_common_to_all_nodes_and_drawn_anew():
    sender, receiver = (random_k(5, streams([0]), shared=True) for _ in range(2))
    chosen = []
    for seed in range(4):
        p = normal(3, 50, seed=seed)
        q, regenerated = sender(p), receiver(normal(1, 50))
        assert torch.equal(q.indices, regenerated.indices) and len(q.payload) == 1
        mask = torch.zeros(50, dtype=torch.bool)
        mask[q.indices] = True
        assert same(q.dense(), p * mask)
        assert same(regenerated.with_payload(q.payload).dense(), q.dense())
        chosen.append(tuple(q.indices.tolist()))
    assert len(set(chosen)) == 4
    with pytest.raises(ValueError, match="streams must have one node if the positions are shared, got 2"):
        random_k(5, streams([0, 1]), shared=True)


def test_k_is_checked_as_soon_as_its_range_is_known():
    for make in (top_k, lambda k: random_k(k, streams([0])), lambda k: random_k(k, streams([0]), shared=True)):
        for k in (0, -1):
            with pytest.raises(ValueError, match=f"k must be at least 1, got {k}"):
                make(k)
        compress = make(11)
        with pytest.raises(ValueError, match=r"k must be in 1\.\.10, got 11"):
            compress(torch.ones(1, 10))
        with pytest.raises(TypeError, match=r"k must be an integer, got 1\.5"):
            make(1.5)
