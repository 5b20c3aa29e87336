"""The mean's share and residual branches against integrals and against wide random networks in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from optcourse.theory import signal_residual as sr


@pytest.mark.parametrize("c", [-0.9, -0.3, 0.0, 0.5, 0.95])
def test_the_cosine_after_a_relu_is_the_integral(c):
    """2 E relu(u) relu(v) over the quadrant where both are positive."""
    density = stats.multivariate_normal([0, 0], [[1, c], [c, 1]])
    value, _ = integrate.dblquad(lambda v, u: 2 * u * v * density.pdf([u, v]), 0, 9, 0, 9, epsabs=1e-8)
    assert sr.relu_cosine(cosine=c) == pytest.approx(value, abs=1e-6)


@given(st.floats(-1, 1))
def test_depth_makes_inputs_alike(c):
    after = sr.relu_cosine(cosine=c)
    assert c - 1e-15 <= after <= 1 + 1e-15
    assert sr.relu_cosine(cosine=1.0) == 1.0 and sr.relu_cosine(cosine=-1.0) == pytest.approx(0, abs=1e-15)


def relu_network(x, width, depth, *, residual=False, normalized=False, seed=0):
    """h after the first linear layer and after every block [depth + 1, N, width], written out."""
    rng = np.random.default_rng(seed)
    h = x @ rng.normal(0, np.sqrt(2 / x.shape[1]), (x.shape[1], width))
    layers = [h]
    for _ in range(depth):
        z = (h - h.mean(0)) / h.std(0) if normalized else h
        branch = np.maximum(z, 0) @ rng.normal(0, np.sqrt(2 / width), (width, width))
        h = h + branch if residual else branch
        layers.append(h)
    return np.array(layers)


INPUTS = np.random.default_rng(7).normal(0.4, 1.0, (30, 20)) * np.linspace(0.5, 2, 30)[:, None]


@pytest.mark.parametrize("residual", [False, True])
def test_the_share_of_the_mean_is_that_of_wide_networks(residual):
    """Mean of 4 networks of width 1500; single ones stray by some 0.02."""
    expected, shares = sr.mean_share(inputs=INPUTS, depth=6, residual=residual), []
    for seed in range(4):
        h = relu_network(INPUTS, 1500, 6, residual=residual, seed=seed)
        shares.append(np.square(h.mean(1)).mean(1) / np.square(h).mean((1, 2)))
    np.testing.assert_allclose(np.mean(shares, axis=0), expected, atol=0.025)
    assert expected[6] > expected[0] + (0.1 if residual else 0.2)


@pytest.mark.parametrize("normalized", [False, True])
def test_the_skip_path_is_that_of_wide_residual_networks(normalized):
    """Relative fluctuations of one network: some sqrt(2 / 1500) = 4 % a block; four networks, six blocks."""
    moments = []
    for seed in range(4):
        h = relu_network(INPUTS, 1500, 6, residual=True, normalized=normalized, seed=seed)
        moments.append(np.square(h).mean((1, 2)))
    moments = np.mean(moments, axis=0)
    expected = sr.skip_moment(q0=moments[0], blocks=np.arange(7), normalized=normalized)
    np.testing.assert_allclose(moments, expected, rtol=0.08)
    ratio = sr.branch_to_skip(q0=moments[0], block=np.arange(1, 7), normalized=normalized)
    np.testing.assert_allclose(np.diff(expected) / expected[:-1], ratio, rtol=1e-12)


def test_identical_inputs_are_all_mean():
    np.testing.assert_allclose(sr.mean_share(inputs=np.ones((5, 3)), depth=3), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sr.relu_cosine(cosine=1.5), r"cosine must be in \[-1, 1\], got 1.5"),
        (lambda: sr.mean_share(inputs=[1.0, 2.0], depth=1), r"inputs must have shape \[N, features\], got \[2\]"),
        (lambda: sr.mean_share(inputs=[[0.0, 0.0], [1.0, 0.0]], depth=1), "inputs must not contain a zero vector"),
        (lambda: sr.mean_share(inputs=[[1.0]], depth=-1), "depth must be at least 0, got -1"),
        (lambda: sr.skip_moment(q0=0.0, blocks=1, normalized=True), "q0"),
        (lambda: sr.skip_moment(q0=1.0, blocks=-1, normalized=True), r"blocks must be in \[0, inf\), got -1"),
        (lambda: sr.branch_to_skip(q0=1.0, block=0, normalized=True), r"block must be in \[1, inf\), got 0"),
    ],
)
def test_bad_arguments_of_signals_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_branch_to_skip_far_down():
    np.testing.assert_array_equal(sr.branch_to_skip(q0=1.0, block=[1024, 2000], normalized=False), [1.0, 1.0])


@pytest.mark.parametrize("residual", [True, False])
def test_opposite_and_nearly_parallel_inputs_leave_no_cosine_outside_its_range(residual):
    """Rounding alone would: of 100 vectors beside their negatives, and beside what differs in the last digits."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        x = rng.standard_normal(7)
        for other in (-3 * x, x * (1 + 1e-15 * rng.standard_normal(7)), 0.1 * x):
            shares = sr.mean_share(inputs=[x, other], depth=30, residual=residual)
            assert (shares <= 1 + 1e-12).all() and (np.diff(shares) >= -1e-12).all()
