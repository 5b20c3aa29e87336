"""Functions that run in several fresh processes: results, errors, and nothing left behind."""

import _thread
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
import torch.distributed as dist
from nbclient import NotebookClient
from waiting import HANG, startup, wait_for  # noqa: F401

from optcourse.nodes.run import launch as launch_module
from optcourse.nodes.run.launch import CannotLaunch, WorkerFailed, launch

OFFLINE = str(Path(__file__).parents[1] / "offline")


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def test_results_come_in_the_order_of_ranks(capsys):
    offset = 10

    def total(numbers, scale=1):
        import torch

        t = torch.tensor(float(numbers[dist.get_rank()]))
        dist.all_reduce(t)
        print(f"I am {dist.get_rank()}")
        return dist.get_rank(), scale * t.item() + offset, sys.stdin.read(), os.environ["OMP_NUM_THREADS"]

    assert launch(total, [1, 2], timeout=HANG, scale=3) == [(0, 19.0, "", "1"), (1, 19.0, "", "1")]
    assert capsys.readouterr().out == "I am 0\nI am 1\n"


def test_an_error_is_shown_with_rank_and_traceback_and_a_hung_process_is_ended(tmp_path, startup):  # noqa: F811
    def one_fails_one_hangs():
        (tmp_path / str(dist.get_rank())).write_text(str(os.getpid()))
        if dist.get_rank() == 1:
            raise KeyError("the reason")
        time.sleep(HANG)

    timeout = 5 + 4 * startup
    with pytest.raises(WorkerFailed) as failure:
        launch(one_fails_one_hangs, timeout=timeout)
    assert failure.value.rank == 1 and list(failure.value.failures) == [1, 0] and failure.value.results == {}
    text = str(failure.value)
    assert text.startswith("process 1 of 2 failed: Traceback") and text.endswith("KeyError: 'the reason'")
    assert "one_fails_one_hangs" in text and "/nodes/launch.py" not in text
    assert failure.value.failures[0] == f"it did not answer and was ended; the timeout is {timeout:g} s"
    assert all(gone(int((tmp_path / rank).read_text())) for rank in "01")


def test_nobody_is_blamed_when_all_fall_silent():
    with pytest.raises(WorkerFailed, match="processes 0, 1, 2 of 3 failed: it did not answer") as failure:
        launch(time.sleep, HANG, processes=3, timeout=0.1)
    assert failure.value.rank is None and list(failure.value.failures) == [0, 1, 2]


LAUNCHER = """
import os, sys, time
from optcourse.nodes.run.launch import launch
def sleep():
    import torch.distributed as dist
    open(os.path.join(sys.argv[1], str(dist.get_rank())), "w").write(str(os.getpid()))
    time.sleep(600)
folder = sys.argv[1]
def there():
    sys.argv = ["", folder]
    sleep()
launch(there, timeout=600)
"""


def pids_in(folder, process=None):
    """The processes of a launch of two, once both have said their number."""
    files = [folder / rank for rank in "01"]
    wait_for(lambda: all(path.exists() and path.read_text() for path in files), process)
    return [int(path.read_text()) for path in files]


def test_nothing_is_left_after_ctrl_c(tmp_path):
    def sleep():
        (tmp_path / str(dist.get_rank())).write_text(str(os.getpid()))
        time.sleep(600)

    def press():
        pids_in(tmp_path)
        _thread.interrupt_main()

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        launch(sleep, timeout=HANG)
    assert all(map(gone, pids_in(tmp_path)))


def test_nothing_is_left_when_the_starting_process_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path)])
    try:
        pids = pids_in(tmp_path, process)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: all(map(gone, pids)))


def test_a_notebook_can_launch_what_its_cells_define_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([OFFLINE, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    cells = [
        "import torch\nfrom optcourse.nodes.run.launch import launch\nb = torch.tensor([1.0, 3.0])",
        "def mean():\n"
        "    import torch.distributed as dist\n"
        "    x = b[dist.get_rank()].clone()\n"
        "    dist.all_reduce(x)\n"
        "    return x / 2\n"
        "launch(mean, timeout=600)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=int(HANG), kernel_name="python3").execute()
    (output,) = notebook.cells[1].outputs
    assert output["data"]["text/plain"] == "[tensor(2.), tensor(2.)]"


@pytest.mark.parametrize("where", ["Popen", "TCPStore"])
def test_a_place_without_processes_or_sockets_says_so(where, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("not here")

    monkeypatch.setattr(launch_module.subprocess if where == "Popen" else launch_module.dist, where, refuse)
    with pytest.raises(CannotLaunch, match="no processes that can talk to each other here: not here"):
        launch(int)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        launch(int, processes=0)
    with pytest.raises(ValueError, match="timeout must be in"):
        launch(int, timeout=0)
