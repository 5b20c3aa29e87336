"""Processes whose starter is gone, or who are started wrongly: they save, say why, and leave."""

import os
import re
import signal
import subprocess
import threading

import pytest
from test_launch import gone
from test_nodes_cli import COMMAND, ENVIRONMENT, LONG, TORCHRUN, child, start, wait_for_rows
from waiting import HANG, wait_for

from optcourse.nodes import NodeFailed
from optcourse.nodes.run import process
from optcourse.nodes.run.checkpoint_files import complete_rounds
from optcourse.nodes.run.launch import WATCHES
from optcourse.nodes.run.recipes import Setup


@pytest.mark.parametrize(
    ("command", "options"), [(COMMAND, ("--processes", "2")), (TORCHRUN, ())], ids=["optcourse", "torchrun"]
)
def test_without_their_starter_processes_save_say_so_and_leave(command, options, tmp_path):
    starter = start(command, tmp_path, *options)
    wait_for_rows(starter, tmp_path)
    workers = [child(starter.pid, rank) for rank in (0, 1)]
    os.kill(starter.pid, signal.SIGKILL)
    _, text = starter.communicate(timeout=HANG)  # until the last of them has closed it
    wait_for(lambda: all(map(gone, workers)))
    why = "whoever started this process is gone; the rows after "
    said = re.findall(rf"^optcourse: {why}(\d+) rounds are saved", text, re.M)
    assert len(said) == 1 and int(said[0]) <= complete_rounds(tmp_path / "rows", 5)[-1], text
    assert "failed in round" not in text  # one of them leaves first: it is not lost
    assert re.search(r"^  (torchrun|optcourse nodes) .*--resume$", text, re.M), text
    assert command is TORCHRUN or "frame #" not in text  # TORCH_CPP_LOG_LEVEL is then the user's


def test_under_torchrun_wrong_usage_is_said_by_whoever_leaves_first(tmp_path):
    line = [*TORCHRUN, *LONG, "20", "--nodes", "1", "--output", str(tmp_path)]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG)
    assert done.returncode != 0
    assert "optcourse: nodes must be at least the number of processes, 2, got 1" in done.stderr.splitlines()


@pytest.mark.parametrize("gone", [True, False])
def test_who_loses_the_list_of_who_is_alive_waits_until_it_knows_of_its_starter(gone, tmp_path, monkeypatch, capsys):
    """The connections end before the kernel gives the process another parent, and that is noticed later still."""
    alone = threading.Event()
    monkeypatch.setattr(process, "_alone", alone)
    monkeypatch.setattr(process, "_NOTICED", 60.0 if gone else 0.2)

    def lose(*_):
        if gone:
            threading.Timer(0.3, alone.set).start()
        raise NodeFailed(None, 3, "the store is gone")

    monkeypatch.setattr(process.experiment, "train", lose)
    release = threading.Event()
    threading.Thread(target=release.wait, name=WATCHES[1], daemon=True).start()
    status, lost = process.one_process(Setup("psgd"), process.How(str(tmp_path), "again"))
    release.set()
    assert (status, lost) == (process.INTERRUPTED if gone else process.LOST, None)
    said = "" if gone else "optcourse: an unknown process failed in round 3: the store is gone\n"
    assert capsys.readouterr().err == said
