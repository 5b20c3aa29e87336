"""One submission, graded: cells run in the box, answers come back as data, the comparison happens here."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from optcourse.grading import sandbox
from optcourse.grading.lab import Exercise, Lab
from optcourse.grading.submission import Cell, Unreadable, assemble, read, untouched, written_answers
from optcourse.labs.cells import Case

#: Sandboxes per submission: after a cell that kills or hangs its process, the others get another chance without it.
ATTEMPTS = 4
#: Seconds beyond its own limits after which the worker itself is taken for dead.
PATIENCE = 15.0
#: Flags that are kept of one submission.
MAX_FLAGS = 30


@dataclass
class Mark:
    """What one exercise earned. ``state``: passed, partial, failed, not attempted, timeout, crashed, or not run."""

    title: str
    points: float
    score: float = 0.0
    state: str = "not run"
    passed: list[bool] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass
class Result:
    """A graded submission. ``score`` is ``None`` when no exercise could be asked anything.

    ``status``: graded, flagged (graded, and somebody should look), timeout, crashed, unreadable.
    ``reasons`` of the marks are for the instructor: they may quote hidden tests.
    """

    status: str
    score: float | None
    max_score: float
    flags: list[str]
    seconds: float
    marks: dict[str, Mark] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    outputs: dict[str, list[dict]] = field(default_factory=dict)
    errors: dict[str, dict[str, str]] = field(default_factory=dict)


def grade(
    lab: Lab,
    raw: bytes,
    limits: sandbox.Limits,
    flags: tuple[str, ...] = (),
    stopped: threading.Event | None = None,
) -> Result:
    """Grade one notebook file. Never raises for what the submission contains; gives up when ``stopped`` is set."""
    start = time.monotonic()
    try:
        cells, found = assemble(lab, read(raw))
    except Unreadable as error:
        return Result("unreadable", None, lab.max_score, [*flags, str(error)], time.monotonic() - start)
    run = _Run(lab, cells, limits, start + limits.total, stopped or threading.Event())
    run.all()
    if run.trouble is None and any(name not in run.answers for name in (e.name for e in lab.exercises)):
        run.trouble = "crashed"  # whatever happened, it is no ordinary zero
    marks = {exercise.name: _mark(lab, exercise, cells, run) for exercise in lab.exercises}
    flags = (*flags, *run.flags, *found)
    if len(flags) > MAX_FLAGS:
        flags = (*flags[:MAX_FLAGS], f"and {len(flags) - MAX_FLAGS} more")
    status = run.trouble or ("flagged" if flags else "graded")
    score = sum(mark.score for mark in marks.values()) if run.answers or not run.trouble else None
    answers = written_answers(lab, cells)
    seconds = time.monotonic() - start
    return Result(status, score, lab.max_score, list(flags), seconds, marks, answers, cells, run.outputs, run.errors)


class _Run:
    """The sandboxes of one submission, one after the other, until every exercise has answered."""

    def __init__(
        self, lab: Lab, cells: list[Cell], limits: sandbox.Limits, deadline: float, stopped: threading.Event
    ) -> None:
        self.lab, self.cells, self.limits, self.deadline, self.stopped = lab, cells, limits, deadline, stopped
        self.names = {cell.name for cell in cells}
        self.trouble: str | None = None
        self.flags: list[str] = []
        self.answers: dict[str, list[Any]] = {}
        self.failed: dict[str, str] = {}
        self.outputs: dict[str, list[dict]] = {}
        self.errors: dict[str, dict[str, str]] = {}
        self.skip: set[str] = set()
        self.slow: set[str] = set()
        self.alone: set[str] = set()

    def all(self) -> None:
        """Run, and run again without the cell that ended a run."""
        for _ in range(ATTEMPTS):
            culprit = self.once()
            waiting = {e.name for e in self.lab.exercises} - self.answers.keys() - self.failed.keys() - self.alone
            if culprit is None or not waiting or culprit in self.skip or self.stopped.is_set():
                break
            self.skip.add(culprit)
        for exercise in self.lab.exercises:
            if exercise.name in self.alone - self.answers.keys() - self.failed.keys() and not self.stopped.is_set():
                self.once(exercise)

    def once(self, live: Exercise | None = None) -> str | None:
        """One sandbox; returns the cell in which it ended, if it ended too early.

        With ``live`` it runs the cells up to that exercise's test again, and puts its questions to the notebook itself.
        """
        current, culprit = None, None
        tests = {exercise.name: exercise for exercise in ([live] if live else self.lab.exercises)}
        job = [
            {"id": c.name, "source": "" if c.name in self.skip else c.source, "snapshot": c.test}
            for c in self.cells
            if c.kind == "code"
        ]
        if live:
            job = job[: 1 + next(i for i, cell in enumerate(job) if cell["id"] == live.name)]
        try:
            with sandbox.session(self.limits, self.deadline, self.stopped) as box:
                limits = {"limit": self.limits.cell, "output": self.limits.output}
                box.send({"cells": job, **limits, "live": live is not None})
                while not (message := box.receive(self.limits.cell + PATIENCE)).get("done"):
                    if isinstance(message.get("start"), str) and message["start"] in self.names:
                        current = message["start"]
                    self._note(message)
                    if isinstance(name := message.get("threads"), str) and name in tests and not live:
                        self.alone.add(name)
                    if "interrupted" in message:
                        self.slow.add(str(current))
                        self._flag(f"interrupted after {self.limits.cell:g} s in cell {current!r}")
                    if "died" in message:
                        culprit = current
                        self._ended("timeout" if message["died"] == "timeout" else "crashed", current)
                if culprit is None and not live and tests.keys() - self.outputs.keys():
                    culprit = current  # it said "done" on its own account
                    self._ended("crashed", current)
                current = None
                # Who could not end before will hardly end now: the others first.
                for name, exercise in sorted(tests.items(), key=lambda item: item[0] in self.slow):
                    if name not in {*self.answers, *self.failed} and (live or name not in self.alone):
                        current = name
                        self._ask(box, exercise)
        except sandbox.Gone as gone:
            self._ended(str(gone), current)
            if current in tests and current not in self.outputs:
                return current
            if current in tests:
                self.failed[current] = str(gone)
            return current
        return culprit

    def _ended(self, reason: str, cell: str | None) -> None:
        self.trouble = reason if reason in ("timeout", "crashed") else "crashed"
        what = {"timeout": "no end", "crashed": "the process ended"}.get(reason, reason)
        self._flag(f"{what} in cell {cell!r}" if cell else f"{what} before the first cell")

    def _flag(self, note: str) -> None:
        if note not in self.flags:
            self.flags.append(note)

    def _note(self, message: dict[str, Any]) -> None:
        name = message.get("cell")
        if not isinstance(name, str) or name not in {cell.name for cell in self.cells} or name in self.outputs:
            return
        outputs, error = message.get("outputs"), message.get("error")
        cleaned = (_clean(output, self.limits.output) for output in outputs[:50]) if isinstance(outputs, list) else ()
        self.outputs[name] = [output for output in cleaned if output is not None]
        if isinstance(error, dict):
            self.errors[name] = {key: str(error.get(key, ""))[:2000] for key in ("name", "message", "where")}

    def _ask(self, box: sandbox.Session, exercise: Exercise) -> None:
        cases = [{"expression": c.expression, "setup": c.setup, "data": c.data} for c in exercise.cases]
        box.send({"ask": exercise.name, "cases": cases, "limit": self.limits.exercise})
        reply = box.receive(self.limits.exercise + PATIENCE)
        values = reply.get("values")
        if reply.get("answers") == exercise.name and isinstance(values, list) and len(values) == len(cases):
            self.answers[exercise.name] = values
        elif reply.get("failed") != "not reached":
            self.failed[exercise.name] = "timeout" if reply.get("failed") == "timeout" else "crashed"
            self.trouble = self.trouble or self.failed[exercise.name]
            what = "no end" if self.failed[exercise.name] == "timeout" else "the process ended"
            self._flag(f"{what} in exercise {exercise.name!r}")


def _clean(output: Any, limit: int) -> dict[str, Any] | None:
    """An output as the notebook format has it: text or a figure, nothing else; whoever wrote it."""
    if not isinstance(output, dict):
        return None
    if isinstance(text := output.get("text"), str):
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return {"output_type": "stream", "name": name, "text": text[: limit + 100]}
    data = data if isinstance(data := output.get("data"), dict) else {}
    kept = {kind: data[kind] for kind in ("text/plain", "image/png") if isinstance(data.get(kind), str)}
    if not re.fullmatch(r"[A-Za-z0-9+/=\s]*", kept.get("image/png", "")):
        del kept["image/png"]
    if not kept or sum(map(len, kept.values())) > 20 * limit:
        return None
    return {"output_type": "display_data", "data": kept, "metadata": {}}


def _mark(lab: Lab, exercise: Exercise, cells: list[Cell], run: _Run) -> Mark:
    mark = Mark(exercise.title, exercise.points)
    if exercise.name in run.answers:
        for case, answer in zip(exercise.cases, run.answers[exercise.name], strict=True):
            reason = _judge(case, answer)
            mark.passed.append(reason is None)
            mark.score += case.points if reason is None else 0.0
            if reason is not None:
                mark.reasons.append(f"{case.expression}: {reason}")
        full, none = all(mark.passed), not any(mark.passed)
        mark.state = "passed" if full else "failed" if none else "partial"
    else:
        mark.state = run.failed.get(exercise.name, "not run")
    if mark.score == 0 and exercise.solutions and untouched(lab, cells, exercise.solutions):
        mark.state = "not attempted"
    return mark


def _judge(case: Case, answer: Any) -> str | None:
    if not isinstance(answer, dict) or "value" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        return f"raised {error.get('name')}: {error.get('message')}" if isinstance(error, dict) else "no answer"
    return case.wrong(answer["value"])
