"""The command that continues a run, as it has to be typed on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

#: What torch.distributed.run is called in a process list, and on the command line.
_AGENTS = ("torchrun", "torch.distributed.run", "torch/distributed/run.py")


def command(context: click.Context) -> str:
    """The command that continues the run of ``context``, with the rendezvous that ``torchrun`` was given.

    Workers are not told what that was: it is read from the command line of the process that started them. Where that
    cannot be read, it is the static rendezvous of the environment (``MASTER_ADDR``, ``GROUP_RANK``, ...).
    """
    given = ["run", *_given(context), "--resume"]
    if "RANK" not in os.environ:
        return shlex.join(["optcourse", "nodes", *given])
    agent = _agent(_command_line(os.getppid())) or _static(os.environ)
    return _interface(os.environ) + shlex.join([*agent, "-m", "optcourse.nodes", *given])


def _given(context: click.Context) -> list[str]:
    """The algorithm and the options that were typed."""
    given = [context.params["algorithm"]]
    for option in context.command.params:
        typed = context.get_parameter_source(option.name or "") is click.core.ParameterSource.COMMANDLINE
        if typed and isinstance(option, click.Option) and option.name not in (None, "resume"):
            given += option.opts[-1:] if option.is_flag else [option.opts[-1], str(context.params[option.name])]
    return given


def _command_line(pid: int) -> list[str]:
    """The words of the command that is running as ``pid``; none where that is not told (it is on Linux)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _agent(words: Sequence[str]) -> list[str]:
    """``torchrun`` with its own options, from the command line of an agent; empty for another command."""
    start = next((i for i, word in enumerate(words) if word.endswith(_AGENTS)), None)
    if start is None or "optcourse.nodes" not in words:
        return []
    end = words.index("optcourse.nodes") - 1  # before -m
    return ["torchrun", *words[start + 1 : end]]


def _static(environment: Mapping[str, str]) -> list[str]:
    """``torchrun`` for as many processes on as many machines, of which the one of rank 0 is named."""
    here, machines = environment.get("LOCAL_WORLD_SIZE"), environment.get("GROUP_WORLD_SIZE", "1")
    found = ["torchrun", "--nproc-per-node", here or environment.get("WORLD_SIZE", "1")]
    if machines != "1":
        found += ["--nnodes", machines, "--node-rank", environment.get("GROUP_RANK", "0")]
        for option, name in (("--master-addr", "MASTER_ADDR"), ("--master-port", "MASTER_PORT")):
            found += [option, environment[name]] if name in environment else []
    return found


def _interface(environment: Mapping[str, str]) -> str:
    """The network interface that somebody chose for the run on several machines."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if environment.get("GROUP_WORLD_SIZE", "1") != "1" else ()
    return "".join(f"{name}={shlex.quote(environment[name])} " for name in names if environment.get(name))
