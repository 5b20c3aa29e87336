"""A lab as the grader knows it: the notebook a student gets, its exercises, and the questions with their answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from optcourse.labs.cells import Case, recording


@dataclass(frozen=True)
class Exercise:
    """One test cell: what it is worth, the cells it tests, the questions it asks."""

    name: str
    title: str
    points: float
    solutions: tuple[str, ...]
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Lab:
    """A lab; ``exercises`` are without cases when only the release is at hand."""

    name: str
    release: NotebookNode
    exercises: tuple[Exercise, ...]
    source: NotebookNode | None = None
    digest: str = field(default="", compare=False)

    @property
    def max_score(self) -> float:
        """Points of the exercises that are graded automatically."""
        return sum(exercise.points for exercise in self.exercises)

    @property
    def written(self) -> dict[str, float]:
        """Points of the questions that a person marks, by cell."""
        return {role(c)["grade_id"]: float(role(c)["points"]) for c in self.release.cells if is_written(c)}


def role(cell: Any) -> dict[str, Any]:
    """The nbgrader metadata of a cell, or an empty dict."""
    data = cell.get("metadata", {}).get("nbgrader", {})
    return data if isinstance(data, dict) else {}


def is_test(cell: Any) -> bool:
    """Whether a cell is graded automatically."""
    data = role(cell)
    return cell["cell_type"] == "code" and bool(data.get("grade")) and not data.get("solution")


def is_written(cell: Any) -> bool:
    """Whether a cell is graded by a person."""
    data = role(cell)
    return bool(data.get("grade") and data.get("solution"))


def outline(notebook: NotebookNode) -> tuple[Exercise, ...]:
    """The exercises of a lab's notebook, without their questions."""
    title, solutions, exercises = "", [], []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (heading := re.search(r"^#+ (?:<a [^>]*></a>)?(.+)$", cell.source, re.M)):
            title = heading[1].strip()
        if role(cell).get("solution") and not role(cell).get("grade"):
            solutions.append(role(cell)["grade_id"])
        if is_test(cell):
            name = role(cell)["grade_id"]
            exercises.append(Exercise(name, title or name, float(role(cell)["points"]), tuple(solutions)))
            solutions = []
    return tuple(exercises)


def from_release(path: Path) -> Lab:
    """The lab as a student has it: no questions."""
    notebook = nbformat.read(path, as_version=4)
    return Lab(path.stem, notebook, outline(notebook))


def from_source(path: Path) -> Lab:
    """The lab as the instructor has it. Runs the source notebook, solutions and hidden tests, in this process.

    Raises ``ValueError`` when a test cell has no hidden test, or its cases are not worth what the cell is worth.
    """
    from optcourse.grading.release import release

    source = nbformat.read(path, as_version=4)
    cases = questions(source)
    exercises = []
    for exercise in outline(source):
        asked = cases.get(exercise.name, ())
        worth = sum(case.points for case in asked)
        if abs(worth - exercise.points) > 1e-9:
            raise ValueError(
                f"{path}: the cell {exercise.name!r} is worth {exercise.points:g} points, its hidden tests {worth:g}"
            )
        exercises.append(replace(exercise, cases=asked))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Lab(path.stem, release(source), tuple(exercises), source, digest)


def questions(source: NotebookNode) -> dict[str, tuple[Case, ...]]:
    """What each test cell asks, and what the reference solution answers."""
    import matplotlib

    matplotlib.use("agg")
    space: dict[str, Any] = {"__name__": "__main__"}
    asked: dict[str, tuple[Case, ...]] = {}
    for cell in source.cells:
        if cell.cell_type != "code":
            continue
        with recording() as cases, contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell.source, f"<{cell.id}>", "exec"), space)
        if cases:
            asked[role(cell)["grade_id"]] = tuple(cases)
    return asked
