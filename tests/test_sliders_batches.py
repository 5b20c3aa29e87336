"""The figure of batch sizes shows the numbers of McCandlish's curve."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from optcourse import sliders


@pytest.mark.parametrize(("B", "noise"), [(64, 64), (1, 1000), (65536, 8)])
def test_points_and_titles_are_those_of_the_hyperbola(B, noise):
    fig = sliders.batch_figure(B, noise)
    left, right = fig.axes
    S, E = 1 + noise / B, 1 + B / noise  # in units of the fewest
    point = next(line for line in left.lines if line.get_label() == f"B = {B:g}")
    np.testing.assert_allclose(point.get_ydata(), [S, E])
    (share,) = re.findall(r"[\d.e+-]+(?= %)", left.get_title())
    assert float(share) == pytest.approx(100 / S, rel=5e-3)
    drawn = right.lines[0]
    np.testing.assert_allclose((drawn.get_xdata() - 1) * (drawn.get_ydata() - 1), 1, rtol=1e-6)
    plt.close(fig)


@pytest.mark.parametrize(("B", "noise"), [(1, 256), (65536, 1), (1, 65536), (64, 64)])
def test_the_setting_lies_inside_both_axes(B, noise):
    fig = sliders.batch_figure(B, noise)
    for ax in fig.axes:
        point = next(line for line in ax.lines if line.get_label() == f"B = {B:g}")
        for values, (low, high) in ((point.get_xdata(), ax.get_xlim()), (point.get_ydata(), ax.get_ylim())):
            assert (low < np.asarray(values)).all() and (np.asarray(values) < high).all()
    plt.close(fig)


@pytest.mark.parametrize("bad", [{"batch_size": 0.5}, {"noise_scale": 1e6}, {"batch_size": float("nan")}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be in"):
        sliders.batch_figure(**{"batch_size": 8.0, "noise_scale": 8.0} | bad)
    assert plt.get_fignums() == []
