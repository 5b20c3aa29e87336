"""What a student runs before handing in: the grader's cells in the grader's kernel, and what the visible tests say.

The notebook runs as in the box: assembled in the same way, in an empty folder, a limit for each cell, the same
threads and figures, and again without a cell that ends its process. It is no box: the network and files that the code
names by their whole path are there, and memory has no limit.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from optcourse.grading.box.kernel import ATTEMPTS, ENVIRONMENT, Kernel, Ran, described
from optcourse.grading.lab import Lab
from optcourse.grading.submission import Cell, assemble, looks_like, read, untouched, written_answers

#: Seconds per cell, as the grader has it.
LIMIT = 30.0


@dataclass(frozen=True)
class Finding:
    """``state``: passed, failed, not attempted, answered, not answered."""

    title: str
    points: float
    state: str
    why: str = ""


def check(
    lab: Lab,
    raw: bytes,
    *,
    limit: float = LIMIT,
    beside: Path | None = None,
    on_cell: Callable[[int, int, str], None] = lambda index, total, title: None,
) -> tuple[list[Finding], list[str]]:
    """Run the notebook from top to bottom; one finding per exercise, and notes: what the grader would flag, and more.

    ``limit`` is in seconds per cell, ``beside`` the folder of the notebook, ``on_cell(index, total, title)`` is called
    before each cell. Raises :class:`optcourse.grading.submission.Unreadable` for a file that is no notebook.
    """
    cells, flags = assemble(lab, read(raw))
    ran = _run(cells, limit, on_cell)
    titles = _titles(cells)
    whys = {cell.name: _why(cell, titles[cell.name], ran.get(cell.name), limit) for cell in cells}
    exercises = {exercise.name: exercise for exercise in lab.exercises}
    findings, notes, section = [], [], list[Cell]()
    wrong = False  # something of the student's failed above
    for cell in cells:
        if cell.provided and not cell.test and whys[cell.name]:
            so = "perhaps because of what failed above it" if wrong else "which may be why others did"
            note = f"{_place(cell, titles[cell.name])} is the lab's and failed, {so}: {whys[cell.name]}"
            notes.insert(len(notes) if wrong else 0, note)
        wrong = wrong or bool(whys[cell.name] and not cell.provided)
        if cell.name not in exercises:
            section += [cell] if whys[cell.name] and not cell.provided else []
            continue
        exercise, why = exercises[cell.name], whys[cell.name]
        if not why:
            state = "passed"
            notes += [f"{_place(c, titles[c.name])} failed, the test passed: {whys[c.name]}" for c in section]
        elif exercise.solutions and untouched(lab, cells, exercise.solutions) and not section:
            state, why = "not attempted", ""
        else:
            state, why = "failed", "\n".join([whys[c.name] for c in section] or [why])
        findings.append(Finding(exercise.title, exercise.points, state, why))
        section = []
    notes += [f"{_place(c, titles[c.name])} failed: {whys[c.name]}" for c in section]
    if beside is not None:
        notes += _alone(cells, ran, beside)
    answered = written_answers(lab, cells)
    for name, points in lab.written.items():
        findings.append(Finding("Written question", points, "answered" if name in answered else "not answered"))
    return findings, list(dict.fromkeys([*notes, *flags]))


def _run(cells: list[Cell], limit: float, on_cell: Callable[[int, int, str], None]) -> dict[str, Ran]:
    """Execute the code cells as the grader does: after a cell that ends its process, again without it."""
    code, titles = [cell for cell in cells if cell.kind == "code"], _titles(cells)
    fatal: dict[str, Ran] = {}
    ran: dict[str, Ran] = {}
    for _ in range(ATTEMPTS):
        ended, done = len(fatal), {}
        with (
            tempfile.TemporaryDirectory(prefix="optcourse-", ignore_cleanup_errors=True) as home,
            (Kernel if os.name == "posix" else Elsewhere)(cwd=home, env={**os.environ, **ENVIRONMENT}) as kernel,
        ):
            for index, cell in enumerate(code):
                if cell.name in fatal:
                    continue
                on_cell(index, len(code), titles[cell.name])
                done[cell.name] = kernel.run(cell.source, limit)
                if done[cell.name].died:
                    fatal[cell.name] = done[cell.name]
                    break
        ran = {**ran, **done}
        if len(fatal) == ended:
            break
    return {**ran, **fatal}


# Sentences -----------------------------------------------------------------------------------------------------


def _titles(cells: list[Cell]) -> dict[str, str]:
    """The heading above each cell."""
    title, titles = "", {}
    for cell in cells:
        if cell.kind == "markdown" and (heading := re.search(r"^#+ (?:<a [^>]*></a>)?(.+)$", cell.source, re.M)):
            title = heading[1].strip()
        titles[cell.name] = title
    return titles


def _place(cell: Cell, title: str) -> str:
    """A cell as somebody sees it who sees no names of cells."""
    lines = [line.strip() for line in cell.source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    begins = f" that begins {lines[0][:60]!r}" if lines else ""
    kind = "the test" if cell.test else "the cell"
    return f"{kind}{begins}" + (f", below {title!r}" if title else "")


def _why(cell: Cell, title: str, ran: Ran | None, limit: float) -> str:
    """Why a cell did not do what it should; empty when it did."""
    if cell.kind != "code":
        return ""
    if ran is None:
        return "it did not run, because cells before it ended the process"
    where = (ran.error or {}).get("where", "")
    if ran.interrupted or ran.died == "timeout":
        deaf = " and could not be interrupted" if ran.died else ""
        line = f"\nit was in {where.splitlines()[-1]}" if where else ""
        return (
            f"{_place(cell, title)} did not end in {limit:g} s{deaf}: is there a loop that never ends?{line}\n"
            f"The grader stops a cell after {LIMIT:g} s; --timeout S lets it run for S seconds here."
        )
    if ran.died:
        return f"{_place(cell, title)} ended the process it ran in (an exit, a crash in C code, or too little memory)"
    return _error(ran.error) if ran.error else ""


def _error(error: dict[str, Any]) -> str:
    """Name, message and line of an exception; what :func:`optcourse.labs.expect` says stands for itself."""
    name, message, where = (str(error.get(key, "")) for key in ("name", "message", "where"))
    message = re.sub(r"\x1b\[[0-9;]*m", "", message).strip()
    if name == "NotAsExpected":
        return message
    if name == "NotImplementedError":
        return f"not written yet: {message}" if message else "not written yet"
    line = f"\n  in {where.splitlines()[-1]}" if where else ""
    return (f"{name}: {message}" if message else name) + line


def _alone(cells: list[Cell], ran: dict[str, Ran], beside: Path) -> list[str]:
    """What the notebook needs of its folder: the grader has the notebook and nothing else."""
    needs = set()
    for error in (result.error for result in ran.values() if result.error):
        name = re.search(r"No such file or directory: '(.+)'|No module named '(\w+)|(\S+) not found", error["message"])
        wanted = next(filter(None, name.groups()), "") if name else ""
        needs |= {found.name for found in (beside / wanted, beside / f"{wanted}.py") if wanted and found.exists()}
    needs |= {str(beside) for cell in cells if str(beside) in cell.source and not cell.provided}
    return [
        f"the notebook needs {name!r}, which the grader does not have: it runs the notebook alone, in an empty folder "
        "(let a cell write the file, or put the code into a cell)"
        for name in sorted(needs)
    ]


# The file ------------------------------------------------------------------------------------------------------


def lab_of(raw: bytes, labs: list[Lab]) -> Lab | None:
    """Whose notebook a file is, by headings and the functions asked for; ``None`` when it is nobody's.

    Raises :class:`optcourse.grading.submission.Unreadable` for a file that is no notebook.
    """
    notebook = read(raw)
    likeness = {lab.name: looks_like(lab, notebook) for lab in labs}
    best = max(labs, key=lambda lab: likeness[lab.name], default=None)
    return best if best is not None and likeness[best.name] > 0.3 else None


# Windows -------------------------------------------------------------------------------------------------------


class Elsewhere:
    """A kernel as :class:`~optcourse.grading.box.kernel.Kernel`, through nbclient: where there are no Unix sockets."""

    def __init__(self, *, cwd: str, env: dict[str, str]) -> None:
        from nbclient import NotebookClient

        notebook = nbformat.v4.new_notebook()
        self.client = NotebookClient(notebook, kernel_name="python3", allow_errors=True, interrupt_on_timeout=True)
        self.client.on_cell_executed = self._replied
        self.place, self.reply = {"cwd": cwd, "env": env}, dict[str, Any]()
        self.opened = contextlib.ExitStack()

    def __enter__(self) -> Elsewhere:
        """Start it."""
        self.client.reset_execution_trackers()
        self.opened.enter_context(self.client.setup_kernel(**self.place))
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.opened.close()

    def run(self, source: str, limit: float) -> Ran:
        """Execute one cell."""
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        cell = nbformat.v4.new_code_cell(source)
        self.client.nb.cells.append(cell)
        self.client.timeout = max(1, round(limit))
        try:
            self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        except DeadKernelError:
            return Ran(died="crashed")
        except CellTimeoutError:
            return Ran(died="timeout")
        said = self.reply if self.reply.get("status") == "error" else None
        said = next((output for output in cell.outputs if output.output_type == "error"), said)
        error = None if said is None else described(said)
        return Ran(error=error, interrupted=error is not None and error["name"] == "KeyboardInterrupt")

    def _replied(self, *, execute_reply: dict[str, Any], **_: Any) -> None:
        self.reply = execute_reply["content"]
