"""A submitted notebook, read with care and put back into the order of the lab.

What is graded is the lab's own notebook with the student's cells in it: provided cells and test cells come from the
lab, whatever the submission says they are, and every difference becomes a flag.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

from optcourse.grading.lab import Lab, is_test, is_written, role

MAX_BYTES = 20 * 2**20
MAX_CELLS = 2000
MAX_SOURCE = 200_000


class Unreadable(ValueError):
    """A file that is no notebook; the message says why."""


@dataclass(frozen=True)
class Cell:
    """One cell to execute or show: ``name`` is the lab's, or ``extra-3`` for a cell the student added."""

    name: str
    kind: str
    source: str
    test: bool = False
    provided: bool = False


def read(raw: bytes) -> NotebookNode:
    """The notebook in ``raw``, in version 4 of the format; raises :class:`Unreadable`."""
    if not raw.strip():
        raise Unreadable("the file is empty")
    if len(raw) > MAX_BYTES:
        raise Unreadable(f"the file has {len(raw) / 2**20:.0f} MB, more than {MAX_BYTES // 2**20}")
    try:
        text = raw.decode("utf-8-sig")
        notebook: Any = nbformat.from_dict(json.loads(text))
        if notebook.get("nbformat", 0) < 4:
            notebook = nbformat.reads(text, as_version=4)
        cells = [cell for cell in map(_cell, notebook["cells"]) if cell is not None]
    except RecursionError:
        raise Unreadable("the file is nested too deeply") from None
    except Exception as error:
        raise Unreadable(f"the file is not a notebook ({type(error).__name__}: {str(error)[:200]})") from None
    if len(cells) > MAX_CELLS:
        raise Unreadable(f"the notebook has {len(cells)} cells, more than {MAX_CELLS}")
    kept: Any = nbformat.from_dict({"cells": cells, "metadata": notebook.get("metadata", {}), "nbformat": 4})
    return kept


def _cell(cell: Any) -> dict[str, Any] | None:
    source = cell["source"]
    source = "".join(source) if isinstance(source, list) else source
    if not isinstance(source, str) or cell["cell_type"] not in ("code", "markdown", "raw"):
        return None
    metadata = cell.get("metadata")
    return {
        "cell_type": cell["cell_type"],
        "id": cell.get("id"),
        "source": source.encode("utf-8", "replace").decode()[:MAX_SOURCE],
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def assemble(lab: Lab, submitted: NotebookNode) -> tuple[list[Cell], list[str]]:
    """The lab's notebook with the student's cells in it, and the flags."""
    known = {role(cell)["grade_id"]: cell for cell in lab.release.cells if role(cell)}
    flags = _foreign(submitted)
    mine: dict[str, Any] = {}
    before: dict[str, list[Any]] = {}  # extra cells, by the lab's cell they follow
    place = ""
    for cell in submitted.cells:
        name = _name(cell, known)
        if name is None:
            before.setdefault(place, []).append(cell)
            if role(cell):
                flags.append(f"unknown graded cell {str(role(cell).get('grade_id'))[:40]!r}")
        elif name in mine:
            flags.append(f"duplicate cell {name!r}")
            if not _provided(known[name]):
                before.setdefault(place, []).append(cell)
        else:
            mine[name], place = cell, name
            flags += _differences(name, cell, known[name])
    flags += [f"missing cell {name!r}" for name in known if name not in mine]
    if mine and list(mine) != [name for name in known if name in mine]:
        flags.append("cells in another order")
    if not mine:
        flags.append("no cell of this lab")
    return _in_order(lab, mine, before), list(dict.fromkeys(flags))


def _in_order(lab: Lab, mine: dict[str, Any], extras: dict[str, list[Any]]) -> list[Cell]:
    cells: list[Cell] = []
    texts = {cell.source for cell in lab.release.cells}

    def add(following: str) -> None:
        for cell in extras.get(following, ()):
            if cell.cell_type == "code" or cell.source not in texts:
                cells.append(Cell(f"extra-{len(cells)}", cell.cell_type, cell.source))

    add("")
    for original in lab.release.cells:
        name = role(original).get("grade_id")
        if name is None:
            cells.append(Cell(original.id, original.cell_type, original.source, provided=True))
            continue
        provided = _provided(original)
        source = original.source if provided or name not in mine else mine[name].source
        cells.append(Cell(name, original.cell_type, source, is_test(original), provided))
        add(name)
    return cells


def _provided(cell: Any) -> bool:
    """Whether a cell is the lab's to write: read-only code and tests."""
    return not role(cell).get("solution")


def _name(cell: Any, known: dict[str, Any]) -> str | None:
    """The cell of the lab that a submitted cell is: by its grade id, its cell id, or its unchanged text."""
    for candidate in (role(cell).get("grade_id"), cell.get("id")):
        if isinstance(candidate, str) and candidate in known:
            return candidate
    same = (name for name, original in known.items() if _provided(original) and original.source == cell.source)
    return next(same, None)


def _foreign(submitted: NotebookNode) -> list[str]:
    kernel = submitted.metadata.get("kernelspec")
    language = kernel.get("name", "python3") if isinstance(kernel, dict) else "python3"
    return [] if str(language).startswith("python") else [f"foreign kernel {str(language)[:40]!r}"]


def _differences(name: str, cell: Any, original: Any) -> list[str]:
    """Flags of one cell: what an honest editor does not change."""
    flags = []
    if not role(cell):
        flags.append("metadata stripped")
    else:
        changed = [
            key
            for key, value in role(original).items()
            if key in role(cell) and role(cell)[key] != value and key not in ("checksum", "cell_type")
        ]
        flags += [f"cell {name!r}: {key} changed" for key in changed]
    if cell.cell_type != original.cell_type:
        flags.append(f"cell {name!r}: type changed")
    if cell.metadata.get("tags"):
        flags.append(f"cell {name!r}: tags")
    if _provided(original) and cell.source.split() != original.source.split():
        flags.append(f"edited {'test' if is_test(original) else 'provided'} cell {name!r}")
    return flags


def untouched(lab: Lab, cells: list[Cell], names: tuple[str, ...]) -> bool:
    """Whether these cells still hold the stub."""
    originals = {role(c)["grade_id"]: c.source for c in lab.release.cells if role(c)}
    mine = {cell.name: cell.source for cell in cells}
    return all(mine[name].split() == originals[name].split() for name in names)


def written_answers(lab: Lab, cells: list[Cell]) -> dict[str, str]:
    """The answers a person has to read: those that are not the stub."""
    originals = {role(c)["grade_id"]: c.source for c in lab.release.cells if is_written(c)}
    mine = {cell.name: cell.source for cell in cells}
    return {name: mine[name] for name, text in originals.items() if mine[name].split() != text.split()}
