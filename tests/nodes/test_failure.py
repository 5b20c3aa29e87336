"""A killed or frozen process: the survivors name it in time, their rows are saved, and the run goes on from there.

Processes send the signal to themselves, in a gradient of round 12, so that every run fails at the same place.
"""

import os
import signal
import time
from itertools import islice

import node_cases
import pytest
import torch
from waiting import HANG

from optcourse import nodes
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.launch import WorkerFailed, launch

TIMEOUT = 6.0
STEPS, EVERY, ROUND = 20, 5, 12
VICTIM = 1


def settings(name, exact):
    """The run that is interrupted, for the simulator as well as for processes."""
    net = nodes.Network(8, exact=exact, timeout=TIMEOUT)
    rule, options = node_cases.cases(net)[name]
    return net, rule, options, node_cases.gradient(net, torch.float64), node_cases.start(net, torch.float64)


def until_lost(folder, name, exact, signum):
    """The NodeFailed of a survivor, and when it was raised."""
    net, rule, options, gradient, x = settings(name, exact)

    def grad(x):
        if net.round == ROUND and net.rank == VICTIM:
            (folder / "when").write_text(str(time.time()))
            os.kill(os.getpid(), signum)
        return gradient(x)

    keeper = Keeper(folder / "rows", net, EVERY)
    try:
        for _ in keeper.watch(rule(net, grad, keeper.begin(x), 0.1, **options), STEPS):
            pass
    except nodes.NodeFailed as error:
        return error, time.time(), keeper.done


@pytest.mark.parametrize(
    ("name", "exact", "signum"),
    [
        ("psgd", True, signal.SIGKILL),  # all-gather
        ("psgd", False, signal.SIGSTOP),  # all-reduce
        ("dsgd", True, signal.SIGSTOP),  # point to point
    ],
)
def test_survivors_name_the_lost_process_and_the_run_goes_on(name, exact, signum, tmp_path):
    begin = time.time()
    with pytest.raises(WorkerFailed) as failure:
        launch(until_lost, tmp_path, name, exact, signum, processes=3, timeout=HANG)
    assert failure.value.rank == VICTIM and list(failure.value.failures) == [VICTIM]
    sent = float((tmp_path / "when").read_text())
    for error, raised, done in failure.value.results.values():
        assert error.rank == VICTIM
        assert str(error).startswith(f"process {VICTIM} failed in round {error.round}: ")
        assert abs(error.round - ROUND) <= 1
        # What a busy machine adds (saving rows, the turn of a process that waits for a core): less than the start took.
        assert raised - sent < TIMEOUT + (sent - begin)
        assert done == error.round  # the rows of every round before are saved
    assert set(failure.value.results) == {0, 2}
    saved = {path.name for path in (tmp_path / "rows").iterdir()}
    assert f"round{ROUND:08d}-nodes0-2-of8.pt" in saved or f"round{ROUND + 1:08d}-nodes0-2-of8.pt" in saved

    net, rule, options, gradient, x = settings(name, exact)
    keeper = Keeper(tmp_path / "rows", net, EVERY)
    x = keeper.restore(x)
    assert keeper.done == 10  # the newest round that process 1 had saved
    *_, x = keeper.watch(rule(net, gradient, x, 0.1, **options), STEPS)
    net, rule, options, gradient, whole = settings(name, exact)
    *_, whole = islice(rule(net, gradient, whole, 0.1, **options), STEPS)
    torch.testing.assert_close(x, whole, rtol=0, atol=0 if exact else 1e-12)


def raised(call):
    """The message of the ValueError that ``call`` raises."""
    try:
        call()
    except ValueError as error:
        return str(error)


def test_errors_of_arguments_and_of_single_processes():
    """What differs between processes is a ValueError in all of them; what only some notice does not hang the others.

    In the second half node 5 sends NaN to its neighbours on a path: process 0 never sees it, and loses its neighbour.
    """

    def disagree_then_break(started):
        rank = torch.distributed.get_rank()
        messages = [
            raised(lambda: nodes.Network(8 + rank, timeout=TIMEOUT)),
            raised(lambda: nodes.Network(8, exact=rank == 1, timeout=TIMEOUT)),
            raised(lambda: nodes.Network(2, timeout=TIMEOUT)),
        ]
        net = nodes.Network(6, timeout=TIMEOUT)
        for x in (torch.zeros(2, 3 + rank), torch.zeros(2, 3, dtype=(torch.float32, torch.float64)[rank % 2])):
            messages.append(raised(lambda x=x: nodes.psgd(net, lambda x: x, x, 0.1)))
        mean = net.mean(torch.full((2, 3), float(rank)))  # the connection is as good as before
        W = nodes.mixing_matrix(nodes.topology("path", 6))

        def grad(x):
            return torch.where((net.mine == 5)[:, None] & (net.round == 3), torch.nan, x)

        begin = time.time()
        try:
            for _ in islice(nodes.dsgd(net, grad, torch.ones(2, 4), 0.1, W), 50):
                pass
        except nodes.NodeFailed as error:
            return messages, mean.tolist(), error, time.time() - begin < TIMEOUT + (begin - started)

    reason = "messages must be finite: node 5 sent NaN or infinity in round 3"
    with pytest.raises(WorkerFailed, match=reason) as failure:
        launch(disagree_then_break, time.time(), processes=3, timeout=HANG)
    assert list(failure.value.failures) == [2] and list(failure.value.results) == [0, 1]
    for messages, mean, error, in_time in failure.value.results.values():
        assert error.rank == 2 and in_time
        assert messages[0] == (
            "n must be the same in all processes, got process 0: [8], process 1: [9], process 2: [10]"
        )
        assert messages[1].startswith("exact must be the same in all processes, got process 0: [0], process 1: [1]")
        assert messages[2] == "n must be at least the number of processes, 3, got 2"
        assert messages[3].endswith("got process 0: [3, 4], process 1: [4, 4], process 2: [5, 4]")
        assert messages[4].endswith("got process 0: [3, 4], process 1: [3, 8], process 2: [3, 4]")
        assert mean == [[1.0, 1.0, 1.0]]


def test_nothing_is_lost_in_the_simulator():
    assert nodes.Network(4).lost() is None


def test_the_error_survives_pickling():
    import pickle

    error = pickle.loads(pickle.dumps(nodes.NodeFailed(2, 7, "closed")))
    assert (error.rank, error.round, str(error)) == (2, 7, "process 2 failed in round 7: closed")
    assert str(nodes.NodeFailed(None, 0)) == "an unknown process failed in round 0"
