"""Streams from which only some rows draw: each node's numbers stay its own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optcourse.nodes.streams import Streams

DRAWS = {
    "uniform": lambda s, rows: s.uniform(1500, rows=rows),  # two calls per block
    "normal": lambda s, rows: s.normal(2, 2, dtype=torch.float64, rows=rows),
    "integers": lambda s, rows: s.integers(9, 3, rows=rows),
}


@settings(max_examples=40)
@given(
    kind=st.sampled_from(sorted(DRAWS)),
    calls=st.lists(st.one_of(st.none(), st.lists(st.integers(0, 3), unique=True)), max_size=12),
    as_tensor=st.booleans(),
)
def test_the_jth_draw_of_a_node_does_not_depend_on_the_others(kind, calls, as_tensor):
    draw, together, alone = DRAWS[kind], Streams("data", 1, range(4)), [Streams("data", 1, [i]) for i in range(4)]
    for rows in calls:
        chosen = range(4) if rows is None else rows
        handed = torch.tensor(rows, dtype=torch.int64) if as_tensor and rows is not None else rows
        got = draw(together, handed)
        assert len(got) == len(chosen)
        for row, numbers in zip(chosen, got, strict=True):
            assert torch.equal(numbers, draw(alone[row], None)[0])


def test_positions_are_restored_row_by_row():
    one, other = (Streams("data", 0, range(3)) for _ in range(2))
    one.uniform(4, rows=[0, 2])
    one.uniform(4, rows=[2])
    other.position = dict(one.position)
    kept = dict(one.position)
    assert torch.equal(one.uniform(4), other.uniform(4))
    assert list(kept.values()) == [[1, 0, 2]]  # a copy in a checkpoint does not move on


def test_rows_that_caught_up_have_one_position():
    streams = Streams("data", 0, range(2))
    streams.uniform(4, rows=[1])
    streams.uniform(4, rows=[0])
    assert list(streams.position.values()) == [1]


def test_each_drawn_row_has_its_own_range():
    streams = Streams("data", 0, range(3))
    draws = streams.integers(torch.tensor([1, 1000]), 50, rows=[2, 0])
    assert draws[0].max() == 0 and draws[1].max() > 100
    with pytest.raises(ValueError, match=r"high must be in .* one per row \(2\)"):
        streams.integers(torch.tensor([1, 2, 3]), 50, rows=[2, 0])


@pytest.mark.parametrize(("rows", "message"), [([3], "rows must be in 0..2"), ([-1], "rows"), ([1, 1], "not repeat")])
def test_rows_that_do_not_exist_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        Streams("data", 0, range(3)).uniform(2, rows=rows)
