"""Bucketing and nearest-neighbour mixing against loops over their definitions."""

import numpy as np
import pytest
import torch
from aggregator_cases import draw

from optcourse.nodes.byzantine.aggregators import AGGREGATORS, bucketing, krum, multi_krum, nearest_neighbour_mixing
from optcourse.nodes.streams import Streams


@pytest.mark.parametrize(("n", "size"), [(8, 2), (9, 2), (7, 3), (5, 5), (5, 9), (4, 1)])
def test_bucketing_is_the_rule_on_averages_of_permuted_rows(n, size):
    X, seen = draw(n, n, 3), []

    def rule(buckets, n_byzantine):
        seen.append((buckets, n_byzantine))
        return buckets.mean(0)

    bucketing(rule, size, torch.Generator().manual_seed(5))(X, n_byzantine=3)
    bucketing(rule, size, Streams("bucketing", 5, range(n)))(X, n_byzantine=3)
    generator = torch.Generator().manual_seed(5)
    numbers = Streams("bucketing", 5, range(n)).uniform(dtype=torch.float64)
    for (found, f), order in zip(seen, (torch.randperm(n, generator=generator), numbers.argsort()), strict=True):
        expected = [np.mean([X[i].numpy() for i in order[at : at + size]], axis=0) for at in range(0, n, size)]
        np.testing.assert_allclose(found, expected, rtol=1e-14)
        assert f == min(3, len(expected))


def test_bucketing_draws_anew_in_every_call():
    rule = bucketing(krum, 2, torch.Generator().manual_seed(0))
    X = draw(0, 10, 2)
    assert len({tuple(rule(X, 1).tolist()) for _ in range(10)}) > 1


def test_bucketing_mixes_heterogeneous_nodes():
    """Half of the nodes at +1, half at -1: Krum must err by V = 1, with buckets of four by V/4 at most.

    Without attackers Krum's bucket is the nearest to the mean, so its expected square is at most that of a bucket:
    V/4 (24-4)/(24-1) without replacement.
    """
    X = torch.ones(24, 1, dtype=torch.float64)
    X[12:] = -1
    assert krum(X, 0).abs().item() == 1.0
    mixed = bucketing(krum, 4, torch.Generator().manual_seed(1))
    errors = np.array([mixed(X, 0).item() ** 2 for _ in range(200)])
    assert errors.mean() <= 0.25 * 20 / 23 + 2 * errors.std() / np.sqrt(200)


@pytest.mark.parametrize("f", [0, 1, 3])
def test_mixing_averages_the_nearest(f):
    X, seen = draw(f, 8, 3), []

    def rule(mixed, n_byzantine):
        seen.append(mixed)
        assert n_byzantine == f
        return mixed[0]

    nearest_neighbour_mixing(rule)(X, n_byzantine=f)
    for row, found in zip(X.numpy(), seen[0].numpy(), strict=True):
        nearest = np.linalg.norm(X.numpy() - row, axis=1).argsort()[: 8 - f]
        np.testing.assert_allclose(found, X.numpy()[nearest].mean(0), rtol=1e-12, atol=1e-14)


def test_wrappers_nest_and_pass_options_on():
    X = draw(3, 12, 2)
    rule = nearest_neighbour_mixing(bucketing(AGGREGATORS["krum_paper"], 2, torch.Generator().manual_seed(0)))
    assert rule(X, 1).shape == (2,)
    one = bucketing(multi_krum, 1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(one(X, n_byzantine=2, m=3), multi_krum(X, 2, m=3))
