"""One process of ``optcourse nodes run``: it trains, saves when something goes wrong, and says so once."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from optcourse.nodes import experiment
from optcourse.nodes.experiment import Settings
from optcourse.nodes.network import Network, NodeFailed

#: Exit statuses besides 0: the training failed, wrong usage, a process was lost, interrupted.
FAILED, USAGE, LOST, INTERRUPTED = 1, 2, 3, 130


class _Terminated(BaseException):
    """Somebody asked this process to end: ``torchrun`` does when it has seen another one die."""


def worker(text: str) -> None:
    """One of the processes of ``--processes``."""
    from optcourse.nodes.launch import GRACE, leave_with_parent

    def parent_died() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(GRACE)
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    leave_with_parent(parent_died)
    settings, how = json.loads(text)
    try:
        status = one_process(Settings(**settings), how)
    except click.ClickException as error:
        if os.environ["RANK"] == "0":
            click.echo(f"optcourse: {error.format_message()}", err=True)
        status = USAGE
    leave(status)


def one_process(settings: Settings, how: dict[str, Any]) -> int:
    """Train in this process, with the others that the environment names; returns the exit status."""
    import torch

    from optcourse.nodes.checkpoint import Keeper
    from optcourse.nodes.launch import join
    from optcourse.runtime import progress

    def terminated(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    torch.set_num_threads(int(os.environ.get("OPTCOURSE_THREADS", "1")))
    net = keeper = lost = None
    begun = False
    output = Path(how["output"])
    try:
        device = "cpu"
        if how["backend"] == "nccl":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            try:
                join(how["backend"], how["timeout"])
            except RuntimeError as error:
                raise ValueError(f"the processes cannot reach each other: {error}") from None
        net = Network(settings.nodes, exact=settings.exact, clock=settings.clock(), timeout=how["timeout"])
        output.mkdir(parents=True, exist_ok=True)
        keeper = Keeper(output / "rows", net, how["save_every"], _of_the_run(settings))

        def show(rounds: Any) -> Any:
            nonlocal begun
            begun = True
            bar = {"desc": settings.algorithm, "total": settings.steps - keeper.done}
            return progress(rounds, **bar) if net.rank == 0 and sys.stderr.isatty() else rounds

        result = experiment.train(settings, net, keeper, how["resume"], show, device)
    except NodeFailed as error:
        lost = error
    except (KeyboardInterrupt, _Terminated) as error:
        rank = net.lost() if net and isinstance(error, _Terminated) else None
        if rank is None:
            if net is None or net.rank == 0:
                click.echo(f"optcourse: interrupted; {_saved(keeper, how)}", err=True)
            else:
                keeper and keeper.save()
            return INTERRUPTED
        lost = NodeFailed(rank, net.round, "another process was lost, and this one asked to end")
    except (ValueError, OSError) as error:
        if not begun:
            raise click.UsageError(str(error)) from None
        click.echo(f"optcourse: process {net.rank}: {error}; {_saved(keeper, how)}", err=True)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    if lost:
        where = _saved(keeper, how)
        if net is None or net.rank == (1 if lost.rank == 0 else 0):
            click.echo(f"optcourse: {lost}; {where}", err=True)
        return LOST
    if net.rank == 0:
        (output / "result.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        _print_result(result, output)
    return 0


def _of_the_run(settings: Settings) -> dict[str, Any]:
    """The settings that must stay the same when a run goes on; where they end is free, except for their halves."""
    fixed = asdict(settings)
    if settings.algorithm not in ("post_local_sgd", "async_sgd"):
        del fixed["steps"]
    return fixed


def _saved(keeper: Any, how: dict[str, Any]) -> str:
    done = keeper.save() if keeper else None
    if done is None:
        return "no round was finished, so nothing was saved"
    return f"the rows after {done} rounds are saved in {keeper.folder}; go on with\n  {how['again']}"


def _print_result(result: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(f"{result['settings']['algorithm']}, round {result['round']}", "")
    simulated = result["simulated_seconds"]
    for name, text in (
        ("training loss", f"{result['loss']:.4g}"),
        ("test accuracy", f"{result['test_accuracy']:.2%}"),
        ("consensus distance", f"{result['consensus_distance']:.3g}"),
        ("bytes sent per node", f"{result['bytes_per_node']:,.0f}"),
        ("bytes between processes", f"{result['wire_bytes']:,d}"),
        ("simulated seconds", "" if simulated is None else f"{simulated:.4g}"),
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
