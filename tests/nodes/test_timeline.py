"""Gantt charts: the bars that are drawn, and the time that nodes do not compute."""

import pytest
import torch
from matplotlib.colors import to_hex

from optcourse.nodes.time.clock import Clock, Interval, constant
from optcourse.nodes.time.schedule import asynchronous_schedule
from optcourse.nodes.time.timeline import gantt, idle_share
from optcourse.plotting import COLORS, figure

KIND = {COLORS["blue"].lower(): "compute", COLORS["yellow"].lower(): "communicate", "#e8e8e8": "wait"}


@pytest.fixture
def ax():
    return figure()[1]


def synchronous(seconds, latency, rounds):
    clock = Clock(compute=seconds, latency=latency, record=True).bind(len(seconds))
    for _ in range(rounds):
        clock.compute()
        clock.mean(n_bytes=0)
    return clock


def drawn(ax):
    """(row, start, end, kind) of every rectangle."""
    found = []
    for bars in ax.collections:
        for shape in bars.get_paths():
            (x0, y0), (x1, y1) = shape.vertices.min(0), shape.vertices.max(0)
            if y1 > y0 and x1 > x0:
                found.append((round((y0 + y1) / 2), float(x0), float(x1), KIND[to_hex(bars.get_facecolor()[0])]))
    return sorted(found)


@pytest.mark.parametrize("latency", [0.0, 0.5])
def test_synchronous_bars_are_the_timeline(ax, latency):
    clock = synchronous([1.0, 3.0, 4.0], latency, 3)
    gantt(ax, clock.timeline, 3)
    assert drawn(ax) == sorted(tuple(bar) for bar in clock.timeline)
    low, high = ax.get_ylim()
    assert low > high and ax.get_xlim() == (0, clock.now)  # node 0 on top
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    assert names == ({"compute", "wait", "communicate"} if latency else {"compute", "wait"})


def test_asynchronous_bars_and_updates(ax):
    run = asynchronous_schedule(constant([1.0, 2.5], 2), 2, 9, latency=0.25)
    arrivals = [job.time for job in run.jobs]
    gantt(ax, run.intervals(), 2, updates=arrivals, title="two nodes")
    ticks = [path.vertices[0, 0] for bars in ax.collections for path in bars.get_paths() if len(path.vertices) == 2]
    assert ticks == arrivals and ax.get_title() == "two nodes"
    assert drawn(ax) == sorted(tuple(bar) for bar in run.intervals())


def test_idle_shares_by_hand():
    # 4 seconds per round, of which the nodes compute 1, 3 and 4; then with 4 s for the mean of three (ring, 4 messages)
    assert idle_share(synchronous([1.0, 3.0, 4.0], 0.0, 5).timeline, 3).tolist() == [0.75, 0.25, 0.0]
    assert idle_share(synchronous([1.0, 3.0, 4.0], 1.0, 5).timeline, 3).tolist() == [0.875, 0.625, 0.5]
    # without latency nobody rests in an asynchronous run; with it, 1 of 3 seconds is travel
    assert idle_share(asynchronous_schedule(constant([1.0, 3.0], 2), 2, 50).intervals(), 2).abs().max() < 1e-12
    run = asynchronous_schedule(constant(2.0, 2), 2, 60, latency=0.5)
    assert idle_share(run.intervals(), 2, end=30.0).tolist() == pytest.approx([1 / 3, 1 / 3])


def test_asynchronous_nodes_make_the_gradients_that_waiting_costs():
    seconds = [1.0, 2.0, 5.0]
    clock = synchronous(seconds, 0.0, 20)
    idle = idle_share(clock.timeline, 3)
    run = asynchronous_schedule(constant(seconds, 3), 3, 1000)
    meanwhile = sum(job.time <= clock.now for job in run.jobs)
    assert meanwhile == 100 + 50 + 20 and 3 * 20 == sum(
        round(float(1 - share) * clock.now / s) for share, s in zip(idle, seconds, strict=True)
    )


def test_a_part_of_the_time(ax):
    bars = synchronous([1.0, 4.0], 0.0, 10).timeline
    idle = gantt(ax, bars, 2, end=8.0)
    assert ax.get_xlim() == (0, 8) and idle.tolist() == [0.75, 0.0]
    shown = {text.get_text() for text in ax.texts}
    assert shown == {"75 % idle", "0 % idle"}
    assert idle_share([], 2).tolist() == [1.0, 1.0]


def test_many_nodes_have_few_labels(ax):
    gantt(ax, asynchronous_schedule(constant(1.0, 40), 40, 80).intervals(), 40)
    assert len(ax.get_yticks()) <= 16


@pytest.mark.parametrize(
    ("bars", "options", "message"),
    [
        ([Interval(2, 0, 1, "compute")], {}, "intervals: node must be in 0..1, got 2"),
        ([Interval(0, 0, 1, "sleep")], {}, "intervals: kind must be one of .* got 'sleep'"),
        ([Interval(0, 0, 1, "compute")], {"end": 0.0}, "end must be in"),
        ([], {"n_nodes": 0}, "n_nodes must be at least 1"),
    ],
)
def test_bad_arguments_are_refused(ax, bars, options, message):
    with pytest.raises(ValueError, match=message):
        gantt(ax, bars, **{"n_nodes": 2} | options)


def test_shares_are_float64():
    assert idle_share([], 1).dtype == torch.float64
