"""The command that continues a run is the one that was typed, with its rendezvous."""

import shlex

import pytest

from optcourse.course.cli import main
from optcourse.nodes.run import again, cli

PYTHON = ["/usr/bin/python3.12", "-u", "-m", "torch.distributed.run"]
RUN = ["-m", "optcourse.nodes", "run", "psgd", "--nodes", "8"]
WORKER = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
WORKER |= {"MASTER_ADDR": "a.example", "MASTER_PORT": "29511", "GROUP_WORLD_SIZE": "2"}


@pytest.fixture
def printed(monkeypatch):
    """The command for options, the command line of the process above, and environment."""

    def command(options, above=(), **environment):
        found = []
        for name in (*WORKER, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(again, "_command_line", lambda pid: list(above))
        monkeypatch.setattr(cli, "one_process", lambda setup, how: (found.append(how.again), (0, None))[1])
        assert main.main(["nodes", "run", *options], standalone_mode=False) == 0
        return found[0]

    return command


def test_alone(printed):
    options = ["psgd", "--nodes", "8", "--exact", "--output", "a folder", "--resume"]
    assert printed(options) == "optcourse nodes run psgd --nodes 8 --exact --output 'a folder' --resume"


@pytest.mark.parametrize(
    "rendezvous",
    [
        ["--standalone", "--nproc-per-node", "2"],
        ["--nproc_per_node=2"],
        ["--nnodes", "2", "--node-rank", "1", "--nproc-per-node", "2", "--master-addr", "b", "--master-port", "1"],
        [
            "--nnodes",
            "2",
            "--nproc-per-node",
            "2",
            "--rdzv-backend",
            "c10d",
            "--rdzv-endpoint",
            "b:1",
            "--rdzv-id",
            "7",
        ],
    ],
)
@pytest.mark.parametrize("agent", [PYTHON, ["/usr/bin/python3", "/home/a/.venv/bin/torchrun"]])
def test_the_rendezvous_is_the_one_that_torchrun_was_given(rendezvous, agent, printed):
    command = printed(RUN[3:], [*agent, *rendezvous, *RUN], **WORKER)
    assert shlex.split(command) == ["torchrun", *rendezvous, *RUN, "--resume"]


def test_the_interface_is_kept_on_several_machines(printed):
    many = printed(RUN[3:], [*PYTHON, "--nnodes", "2", *RUN], **WORKER, GLOO_SOCKET_IFNAME="ib0")
    assert many == "GLOO_SOCKET_IFNAME=ib0 torchrun --nnodes 2 -m optcourse.nodes run psgd --nodes 8 --resume"
    one = printed(RUN[3:], [*PYTHON, *RUN], **WORKER | {"GROUP_WORLD_SIZE": "1", "GLOO_SOCKET_IFNAME": "lo"})
    assert one.startswith("torchrun -m ")


@pytest.mark.parametrize(
    "above", [[], ["/usr/sbin/slurmstepd", "job"], ["/usr/bin/bash", "-c", "torchrun -m optcourse.nodes"]]
)
def test_where_no_torchrun_can_be_seen_it_is_the_static_rendezvous(above, printed):
    rendezvous = "--nproc-per-node 2 --nnodes 2 --node-rank 1 --master-addr a.example --master-port 29511"
    assert printed(RUN[3:], above, **WORKER) == f"torchrun {rendezvous} {shlex.join(RUN)} --resume"


def test_the_command_line_of_a_process_can_be_read():
    import os

    assert again._command_line(os.getpid())[0] and again._command_line(2**22 + 1) == []
