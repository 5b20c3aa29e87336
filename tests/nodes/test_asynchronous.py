"""Asynchronous SGD against a plain loop over updates, and against real processes."""

import math
import os
import signal
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import HANG

from optcourse.nodes.algorithms.algorithm import memory
from optcourse.nodes.algorithms.asynchronous import async_sgd, delay_adaptive
from optcourse.nodes.network.network import Network, NodeFailed
from optcourse.nodes.run.launch import WorkerFailed, launch
from optcourse.nodes.run.record_async import record_async
from optcourse.nodes.streams import Streams
from optcourse.nodes.time.clock import Clock, constant, exponential, stragglers
from optcourse.nodes.time.schedule import Job, Schedule, asynchronous_schedule
from optcourse.theory.distributed.asynchrony import delay_max_step, delay_radius

D = 5


class Problem:
    """Smooth, not quadratic, different at every node, noise from the node's own stream; counts its calls."""

    def __init__(self, nodes, dtype=torch.float64, noise=0.3):
        self.streams = nodes.streams("data", 7) if isinstance(nodes, Network) else Streams("data", 7, nodes)
        self.centers = torch.stack([torch.linspace(-i, 1 + i, D, dtype=dtype) for i in self.streams.nodes])
        self.noise, self.dtype, self.batches = noise, dtype, []

    def __call__(self, x, rows):
        self.batches.append(rows.tolist())
        xi = self.streams.normal(D, dtype=self.dtype, rows=rows)
        return torch.sin(x - self.centers[rows]) * (1 + 0.1 * x**2) + self.noise * xi


def one_at_a_time(schedule, x, lr, dtype=torch.float64, step=lambda lr, delay: lr):
    """The sequential run: versions kept in a list, a problem of its own for each node, one gradient per update."""
    alone = [Problem([i], dtype) for i in range(schedule.n_nodes)]
    versions = [x]
    for k, job in enumerate(schedule.jobs):
        g = alone[job.node](versions[job.read][None], torch.tensor([0]))[0]
        versions.append(versions[-1] - step(lr, k - job.read) * g)
    return torch.stack(versions[1:])


def batched(schedule, x, lr, dtype=torch.float64, **options):
    """(iterates [updates, d], the rows of each call) of the algorithm in the simulator."""
    net = Network(schedule.n_nodes)
    grad = Problem(net, dtype)
    iterates = list(async_sgd(net, grad, x.repeat(net.n, 1), lr, schedule, **options))
    assert all(len(it) == net.n and (it == it[0]).all() for it in iterates)
    return torch.stack([it[0] for it in iterates]), grad.batches


@settings(max_examples=60)
@given(
    table=st.lists(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 9.0]), min_size=4, max_size=4), min_size=1, max_size=9
    ),
    latency=st.sampled_from([0.0, 0.7]),
    assign=st.sampled_from(["fixed", "random"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_batches_give_the_bits_of_the_sequential_run(table, latency, assign, dtype):
    times = torch.tensor(table, dtype=torch.float64)
    schedule = asynchronous_schedule(lambda call: times[call % len(times)], 4, 30, latency, assign)
    x = torch.linspace(-2, 2, D, dtype=dtype)
    expected = one_at_a_time(schedule, x, 0.1, dtype)
    got, batches = batched(schedule, x, 0.1, dtype)
    assert torch.equal(got, expected)
    assert all(rows == sorted(set(rows)) for rows in batches) and sum(map(len, batches)) <= 30 + 4


def test_a_node_may_start_again_before_it_has_delivered():
    jobs = [Job(0, 0, 0, 1, 5), Job(0, 0, 1, 2, 6), Job(1, 0, 0, 7, 7), Job(0, 1, 5, 6, 8), Job(0, 3, 7, 8, 9)]
    schedule, x = Schedule(2, tuple(jobs)), torch.ones(D, dtype=torch.float64)
    assert torch.equal(batched(schedule, x, 0.1)[0], one_at_a_time(schedule, x, 0.1))


@pytest.mark.parametrize("law", [constant(1.0, 16), exponential(1.0, 16, seed=2)])
def test_no_smaller_number_of_batches_is_possible(law):
    schedule = asynchronous_schedule(law, 16, 480)
    _, batches = batched(schedule, torch.zeros(D, dtype=torch.float64), 0.05)
    # Gradients that are never under way together cannot share a batch: count how many there are.
    disjoint, last = 0, -1
    for k, job in enumerate(schedule.jobs):
        if job.read > last:
            disjoint, last = disjoint + 1, k
    assert len(batches) == disjoint <= 480 / 4


@pytest.mark.parametrize("tau", [0, 1, 4])
def test_equal_speeds_are_the_recursion_with_constant_delay(tau):
    schedule = asynchronous_schedule(constant(1.0, tau + 1), tau + 1, 60)
    x, b = torch.linspace(1, 3, D), torch.arange(5.0)
    net = Network(tau + 1)
    got = [it[0] for it in async_sgd(net, lambda x, rows: torch.tanh(x - b), x.repeat(tau + 1, 1), 0.2, schedule)]
    past = [x] * (tau + 1)  # x_k = x_0 for k < 0
    for it in got:
        past.append(past[-1] - 0.2 * torch.tanh(past[-1 - tau] - b))
        assert torch.equal(it, past[-1])


@pytest.mark.parametrize("tau", [0, 1, 2, 3, 8])
def test_the_stability_limit_from_both_sides(tau):
    eigenvalue = 2.0
    limit = delay_max_step(eigenvalue=eigenvalue, delay=tau)
    for side in (0.95, 1.05):
        factor = delay_radius(eigenvalue=eigenvalue, delay=tau, lr=side * limit)
        steps = round(abs(math.log(1e5) / math.log(factor)))
        schedule = asynchronous_schedule(constant(1.0, tau + 1), tau + 1, steps)
        net, x = Network(tau + 1), torch.ones(tau + 1, 1, dtype=torch.float64)
        *_, before, last = async_sgd(net, lambda x, rows: eigenvalue * x, x, side * limit, schedule)
        size = max(abs(float(before[0])), abs(float(last[0])))  # it oscillates
        assert size < 1e-3 if side < 1 else size > 1e3


# ------------------------------------------------------------------------------------ remedies


def test_delay_adaptive_steps_are_the_formula():
    schedule = asynchronous_schedule(stragglers(constant(1.0, 4), [3], 9.0), 4, 120)
    x = torch.linspace(-2, 2, D, dtype=torch.float64)
    step = lambda lr, delay: min(lr, 0.5 / (1.5 * delay)) if delay else min(lr, 1 / 1.5)  # noqa: E731
    got, _ = batched(schedule, x, 0.15, limit=delay_adaptive(L=1.5))
    assert torch.equal(got, one_at_a_time(schedule, x, 0.15, step=step))
    per_entry, _ = batched(schedule, x, torch.full((D,), 0.15, dtype=torch.float64), limit=delay_adaptive(L=1.5))
    assert torch.equal(per_entry, got)
    assert not torch.equal(batched(schedule, x, 0.15)[0], got)


def test_delay_adaptive_steps_survive_a_straggler():
    # On x^2/2 one node and lr = 1.5 converge: 1.5 < 2. With a second node 60 times slower, the model is at 0 whenever
    # its gradient arrives, jumps to -1.5 times that gradient, and there the slow node reads it: growth by 1.5 each time
    schedule = asynchronous_schedule(constant([1.0, 60.5], 2), 2, 1240)
    assert schedule.counts[1] == 20 and schedule.delays.max() == 61

    def end(**options):
        *_, last = async_sgd(Network(2), lambda x, rows: x, torch.ones(2, 1).double(), 1.5, schedule, **options)
        return abs(float(last[0]))

    slow = torch.tensor([job.node for job in schedule.jobs]) == 1
    largest = [
        abs(float(x[0])) for x in async_sgd(Network(2), lambda x, rows: x, torch.ones(2, 1).double(), 1.5, schedule)
    ]
    jumps = torch.tensor(largest, dtype=torch.float64)[slow]
    assert torch.allclose(jumps[1:] / jumps[:-1], torch.tensor(1.5, dtype=torch.float64), rtol=1e-12)
    assert end(limit=delay_adaptive(L=1.0)) < 1e-12


def test_fast_nodes_pull_the_model_to_themselves_and_random_assignment_does_not():
    # Node i wants to be at b_i. The updates add up to x_0 - x_T, so the points where gradients were taken average to
    # the mean of b weighted by counts, up to |x_0 - x_T| / (lr T): exact, whatever the delays.
    n, lr, updates = 3, 0.02, 3000
    b = torch.tensor([[0.0], [3.0], [6.0]], dtype=torch.float64)
    law = constant([1.0, 2.0, 4.0], n)
    for assign, share in (("fixed", [4 / 7, 2 / 7, 1 / 7]), ("random", [1 / 3, 1 / 3, 1 / 3])):
        schedule = asynchronous_schedule(law, n, updates, assign=assign)
        x = torch.zeros(n, 1, dtype=torch.float64)
        versions = [x[0], *(it[0] for it in async_sgd(Network(n), lambda x, rows: x - b[rows], x, lr, schedule))]
        read = torch.stack([versions[job.read] for job in schedule.jobs]).mean()
        weighted = (schedule.counts[:, None] * b).sum() / updates
        assert float(read - weighted) == pytest.approx(float(versions[0] - versions[-1]) / (lr * updates), abs=1e-9)
        target = sum(s * float(b_i) for s, b_i in zip(share, b, strict=True))
        tail = float(torch.stack(versions[500:]).mean())
        spread = 2 * 2.45 / 2500**0.5 if assign == "random" else 0.0  # 2 standard errors of a mean of 2500 draws of b
        assert tail == pytest.approx(target, abs=spread + 0.02)
    # fixed: 12/7 = 1.71 instead of the minimizer 3 of the mean of the three losses


# ------------------------------------------------------------------------------------ the network around it


def test_clock_and_bytes_are_those_of_the_schedule():
    schedule = asynchronous_schedule(constant([1.0, 2.5], 2), 2, 7, latency=0.25)
    net = Network(2, clock=Clock())
    times = [net.clock.now for _ in async_sgd(net, Problem(net), torch.zeros(2, D).double(), 0.1, schedule)]
    assert times == [job.time for job in schedule.jobs]
    assert net.bytes_sent.tolist() == (8 * D * schedule.counts).tolist()


def test_an_interrupted_run_continues():
    schedule = asynchronous_schedule(exponential(1.0, 4, seed=5), 4, 60, assign="random")
    x = torch.ones(D, dtype=torch.float64)
    whole, _ = batched(schedule, x, 0.1)
    net = Network(4)
    iterates = async_sgd(net, Problem(net), x.repeat(4, 1), 0.1, schedule)
    for _ in range(23):
        at = next(iterates)
    remembered = {name: t.clone() for name, t in memory(iterates).items()}
    again = Network(4)
    again.resume(23, remembered, net.stream_positions)
    rest = async_sgd(again, Problem(again), at, 0.1, schedule)
    assert torch.equal(torch.stack([it[0] for it in rest]), whole[23:])


def test_bad_arguments_are_refused():
    net, x = Network(2), torch.zeros(2, D, dtype=torch.float64)
    schedule = asynchronous_schedule(constant(1.0, 2), 2, 4)
    other = asynchronous_schedule(constant(1.0, 3), 3, 4)
    run = lambda **options: list(  # noqa: E731
        async_sgd(**{"net": net, "grad": Problem(net), "x": x, "lr": 0.1, "schedule": schedule} | options)
    )
    with pytest.raises(ValueError, match="schedule must have n_nodes = 2, got 3"):
        run(schedule=other)
    with pytest.raises(ValueError, match="x must have equal rows"):
        run(x=torch.arange(2.0)[:, None].repeat(1, D))
    with pytest.raises(ValueError, match="limit must be in"):
        run(limit=lambda delay: 0.0)
    with pytest.raises(ValueError, match="gradients must be finite"):
        run(grad=lambda x, rows: x * torch.nan)
    with pytest.raises(ValueError, match="grad must return a tensor like x"):
        run(grad=lambda x, rows: x[:, :1])
    for bad in ({"L": 0.0}, {"L": 1.0, "c": -1.0}):
        with pytest.raises(ValueError, match="must be in"):
            delay_adaptive(**bad)


# ------------------------------------------------------------------------------------ real processes


def record(dtype):
    """On every process: 40 updates with two workers, the second of which is slower."""
    rank = torch.distributed.get_rank()
    problem = Problem([rank - 1], dtype) if rank else None

    def grad(x, rows):
        time.sleep(0.001 * rank)
        return problem(x, rows)

    return record_async(rank and grad, torch.ones(1, D, dtype=dtype), falling, 40, limit=delay_adaptive(L=2.0))


def falling(k):
    """The learning rate of update k."""
    return 0.1 / (1 + 0.02 * k)


def replay(schedule, dtype):
    """On every process of a network that owns its share of the nodes: the iterates of the own rows."""
    net = Network(schedule.n_nodes)
    start = torch.ones(net.rows, D, dtype=dtype)
    iterates = list(async_sgd(net, Problem(net, dtype), start, falling, schedule, limit=delay_adaptive(L=2.0)))
    return torch.stack(iterates), net.bytes_sent, net.wire_bytes


FIVE = asynchronous_schedule(exponential(1.0, 5, seed=4), 5, 40, assign="random")
DTYPES = (torch.float32, torch.float64)


def record_and_replay():
    return [record(dtype) for dtype in DTYPES], replay(FIVE, torch.float32)


@pytest.fixture(scope="module")
def real():
    return launch(record_and_replay, processes=3, timeout=HANG)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_recorded_run_replays_bit_for_bit(real, dtype, tmp_path):
    (recorded, _), *workers = real
    assert [got for got, _ in workers] == [[None, None]] * 2
    schedule, iterates = recorded[DTYPES.index(dtype)]
    assert len(schedule) == 40 and schedule.n_nodes == 2 and len(schedule.unfinished) == 1
    assert (schedule.counts > 0).all() and (schedule.concurrency <= 2).all()
    schedule.save(tmp_path / "run.json")
    rows, *_ = replay(Schedule.load(tmp_path / "run.json"), dtype)
    assert iterates.dtype == dtype and torch.equal(rows[:, 0], iterates) and torch.equal(rows[:, 1], iterates)


def test_the_owners_of_the_nodes_do_not_matter(real):
    expected, n_bytes, nothing = replay(FIVE, torch.float32)
    parts = [part for _, part in real]
    assert torch.equal(torch.cat([rows for rows, *_ in parts], 1), expected)
    assert all(torch.equal(each, n_bytes) for _, each, _ in parts)
    assert nothing == 0 and sum(sent for *_, sent in parts) == 40 * 2 * 4 * D  # the owner tells two others


def lose_a_worker(updates):
    rank = torch.distributed.get_rank()

    def grad(x, rows):
        if rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    try:
        record_async(rank and grad, torch.ones(1, D), 0.1, updates, timeout=8.0)
    except NodeFailed as error:
        return error.rank
    return "nothing noticed"


def test_a_lost_worker_is_named():
    # The other worker is served on; the server notices when nothing but the lost gradient is under way.
    with pytest.raises(WorkerFailed) as failed:
        launch(lose_a_worker, 30, processes=3, timeout=HANG)
    assert failed.value.rank == 2 and "signal 9" in failed.value.failures[2]
    assert failed.value.results[0] == 2


def test_one_process_cannot_record():
    with pytest.raises(ValueError, match="at least two processes"):
        record_async(None, torch.ones(1, D), 0.1, 5)
