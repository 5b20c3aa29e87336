"""Robust rules against numpy, scipy, loops over the definitions, and values known in closed form."""

import numpy as np
import pytest
import torch
from aggregator_cases import draw
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.stats import trim_mean

from optcourse.nodes.byzantine.aggregators import (
    AGGREGATORS,
    bucketing,
    centered_clipping,
    clipping_from_last,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    nearest_neighbour_mixing,
    squared_distances,
    trimmed_mean,
)
from optcourse.nodes.byzantine.history import recalled
from optcourse.nodes.streams import Streams


def krum_scores(X, f, paper=False):
    """The definition, in loops."""
    scores = []
    for i in range(len(X)):
        others = sorted(float(((X[i] - X[j]) ** 2).sum()) for j in range(len(X)) if j != i)
        scores.append(sum(others[: len(X) - f - 2 if paper else len(X) - f - 1]))
    return np.array(scores)


# Values


@pytest.mark.parametrize("n", [1, 2, 5, 8, 31])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_median_and_trimmed_mean_are_those_of_numpy_and_scipy(n, dtype):
    X, f = draw(n, n, 7, dtype), (n - 1) // 2
    rtol = 4 * torch.finfo(dtype).eps
    np.testing.assert_allclose(median(X, f), np.median(X.numpy(), axis=0), rtol=rtol, atol=rtol)
    expected = trim_mean(X.double().numpy(), (f + 0.5) / n, axis=0)
    np.testing.assert_allclose(trimmed_mean(X, f), expected, rtol=n * rtol, atol=n * rtol)
    np.testing.assert_allclose(mean(X, f), X.numpy().mean(0), rtol=n * rtol, atol=n * rtol)


def test_median_of_an_even_number_is_between_the_two_middle_values():
    X = torch.tensor([[1.0], [2.0], [4.0], [8.0]])
    assert median(X, 1).tolist() == [3.0] and X.median(0).values.tolist() == [2.0]
    assert median(X.bfloat16(), 1).tolist() == [3.0]  # a dtype without numpy's sort


@pytest.mark.parametrize(("n", "f"), [(3, 0), (5, 1), (9, 3), (20, 8)])
def test_krum_takes_the_least_scores_of_the_definition(n, f):
    for seed in range(20):
        X = draw(seed, n, 4)
        for neighbours in ("honest", "paper"):
            if neighbours == "paper" and 2 * f + 2 >= n:
                continue
            order = krum_scores(X.numpy(), f, neighbours == "paper").argsort()
            assert torch.equal(krum(X, f, neighbours), X[order[0]])
            for m in {1, 2, n - f}:
                torch.testing.assert_close(multi_krum(X, f, m, neighbours), X[order[:m].copy()].mean(0))
        torch.testing.assert_close(multi_krum(X, f), multi_krum(X, f, n - f))


def test_krum_tells_squared_distances_from_their_squares_and_from_fewer_neighbours():
    """By hand, f = 1: the five nearest of 6 give 0 1 1 9 25, sum 36, those of 5 sum 37; fourth powers favour 5."""
    points = np.array([0.0, 1.0, 5.0, 6.0, 7.0, 9.0])
    X = torch.tensor(points)[:, None]
    assert np.sort(np.abs(points[:, None] - points) ** 4, axis=1)[:, :5].sum(1).argmin() == 2
    assert krum(X, 1).item() == 6.0
    assert krum(X, 1, "paper").item() == AGGREGATORS["krum_paper"](X, 1).item() == 7.0  # three others: 1 4 4


def test_krum_returns_the_first_of_a_tie():
    assert krum(torch.tensor([[3.0], [-1.0], [1.0]]), 0).item() == 1.0
    assert krum(torch.tensor([[1.0], [0.0], [0.0], [1.0]]), 1).item() == 1.0


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_survive_a_far_center_and_a_far_row(shift, dtype):
    """Without a robust center the Gram matrix loses them: its rounding error is eps times the largest square."""
    X = draw(0, 9, 5, dtype) + shift
    X[-1] = 1e12
    expected = cdist(X.double(), X.double(), "sqeuclidean")
    np.testing.assert_allclose(squared_distances(X), expected, rtol=1e-12)
    far = X.double() - X.double().mean(0)
    naive = (far * far).sum(1)[:, None] + (far * far).sum(1) - 2 * far @ far.T
    assert np.abs(naive.numpy() - expected)[:8, :8].max() > 1  # that the shift to the mean would not have done


def test_distances_too_small_for_the_gram_matrix_are_zero():
    X = torch.tensor([0.0, 0.0, 0.0, 1.0, 1 + 1e-6, 1 + 1e-6 + 1e-8], dtype=torch.float64)[:, None]
    squares = squared_distances(X)
    assert squares[3, 4] == pytest.approx(1e-12, rel=1e-3, abs=0)  # eps / 1e-12 is left of the digits
    assert squares[4, 5] == 0


# Geometric median


def test_geometric_medians_known_in_closed_form():
    triangle = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(triangle, 1), triangle.mean(0))
    # Of four corners of a convex quadrilateral the crossing of the diagonals, here y = x and x = 2.
    corners = torch.tensor([[0.0, 0.0], [2.0, 7.0], [5.0, 5.0], [2.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(geometric_median(corners, 1, 1e-10), torch.full((2,), 2.0, dtype=torch.float64))
    # A corner of at least 120 degrees is the point itself; so is a row that half of the others share.
    assert geometric_median(torch.tensor([[0.0, 0.1], [-1.0, 0.0], [1.0, 0.0]]), 1).tolist() == pytest.approx([0, 0.1])
    assert geometric_median(torch.tensor([[7.0, 3.0], [1.0, 2.0], [1.0, 2.0], [9.0, 9.0]]), 1).tolist() == [1.0, 2.0]
    assert geometric_median(torch.full((4, 2), 3.0), 1).tolist() == [3.0, 3.0]
    assert geometric_median(torch.tensor([[5.0]]), 0).tolist() == [5.0]


@pytest.mark.parametrize("d", [1, 2, 5, 40])
def test_geometric_median_is_a_minimizer(d):
    """Against scipy's minimizer, and by its gradient: the average unit vector, at most the tolerance long."""
    for seed, n in enumerate([5, 12, 25]):
        X = draw(seed, n, d).numpy() * np.logspace(0, 2, n)[:, None]
        found = geometric_median(torch.tensor(X), (n - 1) // 2).numpy()

        def total(z, X=X):
            return np.linalg.norm(X - z, axis=1).sum()

        best = minimize(total, found + 0.1, method="Powell" if d == 1 else "BFGS").fun
        # The guarantee 1/(1 - 2e-8) of the docstring; scipy itself may stop above.
        assert total(found) <= best * (1 + 2.1e-8)
        lengths = np.linalg.norm(X - found, axis=1)
        if lengths.min() > 0:
            assert np.linalg.norm(((X - found) / lengths[:, None]).mean(0)) <= 1.1e-8
        else:
            other = lengths > 0
            unit = (X - found)[other] / lengths[other, None]
            assert np.linalg.norm(unit.sum(0)) <= (~other).sum() + 1e-9


def test_geometric_median_leaves_the_best_row_when_that_is_no_minimizer():
    """Two rows at 0 are the best rows. Weiszfeld's plain step from there ends exactly at (1, 0), a worse row."""
    X = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    assert squared_distances(X).sqrt().sum(1).argmin() == 0
    found = geometric_median(X, 2)
    offsets = X - found
    assert (offsets / offsets.norm(dim=1, keepdim=True)).mean(0).norm() <= 1.1e-8


# Centered clipping


@pytest.mark.parametrize("radius", [0.5, 1e9, "median"])
@pytest.mark.parametrize("n", [4, 9])
def test_clipping_is_that_of_a_loop(n, radius):
    X = draw(n, n, 3)
    v = np.array([1.0, -1.0, 0.5])
    found = centered_clipping(X, 1, torch.tensor(v), radius=radius, iterations=4)
    for _ in range(4):
        lengths = [np.linalg.norm(x - v) for x in X.numpy()]
        tau = np.median(lengths) if radius == "median" else radius
        v = v + sum((x - v) * min(1, tau / length) for x, length in zip(X.numpy(), lengths, strict=True)) / n
    np.testing.assert_allclose(found, v, rtol=1e-13)
    if radius == 1e9:
        torch.testing.assert_close(found, X.mean(0))


def test_clipping_starts_from_the_median_and_stands_rows_at_its_center():
    X = draw(0, 7, 3)
    torch.testing.assert_close(centered_clipping(X, 2), centered_clipping(X, 2, median(X, 2)))
    same = torch.ones(5, 2)
    assert torch.equal(centered_clipping(same, 1), same[0])
    same[-1] = 1e30  # the median radius is 0: nothing moves
    assert torch.equal(centered_clipping(same, 1), same[0])


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("radius", [0.5, "median"])
def test_clipping_from_last_goes_on_where_it_ended(radius, iterations):
    """The released code, one row at a time: its momentum starts at 0 and is never reset."""
    rule, v = clipping_from_last(radius, iterations), np.zeros(3)
    for k in range(5):
        X = draw(k, 7, 3) + 1
        for _ in range(iterations):
            tau = np.median([np.linalg.norm(x - v) for x in X.numpy()]) if radius == "median" else radius
            v = v + sum((x - v) * min(1, tau / np.linalg.norm(x - v)) for x in X.numpy()) / 7
        np.testing.assert_allclose(rule(X, 2), v, rtol=1e-12)


def test_clipping_from_last_moves_at_most_the_radius_a_round():
    """What the history is for: a majority that jumps takes the aggregate along slowly, liars hardly at all."""
    rule, X = clipping_from_last(radius=0.1), torch.full((10, 2), 5.0, dtype=torch.float64)
    X[7:] = -1e6
    old = torch.zeros(2, dtype=torch.float64)
    for k in range(1, 20):
        new = rule(X, 3)
        assert (new - old).norm() <= 0.1 and new[0] == pytest.approx(k * 0.1 * (7 - 3) / 10 / 2**0.5)
        old = new


@pytest.mark.parametrize(("dtype", "powers"), [(torch.float32, (-30, 20)), (torch.float64, (-200, 200))])
@pytest.mark.parametrize("radius", [0.7, "median"])
def test_units_do_not_matter_to_clipping_from_last(dtype, powers, radius):
    for power in powers:
        scale = 10.0**power
        rule = clipping_from_last(radius, 2)
        scaled = clipping_from_last(radius if isinstance(radius, str) else radius * scale, 2)
        for k in range(4):
            X = draw(k, 7, 3).to(dtype)
            error = scaled(X * scale, 2).double() / scale - rule(X.double(), 2)
            assert error.abs().max() <= 200 * torch.finfo(dtype).eps


def test_a_wrapped_rule_shares_its_history():
    mixed = nearest_neighbour_mixing(clipping_from_last(1.0))
    alone = bucketing(clipping_from_last(1.0), 1, Streams("bucketing", 0, range(7)))  # buckets of one row are the rows
    plain = clipping_from_last(1.0)
    for k in range(3):
        X = draw(k, 7, 3)
        torch.testing.assert_close(alone(X, 0), plain(X, 0), rtol=1e-13, atol=1e-13)
        found = mixed(X, 2)
        assert torch.equal(mixed.history[0], found)
    mixed.history.clear()
    assert mixed(draw(9, 7, 3) + 50, 2).norm() <= 1 + 1e-12  # from 0 again


@pytest.mark.parametrize("rows", [1, 3])
def test_a_rule_is_recalled_from_what_any_number_of_own_nodes_keeps(rows):
    rule, whole, past = clipping_from_last(1.0), clipping_from_last(1.0), []
    for k in range(3):
        found, past = recalled(rule, past, rows, draw(k, 7, 3), n_byzantine=2)
        assert torch.equal(found, whole(draw(k, 7, 3), 2))
        assert [t.shape for t in past] == [(rows, 3)]
        rule(draw(k, 7, 3) + 9, 2)  # another run between two rounds


def test_settings_of_clipping_from_last_are_refused_at_once():
    for bad, name in (({"radius": 0}, "radius"), ({"radius": "mean"}, "radius"), ({"iterations": 0}, "iterations")):
        with pytest.raises(ValueError, match=name):
            clipping_from_last(**bad)
    rule = clipping_from_last()
    rule(torch.ones(3, 2), 0)
    with pytest.raises(ValueError, match="X must have rows of 2 numbers as before, got 3: make a new rule"):
        rule(torch.ones(3, 3), 0)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_no_iterate_of_the_geometric_median_is_worse_than_the_best_row(iterations):
    for seed in range(30):
        X = draw(seed, 6, 2) * torch.logspace(0, 2, 6, dtype=torch.float64)[:, None]
        found = geometric_median(X, 1, tolerance=1e-12, iterations=iterations)
        best = squared_distances(X).sqrt().sum(1).min()
        assert (X - found).norm(dim=1).sum() <= best * (1 + 1e-12)


def test_distances_of_whole_numbers_are_exact():
    """The unit of the Gram matrix is a power of two."""
    X = torch.as_tensor(np.random.default_rng(0).integers(-1000, 1000, (7, 3)), dtype=torch.float64)
    assert torch.equal(squared_distances(X), torch.as_tensor(cdist(X, X, "sqeuclidean").round()))


def test_rules_stand_subnormal_numbers():
    X = torch.tensor([[0.0], [4.0], [5.0], [7.0], [40.0]], dtype=torch.float64)
    for rule in (krum, geometric_median):
        assert torch.equal(rule(X * 2.0**-1060, 1), rule(X, 1) * 2.0**-1060)


def test_columns_of_dtypes_that_numpy_lacks_are_sorted_one_by_one():
    X = torch.tensor([[8.0, 1.0], [1.0, 2.0], [2.0, 16.0], [32.0, 4.0]])
    assert median(X.bfloat16(), 1).tolist() == median(X, 1).tolist() == [5.0, 3.0]
    assert trimmed_mean(X.bfloat16(), 1).tolist() == [5.0, 3.0]
