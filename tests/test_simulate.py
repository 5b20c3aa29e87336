"""Trajectories against hand-computed steps and exact moments."""

import numpy as np
import pytest

from optcourse import simulate
from optcourse.problems import Quadratic
from optcourse.theory import quadratic


def test_gradient_descent_by_hand():
    xs = simulate.gradient_descent(Quadratic([1.0, 2.0]), [1.0, 1.0], lr=[0.5, 0.25], steps=2)
    np.testing.assert_allclose(xs, [[1, 1], [0.5, 0], [0.375, 0]])


def test_seeds_differ_and_the_same_generator_repeats():
    f = Quadratic([1.0], sigma2=1.0)
    first, again = (simulate.sgd(f, [1.0], lr=0.1, steps=5, seeds=3, rng=np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first[:, -1])) == 3


def test_second_moments_are_those_of_theory():
    """4,000 seeds, 8 steps, batch of 4: within 5 standard errors."""
    f = Quadratic([0.5, 2.0], sigma2=2.0)
    xs = simulate.sgd(f, [1.0, -1.0], lr=0.4, steps=8, seeds=4000, batch_size=4, rng=np.random.default_rng(0))
    exact = quadratic.sgd_moments(
        eigenvalues=f.eigenvalues, x0=[1, -1], noise_variances=f.noise_variances / 4, lr=0.4, steps=np.arange(9)
    )
    squares = np.square(xs)
    assert (abs(squares.mean(0) - exact) <= 5 * squares.std(0) / np.sqrt(4000) + 1e-12).all()


def test_recording_every_third_step():
    f = Quadratic([2.0], sigma2=1.0)
    options = {"lr": 0.1, "steps": 10, "seeds": 2, "record": simulate.squared_gradient(f)}
    every = simulate.sgd(f, [1.0], rng=np.random.default_rng(0), **options)
    third = simulate.sgd(f, [1.0], rng=np.random.default_rng(0), every=3, **options)
    np.testing.assert_array_equal(third, every[:, ::3])
    np.testing.assert_allclose(simulate.gap(f)(np.array([[3.0]])), 9.0)


def test_errors_name_the_argument_or_the_step():
    f = Quadratic([1.0])
    with pytest.raises(ValueError, match=r"lr must be a number or a sequence of shape \[3\], got shape \[2\]"):
        simulate.gradient_descent(f, [1.0], lr=[0.1, 0.1], steps=3)
    with pytest.raises(ValueError, match=r"lr must be in \(0, inf\), got 0"):
        simulate.gradient_descent(f, [1.0], lr=0.0, steps=3)
    with (
        np.errstate(over="ignore"),
        pytest.raises(FloatingPointError, match=r"not finite after step \d+ with lr = 1e\+200"),
    ):
        simulate.gradient_descent(f, [1.0], lr=1e200, steps=5)
