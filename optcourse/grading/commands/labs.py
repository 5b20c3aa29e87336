"""The commands ``optcourse labs release`` and ``optcourse labs check``."""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from optcourse import files
from optcourse.grading.commands.common import FOLDER, needs_nbgrader, notebooks


@click.group()
def labs() -> None:
    """Make the students' notebooks, and check one before handing it in."""


@labs.command("release")
@click.argument("names", nargs=-1, metavar="[LAB]...")
@click.option("--labs", "folder", type=FOLDER, help="The folder of the labs.  [default: labs]")
@click.option("--dry-run", is_flag=True, help="Write nothing; exit status 1 if a release is not current.")
def release_command(names: tuple[str, ...], folder: Path | None, dry_run: bool) -> int:
    """Write labs/release/LAB/LAB.ipynb from labs/source, without solutions and hidden tests."""
    needs_nbgrader()
    import nbformat

    from optcourse.grading.release import release

    stale = 0
    for source in notebooks(folder, "source", names):
        path = source.parents[2] / "release" / source.stem / source.name
        text = nbformat.writes(release(nbformat.read(source, as_version=4))) + "\n"
        current = path.is_file() and path.read_text(encoding="utf-8") == text
        if not current and not dry_run:
            files.write(path, text)
        stale += not current
        click.echo(f"{source.stem}: {'current' if current else 'not current' if dry_run else 'written'}")
    return 1 if dry_run and stale else 0


@labs.command("check")
@click.argument("name", metavar="LAB")
@click.argument("notebook", type=FOLDER)
@click.option("--timeout", type=click.FloatRange(1), default=30.0, show_default=True, help="Seconds per cell.")
@click.option("--labs", "folder", type=FOLDER, help="The folder of the labs.  [default: labs]")
def check_command(name: str, notebook: Path, timeout: float, folder: Path | None) -> int:
    """Run the visible tests of NOTEBOOK: passed, failed or not attempted, and why.

    It runs as the grader runs it, alone in an empty folder, but in no sandbox. Exit status: 0 when every exercise
    passes, else 1; 2 for wrong usage and a file that is no notebook of LAB; 130 when interrupted. Hidden tests grade;
    these teach.
    """
    from optcourse.grading import reading, submission
    from optcourse.grading.check import check, lab_of
    from optcourse.grading.lab import from_release

    lab = from_release(*notebooks(folder, "release", (name,)))
    raw = _bytes(notebook, name)
    try:
        theirs = lab_of(raw, [lab, *(from_release(path) for path in notebooks(folder, "release"))])
        if theirs is not None and theirs.name != name:
            raise click.UsageError(
                f"this is {theirs.name}, not {name}: optcourse labs check {theirs.name} {shlex.quote(str(notebook))}"
            )
        with _terminated(), _cells(notebook.name) as on_cell:
            beside = notebook.resolve().parent
            findings, flags = check(lab, raw, limit=timeout, beside=beside, on_cell=on_cell)
    except (reading.Unreadable, submission.Unreadable) as error:
        raise click.UsageError(f"{notebook}: {error}") from None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"the kernel cannot start: {error}") from None
    for finding in findings:
        mark = {"passed": "✓", "answered": "✓", "failed": "✗"}.get(finding.state, "–")
        click.echo(f"{mark} {finding.title} ({finding.points:g} points): {finding.state}")
        for line in finding.why.splitlines():
            click.echo(f"    {line}")
    if notebook.name != f"{name}.ipynb":
        flags = [f"hand it in as {name}.ipynb; the grader may not know {notebook.name!r} for {name}", *flags]
    for flag in flags:
        click.echo("note: " + flag.replace("\n", "\n      "))
    return 0 if all(f.state in ("passed", "answered", "not answered") for f in findings) else 1


def _bytes(notebook: Path, name: str) -> bytes:
    """The content of a file that may be none."""
    if notebook.is_dir():
        inside = sorted(path.name for path in notebook.glob("*.ipynb"))
        there = f"it holds {', '.join(inside[:5])}" if inside else "and no notebook is in it"
        raise click.UsageError(f"{notebook} is a folder, {there}; name the notebook: {notebook / f'{name}.ipynb'}")
    if not notebook.exists():
        inside = sorted(path.name for path in notebook.parent.glob("*.ipynb"))
        there = f"; beside it lie {', '.join(inside[:5])}" if inside else ""
        raise click.UsageError(f"there is no file {notebook}{there}")
    if not notebook.is_file():
        raise click.UsageError(f"{notebook} is no ordinary file")
    try:
        with notebook.open("rb") as file:
            return file.read(2**26)  # far more than a notebook may have
    except OSError as error:
        raise click.UsageError(f"{notebook} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM is Ctrl-C here, also for a shell's background job, which ignores Ctrl-C: the kernel is ended first."""
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _cells(name: str) -> Iterator[Callable[[int, int, str], None]]:
    """A line on standard error that says which cell runs, and for how long; in a terminal only."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{name}: the kernel starts", total=None)

        def on_cell(index: int, total: int, title: str) -> None:
            progress.reset(task, description=f"{name}: cell {index + 1} of {total}, {title}")

        yield on_cell
