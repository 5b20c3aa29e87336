"""Plateaus and saddles against simulated descent, numerical integrals and sampled matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from optcourse import problems
from optcourse.theory import saddles
from optcourse.training import simulate

pytestmark = pytest.mark.topic("03.2")


@given(lr=st.floats(0.01, 1.5), exponent=st.floats(0.1, 12.0), curvature=st.floats(0.1, 5.0))
def test_escape_takes_the_steps_that_descent_takes(lr, exponent, curvature):
    offset = 10.0**-exponent
    steps = saddles.escape_steps(curvature=curvature, lr=lr, offset=offset, radius=1.0)
    y, taken = offset, 0
    while y < 1.0 * (1 - 1e-10):
        y, taken = y + lr * curvature * y, taken + 1
    assert steps == taken


def test_a_start_at_the_radius_has_escaped():
    assert saddles.escape_steps(curvature=1.0, lr=0.1, offset=2.0, radius=2.0) == 0


def test_the_time_on_a_plateau_is_the_integral_of_the_inverse_slope():
    depth, width = 2.0, 0.7
    plateau = problems.Plateau(depth=depth, width=width)
    for distance in (0.7, 1.5, 2.8):
        integral = quad(lambda s: 1 / plateau.gradient([s, 0.0])[0], width, distance)[0]
        time = saddles.plateau_time(depth=depth, width=width, distance=distance)
        assert time == pytest.approx(integral, rel=1e-9)


def test_descent_with_a_small_rate_takes_the_time_of_the_flow():
    path = simulate.gradient_descent(problems.Plateau(), [3.0, 0.0], lr=0.001, steps=30_000)[:, 0]
    time = saddles.plateau_time(depth=1.0, width=1.0, distance=3.0)
    # Euler's method is off by half a step for every factor e of the slope that it passes.
    assert 0.001 * np.argmax(path <= 1.0) == pytest.approx(time, rel=2e-3)


def test_shares_of_one_two_and_three_dimensions_are_the_known_ones():
    """Half; a cone of 45 degrees; and, from the literature, (pi - 2 sqrt 2) / (4 pi)."""
    known = [0.5, (2 - np.sqrt(2)) / 4, (np.pi - 2 * np.sqrt(2)) / (4 * np.pi)]
    shares = [saddles.positive_definite_share(dim=n) for n in (1, 2, 3)]
    np.testing.assert_allclose(shares, known, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_shares_are_those_of_sampled_matrices(dim):
    A = np.random.default_rng(dim).standard_normal((100_000, dim, dim))
    share = saddles.positive_definite_share(dim=dim)
    sampled = (np.linalg.eigvalsh((A + A.transpose(0, 2, 1)) / 2)[:, 0] > 0).mean()
    assert abs(sampled - share) <= 4 * np.sqrt(share * (1 - share) / len(A))


def test_the_exponent_tends_to_that_of_dean_and_majumdar():
    """Second differences of -log share: 2 * ln(3)/4 for a share ~ exp(-ln(3)/4 N^2); even and odd N take turns."""
    logs = -np.log([saddles.positive_definite_share(dim=n) for n in range(1, 9)])
    assert np.diff(logs, 2)[-2:].mean() == pytest.approx(np.log(3) / 2, rel=0.02)


@pytest.mark.parametrize(
    ("function", "bad", "message"),
    [
        (saddles.escape_steps, {"curvature": 1.0, "lr": 1.0, "offset": 2.0, "radius": 1.0}, "offset must be at most"),
        (saddles.escape_steps, {"curvature": 0.0, "lr": 1.0, "offset": 0.5, "radius": 1.0}, "curvature must be in"),
        (saddles.plateau_time, {"depth": 1.0, "width": 1.0, "distance": 0.5}, "distance must be at least width"),
        (saddles.positive_definite_share, {"dim": 9}, "dim must be in 1..8, got 9"),
    ],
)
def test_bad_arguments_are_named(function, bad, message):
    with pytest.raises(ValueError, match=message):
        function(**bad)
