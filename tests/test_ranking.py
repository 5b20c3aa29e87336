"""Performance profiles and scores against loops from their definitions, and intervals by how often they cover."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from optcourse import ranking

TIMES = np.array([[10.0, 20.0, np.inf], [30.0, 15.0, 60.0], [np.inf, np.inf, np.inf]])


def test_ratios_by_hand():
    inf = np.inf
    np.testing.assert_array_equal(ranking.ratios(TIMES), [[1, 2, inf], [2, 1, 4], [inf, inf, inf]])


def test_half_precision_and_huge_quotients_are_no_overflow():
    half = ranking.ratios(np.array([[60_000.0, 0.001]], dtype=np.float16))
    np.testing.assert_allclose(half, [[60_000 / np.float64(np.float16(0.001)), 1.0]])
    np.testing.assert_array_equal(ranking.ratios([[1e300, 1e-300]]), [[np.inf, 1.0]])


def test_profile_by_hand():
    expected = [[1 / 3, 2 / 3, 2 / 3], [1 / 3, 2 / 3, 2 / 3], [0, 0, 1 / 3]]
    np.testing.assert_allclose(ranking.performance_profile(TIMES, [1.0, 2.0, 4.0]), expected)


@given(seed=st.integers(0, 1000), tau_max=st.floats(1.1, 20))
@settings(max_examples=30, deadline=None)
def test_the_score_is_the_area_under_the_profile(seed, tau_max):
    rng = np.random.default_rng(seed)
    times = rng.integers(1, 40, (6, 4)).astype(float)
    times[rng.random((6, 4)) < 0.2] = np.inf
    tau = np.linspace(1, tau_max, 4001)
    heights = ranking.performance_profile(times, tau)
    low, high = heights[:, :-1].mean(1), heights[:, 1:].mean(1)  # sums from below and from above: the profile rises
    score = ranking.score(times, tau_max)
    assert (low - 1e-12 <= score).all() and (score <= high + 1e-12).all()


def test_the_unit_of_a_problem_does_not_matter_and_leading_axes_are_kept():
    times = np.random.default_rng(0).uniform(1, 9, (5, 4, 3))
    scaled = times * np.array([1e-200, 1.0, 60.0, 1e200])[:, None]
    np.testing.assert_allclose(ranking.score(scaled), ranking.score(times), rtol=1e-12)
    np.testing.assert_allclose(ranking.score(times)[2], ranking.score(times[2]))


def test_adding_a_fast_method_can_exchange_two_others():
    field = np.array([[10.0, 9.0, np.inf], [20.0, 30.0, 1.0], [30.0, 30.0, np.inf]])
    alone, together = ranking.score(field[:, :2]), ranking.score(field)
    assert alone[0] > alone[1] and together[0] < together[1]


@pytest.mark.parametrize(
    "bad", [[[0.0, 1.0]], [[-1.0, 1.0]], [[np.nan, 1.0]], [1.0, 2.0], [[]], [[True, False]], [["1"]]]
)
def test_times_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="times must be"):
        ranking.ratios(bad)


@pytest.mark.parametrize(("name", "call"), [("tau", lambda: ranking.performance_profile(TIMES, [0.5]))])
def test_tau_begins_at_one(name, call):
    with pytest.raises(ValueError, match=f"{name} must be in"):
        call()
    with pytest.raises(ValueError, match="tau_max must be in"):
        ranking.score(TIMES, 1.0)


def covered(problems, trials=200, seeds=6):
    """How often the bootstrap finds the mean score of method 0, for lognormal times with problems of their own."""
    rng, hits = np.random.default_rng(5), 0

    def draw(n, effects):
        return np.exp(effects + 0.3 * rng.standard_normal((n, *effects.shape)))

    fixed = rng.standard_normal((8, 3)) * 0.4
    if problems:
        many = np.stack([ranking.score(draw(1, 0.4 * rng.standard_normal((1, 3)))[0]) for _ in range(20_000)])
        truth = many.mean(0)[0]
    else:
        truth = ranking.score(draw(20_000, fixed)).mean(0)[0]
    for _ in range(trials):
        effects = rng.standard_normal((8, 3)) * 0.4 if problems else fixed
        found = ranking.bootstrap_score(draw(seeds, effects), rng, draws=200, problems=problems)
        hits += found.low[0] <= truth <= found.high[0]
    return hits / trials


@pytest.mark.parametrize("problems", [False, True])
def test_coverage_of_the_bootstrap(problems):
    # 95 % nominal; percentiles of 8 problems with 6 seeds are somewhat short. 200 trials: ± 0.04 at two sigmas.
    assert 0.85 <= covered(problems) <= 0.99


def test_drawing_the_problems_makes_the_interval_wider_and_the_value_stays():
    rng = np.random.default_rng(1)
    times = np.exp(rng.standard_normal((1, 6, 3)) + 0.05 * rng.standard_normal((5, 6, 3)))
    inner, outer = (
        ranking.bootstrap_score(times, np.random.default_rng(0), problems=problems) for problems in (False, True)
    )
    assert (outer.high - outer.low > 2 * (inner.high - inner.low)).all()
    np.testing.assert_allclose(inner.value, ranking.score(times).mean(0))
    assert inner.seeds == 5


def test_a_single_seed_has_no_interval():
    with pytest.raises(ValueError, match=r"times must have shape \[seeds >= 2"):
        ranking.bootstrap_score(np.ones((1, 4, 3)), np.random.default_rng(0))


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    a = rng.standard_normal(16)
    b = a + rng.standard_normal(16)
    b[3] = b[5]  # equal scores share their places
    found = ranking.rank_correlation(a, b)
    assert found.value == pytest.approx(spearmanr(a, b).statistic)
    assert found.low < found.value < found.high and found.seeds == 0
    same, opposite = ranking.rank_correlation(a, a), ranking.rank_correlation(a, -a)
    assert same.value == pytest.approx(1.0) and 0.9 < same.low < 1.0 == same.high
    assert opposite.value == pytest.approx(-1.0) and (opposite.low, opposite.high) == (-1.0, pytest.approx(-same.low))
    # Four methods are in the same order by chance once in 24 times: that decides nothing.
    assert ranking.rank_correlation([1, 2, 3, 4], [1, 2, 3, 4]).low < 0 < 1 == same.high


def test_coverage_of_the_rank_correlation():
    rng, truth, hits, n = np.random.default_rng(0), 0.7, 0, 16
    spearman = 6 / np.pi * np.arcsin(truth / 2)  # of a Gaussian pair whose correlation is 0.7
    for _ in range(500):
        x = rng.standard_normal(n)
        y = truth * x + np.sqrt(1 - truth**2) * rng.standard_normal(n)
        found = ranking.rank_correlation(x, y)
        hits += found.low <= spearman <= found.high
    assert 0.90 <= hits / 500 <= 0.98  # 95 % for large n; 500 trials: ± 0.02 at two sigmas


@pytest.mark.parametrize("bad", [[1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [1.0, 2.0, np.nan, 4.0], np.ones((4, 1))])
def test_scores_that_have_no_order_are_refused(bad):
    with pytest.raises(ValueError, match=r"^(a|b) "):
        ranking.rank_correlation(bad, bad)
