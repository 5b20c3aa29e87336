"""The worst-case functions: their paths by hand, their constants by a grid."""

import numpy as np
import pytest

from optcourse.problems import BestIterateZigzag, LastIterateTrap, PiecewiseQuadratic
from optcourse.training.simulate import gradient_descent


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_zigzag_walks_over_the_integers(steps):
    f = BestIterateZigzag(L=3.0, steps=steps)
    xs = gradient_descent(f, f.start, lr=1 / f.L, steps=steps)
    np.testing.assert_allclose(xs[:, 0], np.arange(steps + 1), atol=1e-12)
    np.testing.assert_allclose(f.gradient(xs), -3.0, atol=1e-12)
    drops = -np.diff(f.value(xs))
    np.testing.assert_allclose(drops, 0.75 * f.L, atol=1e-10)


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_zigzag_pl_constant_is_the_smallest_ratio(steps):
    f = BestIterateZigzag(L=3.0, steps=steps)
    x = np.linspace(-20, steps + 20, 400_001)[:, None]
    x = x[f.delta0(x) > 1e-6]
    ratio = f.gradient(x)[:, 0] ** 2 / (2 * f.delta0(x))
    assert ratio.min() >= f.mu * (1 - 1e-9)
    half = np.array([0.5 if steps else 5.0])
    assert f.gradient(half)[0] ** 2 / (2 * f.delta0(half)) == pytest.approx(f.mu, rel=1e-9)


def test_trap_doubles_the_slope_at_each_step():
    f = LastIterateTrap(L=2.0, steps=6)
    slopes = gradient_descent(f, f.start, lr=1 / f.L, steps=6, record=f.gradient)[:, 0]
    np.testing.assert_allclose(slopes, -2.0 * 0.5 ** np.arange(6, -1, -1))
    assert f.value([[-1.0], [-5.0]]).tolist() == pytest.approx([2.0, 2.0])


def test_bad_knots_are_refused():
    with pytest.raises(ValueError, match="knots must be a non-empty increasing vector"):
        PiecewiseQuadratic([1.0, 0.0], [1, 1, 1], slope=0.0, minimizer=0.0)
    with pytest.raises(ValueError, match="curvatures must have shape"):
        PiecewiseQuadratic([0.0], [1.0], slope=0.0, minimizer=0.0)
    with pytest.raises(ValueError, match=r"steps must be in 0\.\.50, got 51"):
        LastIterateTrap(steps=51)
