"""The figures of lecture 11 draw what they say: maxima by brute force, steps by hand."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse import sliders


def lines(ax):
    return {line.get_label(): np.stack(line.get_data()) for line in ax.lines}


def loss(x, width):
    flat = 0.9 * math.exp(-((x + 3) ** 2) / (2 * 1.5**2))
    return 1 - flat - math.exp(-((x - 3) ** 2) / (2 * width**2))


def test_the_robust_loss_is_the_maximum_in_the_ball():
    left = lines(sliders.wells_figure(0.4, 0.3).axes[0])
    (x, robust), (_, plain) = left["robust loss $\\ell^R$"], left["loss $\\ell$"]
    for i in (0, 100, 2000, 7000, 10_000, 11_111, len(x) - 1):
        assert plain[i] == pytest.approx(loss(x[i], 0.3), abs=1e-12)
        ball = [loss(x[i] + e, 0.3) for e in np.linspace(-0.4, 0.4, 801)]
        assert robust[i] == pytest.approx(max(ball), abs=1e-6)
    plt.close("all")


def test_the_curves_of_the_bottoms_cross_where_the_theory_says():
    fig = sliders.wells_figure(0.2, 0.2)
    right = lines(fig.axes[1])
    radii, a = right["$\\ell^R$ at A"]
    b = right["$\\ell^R$ at B"][1]
    (swap,) = [points[0, 0] for label, points in right.items() if label.startswith("swap at")]
    crossing = radii[(a < b).argmax()]  # the first radius at which A is better
    assert crossing - 0.01 <= swap <= crossing + 1e-3  # the other well's tail moves it by less
    assert fig.axes[1].get_title().endswith(f"{'A' if swap < 0.2 else 'B'} is better")
    assert b[-1] == pytest.approx(max(loss(3 + e, 0.2) for e in np.linspace(-1, 1, 201)), abs=1e-9)
    plt.close("all")


def test_the_path_is_sams():
    fig = sliders.cycle_figure(0.3, 0.2, steps=40)
    points = lines(fig.axes[0])["SAM"].T
    x = np.array([0.6, 1.4])
    for point in points:
        np.testing.assert_allclose(point, x, atol=1e-12)
        g = np.array([4.0, 0.5]) * x
        x = x - 0.2 * np.array([4.0, 0.5]) * (x + 0.3 * g / np.linalg.norm(g))
    drawn = lines(fig.axes[1])
    assert drawn["$|x_1|$, steep"][1, -1] == pytest.approx(0.2 * 4 * 0.3 / (2 - 0.2 * 4), rel=1e-2)
    assert "γλρ/(2−γλ) = 0.2" in drawn
    plt.close("all")


@pytest.mark.parametrize(("rho", "lr"), [(0.2, 0.01), (0.2, 0.45), (1.0, 0.49)])
def test_the_loss_of_the_last_step_is_told_and_the_path_is_in_the_window(rho, lr):
    """At small rates the cycle is not reached by then; at large ones it is wider than the ravine."""
    left, right = sliders.cycle_figure(rho, lr).axes
    points = lines(left)["SAM"]
    loss = 2 * points[0, -1] ** 2 + points[1, -1] ** 2 / 4
    cycle = 2 * (lr * 4 * rho / (2 - lr * 4)) ** 2
    assert right.get_title() == f"loss after 60 steps {loss:.2g}, of the cycle {cycle:.2g}"
    for values, (low, high) in zip(points, (left.get_xlim(), left.get_ylim()), strict=True):
        assert low < values.min() and values.max() < high
    top = max(line[1].max() for line in lines(right).values())
    assert top < right.get_ylim()[1]
    plt.close("all")


def test_the_legend_hides_no_curve_of_wide_wells():
    fig = sliders.wells_figure(0.2, 1.0)
    fig.canvas.draw()
    for ax in fig.axes:
        box = ax.get_legend().get_window_extent()
        for line in ax.lines:
            points = ax.transData.transform(np.stack(line.get_data()).T)
            assert not any(box.contains(*point) for point in points), line.get_label()
    plt.close("all")


@settings(max_examples=5, deadline=None)
@given(rho=st.floats(0, 1), width=st.floats(0.05, 1), lr=st.floats(0.01, 0.49))
def test_every_setting_draws(rho, width, lr):
    for fig in (sliders.wells_figure(rho, width), sliders.cycle_figure(max(rho, 0.01), lr)):
        fig.canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("draw", "bad", "message"),
    [
        (sliders.wells_figure, {"rho": 2.0}, r"rho must be in \[0, 1\], got 2"),
        (sliders.wells_figure, {"width": 0.0}, r"width must be in \[0.05, 1\], got 0"),
        (sliders.cycle_figure, {"rho": 0.0}, r"rho must be in \[0.01, 1\], got 0"),
        (sliders.cycle_figure, {"lr": 0.5}, r"lr must be in \(0, 0.5\), got 0.5"),
        (sliders.cycle_figure, {"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(draw, bad, message):
    good = {"rho": 0.2, "width": 0.2} if draw is sliders.wells_figure else {"rho": 0.2, "lr": 0.1}
    with pytest.raises(ValueError, match=message):
        draw(**(good | bad))
