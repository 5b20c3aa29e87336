"""Closed moments of SGD on a quadratic against the recursion, a simulation and scipy's Lyapunov solver."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from optcourse.theory import quadratic

pytestmark = pytest.mark.topic("02.4", "02.7")

LAM, X0, VAR, LR = np.array([0.0, 0.5, 3.0]), np.array([1.0, -2.0, 0.3]), np.array([0.1, 1.0, 4.0]), 0.4


def test_moments_follow_the_one_step_recursion():
    second = X0**2
    for k in range(50):
        moments = quadratic.sgd_moments(eigenvalues=LAM, x0=X0, noise_variances=VAR, lr=LR, steps=k)
        assert np.allclose(moments, second, rtol=1e-12)
        second = (1 - LR * LAM) ** 2 * second + LR**2 * VAR


def test_moments_agree_with_simulation():
    """20,000 runs: every moment within 5 standard errors of its mean (3 x 30 comparisons)."""
    rng = np.random.default_rng(0)
    x = np.tile(X0, (20_000, 1))
    for k in range(1, 31):
        x = x - LR * (LAM * x + np.sqrt(VAR) * rng.standard_normal(x.shape))
        exact = quadratic.sgd_moments(eigenvalues=LAM, x0=X0, noise_variances=VAR, lr=LR, steps=k)
        stderr = np.square(x).std(0) / np.sqrt(len(x))
        assert (np.abs(np.square(x).mean(0) - exact) <= 5 * stderr).all()


def test_floor_solves_the_lyapunov_equation():
    lam, var = LAM[1:], VAR[1:]
    covariance = solve_discrete_lyapunov(np.diag(1 - LR * lam), LR**2 * np.diag(var))
    assert np.allclose(
        quadratic.noise_floor(eigenvalues=lam, noise_variances=var, lr=LR), np.diag(covariance), rtol=1e-12
    )
    gap = quadratic.loss_floor(eigenvalues=lam, noise_variances=var, lr=LR)
    assert gap == pytest.approx(0.5 * np.trace(np.diag(lam) @ covariance), rel=1e-12)


def test_no_floor_beyond_the_stability_edge():
    with pytest.raises(ValueError, match="lr must be below 2/eigenvalue"):
        quadratic.noise_floor(eigenvalues=1.0, noise_variances=1.0, lr=2.0)


@pytest.mark.parametrize("steps", [10**4, [10**4]])
def test_nothing_stays_nothing_where_the_factor_is_infinite(steps):
    common = {"eigenvalues": [1.0], "lr": 3.0, "steps": steps}  # (1 - 3)^2 = 4 a step
    assert np.all(quadratic.sgd_moments(x0=[0.0], noise_variances=[1.0], **common) == np.inf)
    assert np.all(quadratic.sgd_moments(x0=[1.0], noise_variances=[0.0], **common) == np.inf)
    assert np.all(quadratic.sgd_moments(x0=[0.0], noise_variances=[0.0], **common) == 0)
