"""One process of ``optcourse nodes run``: it trains, saves when something goes wrong, and says so once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch

from optcourse.nodes.network.network import Network, NodeFailed
from optcourse.nodes.run import experiment
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.checkpoint_files import newest_round
from optcourse.nodes.run.launch import GRACE, join, leave_with_parent
from optcourse.nodes.run.recipes import Setup
from optcourse.runtime import exit_status, progress

#: Exit statuses besides 0: the training failed, wrong usage, a process was lost, interrupted.
FAILED, USAGE, LOST, INTERRUPTED = 1, 2, 3, 130


@dataclass(frozen=True)
class How:
    """Where a run writes, what continues it, and how its processes work together; the same in all of them."""

    output: str
    again: str
    backend: str = "gloo"
    timeout: float = 30.0
    save_every: int = 50
    resume: bool = False


class _Terminated(BaseException):
    """Somebody asked this process to end: ``torchrun`` does when it has seen another one die."""


def worker(text: str) -> None:
    """One of the processes of ``--processes``: what it saved, the process that started it will say."""

    def parent_died() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    leave_with_parent(parent_died)
    setup, how = json.loads(text)
    leave(exit_status(lambda: one_process(Setup(**setup), How(**how))[0], speaks=os.environ["RANK"] == "0"))


def one_process(setup: Setup, how: How) -> tuple[int, int | None]:
    """Train in this process, with the others that the environment names, and say what went wrong.

    Returns the exit status, and the rank of a lost process. What is saved it does not say.
    """

    def terminated(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    torch.set_num_threads(int(os.environ.get("OPTCOURSE_THREADS", "1")))
    net = keeper = None
    output = Path(how.output)
    try:
        device = "cpu"
        if how.backend == "nccl":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                join(how.backend, how.timeout)
            except RuntimeError as error:
                raise ValueError(f"the processes cannot reach each other: {error}") from None
        net = Network(setup.nodes, exact=setup.exact, clock=setup.clock(), timeout=how.timeout)
        output.mkdir(parents=True, exist_ok=True)
        keeper = Keeper(output / "rows", net, how.save_every, _of_the_run(setup))

        def show(steps: Iterable, name: str) -> Iterable:
            total = len(steps) if isinstance(steps, Sized) else setup.steps - keeper.done
            return progress(steps, desc=name, total=total) if net.rank == 0 and sys.stderr.isatty() else steps

        result = experiment.train(setup, net, keeper, how.resume, show, device)
        if net.rank == 0:
            (output / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
            _print_result(result, output)
        return 0, None
    except (NodeFailed, KeyboardInterrupt, _Terminated) as error:
        _save(keeper)
        lost = error if isinstance(error, NodeFailed) else None
        if net and isinstance(error, _Terminated) and (rank := net.lost()) is not None:
            lost = NodeFailed(rank, net.round, "another process was lost, and this one asked to end")
        if lost is None:
            return INTERRUPTED, None
        if net is None or net.rank == (1 if lost.rank == 0 else 0):  # one of the survivors
            click.echo(f"optcourse: {lost}", err=True)
        return LOST, lost.rank
    except Exception as error:
        begun, expected = keeper is not None and keeper.watched > 0, isinstance(error, (ValueError, OSError))
        if expected and not begun:
            raise click.UsageError(str(error)) from None
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        # The same numbers would be refused again, but not on an emptier disk.
        if keeper and keeper.saved and not isinstance(error, ValueError):
            reason += f"; when that is mended, go on with\n  {how.again}"
        click.echo(f"optcourse: process {net.rank if net else 0}: {reason}", err=True)
        if not isinstance(error, OSError):
            _save(keeper)
        return FAILED, None
    finally:
        signal.signal(signal.SIGTERM, before)


def _save(keeper: Keeper | None) -> None:
    try:
        if keeper:
            keeper.save()
    except OSError as error:
        click.echo(f"optcourse: {error}", err=True)


def say_what_is_saved(setup: Setup, how: How, status: int) -> None:
    """Which round a run that ended with ``status`` goes on from, if it does, and how."""
    if status not in (FAILED, LOST, INTERRUPTED):
        return
    folder, text = Path(how.output) / "rows", "no round of this run was saved by all processes"
    r = newest_round(folder, setup.nodes, _of_the_run(setup))
    if r is not None:
        go_on = "" if status == FAILED else f"; go on with\n  {how.again}"
        text = f"the rows after {r} {'round' if r == 1 else 'rounds'} are saved in {folder}{go_on}"
    click.echo(f"optcourse: {'interrupted; ' if status == INTERRUPTED else ''}{text}", err=True)


def _of_the_run(setup: Setup) -> dict[str, Any]:
    """The settings that must stay the same when a run goes on; where it ends is free, unless rounds depend on it."""
    fixed = asdict(setup)
    if setup.algorithm not in ("post_local_sgd", "async_sgd") and setup.schedule == "constant":
        del fixed["steps"]
    return fixed


def _print_result(result: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(f"{result['settings']['algorithm']}, round {result['round']}", "")
    for name, text in (
        ("training loss", f"{result['loss']:.4g}"),
        ("test accuracy", f"{result['test_accuracy']:.2%}"),
        ("consensus distance", f"{result['consensus_distance']:.3g}"),
        ("bytes sent per node", f"{result['bytes_per_node']:,.0f}"),
        ("bytes between processes", f"{result['wire_bytes']:,d}"),
        ("simulated seconds", f"{result['simulated_seconds']:.4g}"),
        ("real seconds", f"{result['real_seconds']:.3g}"),
    ):
        table.add_row(name, text)
    Console(width=None if sys.stdout.isatty() else 100, markup=False, highlight=False).print(table)
    click.echo(f"history and settings are in {output / 'result.json'}")


def leave(status: int) -> None:
    """End this process, without waiting for what is still under way to a peer that may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    if "RANK" in os.environ and status:
        os._exit(status)
    sys.exit(status)
