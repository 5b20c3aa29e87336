"""Mean field against adaptive integration, Monte Carlo, iterated maps and random matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from optcourse.theory import signal

pytestmark = pytest.mark.topic("09.2", "09.3", "09.4")

LENGTHS = (1e-4, 0.1, 1.0, 4.0, 20.0, 100.0)


def gaussian_mean(f, q):
    """E f(sqrt(q) z) for an even f, by adaptive integration."""
    half, _ = integrate.quad(lambda z: f(np.sqrt(q) * z) * stats.norm.pdf(z), 0, 12, epsabs=1e-14, epsrel=1e-12)
    return 2 * half


def slope_of_tanh(h):
    return 1 / np.cosh(h) ** 2


@pytest.mark.parametrize("q", LENGTHS)
def test_integrals_of_tanh_are_those_of_adaptive_integration(q):
    """Also at q = 100, where Gauss-Hermite quadrature with 201 nodes is off by several per cent."""
    square, slope = gaussian_mean(lambda h: np.tanh(h) ** 2, q), gaussian_mean(lambda h: slope_of_tanh(h) ** 2, q)
    got = signal.length_map(q=q, sigma_w2=3.0, sigma_b2=0.2, activation="tanh")
    assert got == pytest.approx(3 * square + 0.2, rel=1e-10)
    assert signal.chi(q=q, sigma_w2=3.0, activation="tanh") == pytest.approx(3 * slope, rel=1e-10)
    line = signal.critical(q=q, activation="tanh")
    assert line.sigma_w2 == pytest.approx(1 / slope, rel=1e-10)
    assert line.sigma_b2 == pytest.approx(q - square / slope, rel=1e-8, abs=1e-12)
    fourth = gaussian_mean(lambda h: slope_of_tanh(h) ** 4, q)
    mean, variance = signal.squared_singular_values(q=q, sigma_w2=1.0, depth=1, activation="tanh", orthogonal=True)
    assert mean == pytest.approx(slope, rel=1e-10) and variance == pytest.approx(fourth - slope**2, rel=1e-8, abs=1e-12)


def test_integrals_of_relu_are_those_of_adaptive_integration():
    square = gaussian_mean(lambda h: h**2, 3.0) / 2  # of one half of the line
    assert signal.length_map(q=3.0, sigma_w2=2.0, sigma_b2=0.1, activation="relu") == pytest.approx(2 * square + 0.1)
    assert signal.chi(q=3.0, sigma_w2=1.0, activation="relu") == 0.5
    assert tuple(signal.critical(q=[0.1, 7.0], activation="relu").sigma_w2) == (2.0, 2.0)


@pytest.mark.parametrize("activation", signal.ACTIVATIONS)
@pytest.mark.parametrize("q", [0.05, 0.8, 6.0])
def test_the_slope_of_the_length_map_is_a_difference_quotient(q, activation):
    at = {"sigma_w2": 1.7, "sigma_b2": 0.3, "activation": activation}
    h = 1e-5 * q
    quotient = (signal.length_map(q=q + h, **at) - signal.length_map(q=q - h, **at)) / (2 * h)
    assert signal.length_slope(q=q, sigma_w2=1.7, activation=activation) == pytest.approx(quotient, rel=1e-7)


@given(w=st.floats(0, 20), b=st.floats(0, 5), q=st.floats(1e-3, 50))
@settings(max_examples=50, deadline=None)
def test_the_length_map_leads_to_its_fixed_point(w, b, q):
    at = {"sigma_w2": w, "sigma_b2": b, "activation": "tanh"}
    fixed = signal.fixed_point(**at)
    assert signal.length_map(q=fixed, **at) == pytest.approx(fixed, abs=1e-12)
    after = signal.length_map(q=q, **at)  # one step leads towards it and not beyond
    assert min(q, fixed) - 1e-9 <= after <= max(q, fixed) + 1e-9


def test_fixed_points_by_hand_and_by_iteration():
    assert signal.fixed_point(sigma_w2=1.0, sigma_b2=0.0, activation="tanh") == 0.0
    assert signal.fixed_point(sigma_w2=1.5, sigma_b2=0.5, activation="relu") == 2.0
    q = 1.0
    for _ in range(120):  # each divides the distance by 1.26
        q = 1.3 * gaussian_mean(lambda h: np.tanh(h) ** 2, q)
    assert signal.fixed_point(sigma_w2=1.3, sigma_b2=0.0, activation="tanh") == pytest.approx(q, rel=1e-9)
    several = signal.fixed_point(sigma_w2=[0.5, 1.3], sigma_b2=0.0, activation="tanh")
    assert several[0] == 0 and several[1] == pytest.approx(q, rel=1e-9)


@given(q=st.floats(1e-3, 30), chi=st.floats(0.2, 1.0))
@settings(max_examples=50, deadline=None)
def test_a_point_of_a_level_line_has_that_length_and_that_slope(q, chi):
    w, b = signal.critical(q=q, activation="tanh", chi=chi)
    assert signal.fixed_point(sigma_w2=w, sigma_b2=b, activation="tanh") == pytest.approx(q, rel=1e-6)
    assert signal.chi(q=q, sigma_w2=w, activation="tanh") == pytest.approx(chi)


def test_a_level_line_ends_where_biases_would_need_a_negative_variance():
    with pytest.raises(ValueError, match="chi must be at most"):
        signal.critical(q=0.01, activation="tanh", chi=2.0)
    assert np.isnan(signal.critical(q=[0.01, 20.0], activation="tanh", chi=2.0).sigma_b2).tolist() == [True, False]


@pytest.mark.parametrize("activation", signal.ACTIVATIONS)
@pytest.mark.parametrize("centred", [False, True])
def test_correlations_are_those_of_pairs_of_gaussians(activation, centred):
    rng, n, q = np.random.default_rng(0), 2_000_000, 2.5
    phi = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0)}[activation]
    z, other = rng.standard_normal((2, n))
    grid = np.array([-0.7, 0.0, 0.4, 0.95])
    got = signal.correlation_map(c=grid, q=q, sigma_w2=1.4, sigma_b2=0.3, activation=activation, centred=centred)
    u = phi(np.sqrt(q) * z)
    for c, value in zip(grid, got, strict=True):
        v = phi(np.sqrt(q) * (c * z + np.sqrt(1 - c**2) * other))
        away = u.mean() * v.mean() if centred else 0.0
        spread = (u.var() if centred else np.square(u).mean()) * 1.4 + 0.3
        # 2 million pairs: a standard error below 1e-3 of a correlation
        assert value == pytest.approx((1.4 * (np.mean(u * v) - away) + 0.3) / spread, abs=4e-3)
    assert signal.correlation_map(
        c=1.0, q=q, sigma_w2=1.4, sigma_b2=0.3, activation=activation, centred=centred
    ) == pytest.approx(1.0, abs=1e-12)


def test_the_slope_of_the_correlation_map_at_one_is_chi():
    w, b = 1.8, 0.2
    q = signal.fixed_point(sigma_w2=w, sigma_b2=b, activation="tanh")
    h = 1e-5
    below = signal.correlation_map(c=1 - h, q=q, sigma_w2=w, sigma_b2=b, activation="tanh")
    assert (1 - below) / h == pytest.approx(signal.chi(q=q, sigma_w2=w, activation="tanh"), rel=1e-3)


@pytest.mark.parametrize(("w", "b"), [(0.6, 0.1), (1.2, 0.3), (3.0, 0.2), (4.0, 0.0)])
def test_depth_scales_are_the_rates_of_the_iterated_maps(w, b):
    at = {"sigma_w2": w, "sigma_b2": b, "activation": "tanh"}
    scales = signal.depth_scales(sigma_w2=w, sigma_b2=b)
    fixed = signal.fixed_point(**at)
    q = [1.05 * fixed]
    for _ in range(12):
        q.append(signal.length_map(q=q[-1], **at))
    away = np.abs(np.array(q) - fixed)
    assert np.log(away[5] / away[6]) == pytest.approx(1 / scales.length, rel=0.03)
    c = [0.7]
    for _ in range(60):
        c.append(float(signal.correlation_map(c=c[-1], q=fixed, **at)))
    steps = np.abs(np.diff(c))
    late = np.flatnonzero(steps > 1e-7)[-2:]
    assert np.log(steps[late[0]] / steps[late[1]]) == pytest.approx(1 / scales.correlation, rel=0.03)
    slope = signal.chi(q=fixed, sigma_w2=w, activation="tanh")
    assert scales.gradient == pytest.approx(1 / abs(np.log(slope)))


def test_at_criticality_gradients_reach_any_depth():
    w, b = signal.critical(q=0.5, activation="tanh")
    scales = signal.depth_scales(sigma_w2=w, sigma_b2=b)
    assert scales.gradient > 1e6 and scales.length < 10


@pytest.mark.parametrize(("activation", "width"), [("tanh", 50), ("tanh", 400), ("relu", 400)])
def test_the_spread_of_lengths_is_that_of_the_conditional_recursion(activation, width):
    """Given its length a layer is exactly Gaussian, so the length alone is a Markov chain: 4000 of them at once."""
    phi = {"tanh": np.tanh, "relu": lambda h: np.maximum(h, 0)}[activation]
    w, b = signal.critical(q=1.0, activation="tanh") if activation == "tanh" else (1.0, 0.5)  # both with q* = 1
    rng, length = np.random.default_rng(1), np.ones(4000)
    for _ in range(25):
        length = w * np.square(phi(np.sqrt(length)[:, None] * rng.standard_normal((4000, width)))).mean(1) + b
    predicted = signal.length_spread(q=1.0, sigma_w2=w, width=width, activation=activation)
    assert length.std() == pytest.approx(predicted, rel=0.06 if width == 50 else 0.04)  # 1/width, and 1.1 % of noise


def test_relu_has_no_fixed_spread_at_criticality():
    with pytest.raises(ValueError, match="slope below 1"):
        signal.length_spread(q=1.0, sigma_w2=2.0, width=100, activation="relu")


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_singular_values_are_those_of_random_products(orthogonal, depth):
    """Layers with independent Gaussian pre-activations of variance q, off criticality: chi = 1.3."""
    rng, n, q = np.random.default_rng(2), 400, 0.6
    w = 1.3 * signal.critical(q=q, activation="tanh").sigma_w2
    found = []
    for _ in range(3):
        J = np.eye(n)
        for _ in range(depth):
            G = rng.standard_normal((n, n))
            W = np.sqrt(w) * (stats.ortho_group.rvs(n, random_state=rng) if orthogonal else G / np.sqrt(n))
            J = slope_of_tanh(np.sqrt(q) * rng.standard_normal(n))[:, None] * (W @ J)
        squares = np.linalg.svd(J, compute_uv=False) ** 2
        found.append((squares.mean(), squares.var()))
    mean, variance = signal.squared_singular_values(
        q=q, sigma_w2=w, depth=depth, activation="tanh", orthogonal=orthogonal
    )
    assert mean == pytest.approx(1.3**depth)
    np.testing.assert_allclose(np.mean(found, 0), [mean, variance], rtol=0.08)  # three matrices of width 400


def test_gains_are_those_of_integration():
    first = integrate.quad(lambda z: max(z, 0) * stats.norm.pdf(z), -12, 12)[0]
    assert signal.centred_gain("relu") == pytest.approx((0.5 - first**2) ** -0.5, rel=1e-9)
    assert signal.centred_gain("tanh") == pytest.approx(gaussian_mean(lambda h: np.tanh(h) ** 2, 1.0) ** -0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: signal.length_map(q=-1.0, sigma_w2=1, sigma_b2=0, activation="tanh"), r"q must be in \[0, inf\)"),
        (lambda: signal.length_map(q=1.0, sigma_w2=1, sigma_b2=-1, activation="tanh"), r"sigma_b2 must be in \[0"),
        (lambda: signal.chi(q=1.0, sigma_w2=1, activation="gelu"), "activation must be one of 'tanh', 'relu'"),
        (lambda: signal.fixed_point(sigma_w2=2.0, sigma_b2=0.0, activation="relu"), r"sigma_w2 must be in \[0, 2\)"),
        (lambda: signal.critical(q=0.0, activation="tanh"), r"q must be in \(0, inf\)"),
        (
            lambda: signal.correlation_map(c=1.5, q=1.0, sigma_w2=1, sigma_b2=0, activation="tanh"),
            r"c must be in \[-1, 1\]",
        ),
        (lambda: signal.length_spread(q=1.0, sigma_w2=1.0, width=0, activation="tanh"), "width must be at least 1"),
        (
            lambda: signal.squared_singular_values(q=1, sigma_w2=1, depth=-1, activation="tanh", orthogonal=True),
            r"depth must be in \[0",
        ),
        (lambda: signal.centred_gain("gelu"), "activation must be one of"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", ["chi", "length_slope", "length_map"])
def test_lengths_that_the_grid_cannot_resolve_are_refused(name):
    """At the limit E tanh'(sqrt(q) z)^2 still has its asymptote, 4 / (3 sqrt(2 pi q)) up to 1/q."""
    more = {"sigma_w2": 1.0, "activation": "tanh"} | ({"sigma_b2": 0.0} if name == "length_map" else {})
    with pytest.raises(ValueError, match=r"q must be in \[0, 1000"):
        getattr(signal, name)(q=1001.0, **more)
    with pytest.raises(ValueError, match=r"q must be in \[0, 100"):
        signal.correlation_map(c=0.5, q=101.0, sigma_w2=1.0, sigma_b2=0.0, activation="tanh")
    assert signal.chi(q=1000.0, sigma_w2=1.0, activation="tanh") == pytest.approx(
        4 / 3 / np.sqrt(2 * np.pi * 1000), rel=1e-3
    )
    at_one = signal.correlation_map(c=1.0, q=100.0, sigma_w2=1.0, sigma_b2=0.0, activation="tanh")
    assert at_one == pytest.approx(1, abs=1e-6)


def test_a_network_without_weights_and_biases_has_no_correlation():
    with pytest.raises(ValueError, match=r"sigma_w2 \+ sigma_b2 must be"):
        signal.correlation_map(c=0.5, q=1.0, sigma_w2=0.0, sigma_b2=0.0, activation="tanh")


def test_without_biases_rounding_makes_no_negative_variance():
    """At the chi of a network without biases sigma_b2 is zero, up to rounding of either sign."""
    for q in np.linspace(0.1, 3, 60):
        largest = q * signal.chi(q=q, sigma_w2=1.0, activation="tanh")
        largest /= signal.length_map(q=q, sigma_w2=1.0, sigma_b2=0.0, activation="tanh")
        found = signal.critical(q=q, activation="tanh", chi=largest)
        assert 0 <= found.sigma_b2 < 1e-13


@pytest.mark.parametrize(("sigma_w2", "sigma_b2"), [(0.5, 1.0), (1.0, 1.0), (0.5, 0.0), (1.0, 0.0), (1.0 + 1e-6, 0.0)])
def test_fixed_points_of_tanh_at_the_corners(sigma_w2, sigma_b2):
    setting = {"sigma_w2": sigma_w2, "sigma_b2": sigma_b2, "activation": "tanh"}
    q = signal.fixed_point(**setting)
    assert signal.length_map(q=q, **setting) == pytest.approx(q, rel=1e-12, abs=1e-15)
    assert (q > 0) == (sigma_b2 > 0 or sigma_w2 > 1)


def test_depth_scales_just_beyond_the_critical_line():
    """The correlation's fixed point is then nearer to 1 than its search goes."""
    start = signal.critical(q=0.5, activation="tanh", chi=1 + 1e-8)
    scales = signal.depth_scales(sigma_w2=start.sigma_w2, sigma_b2=start.sigma_b2)
    assert scales.gradient > 1e7 and scales.correlation > 1e5
