"""A stranger's bytes become a notebook of plain, bounded data, or a sentence that says what the file is instead.

It runs where the bytes can do no harm (in the box), so it imports little. What the grader does not need (outputs,
unknown fields) is dropped while the JSON is read: a file may hold millions of empty objects.
"""

from __future__ import annotations

import ast
import base64
import binascii
import contextlib
import hashlib
import json
import re
import warnings
from typing import Any

#: The largest file, in bytes, and the most cells.
MAX_BYTES, MAX_CELLS = 20 * 2**20, 2000
#: Characters of one cell, of all cells together, and of all pasted pictures together (in base64).
MAX_SOURCE, MAX_TEXT, MAX_PICTURES = 200_000, 4_000_000, 12_000_000
#: Objects and lists of a file: a notebook of this size has far fewer.
MAX_PARTS = 2_000_000
SMALLER = "clear its outputs, save it, hand it in again"
#: Statements of one file, with the names they bind; flags of one file; pictures of one cell.
MAX_STATEMENTS, MAX_FLAGS, MAX_ATTACHED = 20_000, 50, 50
#: Kinds of pictures that are kept, and how their bytes begin.
PICTURES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8"}
#: Fields that are kept; every other is dropped while the file is read.
FIELDS = frozenset(("cells", "worksheets", "cell_type", "source", "input", "level", "id", "attachments", "metadata"))
FIELDS |= {"nbgrader", "tags", "kernelspec", "language_info", "name", "language", "grade_id", "grade", "solution"}
FIELDS |= {"locked", "task", "points", "schema_version"}
#: Files that are often handed in by mistake, by their first bytes.
KINDS = (
    (b"PK\3\4", "a zip archive (or a Word file)"), (b"7z\xbc\xaf", "a 7z archive"), (b"Rar!", "a rar archive"),
    (b"\x1f\x8b", "compressed with gzip"), (b"BZh", "compressed with bzip2"), (b"\xfd7zXZ", "compressed with xz"),
    (b"\x89PNG", "a picture (PNG)"), (b"\xff\xd8\xff", "a picture (JPEG)"), (b"GIF8", "a picture (GIF)"),
    (b"RIFF", "a picture or a recording"), (b"%PDF", "a PDF"), (b"{\\rtf", "a text document (RTF)"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"), (b"SQLite format 3", "a database"),
    (b"\0\5\x16\7", "what macOS stores beside a file, not the file itself"),
    (b"version https://git-lfs", "a pointer of git LFS, not the file itself"),
    (b"[InternetShortcut]", "a link to a web page"),
)  # fmt: skip
#: Cell magics whose text is Python in the notebook's own names.
TIMERS = ("time", "timeit", "capture", "prun")


class Unreadable(ValueError):
    """A file that is no notebook; the message says why."""


def read(raw: bytes) -> dict[str, Any]:
    """The notebook in ``raw``: ``cells``, ``kernel``, ``language`` and ``flags`` (what was dropped, in words).

    A cell is ``cell_type`` (code, markdown or raw), ``id`` (text or ``None``), ``source``, ``metadata`` (``nbgrader``
    with plain values, ``tags``), ``attachments`` (pictures in base64) and ``parts`` (:func:`parts`, of code). Versions
    2 to 4 of the format are read. Raises :class:`Unreadable`.
    """
    if len(raw) > MAX_BYTES:  # the rest was perhaps not even read: no number is said
        raise Unreadable(f"the file is larger than {MAX_BYTES // 2**20} MB; {SMALLER}")
    if not raw.strip(b"\xef\xbb\xbf\0 \t\r\n"):
        raise Unreadable("the file is empty")
    flags: list[str] = []
    notebook = _parse(raw, flags)
    found = [_cell(cell, flags) for cell in _raw_cells(notebook)]
    cells = [cell for cell in found if cell is not None]
    if found and not cells:
        raise Unreadable(f"the file is not a notebook: none of its {len(found)} cells can be read")
    if (size := sum(len(cell["source"]) for cell in cells)) > MAX_TEXT:
        raise Unreadable(f"the notebook has {size:,} characters of code and text, more than {MAX_TEXT:,}")
    room, statements = MAX_PICTURES, MAX_STATEMENTS
    for cell in cells:
        room -= (size := sum(len(data) for bundle in cell["attachments"].values() for data in bundle.values()))
        if room < 0:
            room, cell["attachments"] = room + size, {}
            _flag(flags, f"pictures were left out: more than {MAX_PICTURES // 10**6} MB of them")
        cell["parts"] = parts(cell["source"], statements) if cell["cell_type"] == "code" else []
        statements -= max(len(cell["source"]) // 40, sum(1 + len(part["binds"]) for part in cell["parts"]))
    kernel, info = (_dict(_dict(notebook.get("metadata")).get(key)) for key in ("kernelspec", "language_info"))
    return {
        "cells": cells,
        "kernel": _text(kernel.get("name"))[:100],
        "language": (_text(kernel.get("language")) or _text(info.get("name")))[:100],
        "flags": flags,
    }


def _parse(raw: bytes, flags: list[str]) -> dict[str, Any]:
    if kind := next((kind for start, kind in KINDS if raw.startswith(start)), None):
        raise Unreadable(f"the file is not a notebook: it is {kind}")
    encoding = json.detect_encoding(raw)
    if not encoding.startswith("utf-8"):
        _flag(flags, f"the file is saved as {encoding}, not as UTF-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        what = "no text" if b"\0" in raw[:1000] or b"{" not in raw else f"no text in UTF-8 (byte {error.start:,})"
        raise Unreadable(f"the file is not a notebook: it is {what}") from None
    if text.count("{") + text.count("[") > MAX_PARTS:
        raise Unreadable(f"the file has more than {MAX_PARTS:,} parts; {SMALLER}")

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            # A name with a slash is a kind of picture, and what holds one is an attachment: its name is free.
            if key in FIELDS or "/" in key or (type(value) is dict and any("/" in kind for kind in value)):
                if key in found:
                    _flag(flags, f"the field {key[:40]!r} stands twice in one place; the last one counts")
                found[key] = value
        return found

    try:
        notebook = json.loads(text, object_pairs_hook=kept)
    except RecursionError:
        raise Unreadable("the file is not a notebook: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"the file is not a notebook: it is {_mistaken(text, error)}") from None
    except ValueError as error:
        raise Unreadable(f"the file is not a notebook: {str(error)[:100]}") from None
    if not isinstance(notebook, dict):
        raise Unreadable("the file is not a notebook: it is JSON of another kind")
    return notebook


def _mistaken(text: str, error: json.JSONDecodeError) -> str:
    """What a text is that is no JSON."""
    start = text[:100_000].lstrip()
    if re.search(r"^(<{7}|>{7})( |$)", text, re.M):
        return "full of the marks of a merge conflict (<<<<<<<); solve the conflict in git first"
    if start.startswith("<"):
        return "a web page; download the notebook itself (the raw file)"
    ends = error.pos >= len(text.rstrip("\0 \t\r\n")) - 8 and error.msg != "Extra data"  # perhaps in a word
    if start.startswith("{") and (ends or error.msg.startswith("Unterminated")):
        return "cut off in the middle; save it and hand it in again"
    if start.startswith("{"):
        return f"damaged at line {error.lineno:,}, column {error.colno:,} ({error.msg})"
    if re.search(r"^\s*(import \w|from [\w.]+ import |def \w+\(|class \w+|# ?%%|#!.*python|%\w)", start, re.M):
        return "a Python script; hand in the .ipynb file"
    return "no text" if "\0" in start else "a text"


def _raw_cells(notebook: dict[str, Any]) -> list[Any]:
    """The cells of any version: up to version 3 they lie in worksheets."""
    cells = notebook.get("cells")
    if cells is None and isinstance(sheets := notebook.get("worksheets"), list):
        lists = [_dict(sheet).get("cells") for sheet in sheets]
        cells = [cell for some in lists if isinstance(some, list) for cell in some]
    if not isinstance(cells, list):
        raise Unreadable("the file is not a notebook: it has no cells")
    if len(cells) > MAX_CELLS:
        raise Unreadable(f"the notebook has {len(cells):,} cells, more than {MAX_CELLS:,}")
    return cells


def _flag(flags: list[str], note: str) -> None:
    if len(flags) < MAX_FLAGS and note not in flags:
        flags.append(note)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    """A text without half characters, which no file can hold; nothing for what is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _cell(cell: Any, flags: list[str]) -> dict[str, Any] | None:
    named = _text(_dict(cell).get("cell_type"))[:40]
    kind = "markdown" if named in ("html", "heading") else named  # both of version 3
    if kind not in ("code", "markdown", "raw"):
        _flag(flags, f"a cell of an unknown type was left out: {named!r}")
        return None
    source = cell.get("source", cell.get("input"))
    pieces = source if isinstance(source, list) else [source]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    if len(texts) < len(pieces):
        _flag(flags, "a cell holds something that is no text; it was left out")
        if not texts:
            return None
    text = _text("".join(texts)).replace("\r\n", "\n").replace("\r", "\n")
    if named == "heading":
        text = f"{'#' * (int(level) if (level := cell.get('level')) in (2, 3, 4, 5, 6) else 1)} {text}"
    pictures = _pictures(_dict(cell.get("attachments")), flags)
    if kind != "code":
        text = _inlined(text, pictures)
    if len(text) > MAX_SOURCE:
        _flag(flags, f"a cell of {len(text):,} characters was cut at {MAX_SOURCE:,}")
    metadata = _dict(cell.get("metadata"))
    tags = tags if isinstance(tags := metadata.get("tags"), list) else []
    grading = {key: _plain(value) for key, value in _dict(metadata.get("nbgrader")).items() if key in FIELDS}
    return {
        "cell_type": kind,
        "id": _text(cell.get("id"))[:200] or None,
        "source": text[:MAX_SOURCE],
        "metadata": {"nbgrader": grading, "tags": [_text(tag)[:100] for tag in tags[:20]]},
        "attachments": pictures,
    }


def parts(source: str, most: int = MAX_STATEMENTS) -> list[dict[str, Any]]:
    """The statements of a code cell: ``first`` and ``last`` line, the names it ``binds``, and ``key``, its meaning.

    The key stays when comments, docstrings and spaces change. What is no Python, or is and binds more than ``most``,
    is one part without a key; it binds the functions and classes that it seems to define.
    """
    lines = source.split("\n")
    magic = re.match(r"\s*%%(\w+)", source)
    # What IPython understands and Python does not, on a line of its own, stands for nothing.
    plain = "\n".join(re.sub(r"^(\s*)([%!?].*|[\w.]+\?+\s*)$", r"\1pass", line) for line in lines)
    for text in () if most <= 0 or (magic and magic[1] not in TIMERS) else (source, plain):
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len(body := ast.parse(text.replace("\r\n", "\n").replace("\r", " ")).body) > most:  # \r ends a line
                break
            found = _statements(body)
            if sum(1 + len(part["binds"]) for part in found) > most:
                break
            return found
    names = [] if magic else re.findall(r"^(?:async +)?(?:def|class) +(\w+)", source, re.M)
    return [{"key": "", "first": 0, "last": len(lines) - 1, "binds": names[:100]}]


def _statements(body: list[ast.stmt]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for node in body:
        first = min(n.lineno for n in (node, *getattr(node, "decorator_list", ()))) - 1
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        key = hashlib.sha256(ast.dump(node).encode("utf-8", "replace")).hexdigest()[:16]
        part = {"key": key, "first": first, "last": (node.end_lineno or node.lineno) - 1, "binds": _binds(node)}
        if found and first <= found[-1]["last"]:  # two on one line are one
            key = hashlib.sha256(f"{found[-1]['key']} {key}".encode()).hexdigest()[:16]
            found[-1] |= {"last": part["last"], "key": key}
            found[-1]["binds"] += part["binds"]
        else:
            found.append(part)
    return found


def _binds(statement: ast.stmt) -> list[str]:
    """The names of the notebook that a statement gives a value."""
    names: list[str] = []
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.append(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            waiting += ast.iter_child_nodes(node)
    return names


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return _text(value)[:200] or "?"


def _pictures(attachments: dict[str, Any], flags: list[str]) -> dict[str, dict[str, str]]:
    """The pictures among the attachments of a cell; what is left out is flagged."""
    found: dict[str, dict[str, str]] = {}
    if len(attachments) > MAX_ATTACHED:
        _flag(flags, f"{len(attachments):,} attachments in one cell; all but {MAX_ATTACHED} were left out")
    for name, bundle in list(attachments.items())[:MAX_ATTACHED]:
        name = _text(name)[:100]
        for kind, data in _dict(bundle).items():
            data = "".join(part for part in data if isinstance(part, str)) if isinstance(data, list) else data
            if kind in PICTURES and isinstance(data, str) and _is_picture(kind, data):
                found[name] = {kind: "".join(data.split())}
        if name not in found:
            _flag(flags, f"the attachment {name!r} was left out: no picture (PNG, JPEG, GIF)")
    return found


def _is_picture(kind: str, data: str) -> bool:
    try:
        return base64.b64decode("".join(data.split()), validate=True).startswith(PICTURES[kind])
    except (binascii.Error, ValueError):
        return False


def _inlined(text: str, pictures: dict[str, dict[str, str]]) -> str:
    """The text with the pictures that Colab writes into it (``data:image/png;base64,…``) as attachments."""

    def moved(match: re.Match[str]) -> str:
        kind, data = match[1].lower(), match[2]
        if not _is_picture(kind, data):
            return match[0]
        name = f"pasted-{len(pictures) + 1}.{kind.removeprefix('image/')}"
        pictures[name] = {kind: data}
        return f"attachment:{name}"

    return re.sub(r"data:(image/(?:png|jpeg|gif));base64,([A-Za-z0-9+/=]+)", moved, text, flags=re.I)
