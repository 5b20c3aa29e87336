"""The figures of late and of lying nodes show the numbers of the recursions and of the rules."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from optcourse import sliders
from optcourse.nodes.byzantine.aggregators import AGGREGATORS

RULES = [name for name in AGGREGATORS if name != "krum_paper"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def line(ax, label):
    return next(drawn for drawn in ax.lines if drawn.get_label().startswith(label))


@pytest.mark.parametrize(("delay", "lr"), [(0, 0.5), (0, 2.1), (1, 0.25), (4, 0.2), (4, 0.4), (30, 0.01)])
def test_delayed_run_is_that_of_the_delay_line(delay, lr):
    left, right = sliders.delay_figure(delay, lr, steps=80).axes
    step = np.eye(delay + 1, k=-1)
    step[0, 0] = 1
    step[0, delay] -= lr
    state, seen = np.ones(delay + 1), [1.0]
    for _ in range(80):
        state = step @ state
        seen.append(state[0])
    np.testing.assert_allclose(line(right, "γλ").get_ydata(), np.clip(seen, -1e6, 1e6), rtol=1e-9, atol=1e-12)
    moduli = abs(np.linalg.eigvals(step))
    roots = line(left, "the ")
    np.testing.assert_allclose(np.sort(np.hypot(*roots.get_data())), np.sort(moduli), atol=1e-7)
    shown = float(re.findall(r"factor per step ([\d.]+)", right.get_title())[0])
    assert shown == pytest.approx(moduli.max(), abs=6e-5)
    assert right.get_title().endswith(": converges") == (moduli.max() < 1)
    assert np.hypot(*line(left, "largest").get_data()) == pytest.approx(moduli.max(), abs=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attack", sliders.LIES)
def test_every_rule_but_the_mean_stays_inside_its_circle(attack, rule):
    for f in (0, 3, 9):
        left, right = sliders.attack_figure(f, attack, rule).axes
        honest = np.stack(line(left, "honest").get_data())
        assert honest.shape[1] == 20 - f
        center = honest.mean(1)
        spread = np.square(honest - center[:, None]).sum(0).mean() ** 0.5
        np.testing.assert_allclose(np.stack(line(left, "honest mean").get_data())[:, 0], center)
        ends = np.stack(line(left, rule.replace("_", " ")).get_data())[:, 0]
        away, allowed = map(float, re.findall(r": (\S+), allowed (\S+)", right.get_title())[0])
        assert away == pytest.approx(np.linalg.norm(ends - center) / spread, abs=6e-3)
        bar = right.patches[RULES.index(rule)]
        assert bar.get_width() == pytest.approx(away, abs=6e-3)
        if rule == "mean":
            assert allowed == (0 if f == 0 else np.inf)
        elif rule != "centered_clipping":  # whose constant is that of a server that knows V
            assert away <= allowed + 0.01
        plt.close("all")


@pytest.mark.parametrize(
    ("draw", "good", "bad"),
    [
        (sliders.delay_figure, {"delay": 1, "lr": 0.1}, {"delay": 31}),
        (sliders.delay_figure, {"delay": 1, "lr": 0.1}, {"lr": 0.0}),
        (sliders.delay_figure, {"delay": 1, "lr": 0.1}, {"lr": 2.3}),
        (sliders.attack_figure, {"n_byzantine": 1, "attack": "ALIE", "rule": "krum"}, {"n_byzantine": 10}),
        (sliders.attack_figure, {"n_byzantine": 1, "attack": "ALIE", "rule": "krum"}, {"attack": "shout"}),
        (sliders.attack_figure, {"n_byzantine": 1, "attack": "ALIE", "rule": "krum"}, {"rule": "krum_paper"}),
    ],
)
def test_bad_settings_are_refused(draw, good, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be"):
        draw(**good | bad)
    assert plt.get_fignums() == []
