"""Simulated time: hand-computed traces."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optcourse.nodes import Network
from optcourse.nodes.time import clock as clocks
from optcourse.nodes.time.clock import Clock, Interval
from optcourse.nodes.time.collectives import execute, plan
from optcourse.nodes.time.pipeline import gpipe
from optcourse.nodes.time.schedule import asynchronous_schedule
from optcourse.nodes.time.timeline import idle_share


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
        ({"latency": -1.0}, r"latency must be in \[0, inf\), got -1.0"),
        ({"seconds_per_byte": float("inf")}, r"seconds_per_byte must be in \[0, inf\), got inf"),
        ({"compute": -1}, r"compute must be in \(0, inf\), got -1$"),
        ({"compute": 0.0}, r"compute must be in \(0, inf\), got 0.0$"),
        ({"compute": float("nan")}, r"compute must be in \(0, inf\), got nan$"),
        ({"compute": float("inf")}, r"compute must be in \(0, inf\), got inf$"),
        ({"compute": [1.0, -2.0]}, r"compute must be in \(0, inf\), got -2.0$"),
        ({"compute": torch.tensor(-1.0)}, r"compute must be in \(0, inf\), got -1.0$"),
        ({"pattern": "telepathy"}, "pattern must be one of"),
    ],
)
def test_bad_prices_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Clock(**options)


@pytest.mark.parametrize("name", ["compute", "latency", "seconds_per_byte"])
def test_what_is_no_number_is_refused_by_name(name):
    for bad in ("1", None, True, 1j, torch.ones(2) * 1j, {}):
        with pytest.raises(TypeError, match=f"{name} must be a real number, got"):
            Clock(**{name: bad})
    if name != "compute":  # one for all wires
        for bad in ([1.0, 1.0], torch.ones(2)):
            with pytest.raises(TypeError, match=f"{name} must be one real number, got"):
                Clock(**{name: bad})
    assert Clock(**{name: np.float32(1)}).bind(2).now == Clock(**{name: torch.tensor(1.0)}).bind(2).now == 0.0


@pytest.mark.parametrize(
    ("law", "error", "message"),
    [
        (lambda call: torch.tensor([1.0, -1.0]), ValueError, r"compute must be in \[0, inf\), got -1.0"),
        (lambda call: torch.tensor([1.0, float("nan")]), ValueError, r"compute must be in \[0, inf\), got nan"),
        (lambda call: 1.0, ValueError, r"compute must give one time per node, shape \[2\], got shape \[\]"),
        (lambda call: "soon", TypeError, "compute must be a real number, got 'soon'"),
    ],
)
def test_what_a_law_says_is_checked_in_every_call(law, error, message):
    with pytest.raises(error, match=message):
        Clock(compute=law).bind(2)
    clock = Clock(compute=lambda call: law(call) if call == 3 else [1.0, 2.0]).bind(2)
    for _ in range(3):
        clock.compute()
    assert clock.times.tolist() == [3.0, 6.0]
    with pytest.raises(error, match=message):
        clock.compute()
    assert clock.times.tolist() == [3.0, 6.0] and clock.calls == 3


@pytest.mark.parametrize("n_bytes", [-1, float("nan"), float("inf"), "8", None])
def test_bytes_are_a_number_that_is_not_negative(n_bytes):
    clock = Clock(seconds_per_byte=1.0).bind(2)
    for communicate in (clock.mean, lambda b: clock.mix([torch.tensor([1]), torch.tensor([0])], b)):
        with pytest.raises((ValueError, TypeError), match="n_bytes must be"):
            communicate(n_bytes)
    assert clock.now == 0.0


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf"), "1", None, True, [1.0]])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("timeout", lambda bad: Network(2, timeout=bad)),
        ("mean", lambda bad: clocks.exponential(bad, 2)),
        ("minimum", lambda bad: clocks.exponential(9.0, 2, minimum=bad)),
        ("factor", lambda bad: clocks.stragglers(clocks.constant(1.0, 2), [0], bad)),
        ("seconds", lambda bad: clocks.constant(bad, 2)),
        ("latency", lambda bad: asynchronous_schedule(clocks.constant(1.0, 2), 2, 3, latency=bad)),
        ("latency", lambda bad: execute(plan("ring", 2), torch.ones(2, 2), latency=bad)),
        ("seconds_per_byte", lambda bad: execute(plan("ring", 2), torch.ones(2, 2), seconds_per_byte=bad)),
        ("forward", lambda bad: gpipe(2, 2, forward=bad)),
        ("backward", lambda bad: gpipe(2, 2, backward=bad)),
        ("end", lambda bad: idle_share([Interval(0, 0.0, 1.0, "compute")], 1, end=bad)),
    ],
)
def test_every_number_of_a_model_of_time_is_refused_by_name(name, call, bad):
    if name == "end" and bad is None:
        return  # the end of the last bar
    with pytest.raises((ValueError, TypeError), match=rf"^{name} must be"):
        call(bad)


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
