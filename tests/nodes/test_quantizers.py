"""QSGD and scaled sign against their definitions, exact expectations and the calculators of the theory."""

import numpy as np
import pytest
import torch
from compressor_cases import DTYPES, normal, same, streams, within
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.messages.compressors import qsgd, scaled_sign
from optcourse.theory import compression as theory


class Fixed:
    """Streams that give prepared numbers: the expectation over a grid of them is a finite sum."""

    def __init__(self, u):
        self.u, self.nodes = u, range(len(u))

    def uniform(self, d, dtype):
        return self.u.to(dtype)


@settings(max_examples=100)
@given(
    levels=st.integers(1, 300) | st.sampled_from([2**15, 2**23]),
    d=st.integers(1, 30),
    bucket=st.none() | st.integers(1, 40),
    seed=st.integers(0, 10),
)
def test_qsgd_rounds_as_the_definition(levels, d, bucket, seed):
    v = normal(2, d, seed=seed)
    u = streams(range(2)).uniform(d, dtype=v.dtype).numpy()
    found = qsgd(levels, streams(range(2)), bucket)(v).dense().numpy()
    for i, row in enumerate(v.numpy()):
        for start in range(0, d, bucket or d):
            part = slice(start, start + (bucket or d))
            norm = np.linalg.norm(row[part])
            r = levels * abs(row[part]) / norm
            level = np.floor(r) + (u[i, part] < r - np.floor(r))
            near = np.minimum(abs(r - np.round(r)), abs(u[i, part] - (r - np.floor(r)))) < 1e-13 * levels  # either way
            np.testing.assert_allclose(
                np.where(near, 0, found[i, part]), np.where(near, 0, norm * np.sign(row[part]) * level / levels), 1e-13
            )
            assert (abs(found[i, part] - row[part]) <= norm / levels * (1 + 1e-12)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_qsgd_attains_its_variance_exactly(dtype):
    grid = (torch.arange(4) + 0.5)[:, None] / 4  # four outcomes, alike for all entries: expectations are sums
    for v, s in (([1.0, -1.0] * 8, 1), ([-0.5] * 7 + [1.5], 2)):  # fractions of r: multiples of 1/4
        p = torch.tensor(v, dtype=dtype).expand(4, -1)
        Q = qsgd(s, Fixed(grid.expand(4, len(v))))(p).dense()
        assert same(Q.mean(0), p[0])
        square, omega = float(p[0].square().sum()), theory.qsgd_omega(size=len(v), levels=s)
        assert float((Q - p).square().sum(1).mean()) == theory.qsgd_variance(vector=v, levels=s) == omega * square


@pytest.mark.parametrize("bucket", [None, 3])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_qsgd_is_unbiased_with_the_variance_of_theory(levels, bucket):
    n = 2000
    v = torch.tensor([3.0, -1.0, 0.5, 0.0, 2.0, -4.0, 0.1], dtype=torch.float64)
    p = v.expand(n, -1)
    Q = qsgd(levels, streams(range(n)), bucket)(p).dense()
    within(Q, v)
    variance = sum(theory.qsgd_variance(vector=part.numpy(), levels=levels) for part in v.split(bucket or len(v)))
    within((Q - p).square().sum(1), variance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_neither_overflow_nor_vanish(dtype):
    big = torch.finfo(dtype).max / 16
    for size in (big, 1 / big):
        p = torch.full((1, 4), size, dtype=dtype)
        q = qsgd(2, streams([0]))(p)
        assert same(q.payload[0], 2 * p[:, :1]) and same(q.dense(), p)  # r = 1 exactly: nothing is random
        assert same(scaled_sign()(p).dense(), p)
    with pytest.raises(ValueError, match="the norms of p must be finite, got NaN or infinity in row 0 of 1"):
        qsgd(2, streams([0]))(torch.full((1, 1000), big, dtype=dtype))
    p = torch.full((1, 1024), big, dtype=dtype)  # a power of two: the division by d is exact
    assert same(scaled_sign()(p).dense(), p)


def test_qsgd_never_exceeds_the_top_level():
    for seed in range(20):
        p = normal(50, 3, torch.float32, seed)
        p[:, 1:] *= 1e-4  # one entry is nearly the norm
        q = qsgd(2**23, streams(range(50)))(p)
        assert (q.dense().abs() <= q.payload[0]).all()


def test_qsgd_errors():
    for levels in (0, 2**23 + 1):
        with pytest.raises(ValueError, match=rf"levels must be in 1\.\.8388608, got {levels}"):
            qsgd(levels, streams([0]))
    with pytest.raises(ValueError, match="bucket must be at least 1, got 0"):
        qsgd(1, streams([0]), bucket=0)


@settings(max_examples=100)
@given(st.lists(st.floats(-10, 10).map(lambda a: round(a, 3)), min_size=1, max_size=40).filter(any))
def test_scaled_sign(v):
    p = torch.tensor([v], dtype=torch.float64)
    found = scaled_sign()(p).dense()[0].numpy()
    np.testing.assert_allclose(found, np.mean(np.abs(v)) * np.where(np.array(v) >= 0, 1, -1), rtol=1e-14)
    error = np.square(found - v).sum() / np.square(v).sum()
    assert error == pytest.approx(1 - theory.delta_sign(vector=v), abs=1e-13)


def test_both_zeros_are_sent_as_plus():
    assert scaled_sign()(torch.tensor([[3.0, 0.0, -0.0]])).dense().tolist() == [[1.0, 1.0, 1.0]]
