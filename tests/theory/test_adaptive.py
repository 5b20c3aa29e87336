"""Adaptive methods' theory against direct simulation, enumeration, quadrature and the published example."""

from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import adaptive

pytestmark = pytest.mark.topic("05.1", "05.4", "05.6", "05.9")


def adagrad(gradient_of, x1, lr, low, high, steps):
    """Diagonal AdaGrad with projection; returns the iterates and the gradients it met, both [T, d]."""
    x, v = np.array(x1, dtype=float), np.zeros(len(x1))
    xs, gs = [], []
    for t in range(steps):
        g = gradient_of(t, x)
        xs.append(x)
        gs.append(g)
        v = v + g**2
        x = np.clip(x - lr * np.divide(g, np.sqrt(v), out=np.zeros_like(g), where=v > 0), low, high)
    return np.array(xs), np.array(gs)


def regret(xs, gs, low, high):
    """Against the best fixed point of the box: sum <g_t, x_t> - min_x sum <g_t, x>."""
    total = gs.sum(0)
    return (xs * gs).sum() - np.minimum(total * low, total * high).sum()


@pytest.mark.parametrize("law", ["signs", "sparse", "adversary"])
def test_adagrad_stays_below_its_regret_bound(law):
    rng = np.random.default_rng(1)

    def gradient_of(t, x):
        if law == "adversary":
            return np.where(x >= 0.3, 1.0, -1.0) * rng.uniform(0.1, 3, x.size)
        g = rng.choice([-1.0, 1.0], x.size)
        return g * (rng.random(x.size) < np.geomspace(1, 0.01, x.size)) if law == "sparse" else g

    for steps in (1, 2, 10, 200):
        for _ in range(20):
            lr = 3.0 / np.sqrt(2)  # the box has edges of length 3
            xs, gs = adagrad(gradient_of, rng.uniform(-1, 2, 4), lr, -1.0, 2.0, steps)
            bound = adaptive.adagrad_regret(gradients=gs, D_inf=3.0)
            assert bound.stepsize == pytest.approx(lr)
            assert regret(xs, gs, -1.0, 2.0) <= float(bound) * (1 + 1e-12)


def test_rare_features_pay_only_for_their_own_gradients():
    g = np.zeros((100, 2))
    g[:, 0], g[::25, 1] = 1.0, 1.0
    dense, rare = (float(adaptive.adagrad_regret(gradients=column[:, None], D_inf=1.0)) for column in g.T)
    assert dense / rare == pytest.approx(5.0)
    assert float(adaptive.adagrad_regret(gradients=g, D_inf=1.0)) == pytest.approx(dense + rare)


@given(st.integers(1, 7), st.floats(0.0, 0.95), st.floats(0.0, 0.999))
def test_moments_are_exact_over_all_gradient_sequences(steps, beta1, beta2):
    """Gradients -1 or 3 with probability 1/2: all 2^t sequences, each run through the recursion."""
    ms, vs = [], []
    for sequence in product([-1.0, 3.0], repeat=steps):
        m = v = 0.0
        for g in sequence:
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        ms.append(m)
        vs.append(v)
    found = adaptive.adam_moments(mean=1.0, second_moment=5.0, steps=steps, betas=(beta1, beta2))
    assert found == pytest.approx((np.mean(ms), np.mean(vs)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.9), (0.9, 0.5)])
def test_gain_is_the_length_of_uncorrected_steps(betas):
    m = v = 0.0
    lengths = []
    for _ in range(300):
        m, v = betas[0] * m + (1 - betas[0]) * -0.07, betas[1] * v + (1 - betas[1]) * 0.07**2
        lengths.append(abs(m) / np.sqrt(v))
    np.testing.assert_allclose(adaptive.adam_gain(steps=np.arange(1, 301), betas=betas), lengths, rtol=1e-9)


def test_uncorrected_adam_peaks_in_its_twelfth_step():
    gain = adaptive.adam_gain(steps=np.arange(1, 50_000), betas=(0.9, 0.999))
    assert gain[0] == pytest.approx(np.sqrt(10)) and gain.argmax() + 1 == 12
    assert gain.max() == pytest.approx(6.57, abs=0.005) and gain[-1] == pytest.approx(1.0, abs=1e-9)


def test_a_second_moment_without_the_current_gradient_divides_zero_by_zero():
    """The slip of one deck: v_{t-1} in step t. At t = 1 it is 0, which ``steps >= 1`` here excludes."""
    with pytest.raises(ValueError, match=r"steps must be in \[1, inf\), got 0"):
        adaptive.adam_gain(steps=0, betas=(0.9, 0.999))


@pytest.mark.parametrize("beta2", [0.9, 0.99, 0.999])
def test_radam_length_is_the_window_with_the_same_centre_of_mass(beta2):
    for t in (1, 5, 40, 3000):
        ages = np.arange(t)
        weights = beta2**ages
        centre = (weights * ages).sum() / weights.sum()
        assert adaptive.radam_length(steps=t, beta2=beta2) == pytest.approx(2 * centre + 1, rel=1e-8)


def test_rectification_keeps_the_first_order_variance_constant():
    t = np.arange(1, 20_000)
    rho = adaptive.radam_length(steps=t, beta2=0.999)
    r = adaptive.radam_rectification(steps=t, beta2=0.999)
    assert (r[rho <= 4] == 0).all() and (r[rho > 4] > 0).all() and (np.diff(r) >= 0).all()
    variance = adaptive.adaptive_rate_variance(rho=rho[rho > 4], sigma2=2.0, first_order=True)
    limit = adaptive.adaptive_rate_variance(rho=1999.0, sigma2=2.0, first_order=True)
    np.testing.assert_allclose(r[rho > 4] ** 2 * variance, limit, rtol=1e-9)


def test_rectified_steps_start_at_step_five_in_the_paper_and_at_six_in_torch():
    rho = adaptive.radam_length(steps=np.arange(1, 10), beta2=0.999)
    assert (np.flatnonzero(rho > 4)[0] + 1, np.flatnonzero(rho > 5)[0] + 1) == (5, 6)
    assert adaptive.radam_rectification(steps=[4, 5], beta2=0.999).tolist()[0] == 0.0
    assert (adaptive.radam_rectification(steps=np.arange(1, 500), beta2=0.6) == 0).all()  # rho_infinity = 4


@pytest.mark.parametrize("rho", [2.5, 3.0, 4.0, 10.0, 200.0])
def test_variance_of_the_adaptive_rate_by_quadrature(rho):
    """E[v^(-1/2)] and E[1/v] integrated over the chi-square density of rho v / sigma2."""
    with mpmath.workdps(30):
        n, sigma2 = mpmath.mpf(rho), mpmath.mpf(3)

        def moment(power):
            density = lambda y: y ** (n / 2 - 1) * mpmath.exp(-y / 2) / (2 ** (n / 2) * mpmath.gamma(n / 2))  # noqa: E731
            pieces = [0, n / 4, n, 2 * n, 10 * n, mpmath.inf]
            return mpmath.quad(lambda y: (sigma2 * y / n) ** power * density(y), pieces)

        expected = float(moment(mpmath.mpf(-1)) - moment(mpmath.mpf(-1) / 2) ** 2)
        beta = mpmath.beta((n - 1) / 2, (n - 1) / 2)
        published = float((n / (n - 2) - n * 2 ** (2 * n - 5) / mpmath.pi * beta**2) / sigma2)
    found = adaptive.adaptive_rate_variance(rho=rho, sigma2=3.0)
    assert found == pytest.approx(published, rel=1e-8)
    assert found == pytest.approx(expected, rel=1e-8)


def test_variance_of_the_adaptive_rate_by_simulation():
    rng = np.random.default_rng(3)
    rates = 1 / np.sqrt(np.square(rng.standard_normal((200_000, 12)) * 1.5).mean(1))
    spread = np.square(rates - rates.mean())
    error = 4 * spread.std() / np.sqrt(len(spread))
    assert abs(spread.mean() - adaptive.adaptive_rate_variance(rho=12, sigma2=2.25)) < error


def test_variance_decreases_and_its_first_order_form_is_asymptotic():
    rho = np.array([1.0, 2.0, 4.0, 5.0, 50.0, 5000.0])
    exact = adaptive.adaptive_rate_variance(rho=rho, sigma2=1.0)
    rough = adaptive.adaptive_rate_variance(rho=rho, sigma2=1.0, first_order=True)
    assert np.isinf(exact[:2]).all() and np.isinf(rough[:3]).all() and (np.diff(exact[1:]) < 0).all()
    assert rough[-1] / exact[-1] == pytest.approx(1.0, abs=1e-3) and rough[3] > 2 * exact[3]


def play(problem, steps, lr, amsgrad=False):
    """The last iterate and the average regret of Adam (or AMSGrad) on the problem, from x_1 = 1."""
    x, v, largest, loss = 1.0, 0.0, 0.0, 0.0
    beta2 = problem.betas[1]
    slopes = problem.slope(np.arange(1, steps + 1))
    for t, g in enumerate(slopes.tolist(), start=1):
        loss += g * x
        v = beta2 * v + (1 - beta2) * g * g
        largest = max(largest, v)
        x = min(1.0, max(-1.0, x - lr / t**0.5 * g / (largest if amsgrad else v) ** 0.5))
    return x, (loss - problem.minimizer * slopes.sum()) / steps


@pytest.mark.parametrize("C", [2.5, 3.0, 5.0])
def test_adam_ends_at_the_worst_point(C):
    problem = adaptive.reddi_problem(C=C)
    x, average = play(problem, 30_000, 0.9 * problem.lr_limit)
    assert x == pytest.approx(problem.limit, abs=0.02)
    assert average == pytest.approx(problem.average_regret, rel=0.02)


@pytest.mark.parametrize("C", [2.5, 3.0, 5.0])
def test_amsgrad_ends_at_the_minimizer_and_its_average_regret_vanishes(C):
    problem = adaptive.reddi_problem(C=C)
    x, late = play(problem, 40_000, 0.9 * problem.lr_limit, amsgrad=True)
    _, early = play(problem, 10_000, 0.9 * problem.lr_limit, amsgrad=True)
    assert x == pytest.approx(problem.minimizer, abs=0.02)
    assert 0 < late < 0.6 * early  # the rate is 1/sqrt(T)


def test_reddi_average_regret_is_the_gap_of_the_two_ends():
    problem = adaptive.reddi_problem(C=7.0)
    slopes = problem.slope([1, 2, 3, 4])
    assert slopes.tolist() == [7.0, -1.0, -1.0, 7.0]
    gap = (problem.limit - problem.minimizer) * slopes[:3].mean()
    assert problem.average_regret == pytest.approx(gap)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"gradients must have shape \[T, d\], got \[2\]"):
        adaptive.adagrad_regret(gradients=[1.0, 2.0], D_inf=1.0)
    with pytest.raises(ValueError, match=r"beta2 must be in \[0, 1\), got 1"):
        adaptive.adam_gain(steps=1, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="second_moment must be at least mean"):
        adaptive.adam_moments(mean=2.0, second_moment=3.0, steps=1, betas=(0.9, 0.99))
    with pytest.raises(ValueError, match=r"C must be in \(2, inf\)"):
        adaptive.reddi_problem(C=2.0)
    with pytest.raises(ValueError, match="rho must be in"):
        adaptive.adaptive_rate_variance(rho=0.0, sigma2=1.0)


@pytest.mark.parametrize("C", [2.5, 4.0])
def test_the_limit_of_the_rates_is_that_of_the_paper(C):
    """Reddi et al. 2018, Theorem 1: alpha < sqrt(1 - beta2) with beta2 = 1/(1 + C^2), which is C/sqrt(1 + C^2)."""
    problem = adaptive.reddi_problem(C=C)
    assert problem.lr_limit == pytest.approx(C / np.sqrt(1 + C**2), rel=1e-14)
    assert (problem.minimizer, problem.limit) == (-1, 1)
