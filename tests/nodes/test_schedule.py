"""Asynchronous schedules: hand-computed traces, what must hold for every law, files, impossible schedules."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import constant, exponential, stragglers
from optcourse.nodes.time.schedule import Job, Schedule, asynchronous_schedule


@st.composite
def runs(draw):
    """Schedules of random laws, with many ties, waiting and both ways to assign."""
    n = draw(st.integers(1, 5))
    table = draw(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 7.0]), min_size=n, max_size=n), min_size=1))
    times = torch.tensor(table, dtype=torch.float64)
    options = {
        "law": lambda call: times[call % len(times)],
        "n_nodes": n,
        "updates": draw(st.integers(0, 40)),
        "latency": draw(st.sampled_from([0.0, 0.25, 3.0])),
        "assign": draw(st.sampled_from(["fixed", "random"])),
        "seed": draw(st.integers(0, 3)),
    }
    return options, asynchronous_schedule(**options)


def brute_force(law, n_nodes, updates, latency):
    """The same run of fixed assignment, by looking for the next arrival among all nodes after every update."""
    trace = []
    read, start, calls = [0] * n_nodes, [0.0] * n_nodes, [0] * n_nodes
    for version in range(updates):
        arrives = [start[i] + float(law(calls[i])[i]) + latency for i in range(n_nodes)]
        i = arrives.index(min(arrives))
        trace.append((i, read[i], start[i], arrives[i]))
        read[i], start[i], calls[i] = version + 1, arrives[i] + latency, calls[i] + 1
    return trace


def test_two_nodes_by_hand():
    run = asynchronous_schedule(constant([2.0, 3.0], 2), 2, 4, latency=0.5)
    assert run.jobs == (  # node 0 arrives at 2.5, 5.5, 8.5; node 1 at 3.5, 7.5
        Job(0, 0, 0.0, 2.0, 2.5),
        Job(1, 0, 0.0, 3.0, 3.5),
        Job(0, 1, 3.0, 5.0, 5.5),
        Job(1, 2, 4.0, 7.0, 7.5),
    )
    assert run.unfinished == (Job(0, 3, 6.0, 8.0, 8.5), Job(1, 4, 8.0, 11.0, 11.5))
    assert run.delays.tolist() == [0, 1, 1, 1]
    assert run.node_delays.tolist() == [0.5, 1.0]
    assert run.counts.tolist() == [2, 2]


@given(runs())
def test_every_run_keeps_the_rules(case):
    options, run = case
    n, updates, latency = options["n_nodes"], options["updates"], options["latency"]
    assert len(run) == updates and run == asynchronous_schedule(**options)
    assert len(run.unfinished) == n  # as many under way as at the start
    assert (run.delays >= 0).all() and int(run.counts.sum()) == updates
    times = [job.time for job in run.jobs]
    assert times == sorted(times)
    calls = [0] * n
    for job in run.jobs:  # the c-th gradient of a node takes what the law says for c
        assert job.end - job.start == pytest.approx(float(options["law"](calls[job.node])[job.node]), abs=1e-9)
        assert job.time == job.end + latency
        calls[job.node] += 1
    assert (run.concurrency == n).all()
    rest = sum(updates - job.read for job in run.unfinished)
    assert int(run.delays.sum()) + rest == (n - 1) * updates


@given(runs())
def test_fixed_assignment_is_the_brute_force_run(case):
    options, _ = case
    run = asynchronous_schedule(**options | {"assign": "fixed"})
    expected = brute_force(options["law"], options["n_nodes"], options["updates"], options["latency"])
    assert [(job.node, job.read, job.start, job.time) for job in run.jobs] == expected


@given(runs())
def test_bars_fill_the_time_of_every_node_without_overlap(case):
    options, run = case
    bars = run.intervals()
    horizon = run.jobs[-1].time if run.jobs else 0.0
    for node in range(options["n_nodes"]):
        own = sorted((bar for bar in bars if bar.node == node), key=lambda bar: bar.start)
        ends = [0.0, *(bar.end for bar in own)]
        assert [bar.start for bar in own] == ends[:-1] and ends[-1] == horizon
        computing = sum(bar.end - bar.start for bar in own if bar.kind == "compute")
        jobs = [job for job in run.jobs + run.unfinished if job.node == node]
        expected = sum(max(0.0, min(job.end, horizon) - job.start) for job in jobs)
        assert computing == pytest.approx(expected, abs=1e-9)
        if options["latency"] == 0:
            assert all(bar.kind != "communicate" for bar in own)
        if options["assign"] == "fixed":
            assert all(bar.kind != "wait" for bar in own)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_equal_speeds_have_constant_delay(n):
    run = asynchronous_schedule(constant(0.3, n), n, 4 * n)
    assert run.delays.tolist() == [min(k, n - 1) for k in range(4 * n)]


def test_nodes_work_as_often_as_their_speed_allows():
    seconds = [1.0, 3.0, 4.0]
    run = asynchronous_schedule(constant(seconds, 3), 3, 1900)  # 19 updates per 12 seconds
    assert run.jobs[-1].time == 1200
    assert run.counts.tolist() == [int(1200 / s) for s in seconds]
    assert run.node_delays[2] > run.node_delays[1] > run.node_delays[0]


def test_random_assignment_is_fair_to_slow_nodes():
    law, n, updates = stragglers(constant(1.0, 5), [4], 8.0), 5, 4000
    fixed = asynchronous_schedule(law, n, updates)
    fair = asynchronous_schedule(law, n, updates, assign="random")
    assert fixed.counts[4] / updates < 0.04  # 1/33 of the updates
    given = torch.bincount(torch.tensor([j.node for j in fair.jobs + fair.unfinished]), minlength=n).double()
    expected = (updates + n) / n
    assert float(((given - expected) ** 2 / expected).sum()) < 18.5  # chi-squared, 4 degrees of freedom, p = 0.001
    assert fair.jobs[-1].time > 3 * fixed.jobs[-1].time  # and that costs time: everybody waits for node 4
    draws = Streams("assign", 0, [0])
    order = [int(draws.integers(n)) for _ in range(updates)]
    reads = {job.read: job.node for job in fair.jobs + fair.unfinished if job.read}
    assert [reads[k + 1] for k in range(updates)] == order


def test_exponential_times_make_every_node_equally_likely_to_be_next():
    # The exponential law forgets: who delivers next is uniform and independent of the past, delays are geometric.
    n, updates = 6, 7200
    run = asynchronous_schedule(exponential(1.0, n, seed=1), n, updates)
    pairs = torch.bincount(run.nodes[0::2] * n + run.nodes[1::2], minlength=n * n).double()
    expected = updates / 2 / n**2
    assert float(((pairs - expected) ** 2 / expected).sum()) < 66.6  # chi-squared, 35 degrees of freedom, p = 0.001
    for d in (1, 5, 10):
        share, odds = float((run.delays >= d).double().mean()), (1 - 1 / n) ** d
        assert share == pytest.approx(odds, abs=0.03)  # d overlapping windows: below 3 standard errors for d = 10


# ------------------------------------------------------------------------------------ files


@given(runs())
def test_json_keeps_every_bit(tmp_path_factory, case):
    path = tmp_path_factory.mktemp("schedule") / "run.json"
    case[1].save(path)
    assert Schedule.load(path) == case[1]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"n_nodes": 2, "fields": ["node"], "jobs": [], "unfinished": []}',
        json.dumps({"n_nodes": 2, "fields": Job._fields, "jobs": [[0, 0]], "unfinished": []}),
        json.dumps({"n_nodes": 2, "fields": Job._fields, "jobs": [[0, 1, 0, 1, 1]], "unfinished": []}),
        json.dumps({"n_nodes": 2, "fields": Job._fields, "jobs": [["a", 0, 0, 1, 1]], "unfinished": []}),
        json.dumps({"n_nodes": 2, "fields": Job._fields, "jobs": 3, "unfinished": []}),
    ],
)
def test_files_without_a_possible_schedule_are_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="path must name a possible schedule"):
        Schedule.load(path)


# ------------------------------------------------------------------------------------ what cannot have happened

FIRST = Job(0, 0, 0.0, 1.0, 1.5)


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ([Job(2, 0, 0.0, 1.0, 1.0)], r"jobs\[0\]: node must be in 0..1"),
        ([Job(0, 1, 0.0, 1.0, 1.0)], r"jobs\[0\]: read must be in 0..0"),
        ([FIRST, Job(1, 2, 2.0, 3.0, 3.0)], r"jobs\[1\]: read must be in 0..1"),
        ([Job(0, -1, 0.0, 1.0, 1.0)], r"jobs\[0\]: read"),
        ([Job(0, 0, -1.0, 1.0, 1.0)], r"jobs\[0\]: start"),
        ([Job(0, 0, 2.0, 1.0, 2.0)], r"jobs\[0\]: end"),
        ([Job(0, 0, 0.0, 1.0, 0.5)], r"jobs\[0\]: time"),
        ([Job(0, 0, 0.0, 1.0, math.nan)], r"jobs\[0\]: time"),
        ([FIRST, Job(1, 0, 0.0, 1.0, 1.2)], r"jobs\[1\] must not arrive before jobs\[0\]"),
        ([FIRST, Job(1, 1, 1.4, 2.0, 2.0)], "when version 1 came to be"),
        ([FIRST, Job(0, 0, 0.5, 2.0, 2.0)], "when node 0 finished its last one"),
        ([FIRST, Job(1, 1, 1.5, 2.0, 2.0), Job(1, 0, 2.0, 3.0, 3.0)], "read and deliver in order"),
    ],
)
def test_impossible_schedules_are_refused(jobs, message):
    with pytest.raises(ValueError, match=message):
        Schedule(2, tuple(jobs))


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(1, 2, 2.0, 3.0, 3.0), "read must be in 0..1"),
        (Job(1, 0, 0.0, 1.0, 1.0), "must not arrive before jobs.0. does, at 1.5 s"),
        (Job(0, 1, 0.5, 2.0, 2.0), "when version 1 came to be"),
    ],
)
def test_impossible_unfinished_gradients_are_refused(job, message):
    with pytest.raises(ValueError, match=message):
        Schedule(2, (FIRST,), (job,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_nodes": 0}, "n_nodes must be at least 1"),
        ({"updates": -1}, "updates must be at least 0"),
        ({"latency": -0.1}, "latency must be in"),
        ({"assign": "fair"}, "assign must be one of 'fixed', 'random'"),
        ({"law": lambda call: torch.ones(3)}, r"law must give one time per node, shape \[2\]"),
        ({"law": lambda call: torch.tensor([1.0, -1.0])}, "law must be in"),
        ({"law": lambda call: torch.tensor([1.0, math.inf])}, "law must be in"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    options = {"law": constant(1.0, 2), "n_nodes": 2, "updates": 3}
    with pytest.raises(ValueError, match=message):
        asynchronous_schedule(**options | change)


def test_an_empty_run_has_empty_statistics():
    run = asynchronous_schedule(constant(1.0, 2), 2, 0)
    assert len(run) == 0 and run.delays.tolist() == [] and run.concurrency.tolist() == [] and run.intervals() == []
    assert run.node_delays.isnan().all()
