"""The ``optcourse`` command: run the lectures, show the verdicts, release and grade the labs."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from optcourse import __version__, files
from optcourse.checking import BROKEN, MARKS, number, tally
from optcourse.course import catalog
from optcourse.grading.commands.grade import grade
from optcourse.grading.commands.labs import labs
from optcourse.runtime import DEVICES, PROFILES, cores, exit_status, resolve_device

OUTPUT = Path("build/lectures")
_FOLDER = click.Path(path_type=Path)
_LECTURES = click.option("--lectures", "folder", type=_FOLDER, help="The folder of the notebooks.  [default: lectures]")


class _OneLine(click.Group):
    """A command whose every usage error is one line on standard error and exit status 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        status = exit_status(partial(super().main, *args, standalone_mode=False, **options))
        if standalone_mode:
            sys.exit(status)
        return status


@click.group(cls=_OneLine, invoke_without_command=True)
@click.version_option(__version__, prog_name="optcourse")
@click.pass_context
def main(context: click.Context) -> None:
    """Optimization for Deep Learning: run the lectures, see which claims hold, grade the labs."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(labs)
main.add_command(grade)


@main.command(
    "nodes", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGS]...")
def nodes_command(arguments: tuple[str, ...]) -> int:
    """Train on distributed nodes, simulated or real."""
    from optcourse.nodes.run.cli import nodes  # late: it loads torch, which the other commands do not need

    return nodes.main(list(arguments), prog_name="optcourse nodes", standalone_mode=False)


@main.command()
@click.argument("lectures", nargs=-1, metavar="[LECTURE]...")
@click.option("--profile", type=click.Choice(PROFILES), default="quick", show_default=True, help="How long to run.")
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to run.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of everything.")
@click.option("--jobs", type=click.IntRange(1), help="Lectures at a time.  [default: one a core, at most 4]")
@click.option("--output", type=_FOLDER, default=OUTPUT, show_default=True, help="Where pages and verdicts go.")
@click.option("--resume", is_flag=True, help="Skip finished lectures whose source and settings are unchanged.")
@click.option("--book/--no-book", default=True, help="Make the pages at the end.  [default: book]")
@_LECTURES
def run(
    lectures: tuple[str, ...],
    profile: str,
    device: str,
    seed: int,
    jobs: int | None,
    output: Path,
    resume: bool,
    book: bool,
    folder: Path | None,
) -> int:
    """Execute lectures; write verdicts.json and the book, index.html.

    LECTURE is a number (2), a name (02_sgd_and_minibatch) or a path; all lectures by default. Exit
    status: 0, 1 when a lecture failed, 2 for wrong usage, 130 when interrupted (--resume continues).
    """
    try:
        folder, table = _course(folder)
        notebooks = catalog.find(folder, lectures)
        resolved = str(resolve_device(device))
    except (LookupError, ValueError) as error:
        raise click.UsageError(str(error.args[0] if isinstance(error, LookupError) else error)) from None
    if any(output.resolve() == path.parent for path in notebooks):
        raise click.UsageError(f"--output must not be the folder of the notebooks, got {output}")
    if any(part.exists() and not part.is_dir() for part in (output, *output.parents)):
        raise click.UsageError(f"--output must be a folder, got {output}")

    from optcourse.course import runner  # late: it loads Jupyter, which the other commands do not need

    settings = runner.Settings(profile=profile, seed=seed, device=resolved)
    jobs = jobs or min(4, cores())
    return runner.run(notebooks, settings, output=output, catalog=table, jobs=jobs, resume=resume, book=book)


@main.command()
@click.option("--output", type=_FOLDER, default=OUTPUT, show_default=True, help="The folder a run wrote to.")
@_LECTURES
def book(output: Path, folder: Path | None) -> int:
    """Make the pages of what was run, and of what was not, without running anything.

    Exit status: 0, 1 when Sphinx finds a fault in a page, 2 for wrong usage.
    """
    folder, table = _course(folder)
    from optcourse.course import runner

    return runner.write_book(output, table, folder, lambda line: click.echo(line, err=True))


def _course(folder: Path | None) -> tuple[Path, catalog.Catalog]:
    """The folder of the lectures and its table."""
    try:
        folder = files.of_course("lectures", folder)
        return folder, catalog.load(folder / "topics.toml")
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None


@main.command()
@click.argument("path", type=_FOLDER, required=False)
@click.option("--output", type=_FOLDER, default=OUTPUT, show_default=True, help="The folder a run wrote to.")
@click.option("--json", "as_json", is_flag=True, help="Print the entries of verdicts.json instead of a table.")
def verdicts(path: Path | None, output: Path, as_json: bool) -> int:
    """Show every claim and its verdict, from PATH (a verdicts.json or its folder).

    Exit status: 0, 1 when a claim is broken, 2 when there is no verdicts.json.
    """
    path = path or output
    path = path / "verdicts.json" if path.is_dir() or path.suffix != ".json" else path
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError("the file holds no list")
        counts = tally(row["verdict"] for row in rows)
    except FileNotFoundError:
        raise click.UsageError(f"there is no {path}; 'optcourse run' writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{path} is not a list of verdicts: {error}") from None
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        _print_table(rows, counts)
    return 1 if counts[BROKEN] else 0


def _print_table(rows: list[dict[str, Any]], counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    from optcourse.course.claims import RELATIONS

    table = Table("topic", "claim", "measured", "", "bound", "margin", "seeds", "verdict")
    for row in rows:
        measured = number(row["measured"], row.get("interval"))
        numbers = measured, RELATIONS[row["relation"]], number(row["bound"]), number(row["margin"])
        verdict = f"{MARKS[row['verdict']].sign} {row['verdict']}"
        table.add_row(row["topic"], row["claim"], *numbers, str(row.get("seeds") or ""), verdict)
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 160, markup=False, highlight=False)
    console.print(table)
    console.print(f"{len(rows)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
