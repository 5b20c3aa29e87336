"""Trajectories against hand-computed steps and exact moments."""

import numpy as np
import pytest

from optcourse.problems import Quadratic
from optcourse.theory import quadratic
from optcourse.training import simulate


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


def test_heavy_ball_and_nesterov_by_hand():
    """On x^2/2 from 1 with lr = 1/2 and momentum = 1/2; x_{-1} = x_0."""
    f = Quadratic([1.0])
    setting = {"lr": 0.5, "momentum": 0.5, "steps": 3}
    np.testing.assert_allclose(simulate.heavy_ball(f, [1.0], **setting)[:, 0], [1, 1 / 2, 0, -1 / 4])
    np.testing.assert_allclose(simulate.nesterov(f, [1.0], **setting)[:, 0], [1, 1 / 2, 1 / 8, -1 / 32])


def test_rates_and_momenta_may_change_with_the_step():
    f = Quadratic([1.0])
    xs = simulate.heavy_ball(f, [1.0], lr=[0.5, 0.25], momentum=[0.9, 0.5], steps=2)
    np.testing.assert_allclose(xs[:, 0], [1, 0.5, 0.5 - 0.25 * 0.5 + 0.5 * (0.5 - 1)])


@pytest.mark.parametrize(("method", "nesterov"), [("heavy_ball", False), ("nesterov", True)])
def test_momentum_equals_torch(method, nesterov):
    """torch moves the point where it takes the gradient: for Nesterov y_k = x_k + momentum (x_k - x_{k-1})."""
    torch = pytest.importorskip("torch")
    f = Quadratic([0.5, 2.0])
    xs = getattr(simulate, method)(f, [1.0, -1.0], lr=0.3, momentum=0.8, steps=50)
    expected = xs + 0.8 * np.diff(xs, axis=0, prepend=xs[:1]) if nesterov else xs
    p = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.3, momentum=0.8, nesterov=nesterov)
    for row in expected:
        np.testing.assert_allclose(p.detach().numpy(), row, atol=1e-13)
        p.grad = f.gradient(p.detach())
        optimizer.step()


@pytest.mark.parametrize("method", [simulate.heavy_ball, simulate.nesterov])
def test_momentum_zero_is_sgd_bit_for_bit(method):
    f = Quadratic([0.5, 2.0], sigma2=1.0)
    setting = {"lr": 0.3, "steps": 20, "every": 3, "seeds": 4, "batch_size": 2}
    sgd = simulate.sgd(f, [1.0, -1.0], rng=np.random.default_rng(1), **setting)
    np.testing.assert_array_equal(method(f, [1.0, -1.0], momentum=0.0, rng=np.random.default_rng(1), **setting), sgd)
    exact = simulate.gradient_descent(f, [1.0, -1.0], lr=0.3, steps=20)
    np.testing.assert_array_equal(method(f, [1.0, -1.0], momentum=0.0, lr=0.3, steps=20), exact)


@pytest.mark.parametrize("method", [simulate.heavy_ball, simulate.nesterov])
def test_momentum_errors(method):
    f = Quadratic([1.0])
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        method(f, [1.0], lr=0.1, momentum=1.0, steps=3)
    with pytest.raises(ValueError, match=r"momentum must be a number or a sequence of shape \[3\], got shape \[2\]"):
        method(f, [1.0], lr=0.1, momentum=[0.5, 0.5], steps=3)
