"""The strip of lecture 05 and the damping map of 04 show what the methods do."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from optcourse import data, models, optim, sliders
from optcourse.sliders import strip
from optcourse.theory import momentum as momentum_theory
from optcourse.training import copies, simulate


@pytest.fixture
def workload():
    digits = data.digits(seed=0)
    nets = [models.mlp(64, 10, width=8, seed=seed) for seed in (3, 4)]
    return {"nets": nets, "samples": (digits.x_train, digits.y_train), "orders": [5, 6]}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(strip, "LEARN", 40)
    yield
    plt.close("all")


def test_the_track_of_sgd_is_gradient_descent_at_the_best_of_the_rates(workload):
    its = sliders.track(optim.SGD, **workload)
    ends = {}
    for rate in strip.RATES:
        points = simulate.gradient_descent(strip.VALLEY, strip.START, lr=rate, steps=strip.WALK)
        ends[rate] = np.nan_to_num(strip.VALLEY.value(points[-10:]).mean(), nan=np.inf)
    assert its.valley_rate == min(ends, key=ends.get)
    expected = simulate.gradient_descent(strip.VALLEY, strip.START, lr=its.valley_rate, steps=strip.WALK)
    np.testing.assert_allclose(its.path, expected, atol=1e-12)


def test_the_losses_are_those_of_training_at_the_kept_rate_alone(workload):
    its = sliders.track(optim.RMSprop, alpha=0.9, **workload)
    orders, nets = workload["orders"], workload["nets"]
    alone = copies.train(
        nets, workload["samples"], optim.RMSprop, np.full((40, 1), its.rate), orders=orders, batch_size=32, alpha=0.9
    )
    np.testing.assert_allclose(its.losses, np.minimum(alone.losses[:, 0].T, np.log(10)), rtol=1e-3)
    assert its.losses.shape == (2, 40) and its.rate in strip.RATES


def test_what_explodes_counts_as_guessing_and_is_not_kept(workload):
    its = sliders.track(optim.SGD, momentum=0.99, **workload)
    assert np.isfinite(its.path).all() and (its.losses <= np.log(10) + 1e-12).all()


def test_the_axes_are_the_same_for_every_method(workload):
    tracks = {name: sliders.track(method, **workload) for name, method in (("SGD", optim.SGD), ("Adam", optim.Adam))}
    figures = [sliders.strip_figure(tracks), sliders.strip_figure({"SGD": tracks["SGD"]})]
    limits = [[(ax.get_xlim(), ax.get_ylim()) for ax in fig.axes] for fig in figures]
    assert limits[0] == limits[1]
    (drawn,) = (line for line in figures[0].axes[0].lines if line.get_label().startswith("Adam"))
    np.testing.assert_array_equal(np.stack(drawn.get_data(), axis=-1), tracks["Adam"].path)


@pytest.mark.parametrize("count", [0, 5])
def test_no_methods_or_too_many_are_refused(count):
    with pytest.raises(ValueError, match=f"tracks must hold 1 to 4 methods, got {count}"):
        sliders.strip_figure({str(i): None for i in range(count)})


def test_the_kinds_of_motion_are_those_of_the_roots():
    steps, betas = np.meshgrid(np.geomspace(1e-3, 5, 60), np.linspace(0, 0.99, 50))
    roots = np.array([np.roots([1, -(1 + b - s), b]) for s, b in zip(steps.ravel(), betas.ravel(), strict=True)])
    kinds = np.array(list(sliders.MOTIONS))[sliders.motion_of(steps, betas).ravel()]
    turning, large = np.abs(roots.imag).max(1) > 1e-7, np.abs(roots).max(1)
    clear = np.abs(large - 1) > 1e-7
    np.testing.assert_array_equal((kinds == "diverging")[clear], (large > 1)[clear])
    np.testing.assert_array_equal(kinds == "under-damped", turning)
    settled = ~turning & (large < 1)
    np.testing.assert_array_equal((kinds == "over-damped")[settled], (roots.real.max(1) > 0)[settled])


def test_the_damping_figure_draws_the_iterates_and_their_factors():
    fig = sliders.damping_figure(0.04, 0.9, steps=50)
    drawn = {line.get_label(): line.get_ydata() for line in fig.axes[1].lines if "factor" in line.get_label()}
    assert len(drawn) == 3
    for label, series in drawn.items():
        beta = float(label.split("β = ")[1].split(":")[0])
        x, old = 1.0, 1.0
        for value in series:
            assert value == pytest.approx(x, abs=1e-12)
            x, old = x - 0.04 * x + beta * (x - old), x
        radius = float(momentum_theory.hb_radius(eigenvalues=1.0, lr=0.04, momentum=beta))
        assert float(label.split()[-1]) == pytest.approx(radius, abs=6e-4)
    assert "under-damped" in list(drawn)[2] and float(list(drawn)[1].split("β = ")[1].split(":")[0]) == 0.64


@pytest.mark.parametrize(
    ("arguments", "named"),
    [((0.0, 0.5), "gamma_lambda"), ((1.0, 0.5), "gamma_lambda"), ((0.1, 1.0), "momentum"), ((0.1, -0.1), "momentum")],
)
def test_bad_settings_name_the_argument(arguments, named):
    with pytest.raises(ValueError, match=f"{named} must be in"):
        sliders.damping_figure(*arguments)
    if arguments[0] != 1.0:
        with pytest.raises(ValueError, match=named):
            sliders.motion_of(*arguments)


def test_a_step_of_another_kind_may_walk_the_valley(workload):
    def still(method, *, lr):
        return lambda x, g: x

    its = sliders.track(optim.SGD, valley_step=still, **workload)
    assert (its.path == strip.START).all() and torch.is_tensor(workload["samples"][0])
