"""Averages of the most credible n-f vectors, against loops over all subsets and over the definitions."""

import time
from itertools import combinations

import numpy as np
import pytest
import torch
from aggregator_cases import draw

from optcourse.nodes.byzantine.aggregators import mda, meamed, monna, nearest_neighbour_mixing

COUNTS = [(1, 0), (2, 0), (3, 1), (5, 2), (8, 3), (9, 4), (10, 2)]


def least_diameter(X, size):
    """Every subset: the largest distance in it, then the sum of squared ones."""
    X = X.numpy()
    squares = np.square(X[:, None] - X).sum(-1)
    inside = [squares[np.ix_(rows, rows)] for rows in map(list, combinations(range(len(X)), size))]
    best = min(range(len(inside)), key=lambda k: (inside[k].max(), inside[k].sum()))
    return X[list(list(combinations(range(len(X)), size))[best])].mean(0)


@pytest.mark.parametrize("d", [1, 2, 6])
@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_mda_is_the_best_of_all_subsets(n, f, d):
    """Among random points in the plane about every third case has several subsets of the same diameter."""
    for seed in range(25):
        X = draw(seed, n, d)
        np.testing.assert_allclose(mda(X, f), least_diameter(X, n - f), rtol=1e-12, atol=1e-14)


def test_mda_breaks_ties_of_the_diameter_by_the_sum_of_squares():
    """(0, 0) and (4, 0) with either of the others have the diameter 4; the sum prefers the nearer one."""
    X = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.2], [2.0, -1.0]], dtype=torch.float64)
    assert mda(X, 1).tolist() == pytest.approx([2.0, -1 / 3])
    assert mda(X[[2, 0, 3, 1]], 1).tolist() == pytest.approx([2.0, -1 / 3])


def test_mda_does_not_look_at_every_subset():
    """n = 44, f = 8: 177 million subsets. Outliers apart, so that no branch is like another."""
    X = draw(0, 44, 3)
    X[36:] = 50 * draw(1, 8, 3).sign() * torch.arange(2, 10)[:, None]
    started = time.process_time()
    torch.testing.assert_close(mda(X, 8), X[:36].mean(0))
    assert time.process_time() - started < 10


@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_monna_averages_the_nearest_to_its_reference(n, f):
    for seed, reference in enumerate({0, n // 2, n - 1}):
        X = draw(seed, n, 3)
        order = sorted(range(n), key=lambda i: float((X[i] - X[reference]).square().sum()))
        np.testing.assert_allclose(monna(X, f, reference), X[order[: n - f]].mean(0), rtol=1e-13)
    for bad in (-1, n):
        with pytest.raises(ValueError, match=f"reference must be in 0..{n - 1}, got {bad}"):
            monna(draw(0, n, 3), f, reference=bad)


@pytest.mark.parametrize(("n", "f"), COUNTS)
def test_meamed_averages_the_nearest_to_the_median_in_every_coordinate(n, f):
    for seed in range(10):
        X = draw(seed, n, 4)
        expected = []
        for column in X.numpy().T:
            center = np.median(column)
            expected.append(np.mean(sorted(column, key=lambda value: abs(value - center))[: n - f]))
        np.testing.assert_allclose(meamed(X, f), expected, rtol=1e-13)


def test_mixing_is_monna_for_every_node():
    X = draw(3, 9, 4)
    seen = []
    nearest_neighbour_mixing(lambda mixed, n_byzantine: seen.append(mixed) or mixed[0])(X, 2)
    torch.testing.assert_close(seen[0], torch.stack([monna(X, 2, i) for i in range(9)]))


def test_the_constant_of_monna_holds_on_average_over_honest_references():
    """8f/(n-f) for the mean over them, although a single one can err by more: here an honest node far out."""
    n, f = 9, 2
    worst = 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        honest = torch.as_tensor(rng.standard_normal((n - f, 2)))
        honest[0] *= 10.0 ** rng.uniform(0, 1.5)
        lies = honest[0] + torch.as_tensor(rng.standard_normal((f, 2))) * rng.choice([0.0, 0.5])
        center, V = honest.mean(0), float((honest - honest.mean(0)).square().sum(1).mean())
        X = torch.cat([honest, lies])
        errors = [float((monna(X, f, i) - center).square().sum()) / V for i in range(n - f)]
        assert np.mean(errors) <= 8 * f / (n - f)
        worst = max(worst, errors[0])
    assert worst > 8 * f / (n - f) / 4  # the attack is one: far beyond what nearest references lose


def test_the_reference_of_monna_is_the_first_vector_unless_another_is_named():
    """The nearest three to 0 are 0, 1, 2, and those to 9 are 9, 8, 2."""
    X = torch.tensor([[0.0], [9.0], [1.0], [2.0], [8.0]], dtype=torch.float64)
    assert [float(monna(X, 2, reference)) for reference in (0, 1)] == pytest.approx([1.0, 19 / 3])
    assert float(monna(X, 2)) == pytest.approx(1.0)
