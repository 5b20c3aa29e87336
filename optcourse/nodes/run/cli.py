"""``optcourse nodes``: train a model on simulated nodes, on local processes, or under ``torchrun``."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from optcourse.arguments import real
from optcourse.nodes.run import again
from optcourse.nodes.run.launch import GRACE, CannotLaunch, Workers, leave_with_agent
from optcourse.nodes.run.process import (
    FAILED,
    INTERRUPTED,
    LOST,
    USAGE,
    How,
    leave,
    one_process,
    say_what_is_saved,
    speaks,
    stop_alone,
)
from optcourse.nodes.run.recipes import RECIPES, Setup
from optcourse.runtime import exit_status

_FOLDER = click.Path(file_okay=False, path_type=Path)


def _default(name: str) -> str:
    """What the recipes say about the default of a setting: "[default: 5, diloco 10]"."""
    users: dict[Any, list[str]] = {}
    for algorithm, recipe in RECIPES.items():
        value = {"lr": recipe.lr, **recipe.defaults}.get(name)
        if value is not None:
            users.setdefault(value, []).append(algorithm)
    values = sorted(users, key=lambda value: -len(users[value]))
    listed = [str(value) if value == values[0] else f"{' and '.join(users[value])} {value}" for value in values]
    return f"  [default: {', '.join(listed)}]" if listed else ""


def _settings(command: Callable[..., int]) -> Callable[..., int]:
    """An option for every setting of a :class:`Setup`."""
    for setting in reversed(fields(Setup)[1:]):
        name, allowed, usual = setting.name, setting.metadata["allowed"], setting.default
        kind = {"int": int, "float": float, "bool": bool}.get(str(setting.type).removesuffix(" | None"))
        option = {"type": kind or click.Choice(list(allowed)), "is_flag": kind is bool, "default": usual}
        option |= {"show_default": usual is not None, "help": setting.metadata["line"] + _default(name)}
        command = click.option("-k" if name == "k" else f"--{name.replace('_', '-')}", **option)(command)
    return command


@click.group(invoke_without_command=True)
@click.pass_context
def nodes(context: click.Context) -> None:
    """Distributed training, on simulated nodes or real processes."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@nodes.command("list")
def list_command() -> int:
    """The algorithms, one line each."""
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        click.echo(f"{name:{width}}  {recipe.line}")
    return 0


@nodes.command("run")
@click.argument("algorithm")
@_settings
@click.option("--processes", type=click.IntRange(1), help="Local processes; 1 is the simulator.  [default: 1]")
@click.option("--backend", type=click.Choice(["gloo", "nccl"]), default="gloo", show_default=True, help="nccl: GPUs.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds until silence is a loss.")
@click.option("--save-every", type=click.IntRange(1), default=50, show_default=True, help="Rounds between two saves.")
@click.option("--output", type=_FOLDER, help="Result and rows.  [default: build/nodes/ALGORITHM]")
@click.option("--resume", is_flag=True, help="Go on from the newest round that all nodes have saved.")
@click.pass_context
def run(context: click.Context, **options: Any) -> int:
    """Train with ALGORITHM and say what it cost: loss, bytes, simulated and real time.

    Alone it simulates all nodes or starts --processes; under 'torchrun --nproc-per-node P -m optcourse.nodes run' it
    is one of P processes. Exit status: 0, 1 when the training failed, 2 for wrong usage, 3 when a process was lost
    (--resume continues), 130 when interrupted (--resume continues).
    """
    try:
        setup = Setup(**{field.name: options[field.name] for field in fields(Setup)})
        _check_machine(setup, options)
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from None
    output = options["output"] or Path("build/nodes") / setup.algorithm
    same = {name: options[name] for name in ("backend", "timeout", "save_every", "resume")}
    how = How(str(output), again.command(context), **same)
    if "RANK" not in os.environ and (options["processes"] or 1) > 1:
        return _start(setup, how, options["processes"])
    if "TORCHELASTIC_RUN_ID" in os.environ:
        leave_with_agent(stop_alone)
    status, lost = one_process(setup, how)
    # Rows that others (of torchrun) save after this process has left are not in its message.
    if speaks(lost):
        say_what_is_saved(setup, how, status)
    return status


def _check_machine(setup: Setup, options: dict[str, Any]) -> None:
    """Raise ``ValueError`` for what this machine does not have."""
    real("timeout", options["timeout"], 1, 86400)
    world = int(os.environ.get("WORLD_SIZE", options["processes"] or 1))
    if "RANK" in os.environ and options["processes"] not in (None, world):
        raise ValueError(f"processes must be {world} or left away under torchrun, got {options['processes']}")
    if setup.nodes < world:
        raise ValueError(f"nodes must be at least the number of processes, {world}, got {setup.nodes}")
    if options["backend"] == "nccl":
        here, found = int(os.environ.get("LOCAL_WORLD_SIZE", world)), torch.cuda.device_count()
        if found < here:
            raise ValueError(f"backend nccl needs a GPU per process: {here} processes, {found} GPUs")


# ------------------------------------------------------------------------------------------------ all processes


def _start(setup: Setup, how: How, processes: int) -> int:
    """Run local processes to their end; returns the exit status."""
    work = "import sys; from optcourse.nodes.run.process import worker; worker(sys.argv[1])"
    try:
        workers = Workers([sys.executable, "-c", work, json.dumps([asdict(setup), asdict(how)])], processes)
    except CannotLaunch as error:
        raise click.UsageError(f"{error}; --processes 1 simulates the nodes") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with workers:
        try:
            while None in workers.exits() and not any(workers.exits()):
                time.sleep(0.05)
            workers.wait(how.timeout + GRACE)  # the others notice by then
        except KeyboardInterrupt:
            workers.interrupt()
            workers.kill()
            say_what_is_saved(setup, how, INTERRUPTED)
            return INTERRUPTED
        statuses = workers.exits()
    lost = [rank for rank, status in enumerate(statuses) if status is None or status < 0]
    if len(lost) == processes:
        click.echo("optcourse: all processes were lost", err=True)
    order = (LOST, INTERRUPTED, USAGE, FAILED)
    status = LOST if lost else next((s for s in order if s in statuses), max(filter(None, statuses), default=0))
    say_what_is_saved(setup, how, status)
    return status


def main() -> None:
    """``python -m optcourse.nodes``: every usage error is one line on standard error and exit status 2."""
    command = partial(nodes.main, prog_name="python -m optcourse.nodes", standalone_mode=False)
    leave(exit_status(command))  # every process says it: torchrun ends the others when the first has gone
