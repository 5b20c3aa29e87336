"""What the figures of planes show, read back from matplotlib."""

import numpy as np
import pytest
import torch

from optcourse.landscape import Plane, draw, draw_planes
from optcourse.plotting import contour, figure


def plane(function, points=21):
    t = np.linspace(-1, 1, points)
    return Plane(t, 2 * t, function(*np.meshgrid(t, 2 * t, indexing="ij")), torch.zeros(2), torch.eye(2), "by hand")


BOWL, VALLEY = plane(lambda a, b: 0.1 + a**2 + b**2), plane(lambda a, b: np.exp(3 * a))


def test_all_planes_share_levels_and_colours_and_lie_the_right_way_round():
    fig = draw_planes({"bowl": BOWL, "valley": VALLEY})
    lower = [ax for ax in fig.axes if ax.get_xlabel() == "α" and ax.name == "rectilinear"]
    hills = [ax for ax in fig.axes if ax.name == "3d"]
    assert [ax.get_title() for ax in hills] == ["bowl", "valley"] and len(lower) == 2
    shades = [ax.collections[0] for ax in lower]
    assert np.array_equal(shades[0].levels, shades[1].levels) and shades[0].get_clim() == shades[1].get_clim()
    low, high = np.log10([np.exp(-3), np.exp(3)])
    np.testing.assert_allclose([shades[0].levels[0], shades[0].levels[-1]], [low, high])
    assert all(np.allclose(ax.get_zlim(), (low, high)) for ax in hills)
    # The valley rises along α, the horizontal axis: each filled region is as high as the axis.
    top = max(np.ptp(path.vertices[:, 1]) for path in shades[1].get_paths() if len(path.vertices))
    assert top == pytest.approx(4) and lower[1].get_ylim() == (-2, 2)


def test_a_ceiling_cuts_off_and_overflow_is_drawn_at_the_top():
    blown = plane(lambda a, b: np.where(a > 0.5, np.inf, 1 + a**2))
    fig = draw_planes({"bowl": BOWL, "blown": blown}, ceiling=2.0)
    hills = [ax for ax in fig.axes if ax.name == "3d"]
    for ax in hills:
        assert ax.get_zlim()[1] == pytest.approx(np.log10(2))
    fig.canvas.draw()  # nothing that is not finite


def test_a_plane_stands_where_a_surface_of_the_problems_does():
    fig, ax = figure()
    contour(ax, BOWL.value, BOWL.region)
    assert ax.get_xlim() == (-1, 1) and ax.get_ylim() == (-2, 2)
    path = BOWL.coordinates(torch.tensor([[0.5, 1.0], [0.0, 0.0]]))
    fig = draw({"bowl": (BOWL, {"descent": path})})
    np.testing.assert_allclose(fig.axes[0].lines[0].get_xydata(), [[0.5, 1.0], [0.0, 0.0]], atol=1e-12)


def test_between_points_a_plane_is_linear():
    t = BOWL.alphas
    middle = BOWL.value([(t[3] + t[4]) / 2, 0.0])
    assert middle == pytest.approx((BOWL.values[3, 10] + BOWL.values[4, 10]) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("planes", "options", "message"),
    [
        ({}, {}, "planes must hold at least one"),
        ({"flat": plane(lambda a, b: 1 + 0 * a)}, {}, "more than one height"),
        ({"bowl": BOWL}, {"ceiling": 0.05}, "ceiling=0.05"),
    ],
)
def test_bad_arguments_are_named(planes, options, message):
    with pytest.raises(ValueError, match=message):
        draw_planes(planes, **options)
