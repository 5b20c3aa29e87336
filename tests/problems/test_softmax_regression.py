"""Softmax regression against torch's cross-entropy, and its mini-batch variance by enumeration."""

import numpy as np
import pytest
import torch

from optcourse.problems import SoftmaxRegression

RNG = np.random.default_rng(0)
H, Y = RNG.standard_normal((7, 3)), np.array([0, 2, 1, 1, 3, 0, 2])
F = SoftmaxRegression(H, Y)
X = RNG.standard_normal((5, F.dim))


def test_value_and_gradient_are_those_of_torch():
    x = torch.tensor(X, requires_grad=True)
    scores = torch.einsum("scp,np->snc", x.reshape(5, 4, 3), torch.tensor(H))
    losses = torch.nn.functional.cross_entropy(scores.reshape(-1, 4), torch.tensor(Y).repeat(5), reduction="none")
    losses = losses.reshape(5, 7).mean(1)
    np.testing.assert_allclose(F.value(X), losses.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(F.gradient(X), torch.autograd.grad(losses.sum(), x)[0].numpy(), rtol=1e-10, atol=1e-14)


def test_batches_of_all_samples_average_to_the_gradient_and_give_the_variance():
    singles = np.stack([F.batch_gradient(X, np.full((5, 1), i)) for i in range(7)])
    np.testing.assert_allclose(singles.mean(0), F.gradient(X), atol=1e-14)
    variance = np.square(singles - F.gradient(X)).sum(-1).mean(0)
    np.testing.assert_allclose(F.variance(X), variance, rtol=1e-12)
    np.testing.assert_allclose(F.variance(X, 7, replace=False), 0, atol=1e-14)


def test_large_scores_do_not_overflow():
    assert np.isfinite(F.value(1e6 * X)).all() and np.isfinite(F.gradient(1e6 * X)).all()


def test_sample_L_bounds_every_single_hessian():
    for i in range(7):
        single = SoftmaxRegression(H[[i, i, i, i]], np.arange(4))  # all four labels: the Hessian ignores them
        assert np.linalg.eigvalsh(single.hessian(X))[:, -1].max() <= F.sample_L[i] * (1 + 1e-12)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([1.0], [0], "features must be a finite, non-empty matrix"),
        ([[1.0], [2.0]], [0.5, 1.0], "labels must be 2 integers"),
        ([[1.0]], [-1], "labels must be at least 0, got -1"),
    ],
)
def test_bad_data_is_named(features, labels, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxRegression(features, labels)
