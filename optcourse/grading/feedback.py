"""What a student gets back: one page of HTML, without hidden tests and without anything that runs."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html import escape

from optcourse.grading.collect import readable
from optcourse.grading.grade import Mark, Result
from optcourse.grading.harmless import Budget, attached, plain, visible
from optcourse.grading.lab import Exercise, Lab, role
from optcourse.grading.submission import Cell

STYLE = """
:root { color-scheme: light dark; --ink: #222; --paper: #fff; --box: #f4f4f2; --line: #bbb; --quiet: #555;
  --good: #0a6640; --fair: #7a4f00; --bad: #a3231b; --error: #fdecea; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e3; --paper: #1b1b1a; --box: #2a2a28; --line: #666;
  --quiet: #b5b5b0; --good: #6cc79b; --fair: #e0b050; --bad: #ff9a90; --error: #442522; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; font-weight: normal;
  vertical-align: top; overflow-wrap: break-word; }
thead th { font-weight: bold; }
td.points { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--box); padding: .7rem; overflow-x: auto; overflow-wrap: normal; font-size: 14px;
  unicode-bidi: isolate; }
pre.error { background: var(--error); }
img { max-width: 100%; height: auto; background: #fff; }
.note { color: var(--quiet); margin-bottom: 0; }
.passed { color: var(--good); } .partial, .flag { color: var(--fair); }
.failed, .timeout, .crashed { color: var(--bad); }
"""
#: No scripts, no requests: whatever a submission contains, the page only shows it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
EXPLAINED = {
    "passed": "all checks passed",
    "partial": "some checks passed",
    "failed": "no check passed",
    "not attempted": "the stub was not changed",
    "timeout": "no answer within the time limit",
    "crashed": "the process ended before it could answer",
    "not run": "not reached: an earlier cell did not end, or ended the process",
}
STATUS = {
    "graded": "",
    "flagged": "Graded. The notes below say what was unusual about the file or while it ran; a note costs no points.",
    "timeout": "Some of the code did not end in time. What could be graded without it was graded.",
    "crashed": "The process that ran the code ended early. What could be graded without it was graded.",
    "unreadable": "The file could not be read as a notebook, so nothing was graded. The note below says why.",
    "error": "The grader failed, not your notebook. Your instructor will run it again.",
}
CHECKS = (
    "The checks call your functions with other values and shapes than the visible tests, and compare what they return "
    "with the results of a reference solution."
)
#: Flags are written for the instructor; what a student needs to know of them. No sentence: nothing of interest.
FLAGS = (
    (r"metadata stripped", "Your editor removed the notebook's labels. The cells were recognized without them."),
    (r"cell (.+): (type|tags|metadata stripped|.+ changed)", ""),
    (r"edited (?:test|provided) cell (.+)", "You changed {}. The lab's own version of it was run instead."),
    (r"missing cell (.+)", "Your file does not have {}."),
    (r"duplicate cell (.+)", "Your file has {} more than once."),
    (r"unknown graded cell .+", "Your file has a cell that looks like a test and is not from this lab."),
    (r"(.+) is solved in a cell of its own", "You solved {} in a cell of your own; that is fine."),
    (r"(.+) is solved in the cell of another exercise", "You solved {} in the cell of another exercise; it counts."),
    (r"(.+) is defined again after its test; .+", "You define {} again after its test; what stood before it counts."),
    (r"the answer (.+) is in a cell of its own", "Your answer was found in a cell of your own."),
    (r"a name much like .+|may be lines .+|the same line of the roster as .+", ""),
    (r"cells in another order", "The cells are in another order than in the lab."),
    (r"no cell of this lab", "No cell of this lab was found in your file. Is it the right notebook?"),
    (r"foreign kernel (.+)", "The file names another kernel than Python. It was run with Python."),
    (r"renamed file (.+)", "The file is called {}; it was recognized, but keep the name of the lab next time."),
    (r"interrupted after (.+) in cell (.+)", "After {} there was no end in {}, and it was interrupted."),
    (r"no end in (?:cell|exercise) (.+)", "There was no end in {}."),
    (r"the process ended in (?:cell|exercise) (.+)", "The process ended in {}."),
    (r"(.+) in cell (.+)", "{} in {}."),
)


def page(lab: Lab, student: str, result: Result) -> str:
    """The feedback of one submission."""
    score = "not graded" if result.score is None else f"{result.score:g} of {result.max_score:g} points"
    return _Page(lab, result).html(f"{lab.name}: {visible(readable(student))}", score)


# The page ------------------------------------------------------------------------------------------------------


class _Page:
    """One page while it is written: what still fits, and which cells belong to which exercise."""

    def __init__(self, lab: Lab, result: Result) -> None:
        self.lab, self.result = lab, result
        self.budget = Budget(figures=2_500_000, text=250_000)
        self.exercises = {exercise.name: exercise for exercise in lab.exercises}
        self.stubs = {role(cell)["grade_id"]: cell.source.split() for cell in lab.release.cells if role(cell)}
        self.cells = [(owner, cell) for owner, cell in self._owned() if not self._is_stub(cell)]

    def _owned(self) -> Iterator[tuple[str, Cell]]:
        """The student's cells, with the exercise that each belongs to: its own, or the one whose test comes next."""
        solves = {name: exercise.name for exercise in self.lab.exercises for name in exercise.solutions}
        following = ""
        found: list[tuple[str, Cell]] = []
        for cell in reversed(self.result.cells):
            following = cell.name if cell.test else following
            if not cell.test and not cell.provided and cell.name not in self.lab.written:
                found.append((solves.get(cell.name, following), cell))
        return reversed(found)

    def _is_stub(self, cell: Cell) -> bool:
        return cell.source.split() == self.stubs.get(cell.name)

    def html(self, title: str, score: str) -> str:
        """All of it."""
        result = self.result
        notes = "".join(f"<li>{escape(note)}</li>" for note in dict.fromkeys(map(self._note, result.flags)) if note)
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{escape(title)}</title><style>{STYLE}</style>"
        )
        parts = [
            f"<h1>{escape(title)}</h1><p><strong>{escape(score)}</strong> by automatic checks</p>",
            f"<p>{status}</p>" if (status := escape(STATUS.get(result.status, result.status))) else "",
            self._table(),
            f"<h2>Notes</h2><ul class='flag'>{notes}</ul>" if notes else "",
            *(self._exercise(self.exercises[name], mark) for name, mark in result.marks.items()),
            *self._others(),
            *(self._answer(name, text) for name, text in result.written.items()),
        ]
        body = f"<body><main>{''.join(parts)}</main></body>"
        return f'<!doctype html><html lang="en"><head>{head}</head>{body}</html>\n'

    def _table(self) -> str:
        if not self.result.marks:
            return ""
        rows = [self._row(name, mark) for name, mark in self.result.marks.items()]
        for name, points in self.lab.written.items():
            state = "a person reads and marks it" if name in self.result.written else "not answered"
            rows.append(f"<th scope='row'>Written question</th><td>{state}</td><td class='points'>… / {points:g}</td>")
        head = "".join(f"<th scope='col'>{name}</th>" for name in ("exercise", "result", "points"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        wrong = any(mark.state in ("partial", "failed") for mark in self.result.marks.values())
        why = f"<p class='note'>{CHECKS}</p>" if wrong else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{why}"

    def _row(self, name: str, mark: Mark) -> str:
        said = EXPLAINED.get(mark.state, mark.state)
        if mark.state == "partial":
            said = f"{sum(mark.passed)} of {len(mark.passed)} checks passed"
        if mark.state == "not attempted" and self._own(name):
            said = "no check passed; the cell for your solution was not changed"
        return (
            f"<th scope='row'>{escape(mark.title)}</th><td class='{escape(mark.state.split()[0])}'>{escape(said)}</td>"
            f"<td class='points'>{mark.score:g} / {mark.points:g}</td>"
        )

    def _own(self, name: str) -> list[Cell]:
        """What the student wrote for this exercise."""
        return [cell for owner, cell in self.cells if owner == name and cell.source.strip()]

    def _exercise(self, exercise: Exercise, mark: Mark) -> str:
        own, solved = self._own(exercise.name), mark.score > 0
        parts = [f"<h2>{escape(mark.title)}</h2>"]
        parts += [part for cell in own for part in self._cell(cell, exercise, solved)]
        if not own:
            parts.append("<p class='note'>Nothing of yours was found for this exercise.</p>")
        else:
            visible_test = self._shown(exercise.name, f"the visible test of {mark.title}", solved)
            parts += ["<p class='note'>The visible test</p>", *visible_test] if visible_test else []
        return "".join(parts)

    def _others(self) -> list[str]:
        """The student's cells after the last test, unless they are the answer to a written question."""
        answers = "\n".join(self.result.written.values())
        own = [c for c in self._own("") if c.kind == "code" or c.source.strip() not in answers]
        parts = [part for cell in own for part in self._cell(cell, None, False)]
        return ["<h2>Other cells of yours</h2>", *parts] if parts else []

    def _cell(self, cell: Cell, exercise: Exercise | None, solved: bool) -> list[str]:
        expected = exercise is not None and cell.name in exercise.solutions
        kind = "code" if cell.kind == "code" else "text"
        note = [] if expected and kind == "code" else [f"<p class='note'>A cell of your own ({kind})</p>"]
        shown = self._shown(cell.name, f"cell of {exercise.title if exercise else 'yours'}", solved)
        return [*note, self._pre(visible(cell.source)), *self._pictures(cell), *shown]

    def _shown(self, name: str, where: str, solved: bool) -> list[str]:
        """Outputs and error of one cell."""
        parts = []
        for number, output in enumerate(self.budget.outputs(self.result.outputs.get(name, [])), 1):
            if encoded := output.get("data", {}).get("image/png"):
                parts.append(_image("image/png", encoded, f"figure {number} of {where}"))
            else:
                parts.append(_pre(output["text"]))  # counted already
        error = self.result.errors.get(name)
        if error and not (solved and error.get("name") == "NotImplementedError"):  # the hint of a stub
            parts.append(self._error(name, *(plain(error.get(key, "")) for key in ("name", "message", "where"))))
        return parts

    def _error(self, cell: str, name: str, message: str, where: str) -> str:
        if name == "KeyboardInterrupt" and any("interrupted" in f and repr(cell) in f for f in self.result.flags):
            name, message = "Interrupted", "this did not end within the time limit"
        said = message if name == "NotAsExpected" else f"{name}: {message}"
        return self._pre(f"{said}\n{where}".strip(), "error")

    def _answer(self, name: str, text: str) -> str:
        pictures = [
            shown
            for cell in self.result.cells
            if cell.name == name or (cell.kind != "code" and cell.source.strip() and cell.source.strip() in text)
            for shown in self._pictures(cell)
        ]
        title = f"<h2>Written question ({self.lab.written.get(name, 0):g} points)</h2>"
        return f"{title}{self._pre(visible(text))}{''.join(pictures)}"

    def _pictures(self, cell: Cell) -> list[str]:
        parts = []
        for name, shown in attached(cell).items():
            if self.budget.fits(shown):
                encoded = base64.b64encode(shown.data).decode()
                parts.append(_image(shown.mime, encoded, f"the picture {visible(name)[:80]} that you pasted"))
        return parts

    def _pre(self, text: str, kind: str = "") -> str:
        return _pre(self.budget.take(text), kind) if text.strip() else ""

    def _note(self, flag: str) -> str:
        """A flag in words for the student; empty where it is the instructor's business only."""
        for pattern, sentence in FLAGS:
            if found := re.fullmatch(pattern, flag):
                said = sentence.format(*(self._place(part) for part in found.groups(default="")))
                return said[:1].upper() + said[1:]
        return self.budget.take(visible(flag), 300)

    def _place(self, part: str) -> str:
        """The name of a cell, as a flag quotes it, in words."""
        name = part.strip("'\"")
        title = next((e.title for e in self.lab.exercises if name in (e.name, *e.solutions)), "")
        if name in self.exercises:
            return f"the test of “{title}”"
        if name in self.stubs:
            return f"the cell “{name}”" + (f" of “{title}”" if title else "")
        return "a cell of your own" if re.fullmatch(r"extra-\d+", name) else self.budget.take(visible(name), 300)


def _pre(text: str, kind: str = "") -> str:
    label = f" class='{kind}'" if kind else ""
    return f"<pre{label} tabindex='0'>{escape(text)}</pre>"


def _image(mime: str, encoded: str, words: str) -> str:
    return f'<p><img alt="{escape(words)}" src="data:{mime};base64,{encoded}"></p>'
