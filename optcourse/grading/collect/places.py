"""Every file below a folder or in a zip, not read yet: links, pipes and paths out of the archive are refused by name.

Nothing is left out here: whatever somebody handed in is one of these files, or an empty folder.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from optcourse.grading.submission import MAX_BYTES

#: Folders inside folders; what lies deeper is one entry.
MAX_DEPTH = 12
#: Of an archive that a student handed in; its list of members is read at once, and a long one takes memory.
MAX_NESTED, MAX_LIST = MAX_BYTES, 2**20
#: Made by systems and editors, holds no work.
JUNK = re.compile(r"\..*|__MACOSX|Thumbs\.db|desktop\.ini|ehthumbs\.db|Icon\r", re.I | re.S)
#: What a zip's members may be compressed with: a lzma stream may ask for gigabytes.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


@dataclass(frozen=True)
class File:
    """A file somewhere, not read yet. ``order``: of two that are alike, the later one is the newer."""

    where: PurePosixPath
    origin: str
    read: Callable[[], bytes]
    refused: str = ""
    notes: tuple[str, ...] = ()
    empty_folder: bool = False
    order: int = 0

    @property
    def junk(self) -> bool:
        """Whether a system or an editor made it."""
        return any(JUNK.fullmatch(part) for part in self.where.parts)


def files(path: Path, opened: ExitStack, skip: Path | None = None) -> list[File]:
    """What lies below ``path``, but not below ``skip``. Zips stay open until ``opened`` is closed.

    Raises ``ValueError`` for a path that is neither a folder nor a zip, or a damaged one.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link; name the folder itself")
    if path.is_dir():
        root = path.resolve()
        inside = skip is not None and skip.resolve().is_relative_to(root)
        found = list(
            _on_disk(path, PurePosixPath(*skip.resolve().relative_to(root).parts) if skip and inside else None)
        )
    elif path.is_file() and zipfile.is_zipfile(path):
        try:
            found = list(_in_zip(opened.enter_context(zipfile.ZipFile(path)), shown(path)))
        except (zipfile.BadZipFile, UnicodeDecodeError, struct.error, EOFError) as error:
            raise ValueError(f"{path}: the zip's list of files is damaged ({error})") from None
    else:
        there = "is neither a folder nor a zip" if path.exists() else "does not exist: it is neither a folder nor a zip"
        raise ValueError(f"{path} {there}")
    return [replace(file, order=place) for place, file in enumerate(_unfolded(found))]


def nested(file: File, raw: bytes) -> list[File]:
    """The files of a zip that a student handed in; raises ``ValueError``, which says why there are none."""
    if len(raw) > MAX_NESTED:
        raise ValueError(f"has more than {MAX_NESTED // 2**20} MB")
    end = raw.rfind(b"PK\5\6")
    if end < 0 or len(raw) < end + 22:
        raise ValueError("is no whole zip")
    if struct.unpack_from("<I", raw, end + 12)[0] > MAX_LIST or raw[max(0, end - 20) : end].startswith(b"PK\6\7"):
        raise ValueError("has too many members")
    try:
        found = list(_in_zip(zipfile.ZipFile(io.BytesIO(raw)), file.origin))
    except Exception as error:  # a stranger's bytes
        raise ValueError(f"is damaged ({type(error).__name__})") from None
    inside = [replace(f, where=file.where / f.where, order=place) for place, f in enumerate(_unfolded(found))]
    return [f for f in inside if not f.empty_folder]


def _on_disk(root: Path, skip: PurePosixPath | None) -> Iterator[File]:
    todo, names = [(root, PurePosixPath())], dict[tuple[int, int], str]()
    while todo:
        folder, here = todo.pop(0)
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if folder == root:
                raise
            why = f"in a folder that cannot be opened ({type(error).__name__})"
            yield File(here / "…", shown(folder), _nothing, why)
            continue
        if not entries and folder != root:
            yield File(here, shown(folder), _nothing, empty_folder=True)
        for entry in entries:
            path, where = folder / entry.name, here / entry.name
            if skip is not None and where == skip:
                continue
            if entry.is_symlink() and path.is_dir():
                yield File(
                    where / "link", shown(path), _nothing, "a link"
                )  # to a folder, so that it may be a student's
            elif not entry.is_dir(follow_symlinks=False):
                yield _one_on_disk(path, where, entry, names)
            elif JUNK.fullmatch(entry.name):
                yield File(where, shown(path), _nothing, "a hidden folder")
            elif len(where.parts) >= MAX_DEPTH:
                yield File(where, shown(path), _nothing, f"below {MAX_DEPTH} folders")
            else:
                todo.append((path, where))


def _one_on_disk(path: Path, where: PurePosixPath, entry: os.DirEntry[str], names: dict[tuple[int, int], str]) -> File:
    def read() -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError("not a regular file")
            return file.read(MAX_BYTES + 1)

    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return File(where, shown(path), read, f"out of reach ({type(error).__name__})")
    if stat.S_ISLNK(status.st_mode):
        return File(where, shown(path), read, "a link")
    if not stat.S_ISREG(status.st_mode):
        return File(where, shown(path), read, "no regular file, but a pipe, socket or device")
    notes = ()
    if status.st_nlink > 1:
        first = names.setdefault((status.st_dev, status.st_ino), str(where))
        other = f"the file {shown(first)!r}" if first != str(where) else "a file elsewhere"
        notes = (f"hard link: it is one and the same with {other}",)
    return File(where, shown(path), read, notes=notes)


def _in_zip(archive: zipfile.ZipFile, origin: str) -> Iterator[File]:
    members = [(info, _decoded(info)) for info in archive.infolist()]
    plain = any("/" in name for _, name in members)
    for info, name in members:
        # PowerShell 5 and other old tools for Windows write backslashes; elsewhere one may be part of a name.
        parts = (name.replace("\\", "/") if info.create_system == 0 or not plain else name).split("/")
        outside = name.startswith("/") or ".." in parts or re.fullmatch("[A-Za-z]:", parts[0])
        folder, parts = parts[-1] == "" or info.is_dir(), [p for p in parts if p not in ("", ".", "..")]
        parts = parts[1:] if outside and re.fullmatch("[A-Za-z]:", (parts or [""])[0]) else parts
        if not parts:
            continue
        refused = ""
        if stat.S_ISLNK(info.external_attr >> 16):
            refused = "a link"
        elif outside:
            refused = "at a path outside of the archive"
        elif info.flag_bits & 1:
            refused = "encrypted"
        elif info.compress_type not in METHODS:
            refused = f"compressed in an unusual way (method {info.compress_type})"
        elif len(parts) > MAX_DEPTH:
            parts, refused = parts[:MAX_DEPTH], f"below {MAX_DEPTH} folders"
        where, source = PurePosixPath(*parts), shown(f"{origin}:{name}")
        yield File(where, source, _member(archive, info), refused, empty_folder=folder)


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as file:
            return file.read(MAX_BYTES + 1)  # never more, whatever the archive promises

    return read


def _decoded(info: zipfile.ZipInfo) -> str:
    """A member's name. Without a flag for UTF-8, macOS writes UTF-8 all the same, Windows its own code page."""
    name = info.orig_filename
    if info.flag_bits & 0x800 or name.isascii():
        return name
    raw, extra = name.encode("cp437"), info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        if kind == 0x7075 and size > 5 and struct.unpack_from("<I", extra, 5)[0] == zlib.crc32(raw):
            return extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp850")  # western Europe's; it has the letters of cp437 and more


def _unfolded(found: Iterable[File]) -> Iterator[File]:
    """Unicode in one form, names with backslashes as folders, and only those folders that hold nothing."""
    found = [replace(file, where=_composed(file.where)) for file in found]
    if all(len(file.where.parts) == 1 for file in found):  # an old tool's zip, unpacked by another
        found = [replace(file, where=PurePosixPath(*_parts(file.where.name))) for file in found]
    used = {above for file in found for above in file.where.parents}
    files = {file.where for file in found if not file.empty_folder}
    return (f for f in found if not f.empty_folder or (f.where not in used and f.where not in files))


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("\\") if part not in ("", ".", "..")]
    return parts or [name]


def _composed(where: PurePosixPath) -> PurePosixPath:
    return PurePosixPath(*(unicodedata.normalize("NFC", part) for part in where.parts))


def _nothing() -> bytes:
    raise OSError("nothing to read")


def shown(text: str | Path) -> str:
    """A path as it is printed and written to a table, where a leading sign would be a formula."""
    text = os.fsencode(text).decode("utf-8", "replace")
    return f"./{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
