"""Which cell of the lab a submitted cell is: by its grade id, its cell id, its unchanged text, or what it defines.

Editors drop ids and metadata; students cut, join, copy and move cells. Nothing here parses code of a stranger:
:mod:`optcourse.grading.reading` has done it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optcourse.grading.lab import Lab, is_test, role
from optcourse.grading.reading import parts


@dataclass
class Piece:
    """A submitted cell, or statements of one. ``of``: the lab's cell that it is; ``fresh``: the names it defines."""

    kind: str
    source: str
    of: str | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)
    fresh: frozenset[str] = frozenset()
    attachments: dict[str, dict[str, str]] = field(default_factory=dict)

    def is_text(self) -> bool:
        """Whether it is written for a person: a text, or in a code cell what is no code."""
        if self.kind != "code":
            return bool(self.source.strip() or self.attachments)
        words = len(re.findall(r"[^\W\d_]{2,}", self.source)) >= 3 and self.source.lstrip()[0] not in "%!"
        return words and all(not part["key"] and not part["binds"] for part in self.parts)


def same(a: str, b: str) -> bool:
    """Whether two texts differ in white space only."""
    return a.split() == b.split()


@functools.lru_cache(maxsize=256)
def _parts(source: str) -> list[dict[str, Any]]:
    """The statements of a cell of the lab's, which every submission is compared with."""
    return parts(source)


class Outline:
    """What of a lab the cells of a submission are compared with. ``own``: cells that the student writes."""

    def __init__(self, lab: Lab) -> None:
        self.cells = {role(cell).get("grade_id", cell.id): cell for cell in lab.release.cells}
        self.ids = {cell.id: name for name, cell in self.cells.items()}
        self.texts = {(c.cell_type, " ".join(c.source.split())): name for name, c in reversed(self.cells.items())}
        self.own = {name for name, cell in self.cells.items() if role(cell).get("solution")}
        self.parts = {name: _parts(cell.source) for name, cell in self.cells.items() if cell.cell_type == "code"}
        self.binds = {name: {n for part in found for n in part["binds"]} for name, found in self.parts.items()}
        #: Code that is the lab's to write: tests, and what they need.
        self.given = [name for name in self.parts if name not in self.own]
        self.tests = {name for name in self.given if is_test(self.cells[name])}
        #: What a student is to replace: definitions that raise ``NotImplementedError``.
        self.stubs = {part["key"] for name in self.own & self.parts.keys() for part in self._unwritten(name)}
        self.keys = {name: {part["key"] for part in found if part["key"]} for name, found in self.parts.items()}
        #: Cells that nbgrader knows.
        self.graded = {name for name, cell in self.cells.items() if role(cell)}
        #: Given code whose names other cells use: it runs before them, wherever a student has moved it.
        words = {name: set(re.findall(r"\w+", self.cells[name].source)) for name in self.parts}
        used = {n: set[str]().union(*(words[other] for other in self.parts if other != n)) for n in self.given}
        self.base = {name for name in self.given if name not in self.tests and self.binds[name] & used[name]}

    def _unwritten(self, name: str) -> list[dict[str, Any]]:
        lines = self.cells[name].source.split("\n")
        texts = ("\n".join(lines[part["first"] : part["last"] + 1]) for part in self.parts[name])
        return [part for part, text in zip(self.parts[name], texts, strict=True) if "NotImplementedError" in text]

    def name(self, cell: dict[str, Any]) -> str | None:
        """The cell of the lab that a submitted cell says it is, by grade id or cell id, or is by its unchanged text."""
        for candidate in (role(cell).get("grade_id"), self.ids.get(cell["id"] or "", cell["id"])):
            plain = candidate in self.cells and candidate not in self.own and candidate not in self.parts
            if candidate in self.cells and not (plain and cell["cell_type"] == "code"):
                return candidate
        return self.texts.get((cell["cell_type"], " ".join(cell["source"].split())))

    def is_part(self, part: dict[str, Any], name: str) -> bool:
        """Whether a statement is one of this cell's: the same, or the test function that it defines."""
        if part["key"] in self.keys[name]:
            return True
        test = {n for n in self.binds[name] if n.startswith("test")} if name in self.tests else set()
        return bool(test & set(part["binds"]))

    def within(self, found: list[dict[str, Any]], named: str | None) -> list[str]:
        """The provided cells that a submitted cell holds: most of their statements, or it says so."""
        counts = {name: sum(self.is_part(part, name) for part in found) for name in self.given}
        return [name for name in self.given if name == named or 2 * counts[name] > len(self.parts[name])]

    def pieces(self, cell: dict[str, Any], flags: list[str]) -> list[Piece]:
        """A submitted cell, cut at the provided cells in it: their text is the lab's, the rest stays."""
        name, kind, source = self.name(cell), cell["cell_type"], cell["source"]
        if name is not None:
            flags += _differences(name, cell, self.cells[name], name in self.given)
        if kind != "code" or (name is not None and name not in self.parts):
            if name is None or name in self.own:
                touched = name in self.parts and not same(source, self.cells[name].source)
                fresh = frozenset(self.binds[name]) if name is not None and touched else frozenset()
                return [Piece(kind, source, name, cell["parts"], fresh, cell["attachments"])]
            rest = _rest(source, self.cells[name].source)
            return [Piece(kind, "", name), Piece(kind, rest, None, attachments=cell["attachments"])]
        inside = self.within(cell["parts"], name)
        owner = [next((n for n in inside if self.is_part(part, n)), None) for part in cell["parts"]]
        last = {of: index for index, of in enumerate(owner)}
        first = {of: len(owner) - 1 - index for index, of in enumerate(reversed(owner))}
        cut = _Cut(source, lambda text, found: self.piece(text, name if name in self.own else None, found))
        for index, part in enumerate(cell["parts"]):
            of = owner[index]
            cut.take(part, kept=of is None and not self.settled(part, cut.lines[part["first"]], name))
            # A provided cell stands where its first statement stood; a test, where its last one stood.
            if of is not None and index == (last if of in self.tests else first)[of]:
                cut.put(Piece(kind, "", of))
        found = cut.all()
        if name in self.given and all(piece.of != name for piece in found):
            found.insert(len(found) if name in self.tests else 0, Piece(kind, "", name))
        if any(n != name for n in inside) and len(found) > 1:
            flags.append(f"in one cell with other code: {', '.join(n for n in inside if n != name)}")
        return found

    def settled(self, part: dict[str, Any], line: str, name: str | None) -> bool:
        """Whether a statement in an edited provided cell is its own matter: names it would set anyway, checks."""
        if name not in self.given or not part["key"]:
            return False
        if part["binds"]:
            return set(part["binds"]) <= self.binds[name]
        return line.lstrip().startswith("expect(")

    def piece(self, source: str, name: str | None, found: list[dict[str, Any]]) -> Piece:
        """Code of the student's; what no Python reads defines what its cell should."""
        fresh = {n for part in found if part["key"] not in self.stubs for n in part["binds"]}
        if name is not None and any(not part["key"] for part in found):
            fresh |= self.binds[name]
        return Piece("code", source, name, found, frozenset(fresh))


class _Cut:
    """A cell of code, cut between statements; comments stay with the statement below them."""

    def __init__(self, source: str, piece: Callable[[str, list[dict[str, Any]]], Piece]) -> None:
        self.source, self.lines, self.piece = source, source.split("\n"), piece
        self.begin, self.whole = 0, True
        self.kept: list[str] = []
        self.parts: list[dict[str, Any]] = []
        self.found: list[Piece] = []

    def take(self, part: dict[str, Any], *, kept: bool) -> None:
        """Go on to the end of a statement."""
        if kept:
            shift = len(self.kept) - self.begin
            self.kept += self.lines[self.begin : part["last"] + 1]
            self.parts.append({**part, "first": part["first"] + shift, "last": part["last"] + shift})
        self.begin, self.whole = part["last"] + 1, self.whole and kept

    def put(self, piece: Piece) -> None:
        """End a piece of the student's here, and let another follow."""
        self._end()
        self.found.append(piece)

    def all(self) -> list[Piece]:
        """The pieces; the text of a cell that nothing was cut from is what it was."""
        if self.whole:
            return [self.piece(self.source, self.parts)]
        if self.kept:
            self.kept += self.lines[self.begin :]
        self._end()
        return self.found

    def _end(self) -> None:
        blank = next((i for i, line in enumerate(self.kept) if line.strip()), len(self.kept))
        if text := "\n".join(self.kept[blank:]).rstrip():
            moved = [{**part, "first": part["first"] - blank, "last": part["last"] - blank} for part in self.parts]
            self.found.append(self.piece(text, moved))
        self.kept, self.parts = [], []


def _rest(source: str, original: str) -> str:
    """What a student added to a text of the lab; all of it, where they changed it."""
    if same(source, original):
        return ""
    return source.strip().removeprefix(original.strip()).strip()


def _differences(name: str, cell: dict[str, Any], original: Any, provided: bool) -> list[str]:
    """Flags of one cell: what an honest editor does not change."""
    if not role(original):
        return []
    flags = []
    if not role(cell):
        flags.append("metadata stripped")
    else:
        mine, theirs = role(cell), role(original)
        changed = [key for key in theirs if mine.get(key, theirs[key]) != theirs[key]]
        flags += [f"cell {name!r}: {key} changed" for key in changed if key not in ("checksum", "cell_type")]
    if cell["cell_type"] != original.cell_type:
        flags.append(f"cell {name!r}: type changed")
    if cell["metadata"]["tags"]:
        flags.append(f"cell {name!r}: tags")
    if provided and not same(cell["source"], original.source):
        flags.append(f"edited {'test' if is_test(original) else 'provided'} cell {name!r}")
    return flags


def foreign(submitted: dict[str, Any]) -> list[str]:
    """A flag where the notebook is not for Python, whatever its kernel is called."""
    name, language = submitted["kernel"], submitted["language"].lower()
    if language.startswith(("python", "ipython")) or (not language and (not name or "py" in name.lower())):
        return []
    return [f"foreign kernel {(name or language)[:40]!r}"]


def looks_like(lab: Lab, submitted: dict[str, Any]) -> float:
    """How much of the lab is in a notebook, from 0 to 1: its headings, and the functions that it asks for."""
    outline = Outline(lab)
    asked = {n for name in outline.own & outline.binds.keys() for n in outline.binds[name]}
    wanted = {h for c in lab.release.cells if c.cell_type == "markdown" for h in headings(c.source)} | asked
    cells = submitted["cells"]
    found = {h for c in cells if c["cell_type"] == "markdown" for h in headings(c["source"])}
    found |= {n for c in cells for part in c["parts"] for n in part["binds"]}
    return len(wanted & found) / max(1, len(wanted))


def headings(text: str) -> list[str]:
    """The headings in a text of markdown."""
    return [" ".join(line.split()) for line in re.findall(r"^#+ .+$", text, re.M)]
