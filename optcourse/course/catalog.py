"""Which lectures and topics there are: notebooks on disk, and the course's own table ``topics.toml``."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

_NOTEBOOK = re.compile(r"(\d\d)_\w+\.ipynb")
_TYPES = {"str": str, "float": (int, float), "bool": bool, "tuple[str, ...]": list}

Entry = TypeVar("Entry", "Lecture", "Topic", "Lab")


@dataclass(frozen=True)
class Lecture:
    """One ``[[lecture]]`` of ``topics.toml``; budgets are seconds in the quick profile on two cores.

    With ``after = "all"`` it runs after the others of the same run, for it reads their verdicts. ``needs`` lists the
    lectures that it uses, ``figure`` is the id of the cell whose figure stands for it.
    """

    id: str
    title: str
    notebook: str
    status: str
    budget_s: float = 60
    cell_budget_s: float = 10
    after: str = ""
    needs: tuple[str, ...] = ()
    figure: str = ""


@dataclass(frozen=True)
class Topic:
    """One ``[[topic]]`` of ``topics.toml``: where the claim comes from and what the notebook shows.

    ``deck`` lists the slide decks (A to E) that have the topic; it is empty, and ``slide`` too, where
    ``beyond`` says that the course goes beyond the decks. ``paper`` is the source of the claim.
    """

    id: str
    lecture: str
    deck: tuple[str, ...]
    beyond: bool
    title: str
    slide: str
    paper: str
    shows: str


@dataclass(frozen=True)
class Lab:
    """One ``[[lab]]`` of ``topics.toml``: the topics that its exercises practise."""

    id: str
    title: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """The whole table, in the order of the course."""

    lectures: tuple[Lecture, ...] = ()
    topics: tuple[Topic, ...] = ()
    labs: tuple[Lab, ...] = ()

    def lecture(self, notebook: Path) -> Lecture:
        """The entry of ``notebook``; one made up from its file name where the table has none."""
        number = lecture_id(notebook)
        for lecture in self.lectures:
            if lecture.id == number:
                return lecture
        title = re.sub(r"^\d\d_", "", notebook.stem).replace("_", " ")
        return Lecture(id=number, title=title, notebook=notebook.name, status="written")

    def topic(self, topic_id: str) -> Topic | None:
        """The entry of one topic, ``None`` when the table does not have it."""
        return next((topic for topic in self.topics if topic.id == topic_id), None)


def load(path: Path) -> Catalog:
    """Read and validate ``topics.toml``; a folder without one has an empty catalog.

    Raises ``ValueError`` that names the file and the entry: unreadable TOML, unknown, missing or
    mistyped keys, a duplicate id, a topic whose lecture does not exist, a lab's
    unknown topic, an unknown deck or status.
    """
    if not path.exists():
        return Catalog()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    if unknown := table.keys() - {"lecture", "topic", "lab"}:
        raise ValueError(f"{path}: unknown table {', '.join(sorted(unknown))}; allowed are lecture, topic and lab")
    lectures = _entries(path, "lecture", table.get("lecture", []), Lecture)
    topics = _entries(path, "topic", table.get("topic", []), Topic)
    labs = _entries(path, "lab", table.get("lab", []), Lab)
    known = {lecture.id for lecture in lectures}
    for lecture in lectures:
        _require(lecture.status in ("written", "planned"), path, lecture, "status must be 'written' or 'planned'")
        _require(lecture.after in ("", "all"), path, lecture, "after must be 'all', or absent")
    for topic in topics:
        _require(topic.lecture in known, path, topic, f"there is no lecture {topic.lecture!r}")
        _require(topic.id.startswith(topic.lecture + "."), path, topic, "id must begin with its lecture's id")
        _require(set(topic.deck) <= set("ABCDE"), path, topic, "deck must list letters A to E")
        _require(bool(topic.deck) != topic.beyond, path, topic, "deck must be empty exactly where beyond is true")
    for lab in labs:
        unknown_topics = set(lab.topics) - {topic.id for topic in topics}
        _require(not unknown_topics, path, lab, f"there is no topic {', '.join(sorted(unknown_topics))}")
    return Catalog(tuple(lectures), tuple(topics), tuple(labs))


def _entries(path: Path, kind: str, rows: Any, cls: type[Entry]) -> list[Entry]:
    """One dataclass per row; the annotations of ``cls`` say which keys and types are allowed."""
    entries: list[Entry] = []
    for row in rows:
        name = f"{path}: {kind} {row.get('id', '(without id)')!r}"
        types = {field.name: _TYPES[str(field.type)] for field in fields(cls)}
        if unknown := row.keys() - types.keys():
            raise ValueError(f"{name}: unknown key {', '.join(sorted(unknown))}")
        if missing := {f.name for f in fields(cls) if f.default is MISSING} - row.keys():
            raise ValueError(f"{name}: missing key {', '.join(sorted(missing))}")
        for key, value in row.items():
            if not isinstance(value, types[key]):
                raise ValueError(f"{name}: {key} has the wrong type, got {value!r}")
        if any(entry.id == row["id"] for entry in entries):
            raise ValueError(f"{name}: duplicate id")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        entries.append(cls(**values))
    return entries


def _require(condition: bool, path: Path, entry: Lecture | Topic | Lab, problem: str) -> None:
    if not condition:
        raise ValueError(f"{path}: {type(entry).__name__.lower()} {entry.id!r}: {problem}")


def find(folder: Path, names: tuple[str, ...] = ()) -> list[Path]:
    """The notebooks called ``names`` in the order of the course; all ``NN_*.ipynb`` of ``folder`` by default.

    A name is a number (``"1"``, ``"01"``), a stem (``"01_training_problem"``), a file name, or a path.
    Raises ``LookupError`` for an unknown name, for two different files of the same name, and when
    there is nothing to run.
    """
    available = sorted(path for path in folder.iterdir() if _NOTEBOOK.fullmatch(path.name))
    chosen = [_find_one(name, folder, available) for name in names] if names else available
    unique = {path.name: path for path in chosen}
    if len(unique) < len(set(chosen)):
        raise LookupError("two different lectures have the same file name: " + ", ".join(map(str, chosen)))
    if not unique:
        raise LookupError(f"no lecture (NN_name.ipynb) in {folder}")
    return [unique[name] for name in sorted(unique)]


def _find_one(name: str, folder: Path, available: list[Path]) -> Path:
    number = name.zfill(2) if name.isdecimal() else name
    for path in available:
        if number in (lecture_id(path), path.stem, path.name):
            return path
    for path in (Path(name), folder / name):
        if path.is_file() and path.suffix == ".ipynb":
            return path.resolve()
    known = ", ".join(lecture_id(path) for path in available) or "none"
    raise LookupError(f"no lecture {name!r} in {folder}; there is {known}")


def lecture_id(notebook: Path) -> str:
    """``"02"`` for ``02_sgd_and_minibatch.ipynb``; the stem for a notebook outside the course."""
    match = _NOTEBOOK.fullmatch(notebook.name)
    return match.group(1) if match else notebook.stem
