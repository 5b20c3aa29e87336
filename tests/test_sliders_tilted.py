"""The figure behind the slider of the tilt shows the minimizers and weights that scipy finds."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from optcourse import sliders


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label().partition(":")[0]: np.array(line.get_data()) for line in ax.lines}


@pytest.mark.parametrize(("t", "outliers"), [(-0.5, 0.3), (0.7, 0.1), (2.0, 0.5)])
def test_minimizer_and_weights_are_scipys(t, outliers):
    fig = sliders.tilt_figure(t=t, outliers=outliers)
    x, _ = lines(fig.axes[0])["the points"]
    assert (x > 3).sum() == round(60 * outliers)

    def risk(theta):
        return logsumexp(t * (x - theta) ** 2 / 2, b=1 / 60) / t

    bounds = (-1, 1) if t < 0 else (-4, 10)  # with t < 0 the risk has several valleys; the majority's is the lowest
    theta = minimize_scalar(risk, bounds=bounds, method="bounded").x
    (label,) = [line.get_label() for line in fig.axes[0].lines if line.get_label().startswith(f"t = {t:.3g}")]
    assert float(label.split()[-1]) == pytest.approx(theta, abs=0.011)  # the grid's step
    grid, drawn = lines(fig.axes[0])[f"t = {t:.3g}"]
    expected = np.array([risk(theta) for theta in grid])
    np.testing.assert_allclose(drawn, expected - expected.min(), atol=1e-9)
    at, weights = lines(fig.axes[1])[f"t = {t:.3g}"]
    expected = 60 * softmax(t * (at - grid[drawn.argmin()]) ** 2 / 2)
    np.testing.assert_allclose(weights, np.maximum(expected, 1e-4), rtol=1e-9)


def test_without_a_tilt_both_curves_are_the_mean():
    fig = sliders.tilt_figure(t=0.0, outliers=0.25)
    x, _ = lines(fig.axes[0])["the points"]
    lowest = [float(line.get_label().split()[-1]) for line in fig.axes[0].lines if "lowest" in line.get_label()]
    assert lowest == pytest.approx([x.mean()] * 2, abs=0.006)


@pytest.mark.parametrize(("name", "value"), [("t", 11.0), ("t", float("nan")), ("outliers", 1.1)])
def test_arguments_outside_their_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        sliders.tilt_figure(**{"t": 1.0, "outliers": 0.3} | {name: value})


def test_the_legend_covers_no_curve():
    fig = sliders.tilt_figure(t=-0.5, outliers=0.3)
    fig.draw_without_rendering()
    left = fig.axes[0]
    assert not left.get_legend().get_window_extent().overlaps(left.get_window_extent())
