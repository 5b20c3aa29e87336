"""A whole class: grade each submission in its box, write everything an instructor needs, stop and go on."""

from __future__ import annotations

import csv
import functools
import io
import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nbformat

from optcourse import files
from optcourse.grading import feedback, gradebook
from optcourse.grading.collect import Submission
from optcourse.grading.grade import Mark, Result, grade
from optcourse.grading.lab import Lab
from optcourse.grading.sandbox import Limits
from optcourse.grading.submission import Cell
from optcourse.runtime import in_parallel, interrupts

COLUMNS = ("student", "status", "score", "max_score", "to_read", "flags", "seconds", "file")
Rows = list[dict[str, str]]


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
) -> bool:
    """Grade ``submissions`` into ``output``; calls ``done(student, result, kept)`` after each. False if interrupted.

    A student whose file, lab and limits are unchanged since the last time is not graded again unless ``again``.
    Written: ``results/LAB/STUDENT.json``, ``feedback/STUDENT/LAB.html``, ``autograded/STUDENT/LAB/LAB.ipynb``, then
    ``gradebook.db``, ``grades.csv`` and ``status.csv``, in which students of earlier runs keep their rows.
    """
    output.mkdir(parents=True, exist_ok=True)
    fresh: dict[str, Result] = {}
    waiting = []
    for submission in submissions:
        kept = None if again else _load(output, lab, submission, limits)
        if kept is None:
            waiting.append(submission)
        else:
            fresh[submission.student] = kept
            done(submission.student, kept, True)
    with interrupts() as stopped:
        one = functools.partial(_one, lab, limits, stopped)
        for submission, result in in_parallel(one, waiting, jobs, stopped, lambda submission: None):
            if not stopped.is_set():  # else it gave up
                _save(output, lab, submission, limits, result)
                fresh[submission.student] = result
                done(submission.student, result, False)
    gradebook.record(output / "gradebook.db", lab, fresh)
    ungraded = write_status(output, lab.name, arrange)
    gradebook.export(output / "gradebook.db", lab.name, output / "grades.csv", ungraded)
    return not stopped.is_set()


def _one(lab: Lab, limits: Limits, stopped: threading.Event, submission: Submission) -> Result:
    if submission.raw is None:
        return Result("unreadable", None, lab.max_score, [*submission.flags, submission.refused], 0.0)
    try:
        return grade(lab, submission.raw, limits, submission.flags, stopped)
    except Exception as error:  # a fault of ours must not stop the class, nor look like the student's
        return Result("error", None, lab.max_score, [f"the grader failed: {type(error).__name__}: {error}"], 0.0)


# Files ---------------------------------------------------------------------------------------------------------


def _key(lab: Lab, submission: Submission, limits: Limits) -> str:
    settings = repr((lab.digest, limits, submission.flags, submission.refused))
    return files.resume_key(settings.encode(), submission.raw or b"")


def _load(output: Path, lab: Lab, submission: Submission, limits: Limits) -> Result | None:
    try:
        data = json.loads((output / "results" / lab.name / f"{submission.student}.json").read_text(encoding="utf-8"))
        if data.pop("key") != _key(lab, submission, limits) or data["status"] == "error":
            return None
        data.pop("file")
        data["marks"] = {name: Mark(**mark) for name, mark in data["marks"].items()}
        data["cells"] = [Cell(**cell) for cell in data["cells"]]
        return Result(**data)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _save(output: Path, lab: Lab, submission: Submission, limits: Limits, result: Result) -> None:
    student = submission.student
    files.write(output / "feedback" / student / f"{lab.name}.html", feedback.page(lab, student, result))
    if not result.cells:
        (output / "autograded" / student / lab.name / f"{lab.name}.ipynb").unlink(missing_ok=True)
    else:
        notebook = nbformat.writes(gradebook.autograded(lab, result))
        files.write(output / "autograded" / student / lab.name / f"{lab.name}.ipynb", notebook)
    data = {"key": _key(lab, submission, limits), "file": submission.origin, **asdict(result)}
    files.write(output / "results" / lab.name / f"{student}.json", json.dumps(data))


def write_status(output: Path, lab: str, arrange: Callable[[Rows], Rows] = lambda rows: rows) -> frozenset[str]:
    """status.csv from the results of this and all earlier runs; returns the students whose file earns no grade.

    ``arrange`` (:class:`~optcourse.grading.collect.roster.Table`) orders and completes the rows.
    """
    rows: Rows = []
    for path in sorted((output / "results" / lab).glob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        score = "" if data["score"] is None else f"{data['score']:g}"
        maximum, seconds = f"{data['max_score']:g}", f"{data['seconds']:.1f}"
        flags, to_read = "; ".join(data["flags"]), str(len(data["written"]))
        values = (path.stem, data["status"], score, maximum, to_read, flags, seconds, data["file"])
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    students = {row["student"] for row in rows}
    rows = arrange(rows)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys((*COLUMNS, *(column for row in rows for column in row)))))
    table.writeheader()
    table.writerows(rows)
    files.write(output / "status.csv", text.getvalue())
    return frozenset(students - {row["student"] for row in rows if row["score"]})
