"""What a student runs before handing in: the visible tests, exercise by exercise."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import nbformat

from optcourse.grading.lab import Lab
from optcourse.grading.submission import assemble, read, untouched, written_answers

#: Seconds per cell.
LIMIT = 120


@dataclass(frozen=True)
class Finding:
    """``state``: passed, failed, not attempted, answered, not answered."""

    title: str
    points: float
    state: str
    why: str = ""


def check(lab: Lab, raw: bytes) -> tuple[list[Finding], list[str]]:
    """Run the notebook from top to bottom; one finding per exercise, and what the grader would flag.

    Raises :class:`optcourse.grading.submission.Unreadable` for a file that is no notebook.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    cells, flags = assemble(lab, read(raw))
    code = [cell for cell in cells if cell.kind == "code"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.source) for cell in code])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = NotebookClient(notebook, timeout=LIMIT, interrupt_on_timeout=True, allow_errors=True)
    try:
        client.execute()
    except DeadKernelError:
        flags.append("your code ended the process it ran in; the exercises after that did not run")
    errors = {cell.name: _error(new.outputs) for cell, new in zip(code, notebook.cells, strict=True)}
    ran = {cell.name for cell, new in zip(code, notebook.cells, strict=True) if new.execution_count}
    broken = next((f"{c.name}: {errors[c.name]}" for c in code if c.provided and not c.test and errors[c.name]), "")
    if broken:
        flags.insert(0, f"a provided cell failed, which may be why others did: {broken}")
    findings = []
    for exercise in lab.exercises:
        if exercise.solutions and untouched(lab, cells, exercise.solutions):
            state, why = "not attempted", ""
        elif exercise.name not in ran:
            state, why = "failed", "the test did not run"
        else:
            why = next((e for name in (*exercise.solutions, exercise.name) if (e := errors.get(name))), "")
            state = "failed" if why else "passed"
        findings.append(Finding(exercise.title, exercise.points, state, why))
    answered = written_answers(lab, cells)
    for name, points in lab.written.items():
        findings.append(Finding("Written question", points, "answered" if name in answered else "not answered"))
    return findings, flags


def _error(outputs: list[Any]) -> str:
    for output in outputs:
        if output.output_type == "error":
            text = output.evalue if output.ename == "NotAsExpected" else f"{output.ename}: {output.evalue}"
            return re.sub(r"\x1b\[[0-9;]*m", "", text)
    return ""
