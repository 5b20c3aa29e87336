"""Who submitted what: every file and folder belongs to one student's row, or to the list of what was left out.

Which folder is a student's is told from the names of systems (:mod:`~optcourse.grading.collect.names`) and from where
the lab's notebooks lie; a name that a student chooses, inside their own folder, never makes a row for somebody else.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from optcourse.grading.collect import names
from optcourse.grading.collect.names import Claim, Owner
from optcourse.grading.collect.places import File, files, nested, shown
from optcourse.grading.collect.whose import LeftOut, Sorted, gradescope

#: At most so many names in one flag.
NAMED = 3


@dataclass(frozen=True)
class Submission:
    """One student's file: its bytes, or why it was refused. ``student`` is safe as a file name.

    ``also`` are the student's other files; ``known_as`` is what else the system calls the student.
    """

    student: str
    origin: str
    raw: bytes | None
    flags: tuple[str, ...] = ()
    refused: str = ""
    also: tuple[str, ...] = ()
    known_as: tuple[str, ...] = ()
    number: str = ""


@dataclass
class Found:
    """The rows of a class, sorted by student, and everything else that was there."""

    submissions: list[Submission]
    left_out: list[LeftOut]


@dataclass
class _Pile:
    """What one student has: files and the claim of the place where each lies; the rest of a flat file's name."""

    owner: Owner
    files: list[tuple[File, Claim, str]] = field(default_factory=list)


def find(paths: list[Path], lab: str) -> list[Submission]:
    """The rows of :func:`survey`, which says what it raises."""
    return survey(paths, lab).submissions


def survey(paths: list[Path], lab: str, skip: Path | None = None) -> Found:
    """Every student's submission of ``lab`` under ``paths``, but not below the folder ``skip``, and what was left out.

    Raises ``ValueError`` for a path that is neither a folder nor a zip, or holds no submission at all, and ``OSError``
    for one that cannot be read.
    """
    piles: dict[Owner, _Pile] = {}
    left_out: list[LeftOut] = []
    with ExitStack() as opened:
        for path in {
            path.resolve() if path.exists() and not path.is_symlink() else path: path for path in paths
        }.values():
            everything = files(path, opened, skip)
            whose = Sorted(lab)
            whose.level(everything, 0)
            if not any(_sure(file, claim, rest, lab) for file, claim, rest in whose.claims):
                raise ValueError(_nothing(path, lab, everything))
            left_out += whose.left_out
            people = gradescope(everything)
            for file, claim, rest in whose.claims:
                owner = people.get(claim.owner.name, claim.owner)
                piles.setdefault(owner, _Pile(owner)).files.append((file, claim, rest))
        rows, called = names.unique(set(piles)), _called(piles)
        found = [_submission(rows[owner], pile, lab, called) for owner, pile in piles.items()]
    return Found(sorted(found, key=lambda submission: submission.student), left_out)


def _sure(file: File, claim: Claim, rest: str, lab: str) -> bool:
    """Whether this shows that the lab was handed in here."""
    found = "" if file.junk or file.empty_folder else names.kind(rest or file.where.name, lab)
    return found in ("exact", "renamed") or (found == "notebook" and bool(claim.owner.key[0]))


def _nothing(path: Path, lab: str, everything: list[File]) -> str:
    seen = [shown(str(file.where)) for file in everything if not file.junk]
    there = ", ".join(seen[:NAMED]) + (f" and {len(seen) - NAMED} more" if len(seen) > NAMED else "")
    wanted = f"expected STUDENT/{lab}.ipynb or STUDENT_{lab}.ipynb"
    return f"{path} holds no submission of {lab}: {wanted}; there is {there or 'nothing in it'}"


# Which of a student's files counts -----------------------------------------------------------------------------


def _called(piles: dict[Owner, _Pile]) -> dict[str, list[str]]:
    """Owners that a person may take for one and that no system tells apart."""
    same: dict[str, list[str]] = defaultdict(list)
    for owner in piles:
        if not owner.id:
            same[names.alike(owner.name)].append(owner.longer or owner.name)
    return {alike: sorted(owners) for alike, owners in same.items() if len(owners) > 1}


def _submission(student: str, pile: _Pile, lab: str, called: dict[str, list[str]]) -> Submission:
    owner, flags = pile.owner, []
    twins = (
        [] if owner.id else [n for n in called.get(names.alike(owner.name), []) if n != (owner.longer or owner.name)]
    )
    if twins:
        flags.append(f"a name much like {_some(twins)}")
    ranked, unpacked, why = _ranked(pile, lab), [], ""
    if not ranked:
        unpacked, why = _unpacked(pile, lab)
        ranked = _ranked(_Pile(owner, unpacked), lab)
    also = [file.origin for file, _, _ in (*pile.files, *unpacked) if not file.empty_folder]
    known_as = tuple(dict.fromkeys((owner.name, owner.longer, *owner.known_as)))
    given = {"known_as": known_as, "number": owner.id}
    if not ranked:
        origin = min((file.origin for file, _, _ in pile.files), default="")
        others = tuple(also[: also.index(origin)] + also[also.index(origin) + 1 :]) if origin in also else tuple(also)
        return Submission(student, origin, None, tuple(flags), why or _lacking(pile, lab), others, **given)
    counted, rank, filename = ranked[0]
    if unpacked:
        flags.append("in an archive")
    if rank != "exact":
        flags.append(f"renamed file {shown(filename)!r}")
    if rivals := [shown(str(file.where)) for file, other, _ in ranked[1:] if other in ("exact", "renamed")]:
        flags.append(f"several files: {shown(str(counted.where))!r} counts, not {_some(rivals)}")
    also.remove(counted.origin)
    made = Submission(student, counted.origin, None, (*flags, *counted.notes), "", tuple(also), **given)
    return _opened(made, counted)


def _ranked(pile: _Pile, lab: str) -> list[tuple[File, str, str]]:
    """The notebooks that may be meant, the one that counts first: the newest, else the one with the right name."""
    every = []
    for file, claim, rest in pile.files:
        if not file.junk and not file.empty_folder:
            filename = rest or file.where.name
            key = (
                not file.refused,
                claim.version,
                names.kind(filename, lab) == "exact",
                -len(file.where.parts),
                file.order,
            )
            every.append((key, (file, names.kind(filename, lab), filename)))
    meant = [(key, one) for key, one in every if one[1] in ("exact", "renamed")]
    if not meant:  # a notebook of any name, if there is one only
        notebooks = [(key, one) for key, one in every if one[1] == "notebook"]
        least = max((key[3] for key, _ in notebooks), default=0)
        meant = [(key, one) for key, one in notebooks if key[3] == least]
        meant = meant if len(meant) == 1 else []
    return [one for _, one in sorted(meant, key=lambda pair: pair[0], reverse=True)]


def _unpacked(pile: _Pile, lab: str) -> tuple[list[tuple[File, Claim, str]], str]:
    """The files in the zips that somebody handed in instead of a notebook, and why there are none."""
    inside, why = [], ""
    for file, claim, rest in pile.files:
        if not file.junk and not file.refused and (rest or file.where.name).lower().endswith(".zip"):
            try:
                inside += [(f, replace(claim, version=(*claim.version, 0)), "") for f in nested(file, file.read())]
            except Exception as error:  # a stranger's bytes
                said = str(error) if isinstance(error, ValueError) else f"cannot be read ({type(error).__name__})"
                why = why or f"the archive {shown(file.where.name)!r} {said}"
    if not why and inside and not _ranked(_Pile(pile.owner, inside), lab):
        why = f"no notebook of {lab} in the archive, but {_some([shown(str(f.where.name)) for f, _, _ in inside])}"
    return inside, why


def _lacking(pile: _Pile, lab: str) -> str:
    """Why none of these files is graded."""
    there = [(file, rest or file.where.name) for file, _, rest in pile.files if not file.junk]
    there = [(file, name) for file, name in there if not file.empty_folder]
    if not there:
        return f"no work in the folder of {shown(pile.owner.name)!r}"
    if refused := [file.refused for file, _ in there if file.refused]:
        return f"the file is {refused[0]}"
    named = _some([shown(name) for _, name in there])
    if sum(names.kind(name, lab) == "notebook" for _, name in there) > 1:
        return f"several notebooks, and none is called {lab}: {named}"
    return f"not a notebook of {lab}: {named}"


def _some(texts: list[str]) -> str:
    rest = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(map(repr, itertools.islice(texts, NAMED))) + rest


def _opened(submission: Submission, file: File) -> Submission:
    if file.refused:
        return replace(submission, refused=f"the file is {file.refused}")
    try:
        return replace(submission, raw=file.read())
    except Exception as error:  # a stranger's bytes, and a disk
        return replace(submission, refused=f"the file cannot be read ({type(error).__name__})")
