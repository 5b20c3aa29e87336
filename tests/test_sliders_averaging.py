"""The figure of Lookahead shows what single steps do."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse import sliders


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(fig, i):
    return {line.get_label().split(",")[0] + line.get_label()[-4:]: line.get_ydata() for line in fig.axes[i].lines}


def test_floors_and_paces_are_those_of_steps_made_one_by_one():
    """Variances by iterating them to their fixed point, factors by iterating the mean."""
    lr, k, alpha = 1.6, 3, 0.5
    fig = sliders.lookahead_figure(lr, k, alpha)
    floors, paces = drawn(fig, 0), drawn(fig, 1)
    for i in (120, 160, 199):
        a = sliders.CURVATURES[i]
        for label, (rate, steps, share) in {
            "SGD 1.6": (1.6, 1, 1.0),
            "SGD 0.8": (0.8, 1, 1.0),
            "Lookahead 1.6": (lr, k, alpha),
        }.items():
            mean, variance = 1.0, 0.0
            for _ in range(2000):
                fast, spread, shared = 1.0, variance, variance
                for _ in range(steps):
                    fast *= 1 - rate * a
                    spread = (1 - rate * a) ** 2 * spread + rate**2 * a**2
                    shared *= 1 - rate * a
                mean = 1 - share + share * fast
                variance = (1 - share) ** 2 * variance + share**2 * spread + 2 * share * (1 - share) * shared
            assert floors[label][i] == pytest.approx(a * variance / 2, rel=1e-9)
            assert paces[label][i] == pytest.approx(max(0.1, -steps / np.log(abs(mean))), rel=1e-9)


def test_titles_hold_the_means_and_the_slowest_and_divergence_is_infinite():
    fig = sliders.lookahead_figure(2.2, 5, 0.5)  # SGD diverges at a = 1, Lookahead with odd k does not
    left, right = (ax.get_title() for ax in fig.axes)
    assert left.startswith("mean floor ∞, ") and right.startswith("slowest ∞, ")
    floors = drawn(fig, 0)
    np.testing.assert_array_equal(np.isnan(floors["SGD 2.2"]), 2.2 * sliders.CURVATURES >= 2)
    assert left.endswith(f"Lookahead {np.mean(floors['Lookahead 2.2']):.3g}")


@settings(max_examples=8, deadline=None)
@given(lr=st.floats(0.001, 2.999), k=st.integers(1, 50), alpha=st.floats(0.01, 1.0))
def test_every_setting_of_the_sliders_draws(lr, k, alpha):
    fig = sliders.lookahead_figure(lr, k, alpha)
    fig.canvas.draw()
    plt.close(fig)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"lr": 0.0}, ValueError, r"lr must be in \(0, 3\), got 0"),
        ({"lr": np.nan}, ValueError, "lr must be in"),
        ({"k": 0}, ValueError, "k must be in 1..50, got 0"),
        ({"k": 2.0}, TypeError, "k must be an integer"),
        ({"alpha": 0.0}, ValueError, r"alpha must be in \(0, 1\], got 0"),
        ({"alpha": True}, TypeError, "alpha must be a real number"),
    ],
)
def test_bad_arguments_are_named(bad, error, message):
    with pytest.raises(error, match=message):
        sliders.lookahead_figure(**({"lr": 1.0, "k": 5, "alpha": 0.5} | bad))
