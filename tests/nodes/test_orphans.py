"""Processes whose starter is gone, or who are started wrongly: they save, say why, and leave."""

import os
import re
import signal
import subprocess

import pytest
from test_launch import gone
from test_nodes_cli import COMMAND, ENVIRONMENT, LONG, TORCHRUN, child, start, wait_for_rows
from waiting import HANG, wait_for

from optcourse.nodes.run.checkpoint_files import complete_rounds


@pytest.mark.parametrize(
    ("command", "options"), [(COMMAND, ("--processes", "2")), (TORCHRUN, ())], ids=["optcourse", "torchrun"]
)
def test_without_their_starter_processes_save_say_so_and_leave(command, options, tmp_path):
    process = start(command, tmp_path, *options)
    wait_for_rows(process, tmp_path)
    workers = [child(process.pid, rank) for rank in (0, 1)]
    os.kill(process.pid, signal.SIGKILL)
    _, text = process.communicate(timeout=HANG)  # until the last of them has closed it
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
