"""Marks into nbgrader's gradebook and grades.csv; a submission that could not be graded enters neither."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import nbformat

from optcourse import files
from optcourse.grading.grade import Result
from optcourse.grading.harmless import Budget, attached, disarmed, plain, spreadsheet_safe, visible
from optcourse.grading.lab import Lab, is_written, role

#: Seconds to wait while the formgrader, or another command, writes into the gradebook.
PATIENCE = 20.0
#: What the written answers were when they were last recorded, in the gradebook itself: a mark belongs to an answer.
ANSWERS = "CREATE TABLE IF NOT EXISTS optcourse_answer (grade VARCHAR PRIMARY KEY, digest VARCHAR NOT NULL)"


class Unusable(click.ClickException):
    """A gradebook that cannot be opened or written; the message says why, and what to do."""


def record(database: Path, lab: Lab, results: dict[str, Result]) -> frozenset[str]:
    """Write the marks of these students, and of no others. Manual marks already given stay.

    Returns the students (of this lab, of earlier runs too) whose answer changed after a person had marked it: the mark
    counts, and the formgrader lists it again. Raises :class:`Unusable`.
    """
    from sqlalchemy import text

    with _open(database) as book, book.db.no_autoflush:  # nbgrader links objects before it adds them
        book.db.execute(text(ANSWERS))
        _describe(book, lab)
        for student, result in results.items():
            if result.score is None:
                continue
            book.update_or_create_student(student)
            submission = book.update_or_create_submission(lab.name, student)
            for grade in _grades(submission):
                if grade.name in result.marks:
                    grade.auto_score, grade.needs_manual_grade = result.marks[grade.name].score, False
                else:
                    _record_answer(book, grade, result)
            book.db.commit()
        submissions = book.assignment_submissions(lab.name)
        return frozenset(s.student.id for s in submissions if any(map(_is_outdated, _grades(s))))


def _grades(submission: Any) -> list[Any]:
    return [grade for notebook in submission.notebooks for grade in notebook.grades]


def _is_outdated(grade: Any) -> bool:
    return grade.manual_score is not None and bool(grade.needs_manual_grade)


def _record_answer(book: Any, grade: Any, result: Result) -> None:
    """A written answer waits for a person when it is new, and when it is another one than the person marked."""
    from sqlalchemy import text

    answer = result.written.get(grade.name)
    content = repr([(answer or "").split(), *(sorted(attached(cell).items()) for cell in result.cells)])
    where = {"grade": grade.id, "digest": hashlib.sha256(content.encode()).hexdigest()}
    known = book.db.execute(text("SELECT digest FROM optcourse_answer WHERE grade = :grade"), where).scalar()
    book.db.execute(text("INSERT OR REPLACE INTO optcourse_answer VALUES (:grade, :digest)"), where)
    grade.auto_score = None if answer is not None else 0.0
    if grade.manual_score is None:
        grade.needs_manual_grade = answer is not None
    elif known not in (None, where["digest"]):
        grade.needs_manual_grade = True


def load() -> None:
    """nbgrader, which takes a second: to be called while something else is being waited for."""
    import nbgrader.api
    import nbgrader.plugins  # noqa: F401


@contextlib.contextmanager
def _open(database: Path) -> Iterator[Any]:
    """nbgrader's gradebook."""
    import sqlalchemy
    from nbgrader.api import Gradebook, InvalidEntry
    from sqlalchemy.exc import DatabaseError

    # The name may hold anything, also what means something in an address: not put together by hand.
    url: Any = sqlalchemy.URL.create("sqlite", database=str(database), query={"timeout": f"{PATIENCE:g}"})
    try:
        with _alone(database):
            _make(url)
            with Gradebook(url) as book:
                damage = book.db.execute(sqlalchemy.text("PRAGMA quick_check(1)")).scalar()
                if damage != "ok":
                    raise Unusable(f"{database}: {_explain(f'malformed: {damage}')}")
                yield book
    except DatabaseError as error:
        raise Unusable(f"{database}: {_explain(str(error.orig))}") from error
    except InvalidEntry as error:  # somebody else entered it meanwhile
        raise Unusable(f"{database}: {_explain(f'busy: {error}')}") from error


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Two labs may be graded into one gradebook at the same time: each command waits until the other has written."""
    from filelock import FileLock, Timeout

    lock = FileLock(database.with_name(f".{database.name}.lock"), timeout=PATIENCE)
    try:
        lock.acquire()
    except Timeout:
        raise Unusable(f"{database}: {_explain('locked by another command')}") from None
    except OSError:  # a folder that takes no file: the database will say so
        pass
    try:
        yield
    finally:
        lock.release()


def _make(url: Any) -> None:
    """The tables of a new gradebook, and which version of nbgrader's they are.

    nbgrader would ask the program ``alembic``, which loads all of nbgrader once more, and may not be on the PATH.
    """
    import sqlalchemy
    from alembic.script import ScriptDirectory
    from nbgrader.api import Base
    from nbgrader.dbutil import ALEMBIC_DIR

    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool)
    with contextlib.closing(engine.connect()) as connection:

        def run(statement: str, **values: str | None) -> None:
            connection.execute(sqlalchemy.text(statement), values)

        def is_new() -> bool:
            return not sqlalchemy.inspect(connection).get_table_names()

        if is_new():
            run("BEGIN IMMEDIATE")  # all of it or nothing, and not by two commands at once
            if is_new():
                version = ScriptDirectory(ALEMBIC_DIR).get_current_head()
                run("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
                run("INSERT INTO alembic_version VALUES (:version)", version=version)
                Base.metadata.create_all(connection)
                run("INSERT INTO course (id) VALUES ('default_course')")
            run("COMMIT")


def _explain(reason: str) -> str:
    """What is wrong with a gradebook, and what to do; nothing in it was changed, and the results are kept elsewhere."""
    for words, sentence in (
        ("locked|busy", "another program is writing into it; wait for it or close it (the formgrader?)"),
        (
            "no such (table|column)|no column named",
            "another version of nbgrader wrote it; see 'nbgrader db upgrade'",
        ),
        ("readonly|unable to open|permission", "it cannot be written; look at its folder and its permissions"),
        ("full|disk i/o", "it cannot be written, for example because the disk is full; make room"),
        ("not a database|malformed", "it is damaged; put a copy of it back, or move it away and mark again"),
    ):
        if re.search(words, reason, re.I):
            return f"{sentence}, then run the same command again, which grades nobody twice ({reason})"
    return f"it cannot be used ({reason})"


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


def export(
    database: Path,
    lab: str,
    path: Path,
    ungraded: frozenset[str] = frozenset(),
    people: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> None:
    """Write grades.csv with nbgrader's exporter, and names and numbers of ``people`` in two of its columns.

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
        files.write(path, _rewritten(draft.read_text(encoding="utf-8"), people))


def _rewritten(draft: str, people: Mapping[str, tuple[str, str]]) -> str:
    """The exporter's table, which quotes nothing, as a spreadsheet may open it, and ``id`` as a last column."""
    text, rows = io.StringIO(newline=""), csv.DictReader(io.StringIO(draft))
    table = csv.DictWriter(text, [*(rows.fieldnames or ()), "id"], extrasaction="ignore")
    table.writeheader()
    for row in rows:
        name, number = people.get(row["student_id"], ("", ""))
        row |= {"last_name": row["last_name"] or name, "id": number}
        table.writerow({key: spreadsheet_safe(value or "") for key, value in row.items() if key})
    return text.getvalue()


def autograded(lab: Lab, result: Result) -> nbformat.NotebookNode:
    """The graded notebook with its outputs, for nbgrader's formgrader, where a person marks the written answers."""
    cells = []
    original = {role(cell)["grade_id"]: cell for cell in (lab.source or lab.release).cells if role(cell)}
    budget = Budget(figures=10_000_000, text=10_000_000)
    for cell in result.cells:
        if cell.kind == "code":
            outputs = [nbformat.from_dict(o) for o in budget.outputs(result.outputs.get(cell.name, []))]
            if error := result.errors.get(cell.name):
                name, message, where = (plain(error.get(key, "")) for key in ("name", "message", "where"))
                outputs.append(
                    nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[where, f"{name}: {message}"])
                )
            new = nbformat.v4.new_code_cell(visible(cell.source), outputs=outputs)
        elif cell.provided:
            new = nbformat.v4.new_markdown_cell(cell.source)
        else:
            text, pictures = disarmed(cell.source, attached(cell))
            new = nbformat.v4.new_markdown_cell(text)
            if pictures:
                new["attachments"] = pictures
        if cell.name in original:
            new.metadata["nbgrader"] = role(original[cell.name])
            if is_written(original[cell.name]):
                new.metadata["nbgrader"]["cell_type"] = "markdown"
        cells.append(new)
    return nbformat.v4.new_notebook(cells=cells, metadata=lab.release.metadata)
