"""Lookahead on a noisy quadratic against its recursion step by step, against chains and a brute-force search."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.theory import lookahead, quadratic

pytestmark = pytest.mark.topic("10.1")

RATES, KS, ALPHAS = (0.05, 0.3, 1.0, 1.7, 2.1), (1, 2, 5, 10), (0.2, 0.5, 0.8, 1.0)


def outer_step(P, step, k, alpha, slow):
    """(mean, variance) of the slow weight after k fast steps x <- P x + noise of variance ``step``, and a step back.

    Three numbers are carried along: mean and variance of the fast weight, and its covariance with the slow one.
    """
    m0, v0 = slow
    mean, variance, covariance = m0, v0, v0
    for _ in range(k):
        mean, variance, covariance = P * mean, P * P * variance + step, P * covariance
    new = (1 - alpha) * m0 + alpha * mean
    return new, (1 - alpha) ** 2 * v0 + 2 * alpha * (1 - alpha) * covariance + alpha**2 * variance


def stable(u, k, alpha):
    return abs(1 - alpha + alpha * (1 - u) ** k) < 1


@pytest.mark.parametrize(("u", "k", "alpha"), list(product(RATES, KS, ALPHAS)))
def test_moments_follow_the_recursion(u, k, alpha):
    a, lr, variance, x0 = 2.0, u / 2.0, 3.0, -1.5
    state = x0, 0.0
    for t in range(6):
        found = lookahead.moments(
            eigenvalues=a, x0=x0, noise_variances=variance, lr=lr, k=k, alpha=alpha, outer_steps=t
        )
        assert found.mean == pytest.approx(state[0], rel=1e-12, abs=1e-14)
        assert found.second == pytest.approx(state[1] + state[0] ** 2, rel=1e-12)
        state = outer_step(1 - lr * a, lr**2 * variance, k, alpha, state)


@pytest.mark.parametrize(("u", "k", "alpha"), [s for s in product(RATES, KS, ALPHAS) if stable(*s)])
def test_the_floor_is_the_fixed_point_of_the_recursion_slow_and_fast(u, k, alpha):
    setting = {"eigenvalues": 0.5, "noise_variances": 3.0, "lr": u / 0.5, "k": k, "alpha": alpha}
    P, step = 1 - u, (u / 0.5) ** 2 * 3.0
    state = 0.0, 0.0
    for _ in range(3000):
        state = outer_step(P, step, k, alpha, state)
    floor = lookahead.noise_floor(**setting)
    assert floor == pytest.approx(state[1], rel=1e-10)
    for j in range(k + 1):
        assert lookahead.noise_floor(**setting, fast_steps=j) == pytest.approx(state[1], rel=1e-10)
        state = 0.0, P * P * state[1] + step


def test_the_floor_is_the_papers():
    """Proposition 2, in exact fractions."""
    for u, k, alpha in product((Fraction(1, 10), Fraction(3, 4), Fraction(3, 2)), (1, 4, 5), (Fraction(1, 3), 1)):
        P = 1 - u
        top = alpha**2 * (1 - P ** (2 * k))
        paper = top / (top + 2 * alpha * (1 - alpha) * (1 - P**k)) * u**2 / (1 - P**2)
        ours = lookahead.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=float(u), k=k, alpha=float(alpha))
        assert ours == pytest.approx(float(paper), rel=1e-14)


def test_the_floor_is_that_of_chains():
    """200,000 chains in numpy: the sample variance has a standard error of V sqrt(2/n); 5 of them."""
    rng, n = np.random.default_rng(0), 200_000
    for u, k, alpha in ((0.3, 5, 0.5), (1.7, 4, 0.5), (2.1, 5, 0.5)):
        slow = np.zeros(n)
        for _ in range(60):
            fast = slow
            for _ in range(k):
                fast = fast - u * (fast + 2.0 * rng.standard_normal(n))
            slow = slow + alpha * (fast - slow)
        floor = lookahead.noise_floor(eigenvalues=1.0, noise_variances=4.0, lr=u, k=k, alpha=alpha)
        assert abs(slow.var() / floor - 1) < 5 * np.sqrt(2 / n)
        at_end = lookahead.noise_floor(eigenvalues=1.0, noise_variances=4.0, lr=u, k=k, alpha=alpha, fast_steps=k)
        assert abs(fast.var() / at_end - 1) < 5 * np.sqrt(2 / n)


def test_alpha_one_and_k_one_are_sgd():
    setting = {"eigenvalues": [0.5, 2.0], "noise_variances": [1.0, 3.0], "x0": [1.0, -2.0]}
    sgd = quadratic.sgd_moments(**setting, lr=0.3, steps=[0, 10, 40])
    for k in (1, 2, 5):
        found = lookahead.moments(**setting, lr=0.3, k=k, alpha=1.0, outer_steps=np.array([[0], [10 // k], [40 // k]]))
        np.testing.assert_allclose(found.second, sgd, rtol=1e-12)
    found = lookahead.moments(**setting, lr=0.75, k=1, alpha=0.4, outer_steps=np.array([[0], [10], [40]]))
    np.testing.assert_allclose(found.second, sgd, rtol=1e-12)


@given(alpha=st.floats(0.01, 1.0), k=st.integers(1, 20), a=st.floats(0.01, 100.0))
def test_where_one_step_solves_the_problem_the_floor_is_sgds_at_the_product_of_the_rates(alpha, k, a):
    """lr a = 1: both are alpha sigma^2 / (a^2 (2 - alpha))."""
    found = lookahead.noise_floor(eigenvalues=a, noise_variances=3.0, lr=1 / a, k=k, alpha=alpha)
    assert found == pytest.approx(quadratic.noise_floor(eigenvalues=a, noise_variances=3.0, lr=alpha / a), rel=1e-9)


@settings(max_examples=300)
@given(u=st.floats(1e-3, 1.999), k=st.integers(1, 12), alpha=st.floats(0.01, 1.0))
def test_in_one_direction_sgd_of_equal_rate_has_no_higher_floor(u, k, alpha):
    """The rate per gradient, |rho|^(1/k), with SGD at lr = 1 - |rho|^(1/k): the lecture's theorem."""
    rho = lookahead.contraction(eigenvalues=1.0, lr=u, k=k, alpha=alpha)
    sgd = quadratic.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=1 - abs(rho) ** (1 / k))
    assert sgd <= lookahead.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=u, k=k, alpha=alpha) * (1 + 1e-9)


@given(k=st.integers(1, 15), alpha=st.floats(0.02, 1.0), off=st.sampled_from([-1e-6, 1e-6]))
def test_the_edge_is_where_the_factor_leaves_the_unit_interval(k, alpha, off):
    edge = lookahead.stability_edge(k=k, alpha=alpha)
    factor = lookahead.contraction(eigenvalues=1.0, lr=edge * (1 + off), k=k, alpha=alpha)
    assert (abs(factor) < 1) == (off < 0)


def test_odd_k_is_stable_beyond_two_and_even_k_is_not():
    assert lookahead.stability_edge(k=5, alpha=0.5) == pytest.approx(1 + 3**0.2)
    setting = {"eigenvalues": 1.0, "x0": 1.0, "noise_variances": 1.0, "lr": 2.2, "alpha": 0.5, "outer_steps": 500}
    assert lookahead.moments(**setting, k=5).second < 100 < 1e30 < lookahead.moments(**setting, k=4).second


def test_tiny_rates_lose_no_digits():
    """In exact fractions; 1 - (1 - u)^(2k) alone would keep no digit at u = 1e-17."""
    for u in (Fraction(1, 10**17), Fraction(1, 10**9), 2 - Fraction(1, 2**40)):
        P, k, alpha = 1 - u, 5, Fraction(1, 2)
        exact = u**2 * alpha * sum(P ** (2 * j) for j in range(k)) / ((1 - P**k) * (2 - alpha + alpha * P**k))
        found = lookahead.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=float(u), k=k, alpha=0.5)
        assert found == pytest.approx(float(exact), rel=1e-13)
    at_two = lookahead.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=2.0, k=5, alpha=0.5)
    assert at_two == pytest.approx(4 * 0.5 * 5 / (2 * 1))  # P = -1: five squares of one


def test_tiny_factors_lose_no_digits():
    """alpha = 1: rho = P^k itself, 0.13^20."""
    found = lookahead.contraction(eigenvalues=1.0, lr=0.87, k=20, alpha=1.0)
    assert found == pytest.approx(0.13**20, rel=1e-12)


def test_overflow_is_infinite_and_zero_stays_zero():
    setting = {"eigenvalues": 1.0, "lr": 5.0, "k": 4, "alpha": 0.5, "outer_steps": 1000}
    assert lookahead.moments(**setting, x0=0.0, noise_variances=0.0) == (0.0, 0.0)
    assert lookahead.moments(**setting, x0=0.0, noise_variances=1.0) == (0.0, np.inf)
    assert lookahead.moments(**setting, x0=1.0, noise_variances=0.0) == (np.inf, np.inf)
    still = lookahead.moments(**{**setting, "outer_steps": 0}, x0=2.0, noise_variances=1.0)
    assert still == (2.0, 4.0)


@pytest.mark.parametrize(
    ("change", "second"),
    [
        ({"lr": 10.0, "k": 400, "outer_steps": 1}, np.inf),  # P^k itself overflows, and is divided by itself
        ({"lr": 1e200, "k": 2, "outer_steps": 3}, np.inf),
        ({"lr": 1e200, "eigenvalues": 1e200, "k": 2, "outer_steps": 3}, np.inf),
        ({"x0": 0.0, "lr": 3.0, "k": 600, "outer_steps": 2}, np.inf),
        ({"x0": 0.0, "lr": 3.0, "k": 600, "outer_steps": 0}, 0.0),
        ({"x0": 2.0, "lr": 3.0, "k": 600, "outer_steps": 0}, 4.0),
    ],
)
def test_what_overflows_on_the_way_is_infinite_and_never_nan(change, second):
    setting = {"eigenvalues": 1.0, "x0": 1.0, "noise_variances": 1.0, "alpha": 0.5} | change
    assert lookahead.moments(**setting).second == second


@pytest.mark.parametrize("steps", [1000, 2000])
def test_the_best_single_cycle_is_found_though_large_rates_overflow(steps):
    a = 1 / np.arange(1, 101.0)
    bowl = {"eigenvalues": a, "x0": np.ones(100), "noise_variances": 0.3 * a**2, "steps": steps}
    assert 0 < lookahead.best(**bowl, k=steps).gap <= lookahead.best(**bowl, k=1).gap * (1 + 1e-9)


def test_a_flat_direction_beside_an_explosion_is_searched_too():
    found = lookahead.best(eigenvalues=[1.0, 0.0], x0=[1.0, 1.0], noise_variances=[0.1, 0.1], steps=2000, k=2000)
    assert 0 < found.gap < 0.5


def test_huge_noise_gets_a_tiny_rate():
    """(1 - u)^2T / 2 + u^2 s / 2 sum_j (1 - u)^2j is lowest near u = 1 / s = 1e-8, hardly below 1/2."""
    loud = {"eigenvalues": [1.0], "x0": [1.0], "noise_variances": [1e8], "steps": 1000}
    for k in (1, 5):
        found = lookahead.best(**loud, k=k)
        assert found.gap == pytest.approx(0.5 - 500 / 1e8, abs=1e-8)
        assert found.lr * found.alpha == pytest.approx(1e-8, rel=0.05)


def test_arguments_broadcast_and_single_numbers_give_floats():
    found = lookahead.noise_floor(
        eigenvalues=[1.0, 0.1], noise_variances=1.0, lr=np.full((3, 1), 0.5), k=[2, 5], alpha=0.5
    )
    assert found.shape == (3, 2)
    one = {"eigenvalues": 1.0, "lr": 0.5, "k": 2, "alpha": 0.5}
    assert type(lookahead.contraction(**one)) is type(lookahead.noise_floor(**one, noise_variances=1.0)) is float


SPECTRUM = {
    "eigenvalues": 1 / np.arange(1, 21.0),
    "x0": np.ones(20),
    "noise_variances": 0.3 / np.arange(1, 21.0),
}


@pytest.mark.parametrize(("steps", "k"), [(60, 1), (60, 5), (20, 10)])
def test_the_best_setting_is_that_of_a_fine_grid(steps, k):
    found = lookahead.best(**SPECTRUM, steps=steps, k=k)
    lrs, alphas = np.linspace(0.01, 2.5, 250)[:, None, None], np.linspace(0.02, 1, 50)[:, None]
    moments = lookahead.moments(**SPECTRUM, lr=lrs, k=k, alpha=alphas, outer_steps=steps // k)
    gaps = 0.5 * moments.second @ SPECTRUM["eigenvalues"]
    assert found.gap <= gaps.min()
    assert found.gap == pytest.approx(gaps.min(), rel=1e-3)
    at = lookahead.moments(**SPECTRUM, lr=found.lr, k=k, alpha=found.alpha, outer_steps=steps // k).second
    assert found.gap == pytest.approx(0.5 * at @ SPECTRUM["eigenvalues"])
    assert k > 1 or found.alpha == 1


@pytest.mark.parametrize("steps", [10, 100])
def test_the_best_lookahead_is_never_worse_than_the_best_sgd(steps):
    sgd = lookahead.best(**SPECTRUM, steps=steps, k=1)
    for k in (2, 5, 10):
        assert lookahead.best(**SPECTRUM, steps=steps, k=k).gap <= sgd.gap * (1 + 1e-9)


ONE = {"eigenvalues": 1.0, "lr": 0.5, "k": 5, "alpha": 0.5}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"alpha": 0.0}, ValueError, r"alpha must be in \(0, 1\], got 0.0"),
        ({"alpha": 1.5}, ValueError, r"alpha must be in \(0, 1\]"),
        ({"alpha": np.nan}, ValueError, "alpha must be in"),
        ({"alpha": True}, TypeError, "alpha must be a real number"),
        ({"k": 0}, ValueError, r"k must be in \[1, inf\), got 0"),
        ({"k": 2.5}, ValueError, "k must hold integers, got 2.5"),
        ({"lr": 0.0}, ValueError, "lr must be in"),
        ({"lr": np.inf}, ValueError, "lr must be in"),
        ({"eigenvalues": -1.0}, ValueError, "eigenvalues must be in"),
    ],
)
def test_bad_settings_are_named(change, error, message):
    for function in (
        lookahead.contraction,
        lambda **s: lookahead.noise_floor(**s, noise_variances=1.0),
        lambda **s: lookahead.moments(**s, noise_variances=1.0, x0=1.0, outer_steps=3),
    ):
        with pytest.raises(error, match=message):
            function(**{**ONE, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lookahead.noise_floor(**{**ONE, "lr": 2.3}, noise_variances=1.0), "below stability_edge"),
        (lambda: lookahead.noise_floor(**{**ONE, "lr": 2.0, "k": 4}, noise_variances=1.0), "below stability_edge"),
        (lambda: lookahead.noise_floor(**{**ONE, "eigenvalues": 0.0}, noise_variances=1.0), "above 0"),
        (lambda: lookahead.noise_floor(**ONE, noise_variances=-1.0), "noise_variances must be in"),
        (lambda: lookahead.noise_floor(**ONE, noise_variances=1.0, fast_steps=-1), "fast_steps must be in"),
        (lambda: lookahead.moments(**ONE, noise_variances=1.0, x0=1.0, outer_steps=0.5), "outer_steps must hold int"),
        (lambda: lookahead.moments(**ONE, noise_variances=1.0, x0=np.nan, outer_steps=1), "x0 must be in"),
        (lambda: lookahead.best(**SPECTRUM, steps=10, k=3), "k must divide steps, got k=3 and steps=10"),
        (lambda: lookahead.best(**SPECTRUM, steps=0, k=1), "steps must be at least 1, got 0"),
        (lambda: lookahead.best(**{**SPECTRUM, "eigenvalues": np.zeros(20)}, steps=5, k=1), "largest_eigenvalue"),
        (lambda: lookahead.best(**{**SPECTRUM, "x0": np.ones(19)}, steps=5, k=1), r"x0 must have shape \[d\]"),
        (lambda: lookahead.best(**{**SPECTRUM, "x0": np.full(20, np.nan)}, steps=5, k=1), "x0 must be in"),
        (lambda: lookahead.best(eigenvalues=[], x0=[], noise_variances=[], steps=5, k=1), "largest_eigenvalue"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(u=st.floats(1e-3, 1.999), k=st.integers(1, 12), alpha=st.floats(0.01, 1.0))
def test_in_the_steady_state_the_best_point_of_the_line_is_at_half_of_alpha(u, k, alpha):
    """10.2: E (phi + s (theta_k - phi))^2, from three exact values of the parabola: s = 0, alpha and 1."""
    setting = {"eigenvalues": 1.0, "noise_variances": 1.0, "lr": u, "k": k, "alpha": alpha}
    slow, end = lookahead.noise_floor(**setting), lookahead.noise_floor(**setting, fast_steps=k)
    covariance = (1 - u) ** k * slow

    def second(s):
        return (1 - s) ** 2 * slow + 2 * s * (1 - s) * covariance + s**2 * end

    assert second(alpha) == pytest.approx(slow, rel=1e-8)
    around = [second(alpha / 2 + off) for off in (-0.01, 0.0, 0.01)]
    assert around[1] < min(around[0], around[2])
    assert around[0] == pytest.approx(around[2], rel=1e-8)


def test_the_search_ends_where_it_says():
    """One step that must not be small along the small eigenvalue; noise that calls for none at all."""
    far = lookahead.best(eigenvalues=[1.0, 0.01], x0=[0.01, 10.0], noise_variances=[0.0, 0.0], steps=1, k=1)
    assert (far.lr, far.alpha) == pytest.approx((3.0, 1.0), rel=1e-6)
    still = lookahead.best(eigenvalues=[1.0], x0=[1.0], noise_variances=[1e14], steps=2, k=2)
    assert (still.lr, still.alpha) == pytest.approx((1e-9, 0.01), rel=1e-6)
