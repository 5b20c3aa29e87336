"""A whole class: grade each submission in its box, write everything an instructor needs, stop and go on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nbformat

from optcourse import files
from optcourse.grading import feedback, gradebook
from optcourse.grading.box.limits import portions
from optcourse.grading.collect import Submission
from optcourse.grading.grade import Mark, Result, grade
from optcourse.grading.harmless import spreadsheet_safe
from optcourse.grading.lab import Lab
from optcourse.grading.sandbox import Limits, NotStarted
from optcourse.grading.submission import Cell
from optcourse.runtime import in_parallel, interrupts

COLUMNS = ("student", "status", "score", "max_score", "to_read", "flags", "seconds", "file")
BUSY = "this machine had no core for it, alone and at the end of the class too: grade it again when the machine is idle"
CHANGED = "answer changed after it was marked"
Rows = list[dict[str, str]]


class NotWritten(RuntimeError):
    """The output takes no more; the message says what could not be written, and why."""


def grade_class(
    lab: Lab,
    submissions: list[Submission],
    output: Path,
    limits: Limits,
    *,
    jobs: int = 1,
    again: bool = False,
    done: Callable[[str, Result, bool], None] = lambda student, result, kept: None,
    arrange: Callable[[Rows], Rows] = lambda rows: rows,
    people: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> bool:
    """Grade ``submissions`` into ``output``; calls ``done(student, result, kept)`` after each. False if interrupted.

    A student whose file, lab and limits are unchanged since the last time is not graded again unless ``again``.
    Written before the same job takes the next one: ``results/LAB/STUDENT.json``, ``feedback/STUDENT/LAB.html``,
    ``autograded/STUDENT/LAB/LAB.ipynb`` and ``status.csv``, in which students of earlier runs keep their rows, and
    which ``arrange`` (:class:`~optcourse.grading.collect.roster.Table`) orders and completes; at the end
    ``gradebook.db`` and ``grades.csv``, with the names and numbers of ``people``. Whose time was up while this machine
    had no core for them is graded again at the end, alone. Raises :class:`NotWritten` and
    :class:`~optcourse.grading.gradebook.Unusable`.
    """
    database = output / "gradebook.db"
    try:
        ledger = _Ledger(lab, output, limits, done, arrange)
        threading.Thread(target=gradebook.load, daemon=True).start()
        with interrupts() as stopped:
            waiting = [submission for submission in submissions if again or not ledger.keeps(submission)]
            ledger.grade(waiting, jobs, stopped)
            ledger.grade(ledger.starved, 1, stopped, last=True)
        ledger.remarked = gradebook.record(database, lab, ledger.marks)
        ledger.look()  # another command may have graded others meanwhile
        ledger.status()
        gradebook.export(database, lab.name, output / "grades.csv", ledger.ungraded(), people)
    except OSError as error:
        raise NotWritten(f"{error.filename or output} cannot be written: {error.strerror or error}") from None
    return not stopped.is_set()


class _Ledger:
    """What is known of the class; on disk as soon as it is known: who kills the grader loses what was being graded."""

    def __init__(
        self,
        lab: Lab,
        output: Path,
        limits: Limits,
        done: Callable[[str, Result, bool], None],
        arrange: Callable[[Rows], Rows],
    ) -> None:
        self.lab, self.output, self.limits, self.done, self.arrange = lab, output, limits, done, arrange
        self.settings = files.resume_key(repr((lab.digest, limits)).encode())
        self.results = output / "results" / lab.name
        self.rows: dict[str, dict[str, str]] = {}
        self.look()
        self.marks: dict[str, Result] = {}
        self.starved: list[Submission] = []
        self.remarked: frozenset[str] = frozenset()
        self.lock = threading.Lock()
        self.status()  # an output that takes nothing is found out before hours of work

    def look(self) -> None:
        """Take in the results on disk of whom there is no row yet."""
        found = {path.stem: _read(path) for path in self.results.glob("*.json") if path.stem not in self.rows}
        self.rows |= {student: _row(student, data) for student, data in found.items() if data is not None}

    def keeps(self, submission: Submission) -> bool:
        """Whether there is a result already."""
        data = _read(self.results / f"{submission.student}.json")
        if data is None or data.pop("key") != self._key(submission) or data["status"] == "error":
            return False
        data.pop("file")
        try:
            marks = {name: Mark(**mark) for name, mark in data.pop("marks").items()}
            result = Result(marks=marks, cells=[Cell(**cell) for cell in data.pop("cells")], **data)
        except (KeyError, TypeError):
            return False
        if result.starved:
            return False
        self._note(submission.student, result, True)
        return True

    def grade(self, waiting: list[Submission], jobs: int, stopped: threading.Event, *, last: bool = False) -> None:
        """Grade who is waiting; ``last`` says that nobody is graded once more after that."""
        places = queue.SimpleQueue[frozenset[int]]()
        for cores in portions(jobs):
            places.put(cores)

        def one(submission: Submission) -> None:
            cores = places.get()
            try:
                result = _grade(self.lab, replace(self.limits, cores=cores), stopped, submission)
                if not stopped.is_set():  # else it gave up
                    self.enter(submission, result, last)
            except BaseException:
                stopped.set()  # nothing can be kept any more: the others need not go on
                raise
            finally:
                places.put(cores)

        for _ in in_parallel(one, waiting, jobs, stopped, lambda submission: None):
            pass

    def enter(self, submission: Submission, result: Result, last: bool) -> None:
        """Put a result on disk."""
        if result.starved and last:
            result = replace(result, flags=[*result.flags, BUSY])
        with self.lock:
            try:
                data = self._save(submission, result)
            except OSError as error:
                what = error.filename or f"the result of {submission.student!r} in {self.output}"
                raise NotWritten(f"{what} cannot be written: {error.strerror or error}") from None
            except Exception as error:
                result = _failed(self.lab, error)
                data = self._save(submission, result)
            self.rows[submission.student] = _row(submission.student, data)
            self.status()
            if result.starved and not last:
                self.starved.append(submission)
            else:
                self._note(submission.student, result, False)

    def _note(self, student: str, result: Result, kept: bool) -> None:
        # What the notebooks of a whole class show does not fit into a small machine's memory.
        self.marks[student] = replace(result, cells=[], outputs={}, errors={})
        self.done(student, result, kept)

    def _key(self, submission: Submission) -> str:
        own = repr((self.settings, submission.flags, submission.refused)).encode()
        return hashlib.sha256(hashlib.sha256(own).digest() + (submission.raw or b"")).hexdigest()

    def _save(self, submission: Submission, result: Result) -> dict[str, Any]:
        student, name = submission.student, self.lab.name
        files.write(self.output / "feedback" / student / f"{name}.html", feedback.page(self.lab, student, result))
        notebook = self.output / "autograded" / student / name / f"{name}.ipynb"
        if result.cells:
            files.write(notebook, nbformat.writes(gradebook.autograded(self.lab, result)))
        else:
            notebook.unlink(missing_ok=True)
        data = {"key": self._key(submission), "file": submission.origin, **asdict(result)}
        files.write(self.results / f"{student}.json", json.dumps(data))
        return data

    def table(self) -> Rows:
        """The rows of this and all earlier runs."""
        rows = [dict(row) for _, row in sorted(self.rows.items())]
        for row in rows:
            if row["student"] in self.remarked:
                row["flags"] = "; ".join(filter(None, (row["flags"], CHANGED)))
        return self.arrange(rows)

    def status(self) -> None:
        """Write status.csv."""
        rows, text = self.table(), io.StringIO(newline="")
        table = csv.DictWriter(text, list(dict.fromkeys((*COLUMNS, *(column for row in rows for column in row)))))
        table.writeheader()
        table.writerows({name: spreadsheet_safe(value) for name, value in row.items()} for row in rows)
        files.write(self.output / "status.csv", text.getvalue())

    def ungraded(self) -> frozenset[str]:
        """The students whose file earns no grade."""
        return frozenset(self.rows.keys() - {row["student"] for row in self.table() if row["score"]})


def _grade(lab: Lab, limits: Limits, stopped: threading.Event, submission: Submission) -> Result:
    if submission.raw is None:
        return Result("unreadable", None, lab.max_score, [*submission.flags, submission.refused], 0.0)
    try:
        return grade(lab, submission.raw, limits, submission.flags, stopped)
    except NotStarted as error:
        return Result("error", None, lab.max_score, [str(error)], 0.0)
    except Exception as error:
        return _failed(lab, error)


def _failed(lab: Lab, error: Exception) -> Result:
    """A fault of ours, which must not stop the class, nor look like the student's."""
    return Result("error", None, lab.max_score, [f"the grader failed: {type(error).__name__}: {error}"], 0.0)


def _read(path: Path) -> dict[str, Any] | None:
    """A result on disk, if it is one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        _row(path.stem, data)
        return data if "key" in data else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _row(student: str, data: dict[str, Any]) -> dict[str, str]:
    score = "" if data["score"] is None else f"{data['score']:g}"
    maximum, seconds = f"{data['max_score']:g}", f"{data['seconds']:.1f}"
    flags, to_read = "; ".join(data["flags"]), str(len(data["written"]))
    values = (student, data["status"], score, maximum, to_read, flags, seconds, data["file"])
    return dict(zip(COLUMNS, values, strict=True))
