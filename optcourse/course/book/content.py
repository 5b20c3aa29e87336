"""What the pages of the book are made of: the course's tables, and what the last run left."""

from __future__ import annotations

import functools
import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optcourse.course import claims, report
from optcourse.course.catalog import Catalog, Topic
from optcourse.course.report import Record, RunInfo


@dataclass(frozen=True)
class Course:
    """The folder of the ``lectures``, their tables, and the ``records`` of what was run."""

    lectures: Path
    catalog: Catalog
    records: dict[str, Record]
    info: RunInfo
    output: Path

    @functools.cached_property
    def root(self) -> Path:
        """The folder of the whole course, where ``labs`` and ``tests`` are beside the lectures."""
        return self.lectures.parent

    @functools.cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """Every verdict of the last run, in order, with the ``lecture`` it is from."""
        return report.verdicts(self.output, self.records.values())

    @functools.cached_property
    def summary(self) -> dict[str, list[dict[str, Any]]]:
        """Slips, advice and answers of ``summary.toml``; none without it."""
        path = self.lectures / "summary.toml"
        return claims.summary(path, self.catalog) if path.exists() else {kind: [] for kind in claims.TABLES}

    def pages(self) -> dict[str, str]:
        """The page of each lecture by its number."""
        return {lecture.id: f"{Path(lecture.notebook).stem}.html" for lecture in self.catalog.lectures}

    def topic_link(self, topic_id: str, text: str = "") -> str:
        """A link in HTML to the section of a topic."""
        topic = self.catalog.topic(topic_id)
        title = f' title="{html.escape(topic.title, quote=True)}"' if topic else ""
        return f'<a href="{claims.link(topic_id, self.pages())}"{title}>{html.escape(text or topic_id)}</a>'

    def topics_of(self, lecture: str) -> list[Topic]:
        """The topics of a lecture, in order."""
        return [topic for topic in self.catalog.topics if topic.lecture == lecture]


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, css: str = "", ident: str = "") -> str:
    """A table in HTML whose cells are HTML, in a box that scrolls sideways by itself on a narrow screen."""
    titles = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    attributes = (f' id="{ident}"' if ident else "") + (f' class="{css}"' if css else "")
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table">'
        f"<table{attributes}><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>"
    )
