"""Which lectures and topics there are: notebooks on disk, and the course's own tables.

``topics.toml`` lists lectures, topics and labs; ``decks.toml`` beside it the slides that the topics answer.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

#: The letters of the decks.
DECKS = "ABCDE"
#: The number of a topic, in running text.
TOPIC_ID = re.compile(r"\b\d\d\.\d\b")
_NOTEBOOK = re.compile(r"(\d\d)_\w+\.ipynb")
_TYPES = {"str": str, "float": (int, float), "bool": bool, "tuple[str, ...]": list}

Entry = TypeVar("Entry", "Lecture", "Topic", "Lab", "Deck", "Slide")


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
    ``beyond`` says that the course goes beyond the decks. ``slide`` has their titles as ``"A: title | B: title"``.
    ``paper`` is the source of the claim.
    """

    id: str
    lecture: str
    deck: tuple[str, ...]
    beyond: bool
    title: str
    slide: str
    paper: str
    shows: str

    @property
    def slides(self) -> tuple[str, ...]:
        """The ids of the slides that it answers."""
        return tuple(self.slide.split(" | ")) if self.slide else ()


@dataclass(frozen=True)
class Lab:
    """One ``[[lab]]`` of ``topics.toml``: the topics that its exercises practise."""

    id: str
    title: str
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Deck:
    """One ``[[deck]]`` of ``decks.toml``: its letter, and title, authors, place and date as printed."""

    id: str
    title: str
    authors: str
    place: str
    date: str = ""


@dataclass(frozen=True)
class Slide:
    """One ``[[slide]]`` of ``decks.toml``; with a ``note`` of ours where no topic answers it, or only in part."""

    deck: str
    title: str
    note: str = ""

    @property
    def id(self) -> str:
        """As topics name it: ``"A: Background"``."""
        return f"{self.deck}: {self.title}"


@dataclass(frozen=True)
class Catalog:
    """The whole tables, in the order of the course and of the decks."""

    lectures: tuple[Lecture, ...] = ()
    topics: tuple[Topic, ...] = ()
    labs: tuple[Lab, ...] = ()
    decks: tuple[Deck, ...] = ()
    slides: tuple[Slide, ...] = ()

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

    def answers(self, slide: Slide) -> tuple[Topic, ...]:
        """The topics that name a slide, in the order of the course."""
        return tuple(topic for topic in self.topics if slide.id in topic.slides)


def load(path: Path) -> Catalog:
    """Read and validate ``topics.toml``, and ``decks.toml`` beside it; a folder without them has an empty catalog.

    Raises ``ValueError`` that names the file and the entry: unreadable TOML, unknown, missing or
    mistyped keys, a duplicate id, a topic whose lecture does not exist, a lab's
    unknown topic, an unknown deck or status, a topic's slide or a note's topic that does not exist.
    """
    if not path.exists():
        return Catalog()
    table = _tables(path, "lecture", "topic", "lab")
    lectures = _entries(path, "lecture", table, Lecture)
    topics = _entries(path, "topic", table, Topic)
    labs = _entries(path, "lab", table, Lab)
    known = {lecture.id for lecture in lectures}
    for lecture in lectures:
        _require(lecture.status in ("written", "planned"), path, lecture, "status must be 'written' or 'planned'")
        _require(lecture.after in ("", "all"), path, lecture, "after must be 'all', or absent")
    for topic in topics:
        _require(topic.lecture in known, path, topic, f"there is no lecture {topic.lecture!r}")
        _require(topic.id.startswith(topic.lecture + "."), path, topic, "id must begin with its lecture's id")
        _require(set(topic.deck) <= set(DECKS), path, topic, "deck must list letters A to E")
        _require(bool(topic.deck) != topic.beyond, path, topic, "deck must be empty exactly where beyond is true")
    for lab in labs:
        unknown_topics = set(lab.topics) - {topic.id for topic in topics}
        _require(not unknown_topics, path, lab, f"there is no topic {', '.join(sorted(unknown_topics))}")
    decks, slides = _decks(path.with_name("decks.toml"), path, topics)
    return Catalog(tuple(lectures), tuple(topics), tuple(labs), tuple(decks), tuple(slides))


def _decks(path: Path, topics_path: Path, topics: list[Topic]) -> tuple[list[Deck], list[Slide]]:
    """The decks and their slides, none without the file; every slide that a topic names must be there, and once."""
    if not path.exists():
        return [], []
    table = _tables(path, "deck", "slide")
    decks, slides = _entries(path, "deck", table, Deck), _entries(path, "slide", table, Slide)
    letters, known = {deck.id for deck in decks}, {topic.id for topic in topics}
    named = {slide for topic in topics for slide in topic.slides}
    for deck in decks:
        _require(deck.id in set(DECKS), path, deck, "id must be a letter A to E")
    times = Counter(slide.id for slide in slides)
    for slide in slides:
        _require(slide.deck in letters, path, slide, f"there is no deck {slide.deck!r}")
        once = times[slide.id] == 1 or (bool(slide.note) and slide.id not in named)
        _require(once, path, slide, "duplicate title; only a title with a note, which no topic names, may come back")
        unknown = sorted(set(TOPIC_ID.findall(slide.note)) - known)
        _require(not unknown, path, slide, f"there is no topic {', '.join(unknown)}")
    for topic in topics:
        missing = [slide for slide in topic.slides if slide not in times]
        _require(not missing, topics_path, topic, f"{path.name} has no slide {', '.join(map(repr, missing))}")
    return decks, slides


def _tables(path: Path, *kinds: str) -> dict[str, Any]:
    """A TOML file that holds lists of these kinds of entries."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    if unknown := table.keys() - set(kinds):
        allowed = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
        raise ValueError(f"{path}: unknown table {', '.join(sorted(unknown))}; allowed are {allowed}")
    return table


def _entries(path: Path, kind: str, table: dict[str, Any], cls: type[Entry]) -> list[Entry]:
    """One dataclass per row; the annotations of ``cls`` say which keys and types are allowed."""
    entries: list[Entry] = []
    for row in table.get(kind, []):
        name = f"{path}: {kind} {row.get('id', row.get('title', '(without id)'))!r}"
        types = {field.name: _TYPES[str(field.type)] for field in fields(cls)}
        if unknown := row.keys() - types.keys():
            raise ValueError(f"{name}: unknown key {', '.join(sorted(unknown))}")
        if missing := {f.name for f in fields(cls) if f.default is MISSING} - row.keys():
            raise ValueError(f"{name}: missing key {', '.join(sorted(missing))}")
        for key, value in row.items():
            if not isinstance(value, types[key]):
                raise ValueError(f"{name}: {key} has the wrong type, got {value!r}")
        if "id" in row and any(entry.id == row["id"] for entry in entries):
            raise ValueError(f"{name}: duplicate id")
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        entries.append(cls(**values))
    return entries


def _require(condition: bool, path: Path, entry: Lecture | Topic | Lab | Deck | Slide, problem: str) -> None:
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
