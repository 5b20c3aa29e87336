"""Rows in folders of several machines: every process goes on from its own, and what is missing is named."""

import shutil
from itertools import islice

import node_cases
import pytest
import torch
from waiting import HANG

from optcourse import nodes
from optcourse.nodes.run.checkpoint import Keeper, NoCheckpoint
from optcourse.nodes.run.launch import launch
from optcourse.nodes.run.lock import Lock

NAMES = ("gradient_tracking", "relay_sum")  # memory of nodes, and of edges


def run(folder, name, steps, resume=False, stop=None, tell=print):
    """Own rows after ``steps`` rounds."""
    net = nodes.Network(8, exact=True, timeout=60)
    rule, options = node_cases.cases(net)[name]
    x = node_cases.start(net, torch.float64)
    keeper = Keeper(folder, net, every=4, tell=tell)
    x = keeper.restore(x) if resume else keeper.begin(x)
    *_, x = islice(keeper.watch(rule(net, node_cases.gradient(net, torch.float64), x, 0.1, **options), steps), stop)
    return x.clone()


def refused(call):
    """The error of ``call``."""
    try:
        call()
    except ValueError as error:
        return type(error).__name__, str(error)


def own(folder):
    """The folder of this process, as if it were on a machine of its own."""
    return folder / f"machine{torch.distributed.get_rank()}"


def damage(folder):
    """Cut off the end of the newest file; returns its name."""
    path = max(folder.iterdir())
    path.write_bytes(path.read_bytes()[:1000])
    return path.name


def three_machines(folder):
    """Runs that stop and go on; what is refused; how many files stay."""
    found, rank = {}, torch.distributed.get_rank()
    for name in NAMES:
        run(own(folder / name), name, 30)
        found[name] = run(own(folder / name), name, 41, resume=True), len(list(own(folder / name).iterdir()))
    place, told = own(folder / "gradient_tracking"), []
    cut = damage(place) if rank == 1 else None
    torch.distributed.barrier()
    found["older"] = run(place, "gradient_tracking", 45, resume=True, tell=told.append), cut, told
    shutil.copytree(place, own(folder / "kept"))
    if rank == 1:
        shutil.rmtree(place)
    torch.distributed.barrier()
    found["missing"] = refused(lambda: run(place, "gradient_tracking", 50, resume=True))
    return found


def two_machines(folder):
    return refused(lambda: run(own(folder / "kept"), "gradient_tracking", 50, resume=True))


def test_each_machine_goes_on_from_its_own_rows_and_missing_ones_are_named(tmp_path):
    found = launch(three_machines, tmp_path, processes=3, timeout=HANG)
    for name in NAMES:
        whole = run(tmp_path / "whole" / name, name, 41)
        assert torch.equal(torch.cat([part[name][0] for part in found]), whole), name
        assert all(part[name][1] <= 6 for part in found)  # older rows do not pile up
    name = "gradient_tracking"
    whole = run(tmp_path / "whole45", name, 45)
    assert torch.equal(torch.cat([part["older"][0] for part in found]), whole)
    cut = found[1]["older"][1]
    for part in found:
        (told,) = part["older"][2]
        assert (
            cut in told and "cannot be read" in told and "rounds" not in cut and told.endswith("are older, and whole")
        )
    for kind, text in (part["missing"] for part in found):
        assert kind == "NoCheckpoint"
        assert (
            text.startswith("the rows of nodes 3-5 in ") and "machine1 of " in text and "(process 1) were never" in text
        )

    kinds = launch(two_machines, tmp_path, processes=2, timeout=HANG)
    for kind, text in kinds:  # nodes 0-3 and 4-7 now, in folders with 0-2 and 3-5
        assert kind == "NoCheckpoint"
        assert "nodes 3 in " in text and "machine0 of " in text and "and 6-7 in " in text and "machine1 of " in text
    for machine in ("machine0", "machine1", "machine2"):
        shutil.copytree(tmp_path / "kept" / machine, tmp_path / "together", dirs_exist_ok=True)
    assert torch.equal(run(tmp_path / "together", name, 50, resume=True), run(tmp_path / "whole50", name, 50))


def test_a_damaged_newest_round_is_passed_over_and_named(tmp_path):
    run(tmp_path, "gradient_tracking", 11)
    cut, told = damage(tmp_path), []
    x = run(tmp_path, "gradient_tracking", 11, resume=True, tell=told.append)
    assert torch.equal(x, run(tmp_path / "whole", "gradient_tracking", 11))
    (text,) = told
    assert cut in text and text.endswith(
        "cannot be read as saved rows: it is damaged, or something else; the rows after round 8 are older, and whole"
    )
    for path in tmp_path.glob("round*.pt"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read as saved rows") as caught:
        run(tmp_path, "gradient_tracking", 11, resume=True)
    assert not isinstance(caught.value, NoCheckpoint)


def test_a_folder_belongs_to_one_run(tmp_path, monkeypatch):
    wire = nodes.Network(2).wire
    first = Lock(tmp_path, wire)
    with pytest.raises(ValueError, match=r"another run \(process \d+ on .*\) is writing to .*: name another output"):
        Lock(tmp_path, wire)
    first.release()
    second = Lock(tmp_path, wire)
    monkeypatch.setattr("optcourse.nodes.run.lock.fcntl", None)  # Windows
    Lock(tmp_path, wire).release()
    second.release()


def test_processes_of_one_run_share_its_folder_and_no_other_run_does(tmp_path):
    def lock(folder, apart):
        wire = nodes.Network(4, timeout=60).wire
        place = own(folder) if apart else folder
        mine = Lock(place, wire)
        return refused(lambda: Lock(place, wire)), mine.run

    def both():
        return lock(tmp_path / "shared", False), lock(tmp_path / "apart", True)

    (a, b), (c, d) = launch(both, processes=2, timeout=HANG)
    assert a[1] == c[1] and b[1] == d[1]
    for (_, mine), (_, other) in ((a[0], c[0]), (b[0], d[0])):
        assert mine.startswith("another run") and other == f"process 0: {mine}"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"output must be a folder that can be written, got '.*file/x': Not a directory"):
        Lock(tmp_path / "file" / "x", nodes.Network(2).wire)
