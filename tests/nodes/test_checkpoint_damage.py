"""Checkpoints that are damaged, belong to two runs, or could not be written: nothing is lost and nothing is guessed."""

import errno
import pickle
import re
from pathlib import Path

import pytest
import torch

from optcourse import files, nodes
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.checkpoint_files import complete_rounds, file_name


def counting(net, x, local_steps=1):
    """x + 1 in every round; the last of ``local_steps`` communicates."""
    return counted(net, torch.ones_like, x, 1.0, local_steps)


@nodes.algorithm
def counted(net, grad, x, lr, local_steps):
    for k in net.rounds():
        net.bytes_sent += (k + 1) % local_steps == 0
        x = x + 1
        yield x


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def part(rank):
    """The network of process ``rank`` of two, with four nodes, as far as a keeper can tell."""
    net = nodes.Network(4)
    net.rank, net.world, net.split = rank, 2, [2, 2]
    net.mine, net.rows = torch.arange(4)[2 * rank : 2 * rank + 2], 2
    return net


@pytest.mark.parametrize(("local_steps", "stops", "common"), [(1, (6, 5), 5), (5, (14, 9), 9), (5, (12, 13), 9)])
def test_processes_that_stop_in_different_rounds_save_one_that_all_have(local_steps, stops, common, tmp_path):
    for rank, rounds in enumerate(stops):
        net = part(rank)
        keeper = Keeper(tmp_path, net, every=100)
        watched = keeper.watch(counting(net, keeper.begin(torch.zeros(2, 3)), local_steps), 50)
        for _ in range(rounds):
            next(watched)
        with pytest.raises(KeyboardInterrupt):
            watched.throw(KeyboardInterrupt)
    assert complete_rounds(tmp_path, 4)[-1] == common
    keeper = Keeper(tmp_path, nodes.Network(4))
    assert torch.equal(keeper.restore(torch.zeros(4, 3)), torch.full((4, 3), float(common)))


def test_rows_of_an_earlier_run_stay_until_the_first_new_ones_are_saved(tmp_path):
    net = nodes.Network(4)
    keeper = Keeper(tmp_path, net)
    *_, _ = keeper.watch(counting(net, keeper.begin(torch.zeros(4, 1))), 7)
    old = names(tmp_path)

    def refuses():
        raise ValueError("rank must be smaller")
        yield

    keeper = Keeper(tmp_path, nodes.Network(4))
    keeper.begin(torch.zeros(4, 1))
    with pytest.raises(ValueError, match="rank must be smaller"):
        next(keeper.watch(refuses(), 9))
    assert names(tmp_path) == old
    net = nodes.Network(4)
    told = []
    keeper = Keeper(tmp_path, net, tell=told.append)
    next(keeper.watch(counting(net, keeper.begin(torch.zeros(4, 1))), 9))
    assert names(tmp_path) == ["before", file_name(1, 0, 3, 4)] and names(tmp_path / "before") == old
    assert told == [
        f"this run starts anew: the rows after 7 rounds in {tmp_path}, from which --resume would have gone on, "
        f"are now in {tmp_path / 'before'}; to do that, move them back"
    ]


def test_a_short_run_that_starts_anew_does_not_take_the_place_of_a_long_one(tmp_path):
    """Whoever forgets --resume twice, too: the rows that went furthest can be moved back, and are those of the run."""
    told = []

    def run(steps, resume=False, settings=None):
        net = nodes.Network(4)
        keeper = Keeper(tmp_path, net, settings=settings, tell=told.append)
        x = keeper.restore(torch.zeros(4, 1)) if resume else keeper.begin(torch.zeros(4, 1))
        *_, x = keeper.watch(counting(net, x), steps)
        return x

    run(7)
    old, before = names(tmp_path), tmp_path / "before"
    assert told == []
    run(2)
    run(3, settings={"lr": 1})
    assert names(before) == old
    assert "are now in" in told[0] and told[1] == (
        f"this run starts anew: the rows of an earlier one in {tmp_path} are deleted (those in {before} went further)"
    )
    for path in tmp_path.glob("round*.pt"):
        path.unlink()
    for path in before.iterdir():
        path.rename(tmp_path / path.name)
    assert torch.equal(run(9, resume=True), torch.full((4, 1), 9.0)) and len(told) == 2
    run(1)
    assert names(before)[-1] == file_name(9, 0, 3, 4)  # as far or further: it replaces the others


def test_an_error_in_the_loop_and_leaving_it_save_the_last_full_round(tmp_path):
    net = nodes.Network(4)
    keeper = Keeper(tmp_path, net, every=100)
    with pytest.raises(ZeroDivisionError):
        for x in keeper.watch(counting(net, keeper.begin(torch.zeros(4, 1))), 50):
            1 / (x[0, 0] < 3).item()
    assert complete_rounds(tmp_path, 4)[-1] == 3
    net = nodes.Network(4)
    keeper = Keeper(tmp_path, net, every=100)
    for x in keeper.watch(counting(net, keeper.restore(torch.zeros(4, 1))), 50):
        if x[0, 0] == 8:
            break
    assert complete_rounds(tmp_path, 4)[-1] == 8


def test_a_full_disk_is_named_and_hides_no_other_error(tmp_path, monkeypatch):
    net = nodes.Network(4)
    keeper = Keeper(tmp_path, net, every=3)
    watched = keeper.watch(counting(net, keeper.begin(torch.zeros(4, 1))), 50)
    for _ in range(3):
        next(watched)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    message = f"the rows cannot be written to .*{re.escape(file_name(3, 0, 3, 4))}: No space left on device"
    with pytest.raises(KeyError, match="the reason") as caught:
        watched.throw(KeyError("the reason"))
    assert caught.value.__notes__[0].endswith("No space left on device")
    with pytest.raises(OSError, match=message):
        keeper.save()
    assert names(tmp_path) == [file_name(1, 0, 3, 4)]


@pytest.fixture
def saved(tmp_path):
    """A run of four nodes with a clock, and its only file."""
    net = nodes.Network(4, clock=nodes.Clock(compute=1.0))
    keeper = Keeper(tmp_path, net, every=100)

    def grad(x):
        return x + net.streams("data", 0).normal(3)

    W = nodes.mixing_matrix(nodes.topology("ring", 4))
    x = keeper.begin(torch.ones(4, 3))
    *_, _ = keeper.watch(nodes.gradient_tracking(net, grad, x, 0.1, W), 5)
    (tmp_path / file_name(1, 0, 3, 4)).unlink(missing_ok=True)
    (path,) = tmp_path.iterdir()
    return path


def restore(path):
    return Keeper(path.parent, nodes.Network(4, clock=nodes.Clock(compute=1.0))).restore(torch.zeros(4, 3))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": [1, 2]}, "x must not be a list"),
        ({"x": torch.zeros(2, 3)}, r"x must have shape \[4, d\], got \[2, 3\]"),
        ({"x": torch.zeros(8, 3)}, r"x must have shape \[4, d\], got \[8, 3\]"),
        ({"x": torch.full((4, 3), torch.nan)}, "x must be finite"),
        ({"x": torch.zeros(4, 3).double()}, r"x must be a torch\.float32, got torch\.float64"),
        ({"bytes_sent": torch.zeros(2).double()}, "bytes_sent must be 4 finite float64 numbers"),
        ({"round": "a"}, "round must not be a str"),
        ({"round": 999}, "round must be 5 as in its name, got 999"),
        ({"n": 5}, "n must be 4 as in its name"),
        ({"nodes": list(range(10))}, r"nodes must be \[0, 1, 2, 3\] as in its name"),
        ({"bytes_sent": torch.full((4,), -1.0).double()}, "bytes_sent must be 4 finite .* none of them negative"),
        ({"settings": "[]"}, "settings must not be a str"),
        ({"clock": {"times": torch.zeros(1).double(), "calls": 0}}, "the times of the clock must be 4"),
        ({"positions": {"data 0": {"x": "y"}}}, "the position of the random numbers 'data 0' must be"),
        ({"positions": {"data": {"x": 1}}}, "the position of the random numbers 'data' must be"),
        ({"memory": {"y": torch.zeros(3, 3)}, "per_node": ["y"]}, "the memory 'y' must have 4 rows"),
        ({"more": 1}, "it must hold round, n, nodes"),
    ],
)
def test_a_damaged_file_is_refused_and_named(change, reason, saved):
    torch.save(torch.load(saved) | change, saved)
    with pytest.raises(ValueError, match=re.escape(file_name(5, 0, 3, 4)) + f" cannot be read as saved rows: {reason}"):
        restore(saved)
    assert saved.exists()


@pytest.mark.parametrize("content", [{}, [1, 2], "pickle", "half"])
def test_what_is_no_checkpoint_is_refused_without_dangerous_advice(content, saved):
    if content == "half":
        saved.write_bytes(saved.read_bytes()[:1000])
    elif content == "pickle":
        saved.write_bytes(pickle.dumps(Path("a")))
    else:
        torch.save(content, saved)
    with pytest.raises(ValueError, match=r"of4\.pt cannot be read as saved rows") as caught:
        restore(saved)
    assert "weights_only" not in str(caught.value)


def test_files_that_overlap_give_every_node_its_own_row(tmp_path):
    net = nodes.Network(4)
    keeper = Keeper(tmp_path, net)
    start = torch.arange(4.0)[:, None]
    *_, x = keeper.watch(counting(net, keeper.begin(start)), 5)
    whole = torch.load(tmp_path / file_name(5, 0, 3, 4))
    torch.save(whole | {"nodes": [0, 1], "x": x[:2]}, tmp_path / file_name(5, 0, 1, 4))
    torch.save(whole | {"nodes": [1, 2, 3], "x": x[1:]}, tmp_path / file_name(6, 1, 3, 4))
    torch.save(whole | {"nodes": [0, 1], "x": x[:2]}, tmp_path / file_name(6, 0, 1, 4))
    assert complete_rounds(tmp_path, 4) == [1, 5]
    assert torch.equal(Keeper(tmp_path, nodes.Network(4)).restore(start), start + 5)


def test_files_of_two_runs_are_not_mixed(saved):
    whole = torch.load(saved)
    for i in (0, 2):
        half = {
            "round": 9,
            "nodes": [i, i + 1],
            "x": whole["x"][:2],
            "memory": {k: t[:2] for k, t in whole["memory"].items()},
        }
        half |= {"settings": {} if i == 0 else {"lr": 0.2}}
        torch.save(whole | half, saved.with_name(file_name(9, i, i + 1, 4)))
    with pytest.raises(ValueError, match=r"belong to another run: lr was 0\.2 and is now None"):
        restore(saved)
