"""Bounds keep their side at extreme arguments: against the same formula in 60 digits, of the same floats."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import compressed_gossip, gradient_descent, momentum, newton, quadratic, sampling, sgd, tilted
from optcourse.theory.bound import power

pytestmark = pytest.mark.topic("02.4", "02.5", "12.5")


def roots(mu, L):
    return mpmath.sqrt(mu), mpmath.sqrt(L)


def rate(mu, L):
    small, large = roots(mu, L)
    return (large - small) / (large + small)


#: Guarantee, its arguments besides mu, L and steps; its formula in those.
RATES = {
    "gd_strongly_convex": (
        gradient_descent.gd_strongly_convex,
        {"R": 1.0},
        lambda mu, L, lr, N: max(1 - lr * mu, lr * L - 1) ** N,
    ),
    "gd_pl": (gradient_descent.gd_pl, {"delta0": 1.0}, lambda mu, L, lr, N: (1 - mu * lr * (2 - L * lr)) ** N),
    "sgd_pl": (sgd.sgd_pl, {"delta0": 1.0, "sigma2": 0.0}, lambda mu, L, lr, N: (1 - lr * mu) ** N),
    "hb_bound": (
        momentum.hb_bound,
        {"R": 1.0},
        lambda mu, L, lr, N: (1 + (1 + rate(mu, L)) * N) * rate(mu, L) ** N,
    ),
    "nag_strongly_convex": (
        momentum.nag_strongly_convex,
        {"R": 0.0, "delta0": 1.0},
        lambda mu, L, lr, N: (1 - mpmath.sqrt(mu / L)) ** N,
    ),
    "conjugate_gradients": (
        newton.conjugate_gradients,
        {"R": 1.0},
        lambda mu, L, lr, N: 2 * rate(mu, L) ** N / (1 + rate(mu, L) ** (2 * N)),
    ),
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("mu", "L", "lr", "steps"),
    [
        (3e-13, 1.0, 0.7, 10**12),  # the more steps, the more a rounded factor counts
        (3e-9, 1.0, 0.999999, 10**9),
        (1e-18, 1.0, 0.5, 10**9),  # the same where the root of kappa counts
        (1.0, 1 + 1e-9, 0.5, 3),  # kappa - 1 must not cancel
        (1.0, 1 + 1e-12, 0.75, 2),
        (1.0, 1.0, 0.5, 5),
    ],
)
def test_rates_are_right_to_the_last_digits(name, mu, L, lr, steps):
    function, others, formula = RATES[name]
    given_lr = {"lr": lr} if name.startswith(("gd", "sgd")) else {}
    found = float(function(mu=mu, L=L, steps=steps, **given_lr, **others))
    with mpmath.workdps(60):
        exact = formula(*(mpmath.mpf(x) for x in (mu, L, lr)), steps)
        assert abs(found - exact) <= 1e-12 * exact + 1e-300  # below that it underflows


def test_a_step_near_the_best_leaves_what_it_leaves():
    """mu = L = 1, lr = 1 - 1e-9: the factor is the square of 1e-9, not what 1 - lr (2 - lr) rounds to."""
    lr = 1 - 1e-9
    left = float(gradient_descent.gd_pl(mu=1.0, L=1.0, delta0=1.0, lr=lr, steps=1))
    assert left == pytest.approx((1 - lr) ** 2, rel=1e-12) and left > 0


def test_a_small_share_lost_many_times():
    for share in (1e-3, 1e-9, 1e-13):
        steps = round(3 / share)
        setting = {"mu": 1.0, "smoothness": 1.0, "R": 1.0, "sigma2_opt": 0.0, "lr": share}
        with mpmath.workdps(60):
            exact = (1 - mpmath.mpf(share)) ** steps
        assert float(sampling.sgd_strongly_convex(**setting, steps=steps)) == pytest.approx(float(exact), rel=1e-13)
        assert float(power(kept=1 - share, lost=share, steps=steps)) == pytest.approx(float(exact), rel=1e-13)
        setting = {"spectral_gap": 1.0, "delta": 1.0, "beta": 1.0, "e0": 1.0}
        error = compressed_gossip.choco_gossip_bound_at(**setting, consensus_lr=2 * share, steps=steps)
        assert float(error) == pytest.approx(float(exact), rel=1e-13)
    assert power(kept=[1.0, 0.5, 0.0, 0.0], lost=[0.0, 0.5, 1.0, 1.0], steps=[5, 2, 3, 0]).tolist() == [1, 0.25, 0, 1]
    assert power(lost=[0.0, 0.5, 0.75, 1.0], steps=[5, 2, 2, 3]).tolist() == [1, 0.25, 0.0625, 0]


@pytest.mark.parametrize(
    ("lr", "steps"), [(1e-12, 10**6), (1e-9, 10**12), (1e-17, 10**5), (0.3, 7), (1.999999, 100), (2.0, 5), (2.001, 9)]
)
def test_moments_of_small_and_of_large_steps(lr, steps):
    found = float(np.squeeze(quadratic.sgd_moments(eigenvalues=1, x0=2, noise_variances=3, lr=lr, steps=steps)))
    with mpmath.workdps(60):
        r = (1 - mpmath.mpf(lr)) ** 2
        falls = mpmath.mpf(steps) if r == 1 else (1 - r**steps) / (1 - r)
        exact = 4 * r**steps + 3 * mpmath.mpf(lr) ** 2 * falls
    assert found == pytest.approx(float(exact), rel=1e-12)


def exact_quantile_bound(losses, q, t):
    with mpmath.workdps(400):
        x, p, t = [mpmath.mpf(float(loss)) for loss in losses], 1 - mpmath.mpf(q), mpmath.mpf(t)
        left = 1 + mpmath.fsum(mpmath.expm1(t * (l - min(x))) for l in x) / (len(x) * p)
        return min(x) + mpmath.log(left) / t if left > 0 else mpmath.inf


@pytest.mark.parametrize(
    ("losses", "q", "t"),
    [
        ([0.0] * 9 + [1.0], 0.9, -50.0),
        ([0.0] * 9 + [1.0], 0.9, -100.0),
        ([-9.1, -1.8, 1.2, 5.9], 0.25, -10.68),
        ([0.0, 0.0, 1.0], 2 / 3, -40.0),
        ([1e6, 1e6, 1e6, 1e6 + 1], 0.75, -37.0),
    ],
)
def test_a_negative_tilt_never_excludes_the_quantile(losses, q, t):
    largest = sorted(losses)[round(q * len(losses))]
    assert float(tilted.quantile_bound(losses=losses, q=q, t=t)) >= largest


@given(
    losses=st.lists(st.one_of(st.floats(-10, 10), st.integers(0, 3).map(float)), min_size=1, max_size=30),
    q=st.one_of(st.sampled_from([0.1, 0.25, 0.5, 0.7, 0.75, 0.9]), st.floats(0, 1, exclude_max=True)),
    power_of_t=st.floats(-12, 3),
    sign=st.sampled_from([-1, 1]),
)
def test_quantile_bound_is_never_below_its_formula(losses, q, power_of_t, sign):
    """And not above it either, but where the little that is left of 1 is rounding."""
    t = sign * 10.0**power_of_t
    found, exact = float(tilted.quantile_bound(losses=losses, q=q, t=t)), exact_quantile_bound(losses, q, t)
    size = 1e-14 * (1 + np.abs(losses).max())
    if exact == mpmath.inf or found == np.inf:
        assert found == np.inf and abs(t) * (exact - min(losses)) > 30
        return
    assert found >= exact - size * (1 if sign < 0 else 1 + abs(exact))
    above = exact - min(losses)
    if abs(t) * above < 5:  # e^-5 is left of 1 at least: a hundred roundings of 1 are one in 1e11
        assert found <= exact + 1e-9 * (1 + abs(exact))
