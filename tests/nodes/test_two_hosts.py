"""Training on two hosts with folders of their own: network namespaces that are joined by wires; and the loss of one."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import hosts
import pytest
from test_nodes_cli import result
from waiting import HANG, startup, wait_for  # noqa: F401

from optcourse.course.cli import main

REASON = hosts.why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no hosts can be made here: {REASON}")
ROUNDS, LONG = 400, "100000"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPTCOURSE_THREADS": "1", "GLOO_SOCKET_IFNAME": "wire"}
PORT = "29511"


@pytest.fixture(scope="module")
def wires():
    """{name: address} of two hosts."""
    with hosts.hosts(2) as made:
        yield made


@pytest.fixture(scope="module")
def settings(startup):  # noqa: F811
    """What all runs train: exact, so that every number of processes gives the same bits."""
    timeout = round(10 + 4 * startup)
    return ["local_sgd", "--nodes", "5", "--exact", "--timeout", str(timeout), "--save-every", "20"]


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The result of the simulator."""
    folder = tmp_path_factory.mktemp("whole")
    assert (
        main.main(["nodes", "run", *settings, "--steps", str(ROUNDS), "--output", str(folder)], standalone_mode=False)
        == 0
    )
    return result(folder)


def torchrun(wires, folder, *options):
    """One agent with two processes on each host, each host with a folder of its own."""
    running = []
    for i, name in enumerate(wires):
        agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(i)]
        agent += ["--nproc-per-node", "2", "--master-addr", next(iter(wires.values())), "--master-port", PORT]
        command = [*agent, "-m", "optcourse.nodes", "run", *options, "--output", str(folder / f"host{i}")]
        running.append(start(name, command))
    return running


def start(name, command):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(hosts.inside(name, *command), env=ENVIRONMENT, start_new_session=True, **pipes)


def ended(running):
    """(exit status, errors) of each agent."""
    texts = [process.communicate(timeout=HANG)[1] for process in running]
    return [(process.returncode, text) for process, text in zip(running, texts, strict=True)]


@pytest.fixture
def no_orphans():
    """A list of agents: what they and their processes are at the end of a test is ended."""
    running = []
    yield running
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_two_hosts_give_the_numbers_of_the_simulator(wires, settings, whole, tmp_path, no_orphans):
    no_orphans += torchrun(wires, tmp_path, *settings, "--steps", str(ROUNDS))
    for status, text in ended(no_orphans):
        assert status == 0, text
    assert result(tmp_path / "host0") == whole
    assert not (tmp_path / "host1" / "result.json").exists()
    rows = [{path.name for path in (tmp_path / f"host{i}" / "rows").glob("round*.pt")} for i in (0, 1)]
    assert {name.split("-", 1)[1] for name in rows[0]} == {"nodes0-1-of5.pt", "nodes2-2-of5.pt"}
    assert {name.split("-", 1)[1] for name in rows[1]} == {"nodes3-3-of5.pt", "nodes4-4-of5.pt"}
    assert all(len(names) <= 6 for names in rows)  # the older ones are deleted, in each folder


def test_a_lost_host_is_named_and_the_printed_command_goes_on(wires, settings, whole, tmp_path, no_orphans):
    no_orphans += torchrun(wires, tmp_path, *settings, "--steps", LONG)
    for i, agent in enumerate(no_orphans):
        wait_for(lambda i=i: saved(tmp_path / f"host{i}") >= 40, agent)
    for pid in descendants(no_orphans[1].pid):
        os.kill(pid, signal.SIGKILL)
    (status, text), _ = ended(no_orphans)
    assert status != 0
    assert re.search(r"^optcourse: process [23] failed in round \d+: ", text, re.M), text
    assert re.search(
        r"^optcourse: the rows of nodes 0-2 after \d+ rounds are saved in \S+/host0/rows; go on with", text, re.M
    )
    (line,) = re.findall(r"^  (GLOO.*)$", text, re.M)
    variable, program, *words = shlex.split(line)
    assert variable == "GLOO_SOCKET_IFNAME=wire" and program == "torchrun" and words[-1] == "--resume"
    words[words.index("--steps") + 1] = str(ROUNDS)
    again = []
    for i, name in enumerate(wires):
        own = [word.replace("host0", f"host{i}") for word in words]
        own[own.index("--node-rank") + 1] = str(i)
        again.append(start(name, [sys.executable, "-m", "torch.distributed.run", *own]))
    no_orphans += again
    for status, text in ended(again):
        assert status == 0, text
    assert result(tmp_path / "host0")["history"][-1] == whole["history"][-1]


def saved(folder):
    """The newest round in a folder."""
    return max((int(path.name[5:13]) for path in folder.glob("rows/round*.pt")), default=-1)


def descendants(pid):
    """The process and all that it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += descendants(int(child))
    return found
