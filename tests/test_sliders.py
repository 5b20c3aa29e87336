"""The figures behind the sliders show what theory and simulation compute."""

from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse import problems, sliders
from optcourse.theory import quadratic, signal
from optcourse.training import simulate


def test_a_moved_slider_redraws_with_the_same_function():
    calls = []

    def draw(height, name):
        calls.append((height, name))
        fig, ax = plt.subplots(figsize=(2, 1))
        ax.plot([0, height])
        return fig

    def png(fig):
        fig.savefig(buffer := BytesIO(), format="png")
        return buffer.getvalue()

    height, name = ipywidgets.FloatSlider(1.0, min=0.0, max=5.0), ipywidgets.Text("a")
    panel = sliders.with_sliders(draw, height=height, name=name)
    assert panel.children[:2] == (height, name) and plt.get_fignums() == []
    assert panel.children[2].value == png(draw(1.0, "a"))
    height.value = 3.0
    assert panel.children[2].value == png(draw(3.0, "a"))
    assert calls == [(1.0, "a"), (1.0, "a"), (3.0, "a"), (3.0, "a")]


def test_an_error_for_the_initial_values_is_not_swallowed():
    with pytest.raises(ValueError, match="kappa must be in"):
        values = {"lr": 1.0, "momentum": 0.5, "kappa": 0.5}
        sliders.with_sliders(sliders.momentum_figure, **{k: ipywidgets.FloatText(v) for k, v in values.items()})


def title_numbers(fig):
    words = fig.axes[1].get_title().replace(",", "").split()
    return float(words[3]), float(words[-1])


def test_the_rate_in_the_title_is_the_one_of_the_drawn_path():
    """kappa = 9 at the best setting: the factor is (3 - 1)/(3 + 1), and gradient descent's is 1 - lr mu."""
    fig = sliders.momentum_figure(lr=2.25, momentum=0.25, kappa=9.0, steps=40)
    here, without = title_numbers(fig)
    assert here == pytest.approx(0.5, abs=1e-3) and without == pytest.approx(abs(1 - 2.25), abs=1e-3)
    drawn = {line.get_label(): np.stack(line.get_data(), axis=-1) for line in fig.axes[0].lines}
    points = drawn["heavy ball"]
    assert points.shape == (41, 2)
    x, old = np.array(sliders.START), np.array(sliders.START)
    for point in points:
        np.testing.assert_allclose(point, x, atol=1e-12)
        x, old = x - 2.25 * np.array([1 / 9, 1.0]) * x + 0.25 * (x - old), x


def test_without_momentum_both_paths_are_the_same():
    lines = sliders.momentum_figure(lr=1.0, momentum=0.0, kappa=10.0).axes[0].lines
    paths = [np.stack(line.get_data()) for line in lines if line.get_label() in ("gradient descent", "heavy ball")]
    np.testing.assert_array_equal(*paths)


def test_the_map_is_white_exactly_where_the_iteration_diverges():
    """Stable iff lr L < 2(1 + momentum)."""
    fig = sliders.momentum_figure(lr=1.0, momentum=0.5, kappa=4.0)
    steps_per_digit = fig.axes[1].collections[0].get_array().reshape(200, 200)
    lrs, betas = np.meshgrid(np.linspace(0.02, 3.98, 200), np.linspace(0, 0.995, 200))
    clear = abs(lrs - 2 * (1 + betas)) > 1e-6
    white = np.ma.getmaskarray(steps_per_digit)
    np.testing.assert_array_equal(white[clear], (lrs > 2 * (1 + betas))[clear])
    # Without momentum at lr = 0.02 the factor is 1 - 0.02/4.
    assert steps_per_digit[0, 0] == pytest.approx(-1 / np.log10(1 - 0.02 / 4))


@settings(max_examples=5)
@given(lr=st.floats(0.01, 3.99), beta=st.floats(0.0, 0.99), kappa=st.floats(1.0, 1000.0))
def test_every_setting_of_the_sliders_draws(lr, beta, kappa):
    fig = sliders.momentum_figure(lr, beta, kappa)
    fig.canvas.draw()
    assert [ax.get_xlabel() for ax in fig.axes[:2]] == ["$x_1$", "step size γL"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"lr": 0.0}, r"lr must be in \(0, 4\), got 0"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ({"kappa": 0.5}, r"kappa must be in \[1, inf\), got 0.5"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        sliders.momentum_figure(**({"lr": 1.0, "momentum": 0.5, "kappa": 10.0} | bad))


def test_the_gap_with_a_constant_rate_is_the_closed_form():
    setting = {
        "eigenvalues": np.array([0.1, 2.0]),
        "x0": np.array([3.0, -1.0]),
        "noise_variances": np.array([1.0, 0.5]),
    }
    gap = quadratic.expected_gap(**setting, lr=np.full(50, 0.7))
    moments = quadratic.sgd_moments(**setting, lr=0.7, steps=np.arange(51))
    np.testing.assert_allclose(gap, 0.5 * moments @ setting["eigenvalues"], rtol=1e-12)


def test_the_gap_with_changing_rates_and_batches_is_the_mean_of_runs():
    bowl = problems.Quadratic([0.2, 1.0], noise_variances=[1.0, 3.0])
    rates = np.r_[np.full(10, 0.5), np.full(10, 0.1)]
    batches = np.r_[np.full(10, 1), np.full(10, 4)]
    gap = quadratic.expected_gap(
        eigenvalues=bowl.eigenvalues,
        x0=[2.0, 2.0],
        noise_variances=bowl.noise_variances / batches[:, None],
        lr=rates,
    )
    rng, x = np.random.default_rng(0), np.full((20_000, 2), 2.0)
    for k, (lr, batch) in enumerate(zip(rates, batches.tolist(), strict=True), 1):
        x = x - lr * bowl.stochastic_gradient(x, rng, batch)
        values = bowl.value(x)
        assert abs(values.mean() - gap[k]) <= 5 * values.std() / np.sqrt(len(x))


def test_the_constant_schedule_is_the_simulated_run_without_noise():
    fig = sliders.schedule_figure("constant", lr=0.5, sigma2=0.0, steps=30)
    bowl = problems.Quadratic([0.05, 1.0])
    expected = simulate.gradient_descent(bowl, [3.0, 3.0], lr=0.5, steps=30, record=bowl.value)
    for line in fig.axes[1].lines:
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-12)


@pytest.mark.parametrize("schedule", sliders.SCHEDULES)
def test_every_schedule_draws_its_rates_and_says_where_it_ends(schedule):
    fig = sliders.schedule_figure(schedule, lr=1.5, sigma2=0.3, steps=97)
    fig.canvas.draw()
    rates, gap = (ax.lines[-1].get_ydata() for ax in fig.axes)
    assert rates.shape == (97,) and gap.shape == (98,)
    assert 0 < rates.min() and rates.max() == pytest.approx(1.5, rel=0.1)
    assert f"after 97 steps {gap[-1]:.3g}," in fig.axes[1].get_title()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"schedule": "linear"}, "schedule must be one of"),
        ({"lr": 2.0}, r"lr must be in \(0, 2\), got 2"),
        ({"sigma2": -1.0}, r"sigma2 must be in \[0, inf\), got -1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_bad_arguments_of_the_schedule_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        sliders.schedule_figure(**({"schedule": "cosine", "lr": 1.0, "sigma2": 1.0} | bad))


def test_newtons_path_and_model_are_those_of_a_hand_computation():
    """f_y = -sin y and f_yy = -cos y, so Newton's step leads from y to y - tan y, and x to 0."""
    fig = sliders.newton_figure(1.0, 0.8, steps=3)
    drawn = {line.get_label(): np.stack(line.get_data(), axis=-1) for line in fig.axes[0].lines}
    y = [0.8]
    for _ in range(3):
        y.append(y[-1] - np.tan(y[-1]))
    np.testing.assert_allclose(drawn["Newton"], np.stack([[1.0, 0, 0, 0], y], axis=1), atol=1e-9)
    up = 0.8 + np.hypot(1.0, np.tan(0.8)) ** -1 * np.tan(0.8)  # away from the saddle; the step is cut to length 1
    assert drawn["Newton with |λ|"][1, 1] == pytest.approx(up)
    assert fig.axes[1].get_title() == f"curvature -0.70: to the model's top, y = {0.8 - np.tan(0.8):.2f}"
    model = {line.get_label(): line for line in fig.axes[1].lines}["quadratic model at the start"]
    s, m = model.get_data()
    np.testing.assert_allclose(
        m, 0.5 + np.cos(0.8) - 1 - np.sin(0.8) * (s - 0.8) - np.cos(0.8) / 2 * (s - 0.8) ** 2, rtol=1e-9
    )


@settings(max_examples=5)
@given(x=st.floats(-2.0, 2.0), y=st.floats(-5.0, 5.0))
def test_every_start_of_newtons_figure_draws(x, y):
    fig = sliders.newton_figure(x, y)
    fig.canvas.draw()
    assert [ax.get_xlabel() for ax in fig.axes] == ["x", "y"]


@pytest.mark.parametrize(("bad", "name"), [({"x": 3.0}, "x"), ({"y": -6.0}, "y"), ({"steps": 0}, "steps")])
def test_bad_arguments_of_newtons_figure_are_named(bad, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        sliders.newton_figure(**({"x": 1.0, "y": 0.8} | bad))


def test_pairs_of_inputs_follow_the_map_and_the_point_lies_on_its_line():
    fig = sliders.signal_figure(*signal.critical(q=0.8, activation="tanh"), layers=7)
    left, right = fig.axes
    assert left.get_title().startswith("q* = 0.8, χ = 1.000: ")
    critical = next(line for line in left.lines if line.get_label() == "χ = 1")
    (point,) = (line for line in left.lines if line.get_marker() == "o")
    assert np.interp(point.get_xdata(), *critical.get_data()) == pytest.approx(point.get_ydata(), rel=1e-2)
    w, b = signal.critical(q=0.8, activation="tanh")
    rng = np.random.default_rng(0)
    z, other = rng.standard_normal((2, 400_000))
    for line in right.lines:
        before, *_, last = line.get_ydata()
        for _ in range(7):  # pairs of Gaussians with this correlation; an error of some 1e-3 a layer
            v = before * z + np.sqrt(max(0, 1 - before**2)) * other
            before = (w * np.mean(np.tanh(np.sqrt(0.8) * z) * np.tanh(np.sqrt(0.8) * v)) + b) / 0.8
        assert last == pytest.approx(before, abs=0.02)
    assert right.get_title().endswith(f"0.99 becomes {last:.3f}")


@settings(max_examples=5, deadline=None)
@given(w=st.floats(0.01, 6), b=st.floats(0.001, 2))
def test_every_initialization_of_the_sliders_draws(w, b):
    fig = sliders.signal_figure(w, b)
    fig.canvas.draw()
    assert "order" in fig.axes[0].get_title() or "chaos" in fig.axes[0].get_title()
    plt.close(fig)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"sigma_w2": 0.0}, r"sigma_w2 must be in \(0, 6\], got 0"),
        ({"sigma_b2": 2.5}, r"sigma_b2 must be in \(0, 2\], got 2.5"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
    ],
)
def test_bad_arguments_of_the_signal_figure_are_named(bad, message):
    with pytest.raises(ValueError, match=message):
        sliders.signal_figure(**({"sigma_w2": 1.0, "sigma_b2": 0.1} | bad))


@pytest.mark.parametrize(
    ("control", "first", "last"),
    [
        (ipywidgets.FloatSlider(1.9, min=0.05, max=3.95, step=0.05), 0.05, 3.95),
        (ipywidgets.IntSlider(5, min=1, max=50), 1, 50),
        (ipywidgets.FloatLogSlider(32, base=2, min=0, max=16, step=1), 1, 2**16),
        (ipywidgets.Dropdown(options=[("one", "a"), ("two", "b")], value="b"), "a", "b"),
    ],
)
def test_a_page_has_some_positions_of_a_control_with_its_ends_and_its_start(control, first, last):
    values, texts = sliders.panel.positions(control)
    assert values[0] == first and values[-1] == last and control.value in values
    assert len(values) == len(texts) <= sliders.panel.POSITIONS and len(set(values)) == len(values)


def test_a_control_whose_values_cannot_be_listed_is_named():
    with pytest.raises(TypeError, match="must be a slider, a list of choices or a checkbox, got Text"):
        sliders.panel.positions(ipywidgets.Text("a"))
