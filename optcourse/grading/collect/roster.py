"""The list of the class: every submission belongs to one line of it, and who is missing has a row.

Any table as CSV does: columns are found by their header, also those that Moodle and Canvas export.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from optcourse.grading.collect import names
from optcourse.grading.collect.choose import Submission

MAX_SIZE = 5 * 2**20
#: Headers as they are written, without spaces and signs. ``system``: the number in the names of exported files.
COLUMNS = {
    "id": ("id", "idnumber", "studentid", "studentnumber", "sisuserid", "sisid", "orgdefinedid", "matriculationnumber",
           "matrikelnummer", "number", "sid"),
    "login": ("login", "username", "user", "sisloginid", "loginid", "netid", "uid", "userid", "account",
              "githubusername", "anmeldename"),
    "email": ("email", "emailaddress", "mail", "emailadresse"),
    "name": ("name", "fullname", "student", "studentname", "vollstandigername"),
    "first": ("firstname", "first", "givenname", "vorname", "forename", "forenames"),
    "last": ("lastname", "last", "surname", "familyname", "nachname"),
    "system": ("identifier", "participant"),
}  # fmt: skip
KIND = {header: kind for kind, headers in COLUMNS.items() for header in headers}
#: In a roster's columns, and as the columns that status.csv gets from it.
ADDED = ("id", "name")


class Roster:
    """The lines of a list of the class, and which submission is whose."""

    def __init__(self, path: Path) -> None:
        """Read ``path``; raises ``ValueError`` that names the line and the column of what is wrong."""
        self.path = path
        self.lines = _lines(path)

    def match(self, submission: Submission) -> list[Line]:
        """The lines that this may be: one when it is certain, none, or several between which nothing decides."""
        known_as, number = submission.known_as, submission.number
        said = {_plain(text) for text in known_as} | {_plain(text.replace("_", " ")) for text in known_as}
        called = {names.alike(text) for text in known_as} | {_words(text) for text in known_as}
        nameless = any(text.endswith(number) for text in known_as[:1])
        parts = {_plain(part) for text in known_as for part in re.split(r"[\s_.,+-]+", text) if len(part) > 2}
        ways = (
            # The numbers of Moodle are an assignment's: a list made for another one has them for other students.
            lambda line: number and number in line.system and (nameless or not line.called or called & line.called),
            lambda line: said & line.exact,
            lambda line: _plain(line.name) in said,
            lambda line: called & line.called,
            lambda line: (parts - {number}) & line.exact,
        )
        return next((found for way in ways if (found := [line for line in self.lines if way(line)])), [])


@dataclass(frozen=True)
class Line:
    """One student of the class. ``exact``: what is the student's alone; ``called``: ways to write the name."""

    number: int
    id: str
    name: str
    system: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()
    called: frozenset[str] = frozenset()


class Table:
    """The rows of status.csv: those of files that now have another row are dropped, and a roster orders and completes.

    With a roster there are two more columns, its ``id`` and ``name``. Who is missing has the status ``missing`` and no
    score; who is in no line, in several, or in a line with somebody else, is flagged.
    """

    def __init__(self, submissions: list[Submission], roster: Roster | None = None) -> None:
        self.submissions, self.roster = submissions, roster
        self._lines = {s.student: roster.match(s) for s in submissions} if roster is not None else {}

    def __call__(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """The rows in order; called after each submission that was graded."""
        now = {submission.origin: submission.student for submission in self.submissions}
        rows = [row for row in rows if now.get(row["file"], row["student"]) == row["student"]]
        if self.roster is None:
            return rows
        whose = {row["student"]: self._whose(row["student"]) for row in rows}
        handed_in = {**self._lines, **whose}
        certain = [lines[0] for lines in handed_in.values() if len(lines) == 1]
        placed: list[tuple[int, dict[str, str]]] = []
        for row in rows:
            lines, flags = whose[row["student"]], [row["flags"]] if row["flags"] else []
            id, name, place = "", names.readable(row["student"]), len(self.roster.lines)
            if len(lines) == 1:
                id, name, place = lines[0].id, lines[0].name, self.roster.lines.index(lines[0])
                if others := [s for s, other in handed_in.items() if other == lines and s != row["student"]]:
                    flags.append(f"the same line of the roster as {', '.join(map(repr, sorted(others)))}")
            else:
                where = ", ".join(str(line.number) for line in lines)
                flags.append(f"may be lines {where} of the roster" if lines else "not in the roster")
            status = "flagged" if row["status"] == "graded" and flags else row["status"]
            placed.append((place, {**row, "status": status, "flags": "; ".join(flags), "id": id, "name": _cell(name)}))
        taken = {student.lower() for student in handed_in}
        for place, line in enumerate(self.roster.lines):
            if line not in certain:
                maybe = sorted(student for student, lines in handed_in.items() if line in lines)
                row = _missing(line, maybe, rows, taken)
                taken.add(row["student"].lower())
                placed.append((place, row))
        return [row for _, row in sorted(placed, key=lambda pair: (pair[0], pair[1]["student"]))]

    def _whose(self, student: str) -> list[Line]:
        """The lines of a row, also of one from an earlier run, of which only the name is known."""
        if student not in self._lines and self.roster is not None:
            plain = names.readable(student)
            self._lines[student] = self.roster.match(Submission(student, "", None, known_as=(plain,)))
        return self._lines[student]

    def people(self) -> dict[str, tuple[str, str]]:
        """Name and number of every student: from the roster, or as the files have them."""
        plain = {s.student: (names.readable(s.student), "") for s in self.submissions}
        return plain | {s: (lines[0].name, lines[0].id) for s, lines in self._lines.items() if len(lines) == 1}

    def called(self, text: str) -> set[str]:
        """The students whom ``text`` may mean: the row's name, as it is read, or what the roster has."""
        exact = {s.student for s in self.submissions if text in (s.student, names.readable(s.student))}
        of_roster = {s for s, lines in self._lines.items() if len(lines) == 1 and text in (lines[0].id, lines[0].name)}
        return exact or of_roster


def _missing(line: Line, maybe: list[str], rows: list[dict[str, str]], taken: set[str]) -> dict[str, str]:
    student = names.safe(line.name or line.id)
    if student.lower() in taken:
        student = names.safe(f"{line.name} {line.id}")
    while student.lower() in taken:
        student += f"~{line.number}"
    flags = f"may be {', '.join(map(repr, maybe))}" if maybe else ""
    row = dict.fromkeys(rows[0] if rows else (), "")
    known = {"student": student, "status": "missing", "score": "", "flags": flags, "file": ""}
    return {**row, **known, "max_score": rows[0]["max_score"] if rows else "", "id": line.id, "name": _cell(line.name)}


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def _words(text: str) -> str:
    """A name without the order of its words: some systems write the last name first."""
    return " ".join(sorted(filter(None, map(names.alike, re.split(r"[\s,_.]+", text)))))


# Reading ---------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> list[Line]:
    text = _text(path)
    header, _, rest = text.partition("\n")
    if said := re.fullmatch(r"sep=(.)\r?", header):
        separator, text, skipped = said[1], rest, 1
    else:
        separator, skipped = max(",;\t", key=header.count), 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[Line] = []
    seen: dict[tuple[str, str], int] = {}
    try:
        titles = [title.strip() for title in next(reader, [])]
        kinds = _kinds(path, titles, 1 + skipped)
        canvas = {"SIS User ID", "SIS Login ID"} & set(titles)
        for values in reader:
            number = reader.line_num + skipped
            told = [value.strip() for value in values]
            if not any(told) or (canvas and (told[0] in ("Points Possible", "Student, Test") or not told[0])):
                continue  # Canvas has such lines below the header and at the end
            if len(told) > len(titles):
                raise ValueError(f"{path}, line {number}: {len(told)} values, but there are {len(titles)} columns")
            lines.append(_line(path, number, list(zip(titles, kinds, told, strict=False)), bool(canvas), seen))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num + skipped}: no table ({error})") from None
    if not lines:
        raise ValueError(f"{path} has no line with a student")
    return lines


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    if len(raw) > MAX_SIZE:
        raise ValueError(f"{path} has {len(raw) / 2**20:.1f} MB, more than {MAX_SIZE // 2**20}")
    if raw.startswith(b"PK"):
        raise ValueError(f"{path} is no CSV but a workbook or a zip; save it as CSV")
    for encoding in ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"{path} is no text; save it as CSV in UTF-8")


def _kinds(path: Path, titles: list[str], number: int) -> list[str]:
    kinds = [KIND.get(names.alike(title), "") for title in titles]
    known = set(kinds)
    if not known & {"id", "login", "email", "name", "system"} and not {"first", "last"} <= known:
        raise ValueError(
            f"{path}, line {number}: no column says who a student is; expected id, login, email, name, or first name "
            f"and last name, and there are {', '.join(map(repr, titles[:8])) or 'none'}"
        )
    return kinds


def _line(
    path: Path, number: int, told: list[tuple[str, str, str]], canvas: bool, seen: dict[tuple[str, str], int]
) -> Line:
    """One student; raises ``ValueError`` for a line without one, or for what stands in an earlier line too."""
    by: dict[str, list[str]] = {}
    for title, kind, value in told:
        value = value.removeprefix("#") if kind in ("id", "login") else value  # D2L writes one, for spreadsheets
        if kind and value:
            by.setdefault(kind, []).append(value)
        if value and kind in ("id", "login", "email", "system"):
            earlier = seen.setdefault((title, _plain(value)), number)
            if earlier != number:
                raise ValueError(f"{path}, line {number}, column {title!r}: {value!r} stands in line {earlier} too")
    system = [re.sub(r".*?(\d+)$", r"\1", value) for value in by.get("system", [])]
    if canvas:
        system += [value for title, _, value in told if title == "ID" and value]
    first, last = " ".join(by.get("first", [])), " ".join(by.get("last", []))
    name = (by.get("name") or [" ".join(filter(None, (first, last)))])[0]
    mail = [part for value in by.get("email", []) for part in (value, value.partition("@")[0])]
    exact = [*by.get("id", []), *by.get("login", []), *mail, *by.get("system", [])]
    if not exact and not name:
        columns = ", ".join(repr(title) for title, kind, _ in told if kind)
        raise ValueError(f"{path}, line {number}: nothing in the columns {columns}")
    *others, end = name.split() or [""]
    forms = {name, f"{first} {last}", f"{last} {first}", f"{end} {' '.join(others)}", " ".join(name.split(",")[::-1])}
    called = {names.alike(form) for form in forms if form.strip()} | {_words(form) for form in forms if form.strip()}
    id = (by.get("id") or by.get("login") or by.get("email") or by.get("system") or [name])[0]
    return Line(number, id, name, frozenset(system), frozenset(map(_plain, exact)), frozenset(called))
