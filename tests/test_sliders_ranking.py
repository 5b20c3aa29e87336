"""The figure of performance profiles shows what the definitions say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from optcourse import ranking, sliders

TIMES = np.random.default_rng(0).uniform(1, 9, (4, 3, 6))
TIMES[0, 1, 2] = np.inf
NAMES = list("abcdef")


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    plt.close("all")


@pytest.mark.parametrize("tau_max", [2.0, 4.0])
def test_curves_and_scores(tau_max):
    fig = sliders.profile_figure(TIMES, NAMES, tau_max=tau_max)
    left, right = fig.axes
    scores = ranking.score(TIMES, tau_max).mean(0)
    order = [label.get_text() for label in right.get_yticklabels()]
    assert order == [NAMES[i] for i in np.argsort(-scores, kind="stable")]
    (dots,) = right.lines
    np.testing.assert_allclose(dots.get_xdata(), np.sort(scores)[::-1])
    shown = {line.get_label(): line for line in left.lines if not line.get_label().startswith("_")}
    assert set(shown) == {*order[:3], order[-1]}  # the first three and the last
    for name, line in shown.items():
        tau, height = line.get_data()
        races = [(t[NAMES.index(name)], t.min()) for seed in TIMES for t in seed]
        expected = [np.mean([mine <= each * best for mine, best in races]) for each in tau]
        np.testing.assert_allclose(height, expected)


def test_it_can_be_told_apart_without_colour():
    lines = [
        line for line in sliders.profile_figure(TIMES, NAMES).axes[0].lines if not line.get_label().startswith("_")
    ]
    assert len({line.get_linestyle() for line in lines}) == len(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau_max": 1.0}, "tau_max must be in"),
        ({"tau_max": float("nan")}, "tau_max must be in"),
        ({"names": ["a"]}, "names must name"),
        ({"times": TIMES[:1]}, "at least two seeds"),
        ({"times": -TIMES}, "times must be positive"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        sliders.profile_figure(**{"times": TIMES, "names": NAMES} | change)
