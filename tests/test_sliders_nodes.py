"""The figures of many nodes show where FedAvg ends, and how fast graphs agree."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from optcourse import sliders
from optcourse.nodes import mixing_matrix, spectral_gap, topology
from optcourse.sliders import federated, graphs


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def last_number(text):
    return float(re.findall(r"[\d.]+(?:e-?\d+)?", text)[-1])


@pytest.mark.parametrize(("tau", "h"), [(1, 1.0), (10, 1.0), (60, 2.0), (5, 0.0)])
def test_fedavg_ends_where_its_diamond_is(tau, h):
    """Per coordinate sum_i (1 - (1 - lr a_i)^tau) (x - h b_i) = 0; the last average has the loss that is left."""
    left, right = (fig := sliders.local_steps_figure(tau, h)).axes
    a, b = federated.NODES["a"], h * federated.NODES["b"]
    pull = 1 - (1 - federated.LR * a) ** tau
    end, best = (pull * b).sum(0) / pull.sum(0), (a * b).sum(0) / a.sum(0)
    np.testing.assert_allclose(line(left, "where FedAvg ends").get_xydata()[0], end, atol=1e-12)
    np.testing.assert_allclose(line(left, "minimizer of f").get_xydata()[0], best, atol=1e-12)
    assert last_number(left.get_title().replace(" from the minimizer", "")) == pytest.approx(
        np.linalg.norm(end - best), rel=5e-3, abs=1e-12
    )
    left_over = 0.5 * (a.mean(0) * (end - best) ** 2).sum()
    assert last_number(right.get_title()) == pytest.approx(left_over, rel=0.05, abs=1e-12)
    measured = line(right, f"τ = {tau}").get_ydata()
    if tau > 1:
        assert measured[-1] == pytest.approx(left_over, rel=1e-4, abs=1e-12)
    plt.close(fig)


def test_the_ways_of_the_nodes_end_before_the_average_is_taken():
    fig = sliders.local_steps_figure(3, 1.0)
    left = fig.axes[0]
    first, second = (line(left, f"node {i}").get_xydata() for i in range(2))
    averages = line(left, "averages").get_xydata()
    assert len(first) == 4
    np.testing.assert_allclose((first[-1] + second[-1]) / 2, averages[1], atol=1e-12)
    x = np.array(federated.START)
    for point in first:
        np.testing.assert_allclose(point, x, atol=1e-12)
        x = x - federated.LR * federated.NODES["a"][0] * (x - federated.NODES["b"][0])
    plt.close(fig)


@pytest.mark.parametrize(("graph", "n"), [("ring", 8), ("star", 5), ("exponential", 12), ("complete", 3)])
def test_disagreement_is_that_of_the_powers_of_w(graph, n):
    fig = sliders.gossip_figure(graph, n)
    left, right = fig.axes
    W = mixing_matrix(topology(graph, n)).numpy()
    x = np.random.default_rng(0).standard_normal((n, 20))
    drawn = line(right, "measured").get_ydata()
    expected = [np.linalg.norm(np.linalg.matrix_power(W, t) @ x - x.mean(0)) for t in range(len(drawn))]
    np.testing.assert_allclose(drawn, np.array(expected) / expected[0], atol=1e-12)
    assert last_number(left.get_title()) == pytest.approx(spectral_gap(W_t := mixing_matrix(topology(graph, n))), 5e-3)
    assert W_t.shape == (n, n)
    plt.close(fig)


@pytest.mark.parametrize(("n", "exact"), [(2, True), (16, True), (12, False), (3, False)])
def test_one_peer_is_exact_for_powers_of_two_alone(n, exact):
    fig = sliders.gossip_figure("one peer", n)
    labels = [line.get_label() for line in fig.axes[1].lines]
    assert (f"exact after round {n.bit_length() - 1}" in labels) == exact
    plt.close(fig)


@pytest.mark.parametrize("graph", graphs.GRAPHS)
@pytest.mark.parametrize("n", [2, 5, 64])
def test_every_setting_of_the_slider_draws(graph, n):
    fig = sliders.gossip_figure(graph, n)
    fig.canvas.draw()
    plt.close(fig)


@pytest.mark.parametrize(
    ("draw", "bad", "message"),
    [
        (sliders.local_steps_figure, (0, 1.0), "local_steps must be in 1..100, got 0"),
        (sliders.local_steps_figure, (5, 2.5), r"heterogeneity must be in \[0, 2\], got 2.5"),
        (sliders.gossip_figure, ("torus", 9), "graph must be one of"),
        (sliders.gossip_figure, ("ring", 65), "n_nodes must be in 2..64, got 65"),
    ],
)
def test_bad_settings_are_named(draw, bad, message):
    with pytest.raises(ValueError, match=message):
        draw(*bad)
    assert plt.get_fignums() == []
