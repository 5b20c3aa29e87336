"""What a student runs before handing in: the grader's cells in the grader's kernel, and what the visible tests say.

The notebook runs as in the box: assembled in the same way, in an empty folder, a limit for each cell, the same
threads and figures, and again without a cell that ends its process. It is no box: the network and files that the code
names by their whole path are there, and memory has no limit.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from optcourse.grading.kernel import Kernel, Ran
from optcourse.grading.lab import Lab, role
from optcourse.grading.submission import Cell, assemble, read, untouched, written_answers

#: Seconds per cell, and how often a notebook is run whose cells end their process: both as the grader has them.
LIMIT, ATTEMPTS = 30.0, 4
#: What the kernel's environment has in common with the grader's box.
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONSAFEPATH": "1",
    "OPTCOURSE_PROGRESS": "off",
    "CUDA_VISIBLE_DEVICES": "",
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPTCOURSE_THREADS"), "1"),
}


@dataclass(frozen=True)
class Finding:
    """``state``: passed, failed, not attempted, answered, not answered."""

    title: str
    points: float
    state: str
    why: str = ""


@dataclass
class _Runs:
    """What the cells did, in the last run that reached them."""

    ran: dict[str, Ran] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)


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
    runs = _run(cells, limit, on_cell)
    titles = _titles(cells)
    whys = {cell.name: _why(cell, titles[cell.name], runs.ran.get(cell.name), limit) for cell in cells}
    findings, notes, section = [], _notes(cells, whys, beside), []
    exercises = {exercise.name: exercise for exercise in lab.exercises}
    for cell in cells:
        section += [] if cell.provided and not cell.test else [cell]
        if cell.name not in exercises:
            continue
        exercise, before = exercises[cell.name], [c for c in section[:-1] if whys[c.name]]
        section = []
        if not whys[cell.name]:
            state, why = "passed", ""
            notes += [f"passed, although {_place(c, titles[c.name])} failed: {whys[c.name]}" for c in before]
        elif exercise.solutions and untouched(lab, cells, exercise.solutions) and not before:
            state, why = "not attempted", ""
        else:
            state, why = "failed", "\n".join([whys[c.name] for c in before] or [_unhinted(lab, whys[cell.name])])
        findings.append(Finding(exercise.title, exercise.points, state, why))
    answered = written_answers(lab, cells)
    for name, points in lab.written.items():
        findings.append(Finding("Written question", points, "answered" if name in answered else "not answered"))
    return findings, [*notes, *flags]


def _run(cells: list[Cell], limit: float, on_cell: Callable[[int, int, str], None]) -> _Runs:
    """Execute the code cells as the grader does: after a cell that ends its process, again without it."""
    code, titles, runs = [cell for cell in cells if cell.kind == "code"], _titles(cells), _Runs()
    for _ in range(ATTEMPTS):
        with tempfile.TemporaryDirectory(prefix="optcourse-", ignore_cleanup_errors=True) as home:
            with Kernel(cwd=home, env={**os.environ, **ENVIRONMENT}) as kernel:
                for index, cell in enumerate(code):
                    if cell.name in runs.skipped:
                        continue
                    on_cell(index, len(code), titles[cell.name])
                    runs.ran[cell.name] = kernel.run(cell.source, limit)
                    if runs.ran[cell.name].died:
                        runs.skipped.add(cell.name)
                        break
                else:
                    break
    return runs


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
    return f"{name}: {message}" if message else name
