"""The tilted risk against arithmetic of 60 digits, scipy, sympy, numerical derivatives and random distributions."""

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import logsumexp

from optcourse.theory import tilted

pytestmark = pytest.mark.topic("12.2", "12.5")

T = [-1e6, -300.0, -2.0, -1e-3, -1e-12, -1e-300, 0.0, 1e-300, 1e-12, 1e-3, 0.7, 2.0, 300.0, 1e6]
SAMPLES = {
    "ordinary": [0.3, 2.0, 1.7, 0.3, 5.0, 0.0],
    "one": [3.0],
    "equal": [2.5] * 4,
    "huge": [1e300, 3e299, 0.0, -1e300],
    "tiny": [1e-300, 3e-300, 2e-300],
    "far from zero": [1e8, 1e8 + 1.0, 1e8 + 3.0],
    "an outlier": [*[0.1] * 9, 400.0],
}
samples = pytest.mark.parametrize("losses", SAMPLES.values(), ids=SAMPLES)


def exact(losses, t):
    """The definition in 60 digits, with what the exponent needs on top."""
    with mpmath.workdps(700):
        x = [mpmath.mpf(float(loss)) for loss in losses]
        if t == 0:
            return mpmath.fsum(x) / len(x)
        top = max(t * v for v in x)
        mean = mpmath.fsum(mpmath.exp(mpmath.mpf(t) * v - top) for v in x) / len(x)
        return (top + mpmath.log(mean)) / mpmath.mpf(t)


@samples
@pytest.mark.parametrize("t", T)
def test_value_has_the_digits_of_exact_arithmetic(losses, t):
    found, expected = tilted.value(losses=losses, t=t), float(exact(losses, t))
    # Rounding of the largest loss, and of the spread on the way to it.
    assert abs(found - expected) <= 8 * np.finfo(float).eps * max(abs(expected), np.ptp(losses))


@samples
def test_limits_are_the_extremes_and_the_mean(losses):
    found = tilted.value(losses=losses, t=[-np.inf, 0.0, np.inf])
    assert found == pytest.approx([min(losses), np.mean(losses), max(losses)], rel=1e-15)


@pytest.mark.parametrize("t", [-30.0, -0.4, 1e-3, 2.0])
def test_value_is_scipys_logsumexp(t):
    losses = np.random.default_rng(0).gamma(2.0, size=(3, 50))
    np.testing.assert_allclose(
        tilted.value(losses=losses, t=t), logsumexp(t * losses, b=1 / 50, axis=-1) / t, rtol=1e-11
    )


@pytest.mark.parametrize("t", [-30.0, -0.4, 0.0, 1e-3, 2.0])
def test_weights_are_the_numerical_gradient(t):
    losses = np.random.default_rng(1).gamma(2.0, size=7)
    gradient = optimize.approx_fprime(losses, lambda x: tilted.value(losses=x, t=t), 1e-7)
    np.testing.assert_allclose(tilted.weights(losses=losses, t=t), gradient, atol=2e-6)


def test_weights_at_the_ends_are_shared_among_ties():
    losses = [3.0, 0.0, 3.0, 0.0, 1.0]
    found = tilted.weights(losses=losses, t=[np.inf, -np.inf, 1e6, -1e6])
    top, bottom = [0.5, 0, 0.5, 0, 0], [0, 0.5, 0, 0.5, 0]
    np.testing.assert_array_equal(found, [top, bottom, top, bottom])
    np.testing.assert_array_equal(tilted.weights(losses=SAMPLES["huge"], t=1e6), [1, 0, 0, 0])


@samples
@pytest.mark.parametrize("t", [-2.0, -1e-3, -1e-6, 0.0, 1e-7, 1e-6, 1e-4, 1e-3, 0.7, 2.0])
def test_slope_is_the_derivative_in_t(losses, t):
    """Of the exact value, by central differences in 700 digits."""
    losses = [loss for loss in losses if abs(loss) < 1e200]
    with mpmath.workdps(700):
        h = mpmath.mpf(10) ** -40
        up, down = (exact(losses, mpmath.mpf(t) + s * h) for s in (1, -1))
        expected = float((up - down) / (2 * h))
    assert tilted.slope(losses=losses, t=t) == pytest.approx(expected, rel=1e-7, abs=1e-300)


def test_slope_at_zero_is_half_the_variance_symbolically():
    t, a, b = sp.symbols("t a b", positive=True)
    series = sp.series(sp.log((sp.exp(t * a) + sp.exp(t * b)) / 2), t, 0, 3).removeO()
    assert sp.simplify(sp.diff(sp.expand(series / t), t) - (a - b) ** 2 / 8) == 0  # Var of two = (a - b)^2/4
    assert tilted.slope(losses=[1.0, 4.0], t=0.0) == 9 / 8


finite = st.floats(-50, 50).map(lambda x: round(x, 6))
some_losses = st.lists(finite, min_size=1, max_size=12)
tilts = st.floats(-20, 20)


@given(losses=some_losses, t=st.lists(st.floats(allow_nan=False), min_size=2, max_size=6))
def test_the_risk_never_falls_in_t_and_stays_between_the_extremes(losses, t):
    found = tilted.value(losses=losses, t=sorted(t))
    slack = 1e-12 * (1 + np.abs(losses).max())
    assert (np.diff(found) >= -slack).all()
    assert found[0] >= min(losses) - slack and found[-1] <= max(losses) + slack
    assert (tilted.slope(losses=losses, t=np.clip(sorted(t), -1e3, 1e3)) >= -1e-9).all()


@given(losses=some_losses, t=tilts)
def test_bounds_around_mean_and_extremes_hold(losses, t):
    found, slack = tilted.value(losses=losses, t=t), 1e-12 * (1 + np.abs(losses).max())
    assert abs(found - np.mean(losses)) <= float(tilted.away_from_mean(spread=np.ptp(losses), t=t)) + slack
    if t != 0 and abs(t) > 1e-300:
        extreme = max(losses) if t > 0 else min(losses)
        assert abs(extreme - found) <= float(tilted.away_from_extreme(n=len(losses), t=t)) + slack


def worst_share(losses, q):
    """The mean of the worst 1 - q, by linear programming over weights of at most 1/((1 - q) n)."""
    n = len(losses)
    program = optimize.linprog(-np.array(losses), A_eq=np.ones((1, n)), b_eq=[1.0], bounds=(0, 1 / ((1 - q) * n)))
    return -program.fun


@given(losses=some_losses, t=tilts, q=st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]))
def test_quantiles_stay_below_their_bounds(losses, t, q):
    slack = 1e-8 * (1 + np.abs(losses).max())
    quantile = np.quantile(losses, q, method="inverted_cdf")
    assert quantile <= float(tilted.quantile_bound(losses=losses, q=q, t=t)) + slack
    if t > 1e-6:
        assert worst_share(losses, q) <= float(tilted.superquantile_bound(losses=losses, q=q, t=t)) + slack / t


def test_quantile_bound_is_markovs_and_chernoffs_at_its_ends():
    losses = np.random.default_rng(3).exponential(size=40)
    m, p = losses.min(), 0.25
    markov = m + (losses.mean() - m) / p
    for t in (0.0, 1e-13, -1e-13):
        assert float(tilted.quantile_bound(losses=losses, q=0.75, t=t)) == pytest.approx(markov, rel=1e-9)
    chernoff = tilted.value(losses=losses, t=40.0) + np.log(1 / p) / 40.0
    assert float(tilted.quantile_bound(losses=losses, q=0.75, t=40.0)) == pytest.approx(chernoff, rel=1e-9)
    # By hand: e^{ta} = e^{tm} + (mean e^{tl} - e^{tm})/p
    for t in (-0.3, 0.3, 3.0):
        a = np.log(np.exp(t * m) + (np.exp(t * losses).mean() - np.exp(t * m)) / p) / t
        assert float(tilted.quantile_bound(losses=losses, q=0.75, t=t)) == pytest.approx(a, rel=1e-12)


def test_quantile_bound_is_infinite_where_a_negative_tilt_excludes_nothing():
    assert float(tilted.quantile_bound(losses=[0.0, 9.0, 9.0, 9.0], q=0.5, t=-5.0)) == np.inf
    assert np.isfinite(float(tilted.quantile_bound(losses=[0.0, 0.0, 0.0, 9.0], q=0.5, t=-5.0)))


@given(seed=st.integers(0, 10**6), t=st.floats(0.05, 20))
def test_no_other_distribution_beats_the_tilted_weights(seed, t):
    """Donsker-Varadhan: E_w l - KL(w || 1/n)/t is largest at the tilted weights, where it is the tilted risk."""
    rng = np.random.default_rng(seed)
    losses, others = rng.gamma(2.0, size=9), rng.dirichlet(np.ones(9), size=20)
    others = np.concatenate([others, [tilted.weights(losses=losses, t=t)]])
    kl = (others * np.log(np.maximum(others, 1e-300) * 9)).sum(1)
    found = others @ losses - kl / t
    assert (found[:-1] <= tilted.value(losses=losses, t=t) + 1e-12).all()
    assert found[-1] == pytest.approx(tilted.value(losses=losses, t=t), rel=1e-9)


def test_smoothness_holds_along_random_logistic_losses():
    """Logistic losses of one feature: slopes at most |a|, curvature at most a^2/4."""
    rng = np.random.default_rng(4)
    a, h = rng.uniform(-3, 3, 30), 1e-4
    for t in (-4.0, -0.5, 0.5, 4.0):
        bound = tilted.smoothness(L=np.max(a**2) / 4, G=np.abs(a).max(), t=t)
        x = np.linspace(-4, 4, 81)
        f = [tilted.value(losses=np.logaddexp(0, -(x[:, None] + s) * a), t=t) for s in (-h, 0.0, h)]
        assert np.abs(f[0] - 2 * f[1] + f[2]).max() / h**2 <= bound.value
        assert bound.stepsize == 1 / bound.value


def test_sweeps_broadcast():
    losses, t = np.random.default_rng(5).exponential(size=(4, 1, 6)), np.array([-1.0, 0.0, 2.0])
    assert tilted.value(losses=losses, t=t).shape == tilted.slope(losses=losses, t=t).shape == (4, 3)
    assert tilted.weights(losses=losses, t=t).shape == (4, 3, 6)
    for i, j in np.ndindex(4, 3):
        assert tilted.value(losses=losses[i, 0], t=t[j]) == tilted.value(losses=losses, t=t)[i, j]


@pytest.mark.parametrize(
    ("function", "bad", "names"),
    [
        (tilted.value, {"losses": [1.0, np.nan], "t": 1.0}, "losses must be in"),
        (tilted.value, {"losses": [1.0, np.inf], "t": 1.0}, "losses must be in"),
        (tilted.value, {"losses": 3.0, "t": 1.0}, r"losses must have shape \[\.\.\., n\]"),
        (tilted.value, {"losses": [], "t": 1.0}, r"losses must have shape \[\.\.\., n\]"),
        (tilted.value, {"losses": [1.0], "t": np.nan}, "t must be in"),
        (tilted.slope, {"losses": [1.0], "t": np.inf}, "t must be in"),
        (tilted.away_from_mean, {"spread": -1.0, "t": 1.0}, "spread must be in"),
        (tilted.away_from_extreme, {"n": 0.5, "t": 1.0}, "n must be in"),
        (tilted.away_from_extreme, {"n": 5, "t": 0.0}, "t must not be 0"),
        (tilted.smoothness, {"L": 1.0, "G": -1.0, "t": 1.0}, "G must be in"),
        (tilted.quantile_bound, {"losses": [1.0], "q": 1.0, "t": 1.0}, "q must be in"),
        (tilted.superquantile_bound, {"losses": [1.0], "q": 0.5, "t": 0.0}, "t must be in"),
    ],
)
def test_errors_name_argument_and_range(function, bad, names):
    with pytest.raises(ValueError, match=names):
        function(**bad)


@pytest.mark.parametrize("t", [True, None, "2"])
def test_a_tilt_is_a_number(t):
    with pytest.raises(TypeError, match="t must be a real number"):
        tilted.value(losses=[1.0, 2.0], t=t)


@given(
    losses=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    t=st.floats(-4, 4),
    q=st.sampled_from([0.25, 0.5, 0.75]),
)
def test_the_largest_quantile_too_is_bounded(losses, t, q):
    """inf{x: F(x) > q}, which lies above numpy's ``inverted_cdf`` where qn is an integer."""
    largest = np.sort(losses)[int(q * len(losses))]
    assert largest <= float(tilted.quantile_bound(losses=losses, q=q, t=t)) + 1e-9


def test_losses_whose_difference_overflows_are_refused():
    for function in (tilted.value, tilted.weights, tilted.slope):
        with pytest.raises(ValueError, match="losses must differ by less than"):
            function(losses=[1.5e308, -1.5e308], t=0.0)
    assert tilted.value(losses=[1.5e308, 1.5e308], t=2.0) == 1.5e308
