"""Gradient-descent guarantees against runs on random functions and performance-estimation values."""

import subprocess
import sys

import numpy as np
import pytest

from optcourse.theory import gradient_descent as gd

pytestmark = pytest.mark.topic("02.1", "02.5", "02.6")

#: Exact worst cases from performance estimation (PEPit 0.5.1 with CLARABEL), L = 1 and delta0 = 1 or R = 1.
GOLDEN = {
    "convex": {1: 1 / 6, 2: 0.1, 5: 1 / 22},
    "best": {0: 2.0, 1: 0.8, 2: 0.5, 5: 4 / 17},
    "last": {0: 2.0, 1: 1.142857, 2: 1.032258, 3: 1.007874},
}


@pytest.mark.parametrize("steps", GOLDEN["convex"])
def test_convex_equals_performance_estimation(steps):
    assert float(gd.gd_convex(L=1.0, R=1.0, lr=1.0, steps=steps)) == pytest.approx(GOLDEN["convex"][steps], abs=1e-6)


@pytest.mark.parametrize("steps", GOLDEN["best"])
def test_best_iterate_equals_performance_estimation(steps):
    assert float(gd.gd_best_iterate(L=1.0, delta0=1.0, steps=steps)) == pytest.approx(GOLDEN["best"][steps], abs=1e-6)


@pytest.mark.parametrize("steps", GOLDEN["last"])
def test_last_iterate_equals_performance_estimation(steps):
    assert gd.gd_last_iterate(L=1.0, delta0=1.0, steps=steps) == pytest.approx(GOLDEN["last"][steps], abs=1e-5)


def test_rates_hold_on_random_least_squares():
    rng = np.random.default_rng(0)
    for _ in range(20):
        A = rng.standard_normal((8, 4))
        H = A.T @ A
        mu, L = np.linalg.eigvalsh(H)[[0, -1]]
        for lr in (0.3 / L, 1 / L, gd.gd_optimal_step(mu=mu, L=L), 1.9 / L):
            x0 = x = rng.standard_normal(4)
            for _ in range(10):
                x = x - lr * H @ x
            R, gap, gap0 = np.linalg.norm(x0), 0.5 * x @ H @ x, 0.5 * x0 @ H @ x0
            bound = gd.gd_strongly_convex(mu=mu, L=L, R=R, lr=lr, steps=10)
            assert np.linalg.norm(x) <= float(bound) * (1 + 1e-9)
            assert gap <= float(gd.gd_pl(mu=mu, L=L, delta0=gap0, lr=lr, steps=10)) * (1 + 1e-9)
            if lr <= 1 / L:
                assert gap <= float(gd.gd_convex(L=L, R=R, lr=lr, steps=10))


def test_optimal_step_minimizes_the_contraction():
    grid = np.linspace(0.001, 0.5, 5000)
    best = gd.gd_contraction(mu=1.0, L=9.0, lr=gd.gd_optimal_step(mu=1.0, L=9.0))
    assert best == pytest.approx(8 / 10) and best <= gd.gd_contraction(mu=1.0, L=9.0, lr=grid).min() + 1e-12
    assert gd.condition_number(mu=1.0, L=9.0) == 9.0


def test_steps_beyond_the_edge_and_swapped_constants_are_refused():
    with pytest.raises(ValueError, match="lr <= 1/L"):
        gd.gd_convex(L=1.0, R=1.0, lr=1.5, steps=3)
    with pytest.raises(ValueError, match="lr < 2/L"):
        gd.gd_strongly_convex(mu=1.0, L=2.0, R=1.0, lr=1.0, steps=3)
    with pytest.raises(ValueError, match="mu must be at most L, got mu = 3.0 and L = 2.0"):
        gd.condition_number(mu=3.0, L=2.0)


def test_theory_needs_neither_torch_nor_matplotlib():
    code = "import sys, optcourse.theory; print({'torch', 'matplotlib', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
