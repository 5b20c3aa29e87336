"""The line of latency and bandwidth against what made it, and collectives of real processes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from waiting import HANG

from optcourse.nodes.run.launch import CannotLaunch
from optcourse.nodes.time import measured

SIZES = 4.0 ** np.arange(3, 13)


def test_the_line_that_made_the_times_is_found():
    found = measured.fitted_line(SIZES, 5e-5 + 8e-10 * SIZES)
    assert found == pytest.approx((5e-5, 8e-10, 0.0), rel=1e-9, abs=1e-12)


def test_no_other_line_is_closer_in_relative_error():
    seconds = (5e-5 + 8e-10 * SIZES) * np.random.default_rng(0).lognormal(sigma=0.3, size=len(SIZES))

    def misfit(latency, per_byte):
        return np.sqrt(np.mean(((latency + per_byte * SIZES) / seconds - 1) ** 2))

    found = measured.fitted_line(SIZES, seconds)
    assert found.misfit == pytest.approx(misfit(*found[:2]), rel=1e-9)
    around = [(a * found.latency, b * found.seconds_per_byte) for a in (0.99, 1, 1.01) for b in (0.99, 1, 1.01)]
    assert min(misfit(*other) for other in around) == pytest.approx(found.misfit, rel=1e-12)


def test_no_latency_is_below_zero():
    found = measured.fitted_line([1e3, 2e3, 3e3], [1e-3, 3e-3, 5e-3])  # a straight line through -1 ms
    assert found.latency == 0 and found.seconds_per_byte > 0


@pytest.mark.parametrize(("n", "factors"), [(1, (0.0, 0.0)), (2, (1.0, 0.5)), (8, (1.75, 0.875))])
def test_bus_bandwidth_counts_what_nobody_can_do_without(n, factors):
    timed = measured.Collectives(n, np.array([1e6, 2e6]), {kind: np.full((3, 2), 0.5) for kind in measured.KINDS})
    for kind, factor in zip(("all-reduce", "all-gather"), factors, strict=True):
        assert timed.bus(kind) == pytest.approx(factor * np.array([[2e6, 4e6]] * 3))
    assert (timed.bus("reduce-scatter") == timed.bus("all-gather")).all()
    with pytest.raises(ValueError, match="kind must be one of"):
        timed.bus("broadcast")


def test_real_processes_are_timed_and_their_sums_verified():
    timed = measured.collectives([5, 4000], repeats=3, processes=3, timeout=HANG)
    assert timed.n_nodes == 3 and timed.n_bytes.tolist() == [12, 4008]  # parts of one and of 334 numbers
    assert list(timed.seconds) == list(measured.KINDS)
    assert all(s.shape == (3, 2) and (s > 0).all() and (s < HANG).all() for s in timed.seconds.values())


def test_a_wrong_sum_is_no_time(monkeypatch):
    def launch_here(function, *args, processes, **_):  # one process that plays two: nobody adds its part
        monkeypatch.setattr(measured.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(measured.dist, "get_world_size", lambda: processes)
        monkeypatch.setattr(measured.dist, "all_reduce", lambda x, group: None)
        monkeypatch.setattr(measured.dist, "new_group", lambda backend: None)
        return [function(*args)] * processes

    monkeypatch.setattr(measured, "launch", launch_here)
    with pytest.raises(RuntimeError, match="the all-reduce of 8 bytes is wrong in process 0"):
        measured.collectives([8], repeats=1)


def test_on_gpus_there_is_a_process_for_each_and_nccl(monkeypatch):
    called = {}

    def no_processes(function, *args, **options):
        called.update(options, args=args)
        ranks = np.array([2.0, 5.0, 3.0, 1.0])[:, None, None, None]
        return ranks * np.ones((options["processes"], len(args[0]), args[2], len(measured.KINDS)))

    monkeypatch.setattr(measured, "launch", no_processes)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(measured.dist, "is_nccl_available", lambda: True)
    timed = measured.collectives([16, 17], "cuda", repeats=2)
    assert (called["processes"], called["backend"], called["args"]) == (4, "nccl", ([1, 2], "cuda", 2))
    assert timed.n_nodes == 4
    assert all(timed.seconds[kind].tolist() == [[5.0] * 2] * 2 for kind in measured.KINDS)  # of the slowest process
    monkeypatch.setattr(measured.dist, "is_nccl_available", lambda: False)
    with pytest.raises(CannotLaunch, match="without nccl"):
        measured.collectives([16], "cuda")


@pytest.mark.parametrize("wrong", [None, *measured.KINDS])
def test_a_wrong_sum_is_not_timed(wrong, monkeypatch):
    """The second of two processes, whose collectives are played by hand; one of them does nothing."""

    def all_reduce(whole, group):
        whole.copy_(whole if wrong == "all-reduce" else 2 * whole)

    def all_gather(whole, own, group):
        whole.copy_(whole if wrong == "all-gather" else torch.arange(1.0, 3).repeat_interleave(len(own)))

    def reduce_scatter(own, whole, group):
        own.copy_(own if wrong == "reduce-scatter" else torch.full_like(own, 4.0))  # each sends the vector 1 1 2 2

    played = {"all_reduce": all_reduce, "all_gather_single": all_gather, "reduce_scatter_single": reduce_scatter}
    world = {"get_rank": lambda: 1, "get_world_size": lambda: 2, "new_group": lambda backend: None}
    monkeypatch.setattr(measured, "dist", SimpleNamespace(**played, **world))
    monkeypatch.setenv("TORCH_NCCL_BLOCKING_WAIT", "1")
    if wrong is None:
        assert measured._timed([2], "cpu", 3).shape == (1, 3, 3)
    else:
        with pytest.raises(RuntimeError, match=f"the {wrong} of 16 bytes is wrong in process 1"):
            measured._timed([2], "cpu", 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measured.fitted_line([1.0], [1.0, 2.0]), r"must have shape \[sizes\], got \[1\] and \[2\]"),
        (lambda: measured.fitted_line([1.0, 2.0], [1.0, 0.0]), "seconds must be positive, got 0.0"),
        (lambda: measured.collectives([]), "sizes must be at least one"),
        (lambda: measured.collectives([2]), "sizes must be at least 4, got 2"),
        (lambda: measured.collectives([8], repeats=0), "repeats must be at least 1, got 0"),
        (lambda: measured.collectives([8], "tpu"), "device must be one of"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
