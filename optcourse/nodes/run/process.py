"""One process of ``optcourse nodes run``: it trains, saves when something goes wrong, and says so once."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sized
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import click
import torch

from optcourse import files
from optcourse.nodes.network.network import Network, NodeFailed
from optcourse.nodes.network.wire import split_rows
from optcourse.nodes.run import experiment
from optcourse.nodes.run.checkpoint import Keeper
from optcourse.nodes.run.checkpoint_files import newest_round
from optcourse.nodes.run.launch import GRACE, WATCHES, join, leave_with_parent
from optcourse.nodes.run.lock import Lock
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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    leave_with_parent(stop_alone)
    setup, how = json.loads(text)
    setup, how = Setup(**setup), How(**how)

    def work() -> int:
        status, _ = one_process(setup, how)
        if _alone.is_set() and os.environ["RANK"] == "0":
            say_what_is_saved(setup, how, status)
        return status

    leave(exit_status(work, speaks=os.environ["RANK"] == "0"))


def stop_alone() -> None:
    """Whoever started this process is gone: save and stop, as after Ctrl-C, and say so, because nobody else will."""
    _alone.set()
    if not _leaving.is_set():
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(GRACE)
    os._exit(INTERRUPTED)


_alone, _leaving = threading.Event(), threading.Event()
#: Seconds in which the thread that watches over the starter has noticed, on a busy machine as well.
_NOTICED = 5.0


def _starter_is_gone(lost: NodeFailed) -> bool:
    """Whether that is why a process was lost whom nobody can name: the list of who is alive is the starter's."""
    watched = any(thread.name in WATCHES for thread in threading.enumerate())
    return lost.rank is None and watched and _alone.wait(_NOTICED)


def one_process(setup: Setup, how: How) -> tuple[int, int | None]:
    """Train in this process, with the others that the environment names, and say what went wrong.

    Returns the exit status, and the rank of a lost process. What is saved it does not say.
    """

    def terminated(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    torch.set_num_threads(int(os.environ.get("OPTCOURSE_THREADS", "1")))
    net = keeper = lock = None
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
        lock = Lock(output, net.wire)

        def tell(text: str) -> None:
            if net.rank == 0:
                click.echo(f"optcourse: {text}", err=True)

        keeper = Keeper(output / "rows", net, how.save_every, _of_the_run(setup), tell)

        def show(steps: Iterable, name: str) -> Iterable:
            total = len(steps) if isinstance(steps, Sized) else setup.steps - keeper.done
            return progress(steps, desc=name, total=total) if net.rank == 0 and sys.stderr.isatty() else steps

        result = experiment.train(setup, net, keeper, how.resume, show, device)
        if net.rank == 0:
            _write_result(output / "result.json", result)
            _print_result(result, output)
        return 0, None
    except (NodeFailed, KeyboardInterrupt, _Terminated) as error:
        _leaving.set()
        _save(keeper)
        lost = error if isinstance(error, NodeFailed) else None
        if net and isinstance(error, _Terminated) and (rank := net.lost()) is not None:
            lost = NodeFailed(rank, net.round, "another process was lost, and this one asked to end")
        if lost is None or _starter_is_gone(lost):
            return INTERRUPTED, None
        if speaks(lost.rank):
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
        if lock:
            lock.release()


def _write_result(path: Path, result: dict[str, Any]) -> None:
    try:
        files.write(path, json.dumps(result, indent=1))
    except OSError as error:
        raise OSError(f"the result cannot be written to {path}: {error.strerror or error}") from error


def _save(keeper: Keeper | None) -> None:
    try:
        if keeper:
            keeper.save()
    except OSError as error:
        click.echo(f"optcourse: {error}", err=True)


def say_what_is_saved(setup: Setup, how: How, status: int) -> None:
    """Which round a run that ended with ``status`` goes on from, if it does, and how: as far as this machine knows."""
    if status not in (FAILED, LOST, INTERRUPTED):
        return
    folder, settings, of_nodes, machines = Path(how.output) / "rows", _of_the_run(setup), "", ""
    r = newest_round(folder, setup.nodes, settings)
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        machines = ", and on every other machine as it was started there"
        if r is None:  # they have folders of their own
            here = _nodes_of_this_machine(setup.nodes)
            r, of_nodes = newest_round(folder, setup.nodes, settings, here), f" of nodes {here[0]}-{here[-1]}"
    text = "no round of this run was saved by all processes"
    if r is not None:
        go_on = "" if status == FAILED else f"; go on with{machines}\n  {how.again}"
        text = f"the rows{of_nodes} after {r} {'round' if r == 1 else 'rounds'} are saved in {folder}{go_on}"
    why = "whoever started this process is gone; " if _alone.is_set() else "interrupted; " * (status == INTERRUPTED)
    click.echo(f"optcourse: {why}{text}", err=True)


def _nodes_of_this_machine(n: int) -> range:
    """The nodes whose rows the processes of this machine own."""
    names = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")
    rank, local, here, world = (int(os.environ[name]) for name in names)
    ends = [0, *accumulate(split_rows(n, world))]
    return range(ends[rank - local], ends[rank - local + here])


def speaks(lost: int | None) -> bool:
    """Whether this process is the first on its machine that is not lost."""
    rank = int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", rank))
    return local == (1 if lost == rank - local else 0)


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
    """End this process; one of several, without waiting for what is still under way to a peer that may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    if "RANK" in os.environ:  # also after a success: threads that are inside the backend while Python ends abort it
        os._exit(status)
    sys.exit(status)
