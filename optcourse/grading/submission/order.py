"""A submitted notebook, put together with its lab: what runs is the student's cells in the student's order.

Provided cells and test cells come from the lab, whatever the submission says they are, and every difference becomes a
flag. A stub never runs after the student's own definition of what it asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from optcourse.grading.lab import Lab, is_written, role
from optcourse.grading.submission.matching import Outline, Piece, foreign, headings, looks_like, same

#: What stands for a stub that was deleted: the stub itself could overwrite what a program or a module defines.
DELETED = "# This cell is missing in the submission."
#: Less of a lab than this share is another notebook (:func:`~optcourse.grading.submission.matching.looks_like`).
ALIKE = 0.2


@dataclass(frozen=True)
class Cell:
    """One cell to execute or show: ``name`` is the lab's, or ``extra-3`` for a cell the student added."""

    name: str
    kind: str
    source: str
    test: bool = False
    provided: bool = False
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)


def assemble(lab: Lab, submitted: dict[str, Any]) -> tuple[list[Cell], list[str]]:
    """The lab's notebook with the student's cells in it, in the student's order, and the flags."""
    outline, flags = Outline(lab), list[str]()
    pieces = [piece for cell in submitted["cells"] for piece in outline.pieces(cell, flags)]
    for cell in submitted["cells"]:
        if role(cell) and role(cell).get("grade_id") not in outline.cells:
            flags.append(f"unknown graded cell {str(role(cell).get('grade_id'))[:40]!r}")
    said = [role(cell).get("grade_id", outline.ids.get(cell["id"])) for cell in submitted["cells"]]
    flags += [f"duplicate cell {name!r}" for name in outline.cells if name in outline.graded and said.count(name) > 1]
    arranged = _Arranged(lab, outline, pieces, labelled=any(name in outline.own for name in said))
    cells = arranged.all()
    notes = [*submitted["flags"], *foreign(submitted)]
    if looks_like(lab, submitted) >= ALIKE or 2 * len(arranged.found) > len(outline.cells):
        notes += flags + [
            f"missing cell {name!r}" for name in outline.cells if name in arranged.missing & outline.graded
        ]
        notes += arranged.flags
    else:  # nobody reads fifty notes that follow from one
        begins = [h for c in submitted["cells"] if c["cell_type"] == "markdown" for h in headings(c["source"])][:1]
        notes.append("little of this lab" if arranged.found else "no cell of this lab")
        notes += [
            f"this looks like another notebook than {lab.name}: it begins with {title[:80]!r}" for title in begins
        ]
    return cells, list(dict.fromkeys(notes))


class _Arranged:
    """The order in which cells run: the student's, but for what the lab gives and for tests before their solution."""

    def __init__(self, lab: Lab, outline: Outline, pieces: list[Piece], *, labelled: bool) -> None:
        self.lab, self.outline, self.pieces, self.labelled = lab, outline, pieces, labelled
        self.flags: list[str] = []
        self.cells: list[Cell] = []
        self.done: set[str] = set()
        self.fresh = {name for piece in pieces for name in piece.fresh}
        self.tests = {exercise.name: self._place(exercise.name, exercise.solutions) for exercise in lab.exercises}
        self.owner: dict[int, str] = {}
        self.shared: dict[int, list[str]] = {}
        for exercise in lab.exercises:
            for name in exercise.solutions:
                self._choose(name, self.tests[exercise.name])
        self.answers: dict[int, str] = {}
        self.taken: set[int] = set()
        for name in lab.written:
            self._answer(name)
        of = {piece.of for piece in pieces if piece.of and piece.of not in outline.own}
        shared = {name for names in self.shared.values() for name in names}
        self.found = of | {*self.owner.values(), *self.answers.values()} | shared
        self.found |= {piece.of for piece in pieces if piece.of in outline.own}
        self.missing = {name for name in outline.cells if name not in self.found}
        self._say()

    # Where -----------------------------------------------------------------------------------------------------

    def _defining(self, name: str) -> list[int]:
        return [i for i, piece in enumerate(self.pieces) if name in piece.fresh]

    def _place(self, test: str, solutions: tuple[str, ...]) -> int:
        """The piece at which, or after which, a test runs; -1 where nothing says so.

        A test that was copied runs where it follows the last definition. One that stands before the only definition of
        what it tests, or is missing, runs after that definition, at the latest before the next test.
        """
        asked = {n for name in solutions for n in self.outline.binds.get(name, ())}
        defining = {n: found for n in asked if (found := self._defining(n))}
        at = -1
        for index, piece in enumerate(self.pieces):
            if piece.of == test and (at < 0 or any(at < i < index for found in defining.values() for i in found)):
                at = index
        own = at >= 0
        for found in defining.values():
            if not own or found[0] > at:
                later = [i for i, p in enumerate(self.pieces) if p.of in self.outline.tests and i > found[0]]
                at = max(at, *(i for i in found if i < min(later, default=len(self.pieces))))
        return at if at >= 0 else max((i for i, p in enumerate(self.pieces) if p.of in solutions), default=-1)

    def _choose(self, name: str, test: int) -> None:
        """Which piece is the solution cell ``name``: one that defines what it asks, before the test, not the stub."""
        asked = self.outline.binds.get(name, set())
        able = [i for i, piece in enumerate(self.pieces) if asked & piece.fresh]
        free = [i for i in able if i not in self.owner]
        if free:
            self.owner[max(free, key=lambda i: (i <= test, self.pieces[i].of == name, i))] = name
        elif able:
            self.shared.setdefault(max(able, key=lambda i: (i <= test, i)), []).append(name)
        else:
            stub = self.outline.cells[name].source
            mine = [i for i, piece in enumerate(self.pieces) if piece.of == name and i not in self.owner]
            if mine:
                self.owner[max(mine, key=lambda i: (not same(self.pieces[i].source, stub), -i))] = name

    def _answer(self, name: str) -> None:
        """The answer to a written question: its cell, and the student's own texts from the question on."""
        names = list(self.outline.cells)
        first = names.index(name)
        while first and names[first - 1] not in self.outline.parts and names[first - 1] not in self.outline.own:
            first -= 1
        near, stub = names[first : names.index(name) + 1], self.outline.cells[name].source
        place: str | None = None
        cells, texts = [], []
        for index, piece in enumerate(self.pieces):
            place = piece.of or self.owner.get(index) or place
            if piece.of == name:
                cells.append(index)
            elif piece.of is None and place in near and index not in self.owner and piece.is_text():
                texts.append(index)
        touched = [i for i in cells if self.pieces[i].attachments or not same(self.pieces[i].source, stub)]
        if texts:
            self.flags.append(f"the answer {name!r} is in a cell of its own")
        if not cells and not texts:
            return
        kept = sorted({*touched, *texts}) or cells[:1]
        at = cells[0] if cells else texts[0]
        self.answers[at] = name
        self.taken |= {*cells, *texts} - {at}
        self.pieces[at] = _joined([self.pieces[i] for i in kept])

    def _say(self) -> None:
        names = [piece.of or self.owner.get(i) for i, piece in enumerate(self.pieces)]
        order = list(dict.fromkeys(n for n in names if n and n in self.outline.graded))
        if order != sorted(order, key=list(self.outline.cells).index):
            self.flags.append("cells in another order")
        moved = (n for i, n in self.owner.items() if self.pieces[i].of != n and self.labelled)
        self.flags += [f"{name!r} is solved in a cell of its own" for name in moved]
        shared = (n for names in self.shared.values() for n in names)
        self.flags += [f"{name!r} is solved in the cell of another exercise" for name in shared]
        for exercise in self.lab.exercises:
            at = self.tests[exercise.name]
            asked = {n for name in exercise.solutions for n in self.outline.binds.get(name, ())}
            again = sorted(n for n in asked if 0 <= at < max(self._defining(n), default=-1))
            self.flags += [f"{n!r} is defined again after its test; the test looks at the one before" for n in again]
        spare = [p for i, p in enumerate(self.pieces) if not p.of and p.kind != "code" and i not in self.taken]
        unread = [n for n in self.lab.written if not any(n == m and self._answered(i) for i, m in self.answers.items())]
        if unread and any(piece.source.strip() for piece in spare):
            self.flags.append(f"no answer to {unread[0]!r}, but the student's own texts elsewhere")

    def _answered(self, index: int) -> bool:
        piece = self.pieces[index]
        return bool(piece.attachments) or not same(piece.source, self.outline.cells[self.answers[index]].source)

    # What ------------------------------------------------------------------------------------------------------

    def all(self) -> list[Cell]:
        """The cells, in the order in which they run."""
        waiting: dict[int, list[str]] = {}
        for test, at in self.tests.items():
            if at >= 0 and self.pieces[at].of != test:
                waiting.setdefault(at, []).append(test)
        for index, piece in enumerate(self.pieces):
            name = self.owner.get(index) or self.answers.get(index)
            if name:
                self._before(name)
                self._mine(piece, name)
            elif piece.of and piece.of not in self.outline.own:
                if self.tests.get(piece.of, index) == index:
                    self._given(piece.of)
            elif index not in self.taken:
                self._mine(piece, None)
            for other in self.shared.get(index, ()):
                self._add(Cell(other, "code", f"# see the cell of {name!r}"))
            for test in waiting.get(index, ()):
                self._given(test)
        for name in self.outline.cells:
            self._given(name)
        return self.cells

    def _add(self, cell: Cell) -> None:
        if cell.name not in self.done:
            self.done.add(cell.name)
            self.cells.append(cell)

    def _before(self, name: str) -> None:
        """What the lab has before ``name`` and the submission has not, or later although it is needed here."""
        for other in self.outline.cells:
            if other == name:
                return
            elsewhere = other in self.done or self.tests.get(other, -1) >= 0
            if not elsewhere and other in self.missing | self.outline.base:
                self._put(other)

    def _given(self, name: str) -> None:
        if name not in self.done:
            self._before(name)
            self._put(name)

    def _put(self, name: str) -> None:
        cell, provided = self.outline.cells[name], name not in self.outline.own
        deleted = not provided and cell.cell_type == "code"
        source = DELETED if deleted else cell.source
        self._add(Cell(name, cell.cell_type, source, name in self.outline.tests, provided))

    def _mine(self, piece: Piece, name: str | None) -> None:
        """A piece of the student's, without stubs of what is defined elsewhere."""
        lost = [
            part
            for part in piece.parts
            if part["key"] in self.outline.stubs and part["binds"] and set(part["binds"]) <= self.fresh
        ]
        source = piece.source
        if lost:
            lines = source.split("\n")
            gone = {number for part in lost for number in range(part["first"], part["last"] + 1)}
            source = "\n".join(line for number, line in enumerate(lines) if number not in gone).strip("\n")
        if name or (source.strip() and len(lost) < max(1, len(piece.parts))) or piece.attachments:
            kind = self.outline.cells[name].cell_type if name else piece.kind
            self._add(Cell(name or f"extra-{len(self.cells)}", kind, source, attachments=piece.attachments))


def _joined(pieces: list[Piece]) -> Piece:
    """Several texts as one; pictures of one name get another."""
    texts, attachments = [], dict[str, dict[str, str]]()
    for piece in pieces:
        text = piece.source
        for name, bundle in piece.attachments.items():
            fresh = name
            while fresh in attachments:
                fresh = f"{len(attachments)}-{name}"
            text = re.sub(rf"attachment:{re.escape(name)}", lambda _, fresh=fresh: f"attachment:{fresh}", text)
            attachments[fresh] = bundle
        texts.append(text)
    return replace(pieces[0], source="\n\n".join(texts), attachments=attachments, parts=[])


def untouched(lab: Lab, cells: list[Cell], names: tuple[str, ...]) -> bool:
    """Whether these cells still hold the stub, or are missing, and no other cell defines what they ask for."""
    originals = {role(c)["grade_id"]: c.source for c in lab.release.cells if role(c)}
    mine = {cell.name: cell.source for cell in cells}
    return all(name not in mine or mine[name] == DELETED or same(mine[name], originals[name]) for name in names)


def written_answers(lab: Lab, cells: list[Cell]) -> dict[str, str]:
    """The answers a person has to read: those that are not the stub."""
    originals = {role(c)["grade_id"]: c.source for c in lab.release.cells if is_written(c)}
    mine = {cell.name: cell for cell in cells if cell.name in originals}
    return {n: c.source for n, c in mine.items() if c.attachments or not same(c.source, originals[n])}
