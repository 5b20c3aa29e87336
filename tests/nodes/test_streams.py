"""One stream per node: whoever owns the node, whenever it is asked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.streams import Streams

KINDS = {
    "uniform": lambda s, size: s.uniform(size),
    "normal": lambda s, size: s.normal(size, dtype=torch.float64),
    "integers": lambda s, size: s.integers(7, size),
}


@settings(max_examples=30)
@given(cut=st.integers(0, 6), kind=st.sampled_from(sorted(KINDS)), size=st.sampled_from([1, 3, 1500, 5000]))
def test_a_node_draws_the_same_numbers_in_every_process(cut, kind, size):
    draw = KINDS[kind]
    whole, low, high = (Streams("data", 3, part) for part in (range(6), range(cut), range(cut, 6)))
    for _ in range(4):
        assert torch.equal(draw(whole, size), torch.cat([draw(low, size), draw(high, size)]))


@pytest.mark.parametrize("size", [2, 3000])
def test_a_restored_position_continues(size):
    one, other = (Streams("data", 0, range(3)) for _ in range(2))
    for _ in range(5):
        one.uniform(size)
    other.position = dict(one.position)
    assert torch.equal(one.uniform(size), other.uniform(size))


def test_names_seeds_nodes_and_calls_differ():
    draws = [
        Streams(name, seed, [node]).uniform(8)
        for name, seed, node in (("data", 0, 0), ("data", 0, 1), ("data", 1, 0), ("attack", 0, 0))
    ]
    stream = Streams("data", 0, [0])
    draws += [stream.uniform(8), stream.uniform(8)]
    assert torch.equal(draws.pop(4), draws[0])  # the same call of the same stream
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 5


def test_integers_are_uniform_over_each_rows_range():
    draws = Streams("data", 0, range(2)).integers(torch.tensor([3, 5]), 30_000)
    for row, high in zip(draws, (3, 5), strict=True):
        counts = torch.bincount(row, minlength=high).double()
        expected = len(row) / high
        assert len(counts) == high and float(((counts - expected) ** 2 / expected).sum()) < 25  # chi-squared, p ~ 1e-4


@pytest.mark.parametrize("high", [0, -1, 2**31 + 1, torch.tensor([1, 2, 3])])
def test_bad_ranges_are_refused(high):
    with pytest.raises(ValueError, match=r"high must be in 1\.\.2\*\*31"):
        Streams("data", 0, range(2)).integers(high, 4)
