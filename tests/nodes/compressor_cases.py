"""Every compressor, the vectors that the tests send, and what they compare."""

import torch

from optcourse.nodes.messages.compressors import identity, low_rank, qsgd, random_k, scaled_sign, top_k
from optcourse.nodes.streams import Streams

SHAPES = [(5, 7), (5,), (3, 2, 4), (), (11, 3)]
D = 35 + 5 + 24 + 1 + 33
DTYPES = [torch.float32, torch.float64]


def streams(nodes, seed=0):
    return Streams("compressor", seed, list(nodes))


#: Every compressor, for a process that owns ``nodes``.
COMPRESSORS = {
    "identity": lambda nodes: identity(),
    "top_k": lambda nodes: top_k(13),
    "random_k": lambda nodes: random_k(13, streams(nodes)),
    "random_k shared": lambda nodes: random_k(13, streams([0]), shared=True),
    "random_k unbiased": lambda nodes: random_k(13, streams(nodes), unbiased=True),
    "qsgd": lambda nodes: qsgd(3, streams(nodes)),
    "qsgd buckets": lambda nodes: qsgd(100, streams(nodes), bucket=10),
    "scaled_sign": lambda nodes: scaled_sign(),
    "low_rank": lambda nodes: low_rank(SHAPES, rank=2, streams=streams(nodes)),
    "low_rank twice": lambda nodes: low_rank(SHAPES, rank=1, iterations=2, streams=streams(nodes)),
}


def normal(m, d, dtype=torch.float64, seed=0):
    return torch.randn(m, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    """Equal to the last bit, and of the same type."""
    return a.dtype == b.dtype and torch.equal(a, b)


def within(samples, mean):
    """The mean over the rows (2000 in all tests, one independent stream each) is within 4 standard errors."""
    assert len(samples) == 2000
    error = samples.std(0) / len(samples) ** 0.5
    assert ((samples.mean(0) - mean).abs() <= 4 * error + 1e-12).all()
