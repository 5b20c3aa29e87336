"""Whose a file is and which lab's, from names alone: what learning-management systems, browsers and people write.

Moodle and Canvas: as their programs name what they export (``mod/assign/classes/downloader.php``,
``lib/content_zipper.rb``); nbgrader's exchange: its ``submit.py``; the others: from exports.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

#: What editors, browsers and systems put after a notebook's name, and before it.
SUFFIX = r"(?:[ _-]+(?:\(\d+\)|\(?(?:copy|kopie|copie|copia)\)?\d*|\d{1,3}|late|final|submitted|v\d+)|\(\d+\))*"
PREFIX = r"(?:(?:copy[ _]of|kopie[ _]von|copie[ _]de|copia[ _]de)[ _])*"
BETWEEN = r"(?:\s+-\s+|[ _-])"
NOTEBOOK = r"\.ipynb(?:\.txt|\.json)?"
#: What a student may hand in by mistake, when a file's name starts with the student.
OTHER = r"\.(?:py|html?|pdf|zip|rar|7z|tar|t?gz|docx?|md|rtf|png|jpe?g)"
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.I)

#: What a system writes before the name that the student gave to the file, or into the name of a folder.
SYSTEMS = {
    "moodle": r"(?P<name>.+?)(?:_(?P<id>\d+))?_assignsubmission_[a-z]+(?:_(?P<rest>.*))?",
    "d2l": r"(?P<number>\d+-\d+) - (?P<name>.+?) - (?P<date>[^-]*?\b\d{4} \d{3,4}(?: ?[AP]M)?)(?: - (?P<rest>.+))?",
    "blackboard": r"(?P<name>.+?)_attempt_(?P<date>\d{4}(?:-\d\d){5})(?:_(?P<rest>.+)|(?P<note>\.txt))?",
    "canvas": r"(?P<name>\w+?)(?:_LATE)?_(?P<id>\d{3,})_(?P<file>\d{3,})(?:_(?P<rest>.+))?",
    "canvas text": r"(?P<name>\w+?)(?:_LATE)?_(?P<id>\d{3,})_(?P<rest>(?:text|link)\.html)",
    "canvas, no names": r"(?:LATE_)?(?P<name>anon_[A-Za-z0-9]{5})_(?P<file>\d{3,})(?:_(?P<rest>.+))?",
    "nbgrader": r"(?P<name>[^+]+)\+(?P<lab>[^+]+)\+(?P<date>\d{4}-\d\d-\d\d[^+]*)(?:\+.*)?",
    "gradescope": r"(?P<name>submission_\d+)",
}
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@dataclass(frozen=True)
class Owner:
    """Whose a file is: equal ``key``, the same student. ``id`` is the system's number, unique for each student."""

    key: tuple[str, ...]
    name: str = field(compare=False)
    id: str = field(default="", compare=False)
    longer: str = field(default="", compare=False)
    known_as: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Claim:
    """What a name says: the owner, the rest of the name, and which of the owner's versions it is."""

    owner: Owner
    rest: str = ""
    version: tuple[int, ...] = ()
    lab: str = ""


def of_folder(name: str, lab: str, around: tuple[str, ...] = ()) -> Claim:
    """Whose a folder is; ``around`` are folders that tell two students of one name apart, as sections do."""
    if claim := _system(name):
        return claim
    if repository := re.fullmatch(rf"{re.escape(lab)}[-_ ]+(.+)", name, re.I):  # of GitHub Classroom
        return Claim(Owner(("repository", name), repository[1], longer=name))
    return Claim(Owner(("", *around, name), name, longer="/".join((*around, name))))


def of_file(filename: str, lab: str) -> Claim | None:
    """Whose a file is that lies beside those of other students; ``None`` when its name does not say."""
    claim = _system(filename)
    if claim and (claim.rest or claim.owner.key[0] == "blackboard"):
        return claim
    match = re.fullmatch(rf"(.+?){BETWEEN}{PREFIX}{_spelled(lab)}{SUFFIX}(?:{NOTEBOOK}|{OTHER})", filename, re.I)
    match = match or re.fullmatch(rf"{PREFIX}{_spelled(lab)}{BETWEEN}(.+?){SUFFIX}{NOTEBOOK}", filename, re.I)
    if not match or no_owner(filename, lab):
        return None
    who, exact = re.escape(match[1]), re.escape(lab)
    unchanged = re.fullmatch(rf"{who}{BETWEEN}{exact}\.ipynb|{exact}{BETWEEN}{who}\.ipynb", filename)
    owner = Owner(("", match[1]), match[1], longer=match[1])
    return Claim(owner, f"{lab}.ipynb" if unchanged else filename)


def _system(name: str) -> Claim | None:
    for system, pattern in SYSTEMS.items():
        if match := re.fullmatch(pattern, name, re.S):
            part = match.groupdict()
            who, number, kind = part["name"], part.get("id") or "", system.partition(" text")[0]
            longer = f"{who}_{number}" if number else who
            if kind == "d2l":  # whether its numbers are a student's or a submission's, nobody says
                longer = f"{who} {part['number']}"
            if kind == "blackboard":
                who = who.rsplit("_", 1)[-1]
            if who.lower() == "participant" and number:  # Moodle's, where marking is anonymous
                who = longer
            version = _time(part["date"]) if "date" in part else (int(part.get("file") or 0),)
            rest = part.get("rest") or part.get("note") or ""
            if kind.startswith("canvas"):  # it numbers what is handed in again
                rest = re.sub(r"-\d+(?=\.\w+$)", "", rest)
            return Claim(Owner((kind, longer), who, number, longer), rest, version, part.get("lab") or "")
    return None


def _time(text: str) -> tuple[int, ...]:
    """A moment as numbers that compare, from the date of any of these systems."""
    if re.match(r"\d{4}-", text):
        return tuple(int(number) for number in re.findall(r"\d+", text)[:6])
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    month = next((place for place, name in enumerate(MONTHS, 1) if name in text.lower()), 0)
    day, year, clock = numbers[0], numbers[1] if len(numbers) > 1 else 0, numbers[-1]
    hour = clock // 100 % 12 + 12 * ("PM" in text) if re.search("[AP]M", text) else clock // 100
    return year, month, day, hour, clock % 100


# Which lab -----------------------------------------------------------------------------------------------------


@functools.cache
def _spelled(lab: str) -> str:
    """A pattern for the lab's name as people write it: ``lab01``, ``Lab 1``, ``lab_1``."""
    return "".join(
        rf"[ _-]?0*{int(part)}(?!\d)" if part.isdecimal() else re.escape(part)
        for part in re.split(r"(\d+)", lab)
        if part
    )


def is_lab(name: str, lab: str) -> bool:
    """Whether a folder is called as the lab is."""
    return re.fullmatch(_spelled(lab), name, re.I) is not None


def other_lab(name: str, lab: str) -> bool:
    """Whether a name has another lab's number in it and not this one's."""
    if not re.search(r"\d", lab):
        return False
    any_lab = "".join(r"[ _-]?\d+" if p.isdecimal() else re.escape(p) for p in re.split(r"(\d+)", lab))
    return bool(re.search(rf"(?<![^\W_]){any_lab}", name, re.I) and not _says(name, lab))


def _says(name: str, lab: str) -> bool:
    return re.search(rf"(?<![^\W_]){_spelled(lab)}", name, re.I) is not None


def no_owner(filename: str, lab: str) -> bool:
    """Whether a file's name says the lab and nobody's name."""
    return re.fullmatch(rf"{PREFIX}{_spelled(lab)}{SUFFIX}(?:{NOTEBOOK}|\.\w+)", filename, re.I) is not None


def kind(filename: str, lab: str) -> str:
    """``exact``, ``renamed``, ``notebook`` (of a name that says nothing), ``other lab``, or "" for another file."""
    if filename == f"{lab}.ipynb":
        return "exact"
    if not re.fullmatch(rf".*{NOTEBOOK}", filename, re.I | re.S):
        return ""
    if _says(filename, lab):
        return "renamed"
    return "other lab" if other_lab(filename, lab) else "notebook"


# Names of rows and files ---------------------------------------------------------------------------------------


def unique(owners: set[Owner]) -> dict[Owner, str]:
    """A file name for every owner, short where possible; no two are equal, nor where capitals do not count."""
    ways: list[Callable[[Owner], str]] = [
        lambda owner: safe(re.sub(" +", " ", owner.name).strip(" ") or owner.name),
        lambda owner: safe(owner.longer or owner.name),
        lambda owner: f"{safe(owner.longer or owner.name)[:100]}~{_digest(repr(owner.key))}",
    ]
    level = dict.fromkeys(owners, 0)
    while True:
        names = {owner: ways[level[owner]](owner) for owner in owners}
        count = Counter(name.lower() for name in names.values())
        again = [owner for owner, name in names.items() if count[name.lower()] > 1 and level[owner] < len(ways) - 1]
        if not again:
            return names
        for owner in again:
            level[owner] += 1


def safe(text: str) -> str:
    """A name that is a valid file name on every system; ``%XX`` stands for a byte that is not."""
    name = quote(os.fsencode(unicodedata.normalize("NFC", text)), safe=" -_.@+")
    if len(name) > 120:
        name = f"{name[:100]}~{_digest(name)}"
    # A leading sign would make a spreadsheet take the name for a formula; Windows drops spaces and dots at the end.
    if name[:1] in (".", "-", "+", "@", " ") or RESERVED.fullmatch(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if name[-1:] in (".", " "):
        name = f"{name[:-1]}%{ord(name[-1]):02X}"
    return name or "%20"


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


def readable(name: str) -> str:
    """A name made by :func:`safe` as a person reads it."""
    return printable(unquote_to_bytes(name).decode("utf-8", "replace"))


def printable(text: str) -> str:
    """``text`` without what would disturb a terminal or a page: ``�`` stands for it."""
    return "".join(c if unicodedata.category(c)[0] not in "C" else "\ufffd" for c in text)


def alike(name: str) -> str:
    """Equal for names that a person may take for the same: capitals, spaces, signs and accents do not count."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(c for c in plain if c.isalnum()) or name
