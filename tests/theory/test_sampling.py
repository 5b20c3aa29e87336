"""Arbitrary sampling against enumeration of all outcomes on small sums."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcourse.theory import sampling

pytestmark = pytest.mark.topic("02.2")

N, D = 5, 3
GRADIENTS = np.random.default_rng(0).standard_normal((N, D)) * [[1.0], [4.0], [0.2], [2.0], [1.0]]
P = np.array([0.1, 0.4, 0.05, 0.25, 0.2])


def outcomes(kind):
    """All values of v with their probabilities, written out by hand for each law."""
    if kind == "minibatch":
        subsets = list(combinations(range(N), 2))
        return [(np.isin(np.arange(N), s) * N / 2, 1 / len(subsets)) for s in subsets]
    if kind == "with_replacement":
        pairs = product(range(N), repeat=2)
        return [((np.bincount(pair, minlength=N)) / (2 * P), P[pair[0]] * P[pair[1]]) for pair in pairs]
    coins = [0.9, 0.5, 0.2, 1.0, 0.7]
    return [
        (np.array(bits) / coins, np.prod([c if b else 1 - c for b, c in zip(bits, coins, strict=True)]))
        for bits in product([0, 1], repeat=N)
    ]


LAWS = {
    "minibatch": sampling.minibatch(N, 2),
    "with_replacement": sampling.with_replacement(P, 2),
    "independent": sampling.independent([0.9, 0.5, 0.2, 1.0, 0.7]),
}


@pytest.mark.parametrize("kind", LAWS)
def test_unbiased_and_variance_by_enumeration(kind):
    values, weights = zip(*outcomes(kind), strict=True)
    v, w = np.array(values), np.array(weights)
    assert np.allclose(w @ v, 1.0)
    g = v @ GRADIENTS / N
    assert np.allclose(w @ g, GRADIENTS.mean(0))
    variance = w @ np.square(g - GRADIENTS.mean(0)).sum(1)
    assert LAWS[kind].variance(GRADIENTS) == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("kind", LAWS)
def test_draws_have_the_stated_mean_and_covariance(kind):
    """200,000 draws; each entry within 5.5 standard errors (30 entries a law)."""
    law = LAWS[kind]
    v = law.draw(np.random.default_rng(1), 200_000)
    assert (np.abs(v.mean(0) - 1) <= 5.5 * v.std(0) / np.sqrt(len(v)) + 1e-12).all()
    centred = v - 1
    products = centred[:, :, None] * centred[:, None, :]
    stderr = products.std(0) / np.sqrt(len(v))
    assert (np.abs(products.mean(0) - law.covariance) <= 5.5 * stderr + 1e-12).all()


@pytest.mark.parametrize("kind", LAWS)
def test_expected_smoothness_by_enumeration_on_least_squares(kind):
    """E||g(x) - g(x*)||^2 <= 2 * constant * (f(x) - f*), every outcome enumerated, 50 points x."""
    rng = np.random.default_rng(2)
    A = rng.standard_normal((N, D)) * [[1.0], [3.0], [0.5], [1.0], [2.0]]
    b = rng.standard_normal(N)
    opt = np.linalg.lstsq(A, b, rcond=None)[0]
    L, L_samples = np.linalg.eigvalsh(A.T @ A / N)[-1], np.square(A).sum(1)
    constant = LAWS[kind].expected_smoothness(L=L, L_samples=L_samples)
    ratios = []
    for x in opt + rng.standard_normal((50, D)):
        delta = A * (A @ (x - opt))[:, None]
        left = sum(w * np.square(v @ delta / N).sum() for v, w in outcomes(kind))
        gap = 0.5 * np.square(A @ (x - opt)).mean()
        ratios.append(left / (2 * constant * gap))
    assert 0.2 < max(ratios) <= 1 + 1e-12


def test_expected_smoothness_special_cases():
    Ls = np.array([1.0, 2.0, 9.0])
    full = sampling.minibatch(3, 3).expected_smoothness(L=3.0, L_samples=Ls)
    single = sampling.minibatch(3, 1).expected_smoothness(L=3.0, L_samples=Ls)
    importance = sampling.with_replacement(Ls / Ls.sum()).expected_smoothness(L=3.0, L_samples=Ls)
    assert (full, single, importance) == pytest.approx((3.0, 9.0, Ls.mean()))


@given(st.integers(1, N))
def test_minibatch_variance_is_the_law_of_the_minibatch(batch_size):
    formula = sampling.minibatch_variance(gradients=GRADIENTS, batch_size=batch_size, replace=False)
    assert formula == pytest.approx(sampling.minibatch(N, batch_size).variance(GRADIENTS), abs=1e-12)
    uniform = sampling.with_replacement(np.full(N, 1 / N), batch_size)
    formula = sampling.minibatch_variance(gradients=GRADIENTS, batch_size=batch_size)
    assert formula == pytest.approx(uniform.variance(GRADIENTS), rel=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"batch_size must be in 1\.\.5, got 6"):
        sampling.minibatch(5, 6)
    with pytest.raises(ValueError, match="probabilities must have shape .* sum to 1"):
        sampling.with_replacement([0.5, 0.2])
    with pytest.raises(ValueError, match=r"probabilities must be in \(0, 1\], got 0"):
        sampling.independent([0.5, 0.0])
    with pytest.raises(ValueError, match=r"gradients must have shape \[5, d\]"):
        LAWS["minibatch"].variance(np.ones((4, 2)))
    with pytest.raises(ValueError, match="smoothness"):
        sampling.sgd_strongly_convex(mu=1.0, smoothness=1.0, R=1.0, sigma2_opt=1.0, lr=0.6, steps=1)


def test_sums_of_one_and_of_two_terms():
    """By hand: one term has no variance; of two, each v_i is 2 or 0."""
    one, two = sampling.minibatch(1, 1), sampling.minibatch(2, 1)
    np.testing.assert_array_equal(one.covariance, [[0.0]])
    np.testing.assert_array_equal(two.covariance, [[1.0, -1.0], [-1.0, 1.0]])
    np.testing.assert_array_equal(sampling.minibatch(2, 2).covariance, np.zeros((2, 2)))
    assert one.expected_smoothness(L=3.0, L_samples=[3.0]) == 3.0
    assert two.expected_smoothness(L=3.0, L_samples=[2.0, 5.0]) == 5.0  # (1 - 1) 3 + 2 * 5/2
    coin = sampling.independent([0.5])
    assert coin.expected_smoothness(L=3.0, L_samples=[3.0]) == 6.0
    for replace in (True, False):
        assert sampling.minibatch_variance(gradients=[[4.0]], batch_size=1, replace=replace) == 0
    assert sampling.minibatch_variance(gradients=[[0.0], [4.0]], batch_size=1, replace=False) == 4
    assert sampling.with_replacement([0.5, 0.5]).covariance == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]))
