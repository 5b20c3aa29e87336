"""The figures of the sliders of 14 and 15 show what messages, sent one by one, cost."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse import sliders
from optcourse.nodes import Streams, compressors
from optcourse.nodes.time.collectives import execute, plan, sharded
from optcourse.sliders.collectives import COMPRESSORS, PLANS, WIRE
from optcourse.theory import communication


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


@pytest.mark.parametrize("pattern", PLANS)
def test_the_dot_is_the_plan_carried_out_and_lies_on_its_line(pattern):
    n, d = 8, 64
    fig = sliders.collectives_figure(pattern, n, 8.0 * d)
    seconds = execute(plan(pattern, n), torch.zeros(n, d, dtype=torch.float64), **WIRE).seconds
    for ax, x in zip(fig.axes, (8 * d, n), strict=True):
        (dot,) = (line for line in ax.lines if line.get_marker() == "o")
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (x, pytest.approx(seconds, rel=1e-12))
        drawn = line(ax, pattern.replace("_", " "))
        assert drawn.get_linewidth() == 3
        assert np.interp(x, drawn.get_xdata(), drawn.get_ydata()) == pytest.approx(seconds, rel=0.05)


@pytest.mark.parametrize("pattern", PLANS)
def test_the_dot_lies_on_its_curve_at_every_number_of_nodes(pattern):
    """Plans take their extra rounds between powers of two: no curve through the powers alone meets the dot."""
    for n in (3, 5, 127, 1000):
        ax = sliders.collectives_figure(pattern, n, 1e6).axes[1]
        (dot,) = (line for line in ax.lines if line.get_marker() == "o")
        drawn = line(ax, pattern.replace("_", " "))
        curve = dict(zip(drawn.get_xdata(), drawn.get_ydata(), strict=True))
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (n, pytest.approx(curve[n], rel=1e-12))
    dots = {
        n: communication.communication_time(pattern=pattern, n_nodes=n, message_bytes=1e6, **WIRE)
        for n in range(2, 1025)
    }
    assert curve == pytest.approx(dots, rel=1e-12)


def test_the_titles_name_the_fastest_plan_and_the_distance_from_the_bound():
    fig = sliders.collectives_figure("parameter_server", 16, 8e7)
    assert "fastest is rabenseifner" in fig.axes[0].get_title()
    assert fig.axes[1].get_title().endswith(f"is {32 / (2 * 15 / 16):.3g} × the bound")  # latency counts for nothing
    assert "fastest is recursive doubling" in sliders.collectives_figure("ring", 16, 8.0).axes[0].get_title()


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("QSGD, s = 7", lambda n: compressors.qsgd(7, Streams("q", 0, range(n)))),
        ("scaled sign", lambda n: compressors.scaled_sign()),
    ],
)
def test_the_traffic_is_that_of_messages_sent_one_by_one(name, make):
    n, d = 4, 250_000
    fig = sliders.traffic_figure(name, n, 1.0)
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(0))
    one = make(1)
    for back, way in ((None, "sharded, sums dense"), (one, "sharded, sums compressed again")):
        vectors = float(sharded(x, make(n), back).bytes_sent[0]) / (4 * d)
        drawn = line(fig.axes[0], way)
        assert drawn.get_ydata()[n - 2] == pytest.approx(vectors, rel=1e-3)  # parts have scales of their own
    gathered = (n - 1) * make(n)(x).nbytes / n / (4 * d)
    assert line(fig.axes[0], "gathered").get_ydata()[n - 2] == pytest.approx(gathered, rel=1e-3)
    (share,) = re.findall(r"[\d.]+(?= %)", fig.axes[1].get_title())
    assert float(share) == pytest.approx(100 / COMPRESSORS[name][0](d), rel=5e-3)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(list(COMPRESSORS)), st.integers(2, 256), st.floats(1e-3, 1e4))
def test_every_setting_of_the_sliders_draws(compressor, n, megabytes):
    sliders.traffic_figure(compressor, n, megabytes).canvas.draw()
    sliders.collectives_figure("ring", n, 1e6 * megabytes).canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(
    ("draw", "good", "bad", "error", "message"),
    [
        (sliders.collectives_figure, ("ring", 8, 1e3), {"pattern": "star"}, ValueError, "pattern must be one of"),
        (sliders.collectives_figure, ("ring", 8, 1e3), {"n_nodes": 1}, ValueError, "n_nodes must be in 2..1024, got 1"),
        (sliders.collectives_figure, ("ring", 8, 1e3), {"message_bytes": 0.0}, ValueError, "message_bytes must be in"),
        (sliders.traffic_figure, ("top 1 %", 8, 1.0), {"compressor": "zip"}, ValueError, "compressor must be one of"),
        (sliders.traffic_figure, ("top 1 %", 8, 1.0), {"n_nodes": 2.0}, TypeError, "n_nodes must be an integer"),
        (sliders.traffic_figure, ("top 1 %", 8, 1.0), {"megabytes": np.nan}, ValueError, "megabytes must be in"),
    ],
)
def test_bad_arguments_are_named(draw, good, bad, error, message):
    names = draw.__code__.co_varnames[: len(good)]
    with pytest.raises(error, match=message):
        draw(**dict(zip(names, good, strict=True)) | bad)
    assert plt.get_fignums() == []
