"""Momentum theory against companion matrices, Lyapunov equations, exact fractions and random functions."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from optcourse import problems
from optcourse.theory import momentum, quadratic

pytestmark = pytest.mark.topic("04.4", "04.5", "04.6")

#: Exact worst cases from performance estimation (PEPit 0.5.1 with CLARABEL).
NAG_CONVEX = {1: 1 / 6, 2: 0.1, 5: 0.0357142859, 10: 0.0128205132}
NAG_STRONGLY_CONVEX = {1: 0.5479388, 2: 0.3476022, 5: 0.0771202, 10: 0.0043322}  # mu = 0.1, L = 1, start value 1


def companion(method, lam, lr, beta):
    """One step of (x_k, x_{k-1}) written from the algorithm, not from its characteristic polynomial."""

    def step(state):
        x, old = state
        ahead = x + beta * (x - old)
        new = ahead - lr * lam * (x if method == "hb" else ahead)
        return np.array([new, x])

    return np.stack([step(e) for e in np.eye(2)], axis=1)


def run(gradient, x0, lr, beta, steps, nesterov):
    """All iterates; ``beta`` maps k = 0, 1, ... to the momentum between x_k and x_{k+1}."""
    xs = [x0, x0]
    for k in range(steps):
        ahead = xs[-1] + beta(k) * (xs[-1] - xs[-2])
        xs.append(ahead - lr * gradient(ahead if nesterov else xs[-1]))
    return np.stack(xs[1:])


def growing(k):
    return (k - 1) / (k + 2) if k else 0.0


hyper = {"lam": st.floats(-1.0, 5.0), "lr": st.floats(0.01, 2.0), "beta": st.floats(0.0, 0.99)}


@given(**hyper)
def test_radii_are_the_spectral_radii_of_the_iterations(lam, lr, beta):
    for method, radius in (("hb", momentum.hb_radius), ("nag", momentum.nag_radius)):
        expected = abs(np.linalg.eigvals(companion(method, lam, lr, beta))).max()
        assert radius(eigenvalues=lam, lr=lr, momentum=beta) == pytest.approx(expected, abs=1e-6)


@given(**hyper)
def test_stability_is_where_the_radius_is_below_one(lam, lr, beta):
    radius = momentum.hb_radius(eigenvalues=lam, lr=lr, momentum=beta)
    if abs(radius - 1) > 1e-6:
        assert momentum.hb_is_stable(eigenvalues=lam, lr=lr, momentum=beta) == (radius < 1)
    radius = momentum.nag_radius(eigenvalues=lam, lr=lr, momentum=beta)
    if abs(radius - 1) > 1e-6:
        assert (radius < 1) == (0 < lr * lam < 2 * (1 + beta) / (1 + 2 * beta))


@given(lam=st.floats(0.1, 2.0), lr=st.floats(0.01, 0.6), beta=st.floats(0.0, 0.95))
def test_stationary_variances_solve_the_lyapunov_equation(lam, lr, beta):
    noise = np.diag([lr**2 * 3.0, 0.0])
    for method, variance in (("hb", momentum.hb_stationary_variance), ("nag", momentum.nag_stationary_variance)):
        expected = solve_discrete_lyapunov(companion(method, lam, lr, beta), noise)[0, 0]
        found = variance(eigenvalues=lam, noise_variances=3.0, lr=lr, momentum=beta)
        assert found == pytest.approx(expected, rel=1e-8)


def test_stationary_variances_without_momentum_and_for_small_steps():
    setting = {"eigenvalues": np.array([0.5, 2.0]), "noise_variances": np.array([1.0, 3.0])}
    floor = quadratic.noise_floor(lr=0.3, **setting)
    np.testing.assert_allclose(momentum.hb_stationary_variance(lr=0.3, momentum=0.0, **setting), floor)
    np.testing.assert_allclose(momentum.nag_stationary_variance(lr=0.3, momentum=0.0, **setting), floor)
    sgd = quadratic.noise_floor(lr=1e-5 / (1 - 0.9), **setting)
    np.testing.assert_allclose(momentum.hb_stationary_variance(lr=1e-5, momentum=0.9, **setting), sgd, rtol=2e-4)
    np.testing.assert_allclose(momentum.nag_stationary_variance(lr=1e-5, momentum=0.9, **setting), sgd, rtol=3e-4)


def test_tuned_radius_is_the_same_for_all_eigenvalues_and_the_smallest_possible():
    lam = np.linspace(1.0, 50.0, 200)
    lr, beta = momentum.hb_parameters(mu=1.0, L=50.0)
    tuned = momentum.hb_radius(eigenvalues=lam, lr=lr, momentum=beta)
    np.testing.assert_allclose(tuned, momentum.nag_coefficient(mu=1.0, L=50.0), atol=1e-7)
    lrs, betas = np.meshgrid(np.linspace(0.01, 0.12, 200), np.linspace(0.0, 0.99, 200))
    ends = [momentum.hb_radius(eigenvalues=end, lr=lrs, momentum=betas) for end in (1.0, 50.0)]
    assert np.maximum(*ends).min() >= tuned.max() - 1e-7


def test_tuned_heavy_ball_has_a_double_root_symbolically():
    s, m, z = sp.symbols("s m z", positive=True)  # square roots of L and mu
    lr, beta = 4 / (s + m) ** 2, ((s - m) / (s + m)) ** 2
    for eigenvalue, root in ((s**2, -(s - m) / (s + m)), (m**2, (s - m) / (s + m))):
        polynomial = z**2 - (1 + beta - lr * eigenvalue) * z + beta
        assert sp.simplify(polynomial - (z - root) ** 2) == 0


def test_nag_radius_at_the_tuning_is_attained_at_mu():
    lam = np.linspace(1.0, 50.0, 200)
    radii = momentum.nag_radius(eigenvalues=lam, lr=1 / 50, momentum=momentum.nag_coefficient(mu=1.0, L=50.0))
    assert radii[0] == pytest.approx(1 - 50**-0.5, abs=1e-7) and (radii[1:] < radii[0]).all()


@given(kappa=st.floats(1.0, 1e4), where=st.floats(0.0, 1.0), steps=st.integers(0, 300))
def test_no_quadratic_violates_the_heavy_ball_bound(kappa, where, steps):
    lam = kappa**where
    lr, beta = momentum.hb_parameters(mu=1.0, L=kappa)
    last = run(lambda x: lam * x, np.array([2.0]), lr, lambda k: beta, steps, nesterov=False)[-1]
    assert abs(last[0]) <= float(momentum.hb_bound(mu=1.0, L=kappa, R=2.0, steps=steps)) * (1 + 1e-7) + 1e-13


def test_nag_bounds_hold_on_random_least_squares():
    rng = np.random.default_rng(0)
    for _ in range(20):
        A = rng.standard_normal((6, 5)) * np.geomspace(1, 0.05, 5)
        H = A.T @ A
        mu, L = np.linalg.eigvalsh(H)[[0, -1]]
        x0 = rng.standard_normal(5)
        R, delta0 = np.linalg.norm(x0), 0.5 * x0 @ H @ x0
        convex = run(lambda x, H=H: H @ x, x0, 1 / L, growing, 30, nesterov=True)
        beta = momentum.nag_coefficient(mu=mu, L=L)
        strong = run(lambda x, H=H: H @ x, x0, 1 / L, lambda k, b=beta: b, 30, nesterov=True)
        for N in (1, 3, 10, 30):
            gap = 0.5 * convex[N] @ H @ convex[N]
            bound = momentum.nag_convex(L=L, R=R, steps=N)
            assert gap <= float(bound)
            gap = 0.5 * strong[N] @ H @ strong[N]
            assert gap <= float(momentum.nag_strongly_convex(mu=mu, L=L, delta0=delta0, R=R, steps=N))


@pytest.mark.parametrize("steps", NAG_CONVEX)
def test_nag_convex_equals_performance_estimation(steps):
    assert float(momentum.nag_convex(L=1.0, R=1.0, steps=steps)) == pytest.approx(NAG_CONVEX[steps], abs=1e-7)


@pytest.mark.parametrize("steps", NAG_STRONGLY_CONVEX)
def test_nag_strongly_convex_is_above_performance_estimation(steps):
    # delta0 + mu R^2/2 = 1 is all that the bound uses.
    bound = momentum.nag_strongly_convex(mu=0.1, L=1.0, delta0=1.0, R=0.0, steps=steps)
    assert NAG_STRONGLY_CONVEX[steps] <= float(bound)


def test_the_cycle_is_exact():
    trap = momentum.lessard_counterexample()
    old, x = trap.cycle[1:]
    for expected in trap.cycle * 2:
        old, x = x, x - trap.lr * trap.gradient(x) + trap.momentum * (x - old)
        assert isinstance(x, Fraction) and x == expected
    assert (float(trap.lr), float(trap.momentum)) == pytest.approx(momentum.hb_parameters(mu=trap.mu, L=trap.L))


def test_the_cycle_attracts():
    """Its linearization has f'' = 25 at all three points, hence radius 2/3 < 1 per step."""
    trap = momentum.lessard_counterexample()
    assert all(x < 1 or x > 2 for x in trap.cycle)
    radius = momentum.hb_radius(eigenvalues=25.0, lr=float(trap.lr), momentum=float(trap.momentum))
    assert radius == pytest.approx(2 / 3, abs=1e-7)


def test_the_basin_ends_where_it_says():
    trap, f = momentum.lessard_counterexample(), problems.HeavyBallTrap()
    low, high = (float(end) for end in trap.basin)

    def last(starts, nesterov, lr, beta):
        return run(f.gradient, np.asarray(starts)[:, None], lr, lambda k: beta, 400, nesterov)[-3:, :, 0]

    inside = last(np.linspace(low, high, 100), False, 1 / 9, 4 / 9)
    np.testing.assert_allclose(np.sort(inside, 0), np.sort(np.array(trap.cycle, float))[:, None] + 0 * inside)
    assert abs(last([low - 0.01, high + 0.01], False, 1 / 9, 4 / 9)).max() < 1e-12
    everywhere = np.linspace(-6, 6, 500)
    assert abs(last(everywhere, True, 1 / 25, momentum.nag_coefficient(mu=1.0, L=25.0))).max() < 1e-12
    assert abs(last(everywhere, False, 1 / 25, 4 / 9)).max() < 1e-4  # "can fail" is about the tuning


def test_the_trap_is_the_same_function_as_the_problem():
    trap, f = momentum.lessard_counterexample(), problems.HeavyBallTrap()
    x = np.linspace(-3, 4, 71)
    np.testing.assert_allclose(f.gradient(x[:, None])[:, 0], [trap.gradient(v) for v in x], atol=1e-12)
    assert trap.basin[0] <= f.start[0] <= trap.basin[1]


def test_a_buffer_that_starts_with_m0_zero_loses_a_step():
    """The slide's m_0 = 0 must be m_{-1} = 0: the bound after one step is an equality, so x_1 = x_0 breaks it."""
    bound = momentum.hb_bound(mu=1.0, L=9.0, R=1.0, steps=1)
    lr, _ = momentum.hb_parameters(mu=1.0, L=9.0)
    assert abs(1.0 - lr * 9.0 * 1.0) == pytest.approx(float(bound))
    later = momentum.hb_bound(mu=1.0, L=9.0, R=1.0, steps=10)
    shifted = run(lambda x: 9.0 * x, np.ones(1), lr, lambda k: 0.25, 9, nesterov=False)[-1]
    assert abs(shifted[0]) > float(later)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        momentum.hb_radius(eigenvalues=1.0, lr=0.1, momentum=1.0)
    with pytest.raises(ValueError, match="mu must be at most L"):
        momentum.hb_bound(mu=2.0, L=1.0, R=1.0, steps=1)
    with pytest.raises(ValueError, match="steps >= 1"):
        momentum.nag_convex(L=1.0, R=1.0, steps=0.5)
    with pytest.raises(ValueError, match=r"lr \* eigenvalue must be in"):
        momentum.hb_stationary_variance(eigenvalues=1.0, noise_variances=1.0, lr=3.9, momentum=0.9)
    with pytest.raises(ValueError, match=r"lr \* eigenvalue must be in"):
        momentum.nag_stationary_variance(eigenvalues=1.0, noise_variances=1.0, lr=1.9, momentum=0.9)
    with pytest.raises(ValueError, match=r"lr must be in \(0, inf\)"):
        momentum.hb_radius(eigenvalues=1.0, lr=0.0, momentum=0.9)


@pytest.mark.parametrize("beta", [0.0, 0.4, 0.9])
def test_stationary_variances_end_at_the_edge_of_stability(beta):
    """Towards the edge it grows like one over the distance; just outside there is none, nor for a flat direction."""
    for variance, edge in (
        (momentum.hb_stationary_variance, 2 * (1 + beta)),
        (momentum.nag_stationary_variance, 2 * (1 + beta) / (1 + 2 * beta)),
    ):
        setting = {"noise_variances": 2.0, "lr": 0.5, "momentum": beta}
        near, nearer = (variance(eigenvalues=edge / 0.5 * (1 - gap), **setting) for gap in (2e-6, 1e-6))
        assert nearer / near == pytest.approx(2, rel=1e-4)
        assert 0 < variance(eigenvalues=1e-4, **setting) < np.inf
        for outside in (edge / 0.5 * (1 + 1e-9), 0.0, -0.1):
            with pytest.raises(ValueError, match=r"lr \* eigenvalue must be in"):
                variance(eigenvalues=outside, **setting)
