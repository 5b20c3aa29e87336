"""Which folder and file is whose: told from the names of systems, and from where the lab's notebooks lie.

A name that a student chooses, inside their own folder, never makes a row for somebody else.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from optcourse.grading.collect import names
from optcourse.grading.collect.names import Claim, Owner
from optcourse.grading.collect.places import JUNK, File

MADE = "made by a system or an editor"
ALONE = "nothing says whose it is: it lies beside the students' files and folders"


class LeftOut(NamedTuple):
    """A file or folder that is in no row, and why. ``junk``: a system made it, nobody misses it."""

    file: str
    reason: str
    junk: bool = False


@dataclass
class Sorted:
    """What is whose, of one path."""

    lab: str
    claims: list[tuple[File, Claim, str]] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave(self, files: Iterable[File], why: str = "") -> None:
        """These are nobody's."""
        for file in files:
            self.left_out.append(LeftOut(file.origin, MADE if file.junk else why, file.junk))

    def level(self, inside: list[File], depth: int, around: tuple[str, ...] = ()) -> None:
        """Give every file of ``inside``, whose first ``depth`` folders are the same, to a student or leave it out."""
        here = [file for file in inside if len(file.where.parts) == depth + 1 and not file.empty_folder]
        flat = {file: None if file.junk else names.of_file(file.where.name, self.lab) for file in here}
        groups = _groups(inside, depth)
        for name in [name for name in groups if JUNK.fullmatch(name)]:
            self.leave(groups.pop(name))
        for name, more in _around(groups, any(flat.values()), depth, around, self.lab):
            self.level(groups.pop(name), depth + 1, (*around, *more))
        for name, mine in groups.items():
            claim = names.of_folder(name, self.lab, around)
            if claim.lab and not names.is_lab(claim.lab, self.lab):
                self.leave(mine, f"handed in for {claim.lab}")
            elif names.is_lab(name, self.lab):
                self.leave(mine, ALONE)
            elif not claim.version and names.other_lab(name, self.lab) and not _holds(mine, depth, self.lab):
                self.leave(mine, "in a folder of another lab")
            else:
                self.claims += [(file, claim, "") for file in mine]
        for file, claim in flat.items():
            if claim is None:
                self.leave([file], _unclear(file, self.lab))
            else:
                self.claims.append((file, claim, claim.rest))


def _groups(inside: list[File], depth: int) -> dict[str, list[File]]:
    groups: dict[str, list[File]] = defaultdict(list)
    for file in inside:
        if len(file.where.parts) > depth + 1 or (file.empty_folder and len(file.where.parts) == depth + 1):
            groups[file.where.parts[depth]].append(file)
    return groups


def _around(
    groups: dict[str, list[File]], flat: bool, depth: int, around: tuple[str, ...], lab: str
) -> list[tuple[str, tuple[str, ...]]]:
    """The folders that are not a student's but hold students, and what they add to the students' names."""
    systems = {names.of_folder(name, lab).owner.key[0] for name in groups}
    if flat or systems - {"", "repository"} or (len(groups) > 1 and systems - {""}):
        return []
    below = {name: _students(mine, depth + 1, lab) for name, mine in groups.items()}
    if len(groups) == 1:
        ((name, mine),) = groups.items()
        deeper = any(len(file.where.parts) > depth + 2 and not file.junk for file in mine) and not around
        alone = _holds(mine, depth, lab) and not any(file for file in mine if _named(file, depth + 1, lab))
        return [(name, ())] if len(below[name]) > 1 or (not alone and (below[name] or deeper)) else []
    if any(
        _holds(mine, depth, lab) and len(below[name]) < 2
        for name, mine in groups.items()
        if not names.is_lab(name, lab)
    ):
        return []
    labs = [name for name in groups if names.is_lab(name, lab)]
    if len(labs) == 1 and all(names.other_lab(name, lab) for name in groups if name not in labs):
        return [(labs[0], ())]
    if all(len(students) < 2 for students in below.values()):
        return []
    return [(n, (n,)) for n, mine in groups.items() if any(len(file.where.parts) > depth + 2 for file in mine)]


def _holds(mine: list[File], depth: int, lab: str) -> bool:
    """Whether a notebook of the lab lies in this folder, or in one of the lab's name below it."""
    for file in mine:
        inner = file.where.parts[depth + 1 :]
        if len(inner) == 2 and names.is_lab(inner[0], lab):
            inner = inner[1:]
        if len(inner) == 1 and not file.junk and names.kind(inner[0], lab) in ("exact", "renamed"):
            return True
    return False


def _named(file: File, depth: int, lab: str) -> str:
    """The student whose name a flat file at ``depth`` has."""
    claim = names.of_file(file.where.name, lab) if len(file.where.parts) == depth + 1 and not file.junk else None
    return repr(claim.owner.key) if claim else ""


def _students(mine: list[File], depth: int, lab: str) -> set[str]:
    """The folders at ``depth`` that hold a notebook of the lab or have a system's name, and the names of flat files."""
    folders = {
        name
        for name, files in _groups(mine, depth).items()
        if names.of_folder(name, lab).owner.key[0] or (_holds(files, depth, lab) and not names.is_lab(name, lab))
    }
    return folders | {name for file in mine if (name := _named(file, depth, lab))}


def _unclear(file: File, lab: str) -> str:
    if file.refused:
        return file.refused
    if names.no_owner(file.where.name, lab):
        return ALONE
    if names.other_lab(file.where.name, lab):
        return "of another lab"
    if re.search(rf"{names.NOTEBOOK}$", file.where.name, re.I):
        return f"its name says no student and lab, as STUDENT_{lab}.ipynb does"
    if re.search(r"\.(zip|rar|7z|tar|t?gz)$", file.where.name, re.I):
        return f"an archive; called STUDENT_{lab}.zip it is a student's"
    return "beside the students' files and folders"


def gradescope(everything: list[File]) -> dict[str, Owner]:
    """Who handed in ``submission_123``, from the list in a Gradescope export. Read line by line: it is plain."""
    owners: dict[str, Owner] = {}
    for file in (file for file in everything if file.where.name == "submission_metadata.yml" and not file.refused):
        folder, people = "", dict[str, dict[str, list[str]]]()
        for line in file.read().decode("utf-8", "replace").splitlines():
            if start := re.match(r"(submission_\d+)[^:]*:", line):
                folder, people[start[1]] = start[1], defaultdict(list)
            elif re.match(r"  :(?!submitters)", line):
                folder = ""
            elif folder and (said := re.match(r"[ -]+:(name|sid|email): +['\"]?(.+?)['\"]? *$", line)):
                people[folder][said[1]].append(said[2])
        for folder, said in people.items():
            if said["name"]:
                known_as = tuple(said["sid"] + said["email"]) if len(said["name"]) == 1 else ()
                owners[folder] = Owner(("gradescope", folder), " and ".join(said["name"]), "", folder, known_as)
    return owners
