"""A run that was stopped and continued equals one that was not, bit for bit, in any number of processes."""

from itertools import islice

import node_cases
import pytest
import torch
from waiting import HANG

from optcourse import nodes
from optcourse.nodes.run.checkpoint import Keeper, NoCheckpoint, snapshot
from optcourse.nodes.run.checkpoint_files import complete_rounds, file_name
from optcourse.nodes.run.launch import launch

NAMES = list(node_cases.cases(nodes.Network(8)))


def run(folder, name, steps, resume=False, n=8, every=4, stop=None, clock=None, **settings):
    """(own nodes, iterate, bytes, wire bytes): ``steps`` rounds in total, saved in ``folder``."""
    net = nodes.Network(n, exact=True, clock=clock, timeout=60)
    rule, options = node_cases.cases(net)[name]
    grad = node_cases.gradient(net, torch.float32)
    keeper = Keeper(folder, net, every, {"name": name, **settings})
    x = node_cases.start(net, torch.float32)
    x = keeper.restore(x) if resume else keeper.begin(x)
    iterates = keeper.watch(rule(net, grad, x, 0.1, **options), steps)
    *_, x = islice(iterates, stop)
    return net.mine, x.clone(), net.bytes_sent.clone(), net.wire_bytes, net.clock and net.clock.times.clone()


def run_all(folder, steps, resume):
    return {name: run(folder / name, name, steps, resume) for name in NAMES}


def joined(parts, name):
    return torch.cat([part[name][1] for part in parts])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run_all(tmp_path_factory.mktemp("whole"), 11, False)


def test_every_algorithm_is_here():
    covered = {node_cases.cases(nodes.Network(8))[name][0].__name__ for name in NAMES}
    assert covered | {"async_sgd"} >= set(nodes.ALGORITHMS)


@pytest.mark.parametrize("name", NAMES)
def test_a_continued_run_has_the_same_bits(name, uninterrupted, tmp_path):
    run(tmp_path, name, 11, stop=6)  # saved at round 4: what happened later is done again
    _, x, sent, *_ = run(tmp_path, name, 11, resume=True)
    assert torch.equal(x, uninterrupted[name][1])
    assert torch.equal(sent, uninterrupted[name][2])


def test_other_numbers_of_processes_go_on_with_the_same_bits(uninterrupted, tmp_path):
    """Started by 3 processes, continued by 2, then by 1; memory on edges needs the number that saved it."""

    def all_but_relay(folder, steps):
        return {name: run(folder / name, name, steps, True) for name in NAMES if name != "relay_sum"}

    def three(folder):
        first = run_all(folder, 6, False)
        return first, run(folder / "relay_sum", "relay_sum", 11, True)

    def two(folder):
        with pytest.raises(ValueError, match=r"memory 'received' .* edges: it goes on in 3 processes.* not in 2"):
            run(folder / "relay_sum", "relay_sum", 12, True)
        return all_but_relay(folder, 8)

    parts = launch(three, tmp_path, processes=3, timeout=HANG)
    assert torch.equal(torch.cat([part[1][1] for part in parts]), uninterrupted["relay_sum"][1])
    wire = sum(part[0]["psgd"][3] for part in parts)
    parts = launch(two, tmp_path, processes=2, timeout=HANG)
    assert sum(part["psgd"][3] for part in parts) > wire  # counts on
    for name, (_, x, sent, *_) in all_but_relay(tmp_path, 11).items():
        assert torch.equal(x, uninterrupted[name][1]), name
        assert torch.equal(sent, uninterrupted[name][2]), name


def test_the_clock_goes_on(tmp_path):
    def clock():
        return nodes.Clock(compute=[1.0, 2.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0], latency=0.1)

    run(tmp_path / "a", "dsgd", 6, clock=clock())
    *_, continued = run(tmp_path / "a", "dsgd", 9, resume=True, clock=clock())
    *_, whole = run(tmp_path / "b", "dsgd", 9, clock=clock())
    assert torch.equal(continued, whole)


def test_the_last_two_complete_rounds_and_newer_ones_are_kept(tmp_path):
    run(tmp_path, "psgd", 17, every=4)
    assert complete_rounds(tmp_path, 8) == [16, 17] and len(list(tmp_path.iterdir())) == 2
    ahead = tmp_path / file_name(30, 0, 3, 8)
    ahead.write_bytes(b"rows of some nodes are no complete round")
    _, x, *_ = run(tmp_path, "psgd", 20, resume=True)
    assert torch.equal(x, run(tmp_path / "whole", "psgd", 20)[1])
    assert not ahead.exists()  # it belonged to the run that was interrupted


def test_what_fails_in_the_middle_of_a_round_saves_the_round_before(tmp_path):
    net = nodes.Network(4)
    calls = []

    def grad(x):
        calls.append(1)
        return x if len(calls) < 6 else x * torch.nan

    keeper = Keeper(tmp_path, net, every=100)
    with pytest.raises(ValueError, match="node 0 sent NaN or infinity in round 5"):
        for _ in keeper.watch(nodes.psgd(net, grad, keeper.begin(torch.ones(4, 3)), 0.5), 50):
            pass
    again = Keeper(tmp_path, nodes.Network(4))
    assert torch.equal(again.restore(torch.zeros(4, 3)), torch.full((4, 3), 0.5**5))


def test_the_snapshot_of_a_round_does_not_change_afterwards():
    net = nodes.Network(6)
    rule, options = node_cases.cases(net)["powersgd"]
    iterates = rule(net, node_cases.gradient(net, torch.float64), node_cases.start(net, torch.float64), 0.1, **options)
    first = snapshot(net, iterates, next(iterates))
    kept = [t.clone() for t in first["memory"]["factors"]]
    sent = first["bytes_sent"].clone()
    for _ in range(3):
        next(iterates)
    assert all(map(torch.equal, first["memory"]["factors"], kept)) and torch.equal(first["bytes_sent"], sent)


def test_memory_that_is_written_in_place_is_saved_as_it_was_after_the_last_full_round(tmp_path):
    net = nodes.Network(2)

    @nodes.algorithm
    def counting(net, grad, x, lr):
        total = net.initial("total", torch.zeros(2, 1))
        for k in net.rounds():
            total += 1
            if k == 3:
                raise ArithmeticError("in the middle of a round")
            yield total.clone()

    keeper = Keeper(tmp_path, net)
    keeper.begin(torch.zeros(2, 1))
    with pytest.raises(ArithmeticError):
        list(keeper.watch(counting(net, torch.ones_like, torch.zeros(2, 1), 1.0), 10))
    again = nodes.Network(2)
    assert Keeper(tmp_path, again).restore(torch.zeros(2, 1)).tolist() == [[3.0], [3.0]]
    assert again.initial("total", None).tolist() == [[3.0], [3.0]]


def test_missing_rows_are_named(tmp_path):
    def restore(n=8):
        return Keeper(tmp_path, nodes.Network(n)).restore(torch.zeros(n, 18))

    with pytest.raises(NoCheckpoint, match="there are no rows of 8 nodes in"):
        restore()
    for rank in (0, 2):
        (tmp_path / file_name(4, 3 * rank, min(7, 3 * rank + 2), 8)).touch()
    with pytest.raises(NoCheckpoint, match="the rows of nodes 3-5 were never saved"):
        restore()
    (tmp_path / file_name(2, 3, 5, 8)).touch()
    with pytest.raises(NoCheckpoint, match="nodes 3-5 were saved last in round 2, others in round 4"):
        restore()
    (tmp_path / file_name(4, 3, 5, 8)).touch()
    with pytest.raises(ValueError, match=r"nodes0-2-of8\.pt cannot be read as saved rows"):
        restore()


def test_rows_of_another_run_are_refused(tmp_path):
    run(tmp_path, "psgd", 3, lr=0.1)
    with pytest.raises(ValueError, match=r"belong to another run: lr was 0\.1 and is now 0\.2$"):
        run(tmp_path, "psgd", 3, resume=True, lr=0.2)
    with pytest.raises(ValueError, match=r"dtype was 'torch\.float32' and is now 'torch\.float64'; d was"):
        Keeper(tmp_path, nodes.Network(8), settings={"name": "psgd", "lr": 0.1}).restore(torch.zeros(8, 2).double())
    with pytest.raises(NoCheckpoint, match="no rows of 4 nodes"):
        run(tmp_path, "psgd", 3, resume=True, n=4)
