"""SGD theorems against symbolic algebra, exact moments and enumeration."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import quadratic, sgd
from optcourse.theory.bound import Bound, transient, tune_step

scale = st.floats(0.01, 100.0)


@pytest.mark.topic("02.5")
def test_stepsize_minimizes_the_bracket_symbolically():
    L, D, s2, T, B, a = sp.symbols("L Delta sigma2 T B a", positive=True)
    bracket = 2 * D * a / T + L * s2 / (a * B)
    (best,) = [s for s in sp.solve(sp.diff(bracket, a), a) if s.is_positive]
    assert sp.simplify(bracket.subs(a, best) - sp.sqrt(8 * L * D * s2 / (B * T))) == 0
    numbers = {L: 2.0, D: 3.0, s2: 5.0, T: 70, B: 4}
    expected = float(1 / (numbers[L] + best.subs(numbers)))
    assert sgd.sgd_step(L=2.0, delta0=3.0, sigma2=5.0, steps=70, batch_size=4) == pytest.approx(expected, rel=1e-14)


@pytest.mark.topic("02.8")
@given(L=scale, delta0=scale, sigma2=st.floats(0.0, 100.0), eps=scale, batch_size=st.integers(1, 1000))
def test_iterations_invert_the_bound(L, delta0, sigma2, eps, batch_size):
    T = sgd.sgd_iters(L=L, delta0=delta0, sigma2=sigma2, eps=eps, batch_size=batch_size)
    bound = sgd.sgd_bound(L=L, delta0=delta0, sigma2=sigma2, steps=T, batch_size=batch_size)
    assert float(bound) == pytest.approx(eps, rel=1e-9)


@given(
    eigenvalues=st.lists(st.floats(0.05, 5.0), min_size=1, max_size=4),
    x0=st.floats(0.1, 10.0),
    sigma2=st.floats(0.0, 20.0),
    steps=st.integers(1, 400),
    fraction=st.floats(0.01, 1.0),
)
@pytest.mark.topic("02.4", "02.5")
def test_no_quadratic_violates_the_bounds(eigenvalues, x0, sigma2, steps, fraction):
    """Left side from exact moments, so a violation would be a wrong constant and not bad luck."""
    lam, start = np.array(eigenvalues), np.full(len(eigenvalues), x0)
    setting = {"L": lam.max(), "delta0": 0.5 * lam @ start**2, "sigma2": sigma2, "steps": steps}

    def measured(lr):
        variances = np.full(lam.size, sigma2 / lam.size)
        return quadratic.average_squared_gradient(
            eigenvalues=lam, x0=start, noise_variances=variances, lr=lr, steps=steps
        )

    tuned = sgd.sgd_bound(**setting)
    assert measured(tuned.stepsize) <= float(tuned) * (1 + 1e-9)
    lr = fraction / lam.max()
    plain, sharp = sgd.sgd_bound_at(lr=lr, **setting), sgd.sgd_bound_sharp(lr=lr, **setting)
    assert measured(lr) <= float(sharp) * (1 + 1e-9) <= float(plain) * (1 + 1e-8)


@pytest.mark.topic("02.5")
def test_tuned_bound_is_never_below_the_best_constant_step():
    setting = {"L": 2.0, "delta0": 3.0, "sigma2": 5.0, "steps": 1000}
    sweep = sgd.sgd_bound_at(lr=np.geomspace(1e-4, 0.5, 4001), **setting)
    assert sweep.valid.all()
    assert sweep.value.min() <= float(sgd.sgd_bound(**setting)) <= 1.1 * sweep.value.min()


@pytest.mark.topic("02.4", "02.8")
def test_crossover_and_critical_batch_are_where_the_terms_meet():
    T = sgd.crossover_steps(L=2.0, delta0=3.0, sigma2=0.7, batch_size=5)
    terms = sgd.sgd_bound(L=2.0, delta0=3.0, sigma2=0.7, steps=T, batch_size=5).terms
    assert terms["deterministic"] == pytest.approx(terms["noise"], rel=1e-12)
    B = sgd.critical_batch(sigma2=0.7, eps=0.01)
    assert 8 * 2.0 * 3.0 * 0.7 / (B * 0.01**2) == pytest.approx(2 * 2.0 * 3.0 / 0.01, rel=1e-12)


@pytest.mark.topic("02.5")
def test_a_sweep_marks_the_points_where_the_condition_fails():
    bound = sgd.sgd_bound_at(L=1.0, delta0=1.0, sigma2=1.0, steps=10, lr=np.array([0.5, 2.0]))
    assert bound.valid.tolist() == [True, False]
    assert np.isnan(bound.value).tolist() == [False, True] and "1/L" in bound.why
    with pytest.raises(ValueError, match=r"lr <= 1/L, got lr = 2"):
        sgd.sgd_bound_at(L=1.0, delta0=1.0, sigma2=1.0, steps=10, lr=2.0)
    with pytest.raises(ValueError, match=r"lr < 2/L"):
        sgd.sgd_bound_sharp(L=1.0, delta0=1.0, sigma2=1.0, steps=10, lr=2.0)


@pytest.mark.topic("02.4")
@pytest.mark.parametrize(("name", "bad"), [("L", 0.0), ("delta0", -1.0), ("sigma2", -0.1), ("steps", 0)])
def test_bad_arguments_are_named(name, bad):
    setting = {"L": 1.0, "delta0": 1.0, "sigma2": 1.0, "steps": 10} | {name: bad}
    with pytest.raises(ValueError, match=f"{name} must be in .*got {bad}"):
        sgd.sgd_bound(**setting)
    setting[name] = "ten"
    with pytest.raises(TypeError, match=f"{name} must be a real number"):
        sgd.sgd_bound(**setting)


@pytest.mark.topic("02.7")
def test_convex_average_on_absolute_value():
    """f = |x| with exact subgradients: the left side by running the method, over step-size laws."""
    for law in (lambda t: 0.3 / np.sqrt(t + 1), lambda t: 0.05 + 0 * t, lambda t: 1 / (t + 1)):
        lr, x, total = law(np.arange(500.0)), 2.0, 0.0
        for step in lr:
            total += step * x
            x -= step * np.sign(x)
        assert abs(total / lr.sum()) <= float(sgd.sgd_convex(R=2.0, G2=1.0, lr=lr)) * (1 + 1e-12)


@pytest.mark.topic("02.6")
def test_pl_bound_needs_mu_below_L():
    with pytest.raises(ValueError, match="mu must be at most L"):
        sgd.sgd_pl(mu=2.0, L=1.0, delta0=1.0, sigma2=0.0, lr=0.1, steps=1)


@pytest.mark.topic("02.5")
@given(r0=scale, b=st.floats(0.0, 10.0), e=st.floats(0.0, 10.0), d=scale, steps=st.integers(1, 10**6))
def test_tuning_lemma_holds_at_its_own_step_and_within_three_of_the_best(r0, b, e, d, steps):
    bound = tune_step(r0=r0, b=b, e=e, d=d, steps=steps)

    def objective(g):
        return r0 / (g * steps) + b * g + e * g**2

    assert objective(bound.stepsize) <= float(bound) * (1 + 1e-9)
    grid = np.geomspace(1e-6, 1.0, 2001) / d
    assert float(bound) <= 3.01 * objective(grid).min()


@pytest.mark.topic("17.2")
def test_transient_is_where_the_tuned_terms_cross():
    T = transient(r0=2.0, b=0.3, e=5.0)
    terms = tune_step(r0=2.0, b=0.3, e=5.0, d=1e-9, steps=T).terms
    assert terms["noise"] == pytest.approx(terms["drift"], rel=1e-9)


@pytest.mark.topic("02.4")
def test_bound_is_the_sum_of_its_terms():
    bound = sgd.sgd_bound(L=1.0, delta0=1.0, sigma2=1.0, steps=np.arange(1, 5))
    assert isinstance(bound, Bound) and np.array_equal(bound.value, sum(bound.terms.values()))
