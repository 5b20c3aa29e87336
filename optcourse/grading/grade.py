"""One submission, graded: cells run in the box, answers come back as data, the comparison happens here."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from optcourse.grading import reading, sandbox
from optcourse.grading.box.kernel import ATTEMPTS
from optcourse.grading.lab import Exercise, Lab
from optcourse.grading.submission import Cell, assemble, untouched, written_answers
from optcourse.labs.cells import Case, builtin_names

#: Seconds beyond its own limits after which the worker itself is taken for dead.
PATIENCE = 15.0
#: Flags that are kept of one submission, and names in one of them.
MAX_FLAGS, MAX_NAMES = 30, 5
#: Characters of output that are kept of one submission, and the note in the place of the rest.
MAX_KEPT = 4_000_000
DROPPED = f"… this and everything else that the notebook shows was dropped: more than {MAX_KEPT:,} characters in all\n"


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
    ``starved``: a limit of time was exceeded while the submission had no core to run on; its work may be better.
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
    starved: bool = False


def grade(
    lab: Lab,
    raw: bytes,
    limits: sandbox.Limits,
    flags: tuple[str, ...] = (),
    stopped: threading.Event | None = None,
) -> Result:
    """Grade one notebook file. Never raises for what the submission contains; gives up when ``stopped`` is set.

    Raises :class:`optcourse.grading.sandbox.NotStarted` when there is no box to run it in.
    """
    start = time.monotonic()
    run = _Run(lab, limits, start + limits.total, stopped or threading.Event())
    try:
        run.all(raw)
    except sandbox.Refused as refused:
        return Result("unreadable", None, lab.max_score, [*flags, str(refused)], time.monotonic() - start)
    if run.trouble is None and any(name not in run.answers for name in (e.name for e in lab.exercises)):
        run.trouble = "crashed"  # whatever happened, it is no ordinary zero
    marks = {exercise.name: _mark(lab, exercise, run) for exercise in lab.exercises}
    flags = (*flags, *run.said(), *run.found)
    if len(flags) > MAX_FLAGS:
        flags = (*flags[:MAX_FLAGS], f"and {len(flags) - MAX_FLAGS} more")
    status = run.trouble or ("flagged" if flags else "graded")
    score = sum(mark.score for mark in marks.values()) if run.answers or not run.trouble else None
    answers = written_answers(lab, run.cells)
    kept = (marks, answers, run.cells, run.outputs, run.errors, run.starved)
    return Result(status, score, lab.max_score, list(flags), time.monotonic() - start, *kept)


class _Run:
    """The sandboxes of one submission, one after the other, until every exercise has answered."""

    def __init__(self, lab: Lab, limits: sandbox.Limits, deadline: float, stopped: threading.Event) -> None:
        self.lab, self.limits, self.deadline, self.stopped = lab, limits, deadline, stopped
        self.cells: list[Cell] = []
        self.found: list[str] = []
        self.trouble: str | None = None
        self.starved = self.began = False
        self.flags: list[str] = []
        self.redefined: set[str] = set()
        self.answers: dict[str, list[Any]] = {}
        self.failed: dict[str, str] = {}
        self.outputs: dict[str, list[dict]] = {}
        self.errors: dict[str, dict[str, str]] = {}
        self.room = MAX_KEPT
        self.skip: set[str] = set()
        self.slow: set[str] = set()
        self.alone: set[str] = set()

    def all(self, raw: bytes) -> None:
        """Run the notebook in ``raw``, and run it again without the cell that ended a run."""
        for _ in range(ATTEMPTS):
            culprit = self.once(raw)
            waiting = {e.name for e in self.lab.exercises} - self.answers.keys() - self.failed.keys() - self.alone
            if culprit is None or not waiting or culprit in self.skip or self.stopped.is_set():
                break
            self.skip.add(culprit)
        for exercise in self.lab.exercises:
            again = exercise.name in self.alone - self.failed.keys() and not self._answered(exercise)
            if again and not self.stopped.is_set():
                self.once(raw, exercise)

    def once(self, raw: bytes, live: Exercise | None = None) -> str | None:
        """One sandbox; returns the cell in which it ended, if it ended too early.

        With ``live`` it runs the cells up to that exercise's test again, and puts its questions to the notebook itself.
        """
        # Runs that threads make necessary have as much time again, all together.
        with sandbox.session(self.limits, self.deadline + (self.limits.total if live else 0), self.stopped) as box:
            if not self.cells:
                self.cells, self.found = assemble(self.lab, self._read(box, raw))
            return self._attempt(box, live)

    def _read(self, box: sandbox.Session, raw: bytes) -> dict[str, Any]:
        """The notebook as plain data: the box reads the stranger's bytes."""
        try:
            return box.read(raw[: reading.MAX_BYTES + 1])
        except sandbox.Gone as gone:
            raise sandbox.Refused(f"the file cannot be read: reading it ended with {str(gone)!r}") from None

    def _job(self, live: Exercise | None) -> dict[str, Any]:
        cells = [
            {"id": c.name, "source": "" if c.name in self.skip else c.source, "snapshot": c.test}
            for c in self.cells
            if c.kind == "code"
        ]
        if live:
            cells = cells[: 1 + next(i for i, cell in enumerate(cells) if cell["id"] == live.name)]
        return {"cells": cells, "limit": self.limits.cell, "output": self.limits.output, "live": live is not None}

    def _attempt(self, box: sandbox.Session, live: Exercise | None) -> str | None:
        current, culprit, names = None, None, {cell.name for cell in self.cells}
        tests = {exercise.name: exercise for exercise in ([live] if live else self.lab.exercises)}
        try:
            box.send(self._job(live))
            while not (message := box.receive(self.limits.cell + PATIENCE)).get("done"):
                if isinstance(message.get("start"), str) and message["start"] in names:
                    current, self.began = message["start"], True
                self._note(message, names)
                if isinstance(name := message.get("threads"), str) and name in tests and not live:
                    self.alone.add(name)
                if "interrupted" in message:
                    self.slow.add(str(current))
                    self.starved |= box.starved()
                    self._flag(f"interrupted after {self.limits.cell:.3g} s in cell {current!r}")
                if "died" in message:
                    culprit = current
                    self._ended("timeout" if message["died"] == "timeout" else "crashed", current, box)
            if culprit is None and not live and tests.keys() - self.outputs.keys():
                culprit = current  # it said "done" on its own account
                self._ended("crashed", current, box)
            current = None
            # Who could not end before will hardly end now: the others first.
            for name, exercise in sorted(tests.items(), key=lambda item: item[0] in self.slow):
                if live or name not in {*self.answers, *self.failed}:
                    current = name
                    self._ask(box, exercise, live is not None)
        except sandbox.Gone as gone:
            self._ended(str(gone), current, box)
            if current in tests and current in self.outputs:
                self.failed[current] = str(gone)
            return current
        return culprit

    def said(self) -> list[str]:
        """The flags of all runs."""
        names = [f"`{name}`" for name in sorted(self.redefined)]
        more = f" and {len(names) - MAX_NAMES} more of Python's own names" if len(names) > MAX_NAMES else ""
        hides = [f"the notebook redefines {', '.join(names[:MAX_NAMES])}{more}"] if names else []
        return [*self.flags, *hides]

    def _ended(self, reason: str, cell: str | None, box: sandbox.Session) -> None:
        if not self.began and not self.stopped.is_set():  # no line of a student's has run
            raise sandbox.NotStarted(f"the notebook's kernel did not start in the sandbox: {reason}")
        self.trouble = reason if reason in ("timeout", "crashed") else "crashed"
        self.starved |= reason == "timeout" and box.starved()
        what = {"timeout": "no end", "crashed": "the process ended"}.get(reason, reason)
        self._flag(f"{what} in cell {cell!r}" if cell else f"{what} before the first cell")

    def _flag(self, note: str) -> None:
        if note not in self.flags:
            self.flags.append(note)

    def _note(self, message: dict[str, Any], names: set[str]) -> None:
        if isinstance(redefined := message.get("redefines"), list):
            self.redefined |= builtin_names(name for name in redefined if isinstance(name, str))
        name = message.get("cell")
        if not isinstance(name, str) or name not in names or name in self.outputs:
            return
        outputs, error = message.get("outputs"), message.get("error")
        cleaned = (_clean(output, self.limits.output) for output in outputs[:50]) if isinstance(outputs, list) else ()
        self.outputs[name] = [kept for output in cleaned if output is not None and (kept := self._kept(output))]
        if isinstance(error, dict):
            self.errors[name] = {key: str(error.get(key, ""))[:2000] for key in ("name", "message", "where")}

    def _kept(self, output: dict[str, Any]) -> dict[str, Any] | None:
        """``output`` while there is room for it; the first without gets a note in its place."""
        before = self.room
        self.room -= len(output.get("text", "")) + sum(map(len, output.get("data", {}).values()))
        if self.room > 0:
            return output
        return {"output_type": "stream", "name": "stderr", "text": DROPPED} if before > 0 else None

    def _answered(self, exercise: Exercise) -> bool:
        """Whether every question got a value: right or wrong, it is the answer. Who guesses does not guess twice."""
        answers = self.answers.get(exercise.name)
        return answers is not None and all(isinstance(answer, dict) and "value" in answer for answer in answers)

    def _ask(self, box: sandbox.Session, exercise: Exercise, live: bool) -> None:
        cases = [{"expression": c.expression, "setup": c.setup, "data": c.data} for c in exercise.cases]
        box.send({"ask": exercise.name, "cases": cases, "limit": self.limits.exercise})
        reply = box.receive(self.limits.exercise + PATIENCE)
        values = reply.get("values")
        if reply.get("answers") == exercise.name and isinstance(values, list) and len(values) == len(cases):
            self.answers[exercise.name] = values
        elif reply.get("failed") != "not reached" and (live or exercise.name not in self.alone):
            self.failed[exercise.name] = "timeout" if reply.get("failed") == "timeout" else "crashed"
            self.trouble = self.trouble or self.failed[exercise.name]
            self.starved |= reply.get("failed") == "timeout" and box.starved()
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


def _mark(lab: Lab, exercise: Exercise, run: _Run) -> Mark:
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
    if mark.score == 0 and exercise.solutions and untouched(lab, run.cells, exercise.solutions):
        mark.state = "not attempted"
    return mark


def _judge(case: Case, answer: Any) -> str | None:
    if not isinstance(answer, dict) or "value" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        return f"raised {error.get('name')}: {error.get('message')}" if isinstance(error, dict) else "no answer"
    return case.wrong(answer["value"])
