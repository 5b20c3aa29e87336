"""Paths against hand-computed traces and torch's own optimizers."""

import numpy as np
import pytest
import torch

from optcourse import optim
from optcourse.landscape import trajectory
from optcourse.problems import Beale, Quadratic, Rosenbrock, Saddle


def test_gradient_descent_on_a_quadratic_is_a_geometric_sequence():
    bowl = Quadratic([1.0, 4.0])
    path = trajectory(lambda p: torch.optim.SGD(p, lr=0.1), bowl, [3.0, -2.0], steps=20)
    k = np.arange(21)[:, None]
    np.testing.assert_allclose(path, [3.0, -2.0] * (1 - 0.1 * np.array([1.0, 4.0])) ** k, rtol=1e-12)
    assert path.dtype == np.float64


def test_the_start_is_not_changed_and_two_runs_are_equal():
    start = np.array([1.0, 1.0])
    first = trajectory(lambda p: optim.Adam(p, lr=0.1), Beale(), start, steps=10)
    assert start.tolist() == [1.0, 1.0]
    assert np.array_equal(first, trajectory(lambda p: optim.Adam(p, lr=0.1), Beale(), start, steps=10))


def test_many_starts_walk_independently():
    starts = np.array([[1.0, 1.0], [-2.0, 0.5], [0.0, 3.0]])
    together = trajectory(lambda p: torch.optim.Adam(p, lr=0.1), Beale(), starts, steps=30)
    for i, start in enumerate(starts):
        alone = trajectory(lambda p: torch.optim.Adam(p, lr=0.1), Beale(), start, steps=30)
        np.testing.assert_allclose(together[:, i], alone, rtol=1e-12)


def test_a_path_that_explodes_ends_in_nan():
    path = trajectory(lambda p: torch.optim.SGD(p, lr=1.0), Rosenbrock(), [-1.2, 1.0], steps=20)
    finite = np.isfinite(path).all(1)
    assert finite[0] and not finite[-1] and np.isnan(path[~finite]).all()


@pytest.mark.parametrize(
    ("start", "steps", "error", "named"),
    [
        ([1.0, 2.0, 3.0], 5, ValueError, "dimension 2"),
        ([1.0, np.nan], 5, ValueError, "start"),
        ([1.0, 2.0], 0, ValueError, "steps"),
        ([1.0, 2.0], 2.5, TypeError, "steps"),
    ],
)
def test_bad_arguments_are_named(start, steps, error, named):
    with pytest.raises(error, match=named):
        trajectory(lambda p: torch.optim.SGD(p, lr=0.1), Saddle(), start, steps)
