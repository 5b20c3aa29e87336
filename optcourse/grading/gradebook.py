"""Marks into nbgrader's gradebook and grades.csv; a submission that could not be graded enters neither."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from optcourse import files
from optcourse.grading.grade import Result
from optcourse.grading.lab import Lab, is_written, role

#: Where HTML would begin in a text: the formgrader shows it to the instructor, and must not run it.
TAG = re.compile(r"<(?=[A-Za-z/!?])")


def record(database: Path, lab: Lab, results: dict[str, Result]) -> None:
    """Write the marks of these students, and of no others. Manual marks already given stay."""
    with _open(database) as book, book.db.no_autoflush:  # nbgrader links objects before it adds them
        _describe(book, lab)
        for student, result in results.items():
            if result.score is None:
                continue
            book.update_or_create_student(student)
            submission = book.update_or_create_submission(lab.name, student)
            for grade in (grade for notebook in submission.notebooks for grade in notebook.grades):
                if grade.name in result.marks:
                    grade.auto_score, grade.needs_manual_grade = result.marks[grade.name].score, False
                else:
                    answered = grade.name in result.written
                    grade.auto_score = None if answered else 0.0
                    grade.needs_manual_grade = answered and grade.manual_score is None
            book.db.commit()


@contextlib.contextmanager
def _open(database: Path) -> Iterator[Any]:
    """nbgrader's gradebook. It calls the program ``alembic``, which lies beside Python, on the PATH or not."""
    from nbgrader.api import Gradebook

    path = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), path))
    try:
        with Gradebook(f"sqlite:///{database}") as book:
            yield book
    finally:
        os.environ["PATH"] = path


def _describe(book: Any, lab: Lab) -> None:
    """The lab's notebook and its graded cells, as nbgrader's own tools expect them."""
    book.update_or_create_assignment(lab.name)
    book.update_or_create_notebook(lab.name, lab.name)
    for cell in (lab.source or lab.release).cells:
        data, where = role(cell), (lab.name, lab.name)
        if not data:
            continue
        name = data["grade_id"]
        if data["grade"]:
            book.update_or_create_grade_cell(name, *where, max_score=float(data["points"]), cell_type=cell.cell_type)
        if data["solution"]:
            book.update_or_create_solution_cell(name, *where)
        book.update_or_create_source_cell(
            name, *where, cell_type=cell.cell_type, source=cell.source, locked=bool(data["locked"])
        )


def export(database: Path, lab: str, path: Path, ungraded: frozenset[str] = frozenset()) -> None:
    """Write grades.csv with nbgrader's exporter.

    Who has no graded submission is left out: it is no zero. So are ``ungraded``, whose present file cannot be graded
    although an earlier one was; what the gradebook has of them stays.
    """
    from nbgrader.plugins import CsvExportPlugin

    with _open(database) as book, tempfile.TemporaryDirectory() as folder:
        students = [s.student.id for s in book.assignment_submissions(lab) if s.student.id not in ungraded]
        draft = Path(folder, "grades.csv")
        plugin = CsvExportPlugin(to=str(draft), assignment=[lab], student=students or ["-"])
        plugin.log.setLevel(logging.WARNING)
        plugin.export(book)
        files.write(path, draft.read_bytes())


def autograded(lab: Lab, result: Result) -> nbformat.NotebookNode:
    """The graded notebook with its outputs, for nbgrader's formgrader, where a person marks the written answers."""
    cells = []
    original = {role(cell)["grade_id"]: cell for cell in (lab.source or lab.release).cells if role(cell)}
    for cell in result.cells:
        if cell.kind == "code":
            outputs = [nbformat.from_dict(output) for output in result.outputs.get(cell.name, [])]
            if error := result.errors.get(cell.name):
                name, message = error["name"], error["message"]
                text = [error["where"], f"{name}: {message}"]
                outputs.append(nbformat.v4.new_output("error", ename=name, evalue=message, traceback=text))
            new = nbformat.v4.new_code_cell(cell.source, outputs=outputs)
        else:
            new = nbformat.v4.new_markdown_cell(TAG.sub("< ", cell.source))
        if cell.name in original:
            new.metadata["nbgrader"] = role(original[cell.name])
            if is_written(original[cell.name]):
                new.metadata["nbgrader"]["cell_type"] = "markdown"
        cells.append(new)
    return nbformat.v4.new_notebook(cells=cells, metadata=lab.release.metadata)
