"""Sharpness against numerical maximizers, simulated steps and Monte Carlo."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize

from optcourse.theory import sharpness

pytestmark = pytest.mark.topic("11.1", "11.3", "11.4")

# --------------------------------------------------------------------------- the worst perturbation


def searched(g, rho, p):
    """The maximum and a maximizer, by linear programming or BFGS on the scale-free ratio: no dual norm."""
    d = len(g)
    if p == math.inf:
        found = linprog(-g, bounds=[(-rho, rho)] * d)
        return -found.fun, found.x
    if p == 1:  # ε = a − b with a, b >= 0 and Σ (a + b) <= ρ
        found = linprog(np.r_[-g, g], A_ub=np.ones((1, 2 * d)), b_ub=[rho])
        return -found.fun, found.x[:d] - found.x[d:]
    best = None
    for start in np.random.default_rng(0).standard_normal((4, d)):
        found = minimize(lambda e: -(g @ e) / np.linalg.norm(e, p), start, method="BFGS", options={"gtol": 1e-10})
        best = found if best is None or found.fun < best.fun else best
    return -rho * best.fun, rho * best.x / np.linalg.norm(best.x, p)


@pytest.mark.parametrize("p", [1, 1.5, 2, 4, math.inf])
@pytest.mark.parametrize("seed", range(4))
def test_the_perturbation_is_what_a_search_finds(p, seed):
    g = np.random.default_rng(seed).standard_normal(8)
    epsilon = sharpness.worst_perturbation(gradient=g, rho=0.05, p=p)
    best, argument = searched(g, 0.05, p)
    assert np.linalg.norm(epsilon, p) == pytest.approx(0.05, rel=1e-12)
    assert g @ epsilon == pytest.approx(best, rel=1e-9)
    np.testing.assert_allclose(epsilon, argument, atol=2e-5 * 0.05 if p != 1.5 else 1e-4)  # BFGS ends that near


@given(
    p=st.one_of(st.floats(1.0, 1e6), st.just(math.inf)),
    scale=st.sampled_from([1e-320, 1e-30, 1.0, 1e300]),
    seed=st.integers(0, 10**6),
)
def test_its_length_is_rho_and_its_value_the_dual_norm_at_any_scale(p, scale, seed):
    unit = np.random.default_rng(seed).standard_normal(6)
    unit /= abs(unit).max()
    epsilon = sharpness.worst_perturbation(gradient=unit * scale, rho=3.0, p=p)
    top = abs(epsilon).max()
    length = top if p == math.inf else top * ((abs(epsilon) / top) ** p).sum() ** (1 / p)
    assert length == pytest.approx(3.0, rel=1e-9)
    dual = abs(unit).sum() if p == math.inf else abs(unit).max() if p == 1 else (abs(unit) ** (p / (p - 1))).sum()
    dual **= 1 if p in (1, math.inf) else (p - 1) / p
    assert unit @ epsilon == pytest.approx(3.0 * dual, rel=1e-3 if scale < 1e-300 else 1e-9)  # few bits are left there


def test_rows_of_gradients_and_zeros():
    g = np.array([[3.0, -4.0], [0.0, 0.0], [0.0, 2.0]])
    for p in (1, 1.5, 2, math.inf):
        epsilon = sharpness.worst_perturbation(gradient=g, rho=1.0, p=p)
        assert (epsilon[1] == 0).all() and epsilon[2].tolist() == [0.0, 1.0]
        np.testing.assert_array_equal(epsilon[0], sharpness.worst_perturbation(gradient=g[0], rho=1.0, p=p))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"gradient": [1.0, np.nan]}, "gradient must be in"),
        ({"gradient": []}, r"gradient must have shape \[..., d\] with d >= 1, got \[0\]"),
        ({"gradient": 1.0}, r"got \[\]"),
        ({"rho": -1.0}, r"rho must be in \[0, inf\), got -1.0"),
        ({"p": 0.5}, r"p must be in \[1, inf\), got 0.5"),
        ({"p": math.nan}, "p must be in"),
    ],
)
def test_bad_arguments_of_the_perturbation(bad, message):
    with pytest.raises(ValueError, match=message):
        sharpness.worst_perturbation(**({"gradient": [1.0, 2.0], "rho": 0.1} | bad))


# ---------------------------------------------------------------------------------- SAM's cycle


def sam_path(eigenvalues, x, rho, lr, steps):
    """SAM with p = 2 on 1/2 Σ λ x²."""
    lam, xs = np.asarray(eigenvalues), [np.asarray(x, dtype=float)]
    for _ in range(steps):
        g = lam * xs[-1]
        xs.append(xs[-1] - lr * lam * (xs[-1] + rho * g / np.linalg.norm(g)))
    return np.array(xs)


@pytest.mark.parametrize("a", [0.05, 0.6, 1.0, 1.5, 1.95])
@pytest.mark.parametrize("start", [1e-6, 0.31, 100.0])
def test_every_start_ends_on_the_cycle(a, start):
    lam, rho = 4.0, 0.2
    end = sam_path([lam], [start], rho, a / lam, 600)[-2:, 0]
    cycle = sharpness.sam_cycle(curvature=lam, rho=rho, lr=a / lam)
    assert abs(end) == pytest.approx(cycle, rel=1e-9) and end[0] * end[1] < 0


@pytest.mark.parametrize(("along", "a"), [(0, 0.4), (1, 0.4), (2, 0.4), (0, 1.7)])
def test_factors_of_deviations_are_those_of_simulated_steps(along, a):
    lam, rho, small = np.array([5.0, 2.0, 1.0]), 0.3, 1e-7
    lr = a / lam[along]
    factors = sharpness.sam_cycle_factors(eigenvalues=lam, along=along, lr=lr)
    cycle = np.eye(3)[along] * sharpness.sam_cycle(curvature=lam[along], rho=rho, lr=lr)
    for j in range(3):
        start = cycle + small * np.eye(3)[j]
        first = sam_path(lam, start, rho, lr, 1)[1] + cycle  # the cycle itself goes to −cycle
        assert first[j] / small == pytest.approx(factors[j] if j != along else -factors[along], abs=1e-5)


def test_only_the_steepest_direction_keeps_the_cycle():
    lam = np.array([3.0, 2.9, 0.5])
    stable = [np.abs(np.delete(sharpness.sam_cycle_factors(eigenvalues=lam, along=i, lr=0.3), i)).max() for i in (0, 1)]
    assert stable[0] < 1 < stable[1]
    end = sam_path(lam, [1e-3, 1.0, 1.0], 0.1, 0.3, 5000)[-1]
    assert abs(end[0]) == pytest.approx(sharpness.sam_cycle(curvature=3.0, rho=0.1, lr=0.3), rel=1e-6)
    assert abs(end[1:]).max() < 1e-6


@pytest.mark.parametrize("bad", [{"lr": 0.5}, {"lr": 0.0}, {"curvature": -1.0}, {"rho": np.nan}])
def test_bad_arguments_of_the_cycle(bad):
    with pytest.raises(ValueError, match=f"^{next(iter(bad))} must be"):
        sharpness.sam_cycle(**({"curvature": 4.0, "rho": 0.1, "lr": 0.1} | bad))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"along": 2}, ValueError, r"along must be in 0\.\.1, got 2"),
        ({"along": True}, TypeError, "along must be an integer, got True"),
        ({"along": 1.0}, TypeError, "along must be an integer, got 1.0"),
        ({"eigenvalues": 1.0}, ValueError, r"eigenvalues must have shape \[d\]"),
        ({"lr": [0.1, 0.2]}, ValueError, r"lr be a number, got the shapes \[2\] and \[2\]"),
    ],
)
def test_bad_arguments_of_the_factors(bad, error, message):
    with pytest.raises(error, match=message):
        sharpness.sam_cycle_factors(**({"eigenvalues": [1.0, 2.0], "along": 0, "lr": 0.1} | bad))


def test_rates_without_a_cycle_are_refused():
    with pytest.raises(ValueError, match="lr must be below"):
        sharpness.sam_cycle_factors(eigenvalues=[1.0, 2.0], along=1, lr=1.0)


# ---------------------------------------------------------------------------------------- wells

WELLS = {"depths": [0.9, 1.0], "centers": [[-3.0], [3.0]], "widths": [1.5, 0.2]}


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("noise", [0.05, 0.5, 2.0])
def test_the_expected_loss_is_the_mean_over_noise(d, noise):
    rng = np.random.default_rng(0)
    centers, widths, depths = rng.standard_normal((2, d)), np.array([1.0, 0.4]), np.array([0.5, 0.8])
    x = centers[1] + 0.1
    there = x + noise * rng.standard_normal((200_000, d))
    distance2 = np.square(there[:, None] - centers).sum(-1)
    seen = 1 - (depths * np.exp(-distance2 / (2 * widths**2))).sum(1)
    exact = sharpness.noisy_wells(x=x, depths=depths, centers=centers, widths=widths, noise=noise)
    assert abs(seen.mean() - exact) <= 5 * seen.std() / np.sqrt(len(seen))


@pytest.mark.parametrize("d", [1, 2, 10])
def test_preferences_swap_where_the_closed_forms_say(d):
    flat, sharp = (0.5, 1.0), (0.6, 0.2)

    def better(tau):
        """How much lower the flat bottom is, each well alone."""
        alone = [
            sharpness.noisy_wells(x=np.zeros(d), depths=[a], centers=np.zeros((1, d)), widths=[s], noise=tau)
            for a, s in (sharp, flat)
        ]
        return float(alone[0] - alone[1])

    assert sharpness.swap_noise(flat=flat, sharp=sharp, dimension=d) == pytest.approx(brentq(better, 1e-6, 3))


def test_the_noise_of_the_swap_in_very_many_dimensions():
    """τ √d tends to the radius; b/a to the power 2/d is 1 to double precision there."""
    flat, sharp = (0.5, 1.0), (0.6, 0.2)
    noise = sharpness.swap_noise(flat=flat, sharp=sharp, dimension=10**18)
    assert noise * 1e9 == pytest.approx(sharpness.swap_radius(flat=flat, sharp=sharp), rel=1e-9)


@pytest.mark.parametrize("swap", [sharpness.swap_noise, sharpness.swap_radius])
@pytest.mark.parametrize(
    ("flat", "message"),
    [
        ((0.5,), r"flat must be a pair \(depth, width\), got \(0.5,\)"),
        (0.5, "flat must be a pair"),
        ((0.5, [1.0, 2.0]), r"width must be a single number, got \[1.0, 2.0\]"),
        ((1.5, 1.0), r"depth must be in \(0, 1\], got 1.5"),
    ],
)
def test_bad_wells_of_the_swap_are_named(swap, flat, message):
    with pytest.raises(ValueError, match=message):
        swap(flat=flat, sharp=(0.6, 0.2))


def test_the_robust_losses_are_equal_at_the_radius():
    radius = sharpness.swap_radius(flat=(0.5, 1.0), sharp=(0.6, 0.2))
    e = np.linspace(-radius, radius, 1001)[:, None]
    worst = [
        sharpness.noisy_wells(x=e, depths=[a], centers=[[0.0]], widths=[s]).max() for a, s in ((0.5, 1.0), (0.6, 0.2))
    ]
    assert worst[0] == pytest.approx(worst[1], rel=1e-9)


@pytest.mark.parametrize(
    ("flat", "sharp"),
    [((0.6, 1.0), (0.5, 0.2)), ((0.5, 0.2), (0.6, 1.0)), ((0.0, 1.0), (0.5, 0.2)), ((0.5, math.inf), (0.6, 0.2))],
)
def test_wells_that_never_swap_are_refused(flat, sharp):
    for swap in (sharpness.swap_noise, sharpness.swap_radius):
        with pytest.raises(ValueError, match=r"^(flat|depth|width) must be"):
            swap(flat=flat, sharp=sharp)


@pytest.mark.parametrize(
    "bad",
    [
        {"x": [0.0, 1.0]},
        {"widths": [1.0]},
        {"centers": [-3.0, 3.0]},
        {"depths": [0.0, 1.0]},
        {"depths": [5.0, 1.0]},
        {"noise": -1.0},
    ],
)
def test_bad_wells_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        sharpness.noisy_wells(**({"x": [0.0]} | WELLS | bad))


def test_one_direction_has_the_factor_of_its_amplitude():
    assert sharpness.sam_cycle_factors(eigenvalues=[2.0], along=0, lr=0.25) == pytest.approx([-0.5])
    with pytest.raises(ValueError, match="eigenvalues must have shape"):
        sharpness.sam_cycle_factors(eigenvalues=[], along=0, lr=0.25)
