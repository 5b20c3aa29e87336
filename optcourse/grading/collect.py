"""Find submissions: a folder of ``STUDENT/LAB.ipynb``, of flat ``STUDENT_LAB.ipynb`` files, or a zip of either.

Learning-management systems and browsers rename files (``lab01 (1).ipynb``, ``Copy of lab01.ipynb``): such names are
recognized and flagged. Links are never followed.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from optcourse.grading.submission import MAX_BYTES

#: Suffixes that editors, browsers and systems add to a notebook's name.
SUFFIX = r"(?:[ _-]+(?:\(\d+\)|copy\d*|\d{1,3}|late|final|submitted|v\d+)|\(\d+\))*"
PREFIX = r"(?:copy[ _]of[ _])?"


@dataclass(frozen=True)
class Submission:
    """One student's file: its bytes, or why it was refused. ``student`` is safe as a file name."""

    student: str
    origin: str
    raw: bytes | None
    flags: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True)
class _File:
    """A notebook file somewhere, not read yet."""

    where: PurePosixPath
    origin: str
    read: Callable[[], bytes]
    refused: str = ""


def find(paths: list[Path], lab: str) -> list[Submission]:
    """Every student's submission of ``lab`` under ``paths``, sorted by student.

    Raises ``ValueError`` for a path that is neither a folder nor a zip, or holds no submission at all.
    """
    best: dict[str, tuple[tuple, _File, tuple[str, ...]]] = {}
    found = [(path, _students(list(_files(path)), lab)) for path in paths]
    names = _names({owner for _, matches in found for owner, _, _ in matches})
    for path, matches in found:
        if not any(exact is not None for _, _, exact in matches):
            raise ValueError(
                f"{path} holds no submission of {lab}: expected STUDENT/{lab}.ipynb or STUDENT_{lab}.ipynb"
            )
        for owner, file, exact in matches:
            student = names[owner]
            flags = () if exact is not False else (f"renamed file {_show(file.where.name)!r}",)
            rank = (exact is not None, not file.refused, exact, -len(file.where.parts), file.where.name)
            if student in best:
                kept = best[student]
                more = ("several files",) if exact is not None and kept[0][0] else ()
                if rank <= kept[0]:
                    best[student] = (*kept[:2], tuple(dict.fromkeys((*kept[2], *more))))
                    continue
                flags = (*flags, *more)
            best[student] = (rank, file, flags)
    return [_open(student, file, flags) for student, (_, file, flags) in sorted(best.items())]


def _students(files: list[_File], lab: str) -> list[tuple[str, _File, bool | None]]:
    """Whose each file is, and whether its name is exact; ``None`` for the folder of a student without a notebook.

    In a folder of folders the first folder is the student, whatever name a student gives to a file or folder inside.
    """
    named = [(file, match) for file in files if (match := _match(file.where.name, lab))]
    folders = [_folders(file.where, lab) for file, _ in named]
    common = 0
    while folders and len({folder[: common + 1] for folder in folders}) == 1 and common < len(folders[0]):
        common += 1
    # Folders around the whole class, as a zip has them; without a name before the lab's, the last one is the student.
    around = min([common, *(max(0, len(f) - 1) for f, (_, (flat, _)) in zip(folders, named, strict=True) if not flat)])
    found: list[tuple[str, _File, bool | None]] = []
    for (file, (flat, exact)), above in zip(named, folders, strict=True):
        own = above[around:]
        if own or flat:
            found.append((own[0] if own else flat, file, exact and bool(own) != bool(flat)))
    with_folder = {above[around] for above in folders if len(above) > around}
    for file in files if with_folder else ():
        above = file.where.parts[:-1]
        if len(above) > around and above[:around] == folders[0][:around] and above[around] not in with_folder:
            missing = _File(file.where, file.origin, file.read, file.refused or f"not a notebook of {lab}")
            found.append((above[around], missing, None))
    return found


def _folders(where: PurePosixPath, lab: str) -> tuple[str, ...]:
    """The folders above a file; that of the lab, as in STUDENT/LAB/LAB.ipynb, left out."""
    above = where.parts[:-1]
    return above[:-1] if above and above[-1].lower() == lab.lower() else above


def _files(path: Path) -> Iterator[_File]:
    if path.is_symlink():
        raise ValueError(f"{path} is a link; name the folder itself")
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            depth = len(Path(folder).relative_to(path).parts)
            folders[:] = sorted(f for f in folders if depth < 3 and not f.startswith((".", "__MACOSX")))
            here = PurePosixPath(Path(folder).relative_to(path))
            for name in sorted(names):
                yield _on_disk(Path(folder) / name, here / name)
            for name in folders:
                if os.path.islink(os.path.join(folder, name)):
                    yield _on_disk(Path(folder) / name, here / name / "link")
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                where = PurePosixPath(info.filename)
                if not info.is_dir() and "__MACOSX" not in where.parts:
                    yield _in_zip(path, info, where)
    else:
        raise ValueError(f"{path} is neither a folder nor a zip")


def _on_disk(path: Path, where: PurePosixPath) -> _File:
    def read() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("not a regular file")
            return file.read(MAX_BYTES + 1)

    return _File(where, _show(str(path)), read, "a link" if path.is_symlink() else "")


def _in_zip(archive: Path, info: zipfile.ZipInfo, where: PurePosixPath) -> _File:
    def read() -> bytes:
        with zipfile.ZipFile(archive) as opened, opened.open(info) as file:
            return file.read(MAX_BYTES + 1)  # never more, whatever the archive promises

    refused = "a link" if stat.S_ISLNK(info.external_attr >> 16) else ""
    if where.is_absolute() or ".." in where.parts:
        where = PurePosixPath(*(part for part in where.parts if part not in ("/", "..")))
        refused = "at a path outside of the archive"
    return _File(where, _show(f"{archive}:{info.filename}"), read, refused)


def _match(filename: str, lab: str) -> tuple[str, bool] | None:
    """What stands before the lab in a file's name, and whether the name is exact; ``None`` for another file."""
    name, extension = os.path.splitext(filename)
    if extension.lower() != ".ipynb":
        return None
    if re.fullmatch(PREFIX + re.escape(lab) + SUFFIX, name, re.I):
        return "", filename == f"{lab}.ipynb"
    flat = re.fullmatch(rf"(.+?)[_ -]{PREFIX}{re.escape(lab)}{SUFFIX}", name, re.I)
    return (flat[1], filename == f"{flat[1]}_{lab}.ipynb") if flat else None


def _person(text: str) -> str:
    """A student's name without what Moodle (``_123_assignsubmission_file_``) and Canvas (``_late_12_345``) add."""
    text = re.sub(r"_\d+_assignsubmission_file_?$", "", text)
    return re.sub(r"(?:_late)?(?:_\d{3,}){2}$", "", text, flags=re.I) or text


def _names(owners: set[str]) -> dict[str, str]:
    """A name for every owner of a file; two owners never share one, so namesakes keep what the system added."""
    short = {owner: _safe(_person(owner)) for owner in owners}
    taken = list(short.values())
    return {owner: name if taken.count(name) == 1 else _safe(owner) for owner, name in short.items()}


def _safe(text: str) -> str:
    """A name that is a valid file name everywhere; ``%XX`` stands for a byte that is not."""
    name = quote(os.fsencode(text), safe=" -_.@+").strip()
    if len(name) > 120:
        name = f"{name[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    # A leading sign would make a spreadsheet take the name for a formula.
    return f"%{ord(name[0]):02X}{name[1:]}" if name[:1] in (".", "-", "+", "@") else name or "%20"


def _show(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")


def _open(student: str, file: _File, flags: tuple[str, ...]) -> Submission:
    if file.refused:
        return Submission(student, file.origin, None, flags, f"the file is {file.refused}")
    try:
        return Submission(student, file.origin, file.read(), flags)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError) as error:
        return Submission(student, file.origin, None, flags, f"the file cannot be read ({type(error).__name__})")
