"""Simulated time: hand-computed traces."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optcourse.nodes.time import clock as clocks
from optcourse.nodes.time.clock import Clock


def test_a_mean_waits_for_the_slowest_and_mixing_for_the_neighbours_only():
    clock = Clock(compute=[1.0, 2.0, 5.0], latency=0.5, record=True).bind(3)
    clock.compute()
    clock.mix([torch.tensor([1]), torch.tensor([0]), torch.tensor([], dtype=torch.int64)], n_bytes=0)
    assert clock.times.tolist() == [2.5, 2.5, 5.0]  # node 0 waited for node 1; node 2 talked to nobody
    clock.mean(0)
    assert clock.times.tolist() == [7.0] * 3  # 5 + 2 (n - 1) latencies of a ring
    bars = [(i, s, e, kind) for i, s, e, kind in clock.timeline if i == 0]
    assert bars == [
        (0, 0.0, 1.0, "compute"),
        (0, 1.0, 2.0, "wait"),
        (0, 2.0, 2.5, "communicate"),
        (0, 2.5, 5.0, "wait"),
        (0, 5.0, 7.0, "communicate"),
    ]


def test_what_is_computed_meanwhile_hides_a_communication():
    clock = Clock(compute=3.0, seconds_per_byte=1.0, pattern="recursive_doubling").bind(2)
    window = clock.after_mean(n_bytes=2)
    clock.compute()
    clock.finish(window)
    assert clock.times.tolist() == [3.0, 3.0]
    window = clock.after_mean(n_bytes=10)
    clock.compute()
    clock.finish(window)
    assert clock.times.tolist() == [13.0, 13.0]


def test_those_outside_a_mean_neither_wait_nor_delay_it():
    clock = Clock(compute=[1.0, 2.0, 9.0]).bind(3)
    clock.compute()
    clock.mean(0, among=torch.tensor([True, True, False]))
    assert clock.times.tolist() == [2.0, 2.0, 9.0]


def test_binding_starts_again_at_zero():
    clock = Clock(compute=1.0, record=True).bind(2)
    clock.compute()
    clock.bind(4)
    assert clock.times.tolist() == [0.0] * 4 and clock.timeline == [] and clock.calls == 0


def test_exponential_law_has_its_mean():
    law, calls = clocks.exponential(2.0, 50, seed=1, minimum=0.5), 400
    times = torch.stack([law(call) for call in range(calls)])
    assert times.min() >= 0.5
    assert float(times.mean()) == pytest.approx(2.0, abs=4 * 1.5 / (50 * calls) ** 0.5)  # four standard errors


@given(calls=st.lists(st.integers(0, 600), min_size=1, max_size=8), seed=st.integers(0, 100))
def test_a_law_is_a_pure_function_of_seed_and_call(calls, seed):
    one, other = (clocks.exponential(1.0, 3, seed=seed) for _ in range(2))
    forward = {call: one(call) for call in calls}
    assert all(torch.equal(forward[call], other(call)) for call in reversed(calls))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": -1.0}, "latency must be in"),
        ({"seconds_per_byte": float("inf")}, "seconds_per_byte must be in"),
        ({"pattern": "telepathy"}, "pattern must be one of"),
    ],
)
def test_bad_prices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Clock(**options)


def test_bad_laws_are_refused():
    with pytest.raises(ValueError, match=r"compute must be a number or have shape \[3\], got shape \[2\]"):
        Clock(compute=[1.0, 2.0]).bind(3)
    with pytest.raises(ValueError, match="seconds must be in"):
        clocks.constant(0.0, 2)
    with pytest.raises(ValueError, match="mean must be in"):
        clocks.exponential(1.0, 2, minimum=1.0)
    with pytest.raises(ValueError, match="factor must be in"):
        clocks.stragglers(clocks.constant(1.0, 2), [0], 0.5)
    with pytest.raises(ValueError, match="compute must give one time per node"):
        Clock(compute=lambda call: torch.ones(2)).bind(3)


def test_seconds_and_bytes_are_counted_in_double_precision():
    clock = Clock(compute=1.0, latency=0.1).bind(2)
    clock.mean(0)
    assert clock.now == 0.1 * 2  # a ring of two: two messages in a row
