"""The command ``optcourse grade``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optcourse import files
from optcourse.grading.commands.common import FOLDER, needs_nbgrader, notebooks

if TYPE_CHECKING:
    from optcourse.grading.collect import LeftOut
    from optcourse.grading.grade import Result

#: How a status is counted in the progress bar.
BAD = ("crashed", "timeout", "unreadable", "error")
#: Seconds between two lines about the progress where there is no terminal for a bar.
EVERY = 30.0
#: Files that were left out and are printed.
SHOWN = 20
GO_ON = "the same command goes on from there"


def _number(
    least: float, most: float, unit: str
) -> Callable[[click.Context, click.Parameter, float | None], float | None]:
    """A check of a number's range, which also refuses nan."""

    def check(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
        if value is not None and not least <= value <= most:
            raise click.BadParameter(f"{value:g} is not in the range {least:g} to {most:g} {unit}")
        return value

    return check


@click.command()
@click.argument("paths", nargs=-1, required=True, type=FOLDER, metavar="PATH...")
@click.option("--lab", "name", required=True, metavar="LAB", help="Which lab, lab01 for example.")
@click.option(
    "--roster", "listed", type=FOLDER, metavar="CSV", help="The list of the class: who is missing, who is extra."
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Submissions at a time.  [default: one a core, at most 8]")
@click.option(
    "--timeout",
    type=float,
    callback=_number(1, 86400, "seconds"),
    default=300.0,
    show_default=True,
    help="Seconds per submission.",
)
@click.option(
    "--memory",
    type=float,
    callback=_number(0.5, 1024, "gigabytes"),
    help="Gigabytes for all of these together.  [default: three quarters of this machine's, at most 4 for each]",
)
@click.option("--output", type=FOLDER, default="build/grades", show_default=True, help="Where everything goes.")
@click.option("--student", "students", multiple=True, help="Grade this student again, and no other. May be repeated.")
@click.option("--labs", "folder", type=FOLDER, help="The folder of the labs.  [default: labs]")
def grade(
    paths: tuple[Path, ...],
    name: str,
    listed: Path | None,
    jobs: int | None,
    timeout: float,
    memory: float | None,
    output: Path,
    students: tuple[str, ...],
    folder: Path | None,
) -> int:
    """Grade every submission of LAB under PATH, each in a sandbox.

    PATH is a folder of STUDENT/LAB.ipynb, of STUDENT_LAB.ipynb files, an export of Moodle, Canvas, Blackboard, D2L,
    Gradescope or nbgrader's exchange, or a zip of any. What is in no row is named in left_out.csv. Run it again to
    resume: only what is new or changed is graded. Exit status: 0 when every submission has a definite status, 1 when
    the grader itself failed on one or could not write, 2 for wrong usage, 130 when interrupted.
    """
    needs_nbgrader()
    from tqdm import tqdm

    from optcourse.grading import batch, gradebook, sandbox
    from optcourse.grading.box.limits import share
    from optcourse.grading.collect import LeftOut, readable, roster, survey
    from optcourse.grading.lab import from_source

    try:
        jobs, each = share(jobs, memory)
    except ValueError as error:
        raise click.UsageError(f"--{error}") from None
    (source,) = notebooks(folder, "source", (name,))
    output = output.resolve()
    if not (above := next(path for path in (output, *output.parents) if path.exists())).is_dir():
        raise click.BadParameter(f"{output} cannot be a folder: {above} is a file", param_hint="'--output'")
    if holds := [path for path in paths if path.resolve().is_relative_to(output)]:
        message = f"{output} holds the submissions ({holds[0]}); it must be a folder of its own"
        raise click.BadParameter(message, param_hint="'--output'")
    try:
        found = survey(list(paths), name, skip=output)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    try:
        table = roster.Table(found.submissions, roster.Roster(listed) if listed else None)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--roster'") from None
    wanted = {text: table.called(text) for text in students}
    for text, meant in wanted.items():
        if len(meant) != 1:
            those = sorted(meant or {s.student for s in found.submissions})
            there = ", ".join(map(readable, those[:20])) + (", …" if len(those) > 20 else "")
            why = "several submissions of" if meant else "no submission of"
            raise click.UsageError(f"{why} {text!r} under {', '.join(map(str, paths))}; --student may be {there}")
    again = {student for meant in wanted.values() for student in meant}
    chosen = [s for s in found.submissions if not again or s.student in again]
    with ThreadPoolExecutor(1) as other:  # the sandbox is tried while the lab's own solutions run
        weakness = other.submit(sandbox.weakness)
        lab = from_source(source)
    if weakness.result():
        click.echo(f"optcourse: warning: {weakness.result()}", err=True)
    limits = sandbox.Limits(timeout, min(30.0, timeout / 6), min(15.0, timeout / 10), each)
    counts, told = Counter[str](), [time.monotonic()]
    with tqdm(total=len(chosen), unit="student", leave=False, disable=None) as bar:  # in a terminal only

        def done(student: str, result: Result, kept: bool) -> None:
            counts[result.status] += 1
            bar.set_postfix_str(f"{sum(counts[s] for s in BAD)} failed, {counts['flagged']} flagged", refresh=False)
            bar.update()
            if bar.disable and time.monotonic() > told[0] + EVERY:
                told[0] = time.monotonic()
                click.echo(f"optcourse: {counts.total()} of {len(chosen)} graded", err=True)

        try:
            more = {"jobs": jobs, "again": bool(again), "done": done, "arrange": table, "people": table.people()}
            finished = batch.grade_class(lab, chosen, output, limits, **more)
        except (batch.NotWritten, gradebook.Unusable) as error:
            rest = "" if isinstance(error, gradebook.Unusable) else f"; what was graded before is kept, {GO_ON}"
            click.echo(f"optcourse: {error}{rest}", err=True)
            return 1
    _table(output, {submission.student for submission in chosen})
    beside = [
        LeftOut(file, f"another file of {readable(s.student)!r}, beside the one that counts", junk=True)
        for s in found.submissions
        for file in s.also
    ]
    _left_out(output, [*found.left_out, *beside])
    if not finished:
        click.echo(f"interrupted; {GO_ON}", err=True)
        return 130
    return 1 if counts["error"] else 0


def _table(output: Path, chosen: set[str]) -> None:
    """The rows of status.csv of this run, one line each, and where the files are."""
    import csv

    from rich.console import Console
    from rich.table import Table

    from optcourse.grading.collect import readable
    from optcourse.grading.harmless import spreadsheet_safe

    chosen = {spreadsheet_safe(student) for student in chosen}
    with (output / "status.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["student"] in chosen or row["status"] == "missing"]
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False)
    columns = {"student": "student", "status": "status", "score": "score", "of": "max_score", "flags": "flags"}
    columns["seconds"] = "seconds"
    if console.width < 120:  # the flags would leave no room for the rest; status.csv has them
        del columns["flags"]
    table = Table()
    for column in columns:
        width = {"student": 40, "flags": 80}.get(column)
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=width)
    for row in rows:
        table.add_row(*(readable(row[key]) if key == "student" else row[key] for key in columns.values()))
    console.print(table)
    counts = Counter(row["status"] for row in rows)
    missing = counts.pop("missing", 0)
    each = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))
    console.print(f"{counts.total()} submissions: {each}" + (f"; {missing} missing" if missing else ""))
    console.print(f"status.csv, grades.csv, gradebook.db and feedback/ are in {output}", soft_wrap=True)


def _left_out(output: Path, left_out: list[LeftOut]) -> None:
    """Write left_out.csv, and print what a person may miss."""
    import csv
    import io

    from optcourse.grading.collect.names import printable
    from optcourse.grading.harmless import spreadsheet_safe

    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(("file", "reason"))
    table.writerows((spreadsheet_safe(file), spreadsheet_safe(reason)) for file, reason, _ in left_out)
    files.write(output / "left_out.csv", text.getvalue())
    missed = [out for out in left_out if not out.junk]
    if missed:
        click.echo(f"left out, {len(missed)} in all (left_out.csv has them):")
        for out in missed[:SHOWN]:
            click.echo(f"    {printable(out.file)}: {out.reason}")
        if len(missed) > SHOWN:
            click.echo(f"    and {len(missed) - SHOWN} more")
