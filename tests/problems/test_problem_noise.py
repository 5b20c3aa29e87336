"""Stochastic gradients are unbiased with the stated variance: enumerated where possible, else within 4 stderr."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy import stats

from optcourse import problems

LS = problems.LeastSquares(features=[[1, 2], [0, 1], [3, -1], [2, 2], [1, 0]], targets=[1, 0, 2, -1, 3])
X = np.array([0.7, -1.3])


def within(samples, expected, errors=4):
    """The mean over the first axis agrees with ``expected`` up to ``errors`` standard errors."""
    stderr = samples.std(0, ddof=1) / np.sqrt(len(samples))
    assert (abs(samples.mean(0) - expected) <= errors * stderr + 1e-12).all()


def noise_of(problem, x, copies, seed=5, **arguments):
    rows = np.tile(x, (copies, 1))
    return problem.stochastic_gradient(rows, np.random.default_rng(seed), **arguments) - problem.gradient(rows)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_noise_is_unbiased_with_the_stated_variance(problem, batch_size):
    x = np.linspace(-1, 1, problem.dim)
    noise = noise_of(problem, x, 20_000, batch_size=batch_size)
    if problem.sigma2 is None:
        base = getattr(problem, "base", problem)
        variance = base.variance(x, batch_size)
    else:
        variance = problem.sigma2 / batch_size
    within(noise, 0.0)
    within((noise**2).sum(-1), variance)


def test_sign_noise_by_enumeration():
    """With one sample the draws are the corners of a box: their mean is 0 and each has the squared norm sigma2."""
    variances = np.array([4.0, 1.0, 0.25])
    f = problems.Quadratic([1.0, 2.0, 3.0], noise_variances=variances, noise="sign")
    noise = noise_of(f, np.zeros(3), 4000)
    np.testing.assert_allclose((noise**2).sum(-1), f.sigma2, rtol=1e-12)
    corners, counts = np.unique(noise.round(12), axis=0, return_counts=True)
    np.testing.assert_allclose(corners, sorted(product([-2.0, 2.0], [-1.0, 1.0], [-0.5, 0.5])))
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_batch_of_sign_noise_is_the_mean_of_its_samples():
    f = problems.Cosine(dim=1, sigma2=9.0, noise="sign")
    values, counts = np.unique(noise_of(f, np.zeros(1), 20_000, batch_size=3).round(12), return_counts=True)
    np.testing.assert_allclose(values, [-3, -1, 1, 3])  # means of three signs, times sigma = 3
    assert stats.chisquare(counts, np.array([1, 3, 3, 1]) / 8 * 20_000).pvalue > 1e-4


@pytest.mark.parametrize("batch_size", [1, 9])
def test_gaussian_noise_is_gaussian(batch_size):
    f = problems.Cosine(dim=2, sigma2=8.0)
    noise = noise_of(f, np.zeros(2), 5000, batch_size=batch_size).ravel()
    assert stats.kstest(noise, stats.norm(scale=2 / np.sqrt(batch_size)).cdf).pvalue > 1e-4


def test_noise_variances_belong_to_the_eigenvectors():
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    f = problems.Quadratic([1.0, 5.0], rotation=rotation, noise_variances=[4.0, 0.25], noise="sign")
    eigenvalues, vectors = np.linalg.eigh(f.hessian(np.zeros(2)))
    np.testing.assert_allclose(eigenvalues, [1, 5])
    along = noise_of(f, X, 100) @ vectors
    np.testing.assert_allclose(along**2, np.tile([4.0, 0.25], (100, 1)), rtol=1e-10)


def test_no_noise_gives_the_gradient(problem):
    quiet = problem.sigma2 == 0
    x = np.ones((3, problem.dim))
    g = problem.stochastic_gradient(x, np.random.default_rng(0))
    assert np.array_equal(g, problem.gradient(x)) == quiet


def test_the_same_seed_gives_the_same_noise_in_numpy_and_torch(problem):
    x = np.linspace(-1, 1, 5 * problem.dim).reshape(5, problem.dim)
    first, again = (problem.stochastic_gradient(x, np.random.default_rng(3), 2) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    t = problem.stochastic_gradient(torch.tensor(x, dtype=torch.float32), np.random.default_rng(3), 2)
    assert t.dtype == torch.float32
    np.testing.assert_allclose(t.numpy(), first, rtol=1e-4, atol=1e-4)


def test_node_noise_is_unbiased_and_independent(distributed):
    x = np.random.default_rng(1).standard_normal((distributed.n_nodes, distributed.dim))
    rows = np.tile(x, (20_000, 1, 1))
    g = distributed.stochastic_node_gradient(rows, np.random.default_rng(2), batch_size=2)
    noise = g - distributed.node_gradient(rows)
    if distributed.sigma2 is None:
        variances = distributed.base.variance(x, 2)  # sampled from data: one variance for each node's point
    else:
        variances = np.full(distributed.n_nodes, distributed.sigma2 / 2)
    within(noise, 0.0)
    within((noise**2).sum(-1), variances)
    # Independent nodes: the variance of the mean is n times smaller than the mean variance.
    within((noise.mean(1) ** 2).sum(-1), variances.mean() / distributed.n_nodes)


def batches(batch_size, replace):
    N = range(LS.n_samples)
    return np.array(list(product(N, repeat=batch_size) if replace else combinations(N, batch_size)))


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_least_squares_moments_by_enumerating_all_batches(batch_size, replace):
    gradients = LS.batch_gradient(X, batches(batch_size, replace))
    np.testing.assert_allclose(gradients.mean(0), LS.gradient(X), rtol=1e-12)
    enumerated = ((gradients - LS.gradient(X)) ** 2).sum(-1).mean()
    assert LS.variance(X, batch_size, replace=replace) == pytest.approx(enumerated, rel=1e-12, abs=1e-25)


@pytest.mark.parametrize("replace", [True, False])
def test_least_squares_draws_every_batch_equally_often(replace):
    every = LS.batch_gradient(X, batches(2, replace))
    values, multiplicity = np.unique(every.round(9), axis=0, return_counts=True)
    draws = LS.stochastic_gradient(np.tile(X, (20_000, 1)), np.random.default_rng(4), 2, replace=replace)
    drawn, counts = np.unique(draws.round(9), axis=0, return_counts=True)
    np.testing.assert_array_equal(drawn, values)
    assert stats.chisquare(counts, multiplicity / len(every) * 20_000).pvalue > 1e-4


def test_least_squares_full_batch_without_replacement_is_the_gradient():
    g = LS.stochastic_gradient(np.tile(X, (7, 1)), np.random.default_rng(0), LS.n_samples, replace=False)
    np.testing.assert_allclose(g, np.tile(LS.gradient(X), (7, 1)), rtol=1e-12)


def test_least_squares_sample_gradients_are_autograd_of_the_samples():
    x = torch.tensor(X, requires_grad=True)
    A, b = torch.tensor(LS.features), torch.tensor(LS.targets)
    jacobian = torch.autograd.functional.jacobian(lambda y: (A @ y - b) ** 2 / 2, x)
    np.testing.assert_allclose(LS.sample_gradients(X), jacobian.numpy(), rtol=1e-12)
    at_optimum = LS.batch_gradient(LS.minimizer, batches(1, True))
    assert LS.sigma2_star == pytest.approx((at_optimum**2).sum(-1).mean(), rel=1e-12)
    assert LS.sigma2_star == pytest.approx(LS.variance(LS.minimizer), rel=1e-12)
