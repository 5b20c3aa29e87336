"""The first page: what the course is, its map, three ways in, and a card with a figure for each lecture."""

from __future__ import annotations

import html
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any

import networkx as nx

from optcourse.course import claims
from optcourse.course.book.content import Course, text
from optcourse.course.catalog import Lecture
from optcourse.course.report import Record

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 176, 58, 196, 88

_HEAD = (
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="head" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
)


def page(course: Course, pictures: Mapping[str, str]) -> str:
    """The page in MyST; ``pictures`` has the HTML of the figure of a lecture by its notebook's stem."""
    cards = "".join(_card(course, lecture, record, path.stem, pictures) for lecture, record, path in course.chapters)
    parts = [
        text("landing"),
        f'<p>{claims.counted(course.verdicts)} <a href="claims.html">All of them</a>.</p>',
        f"## The map\n\nAn arrow leads from a lecture to one that uses it.\n\n{lecture_map(course)}",
        text("ways"),
        f'## The lectures\n\n<div class="cards">{cards}</div>\n',
    ]
    return "\n\n".join(parts)


def _card(course: Course, lecture: Lecture, record: Record | None, stem: str, pictures: Mapping[str, str]) -> str:
    state = "not run yet" if record is None else "" if record.ok else "stopped"
    topics = " · ".join(html.escape(topic.title) for topic in course.topics_of(lecture.id))
    return (
        f'<section class="lecture-card"><h3><a href="{stem}.html">{lecture.id} {html.escape(lecture.title)}</a></h3>'
        f"{pictures.get(stem, '')}<p>{topics}</p>" + (f'<p class="muted">{state}</p>' if state else "") + "</section>"
    )


def lecture_map(course: Course) -> str:
    """Which lecture uses which, as a drawing whose boxes are links."""
    lectures = {lecture.id: lecture for lecture, _, _ in course.chapters}
    graph = nx.DiGraph()
    graph.add_nodes_from(lectures)
    graph.add_edges_from(
        (need, lecture.id) for lecture in lectures.values() for need in lecture.needs if need in lectures
    )
    direct = nx.transitive_reduction(graph)
    layers = {node: y for y, layer in enumerate(nx.topological_generations(direct)) for node in layer}
    # An arrow that passes layers has a place of its own in each of them, so that it does not run behind a box.
    ways = {(a, b): [(a, y, b) for y in range(layers[a] + 1, layers[b])] for a, b in direct.edges}
    rows: list[list[Any]] = [[] for _ in range(max(layers.values()) + 1)]
    for y, node in [
        *((y, node) for node, y in layers.items()),
        *((way[1], way) for all_ in ways.values() for way in all_),
    ]:
        rows[y].append(node)
    widest = max(map(len, rows))
    place = {
        node: (4 + _ACROSS * (x + (widest - len(row)) / 2), 4 + _DOWN * y)
        for y, row in enumerate(rows)
        for x, node in enumerate(sorted(row, key=lambda node: node if isinstance(node, str) else node[0]))
    }
    arrows = "".join(_arrow([place[node] for node in (a, *way, b)]) for (a, b), way in ways.items())
    boxes = "".join(_box(lecture.title, node, course.pages()[node], *place[node]) for node, lecture in lectures.items())
    width, height = _ACROSS * widest, _DOWN * len(rows)
    words = "; ".join(
        f"{node} uses {', '.join(sorted(direct.predecessors(node)))}" for node in lectures if direct.in_degree(node)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="map of the lectures">'
        f'<svg class="map" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="Which lecture uses which: {words}.">{_HEAD}{arrows}{boxes}</svg></div>'
    )


def _arrow(places: list[tuple[float, float]]) -> str:
    """A curve from the box at the first place to that at the last, straight down through the places between."""
    curve = ""
    for i, (start, end) in enumerate(itertools.pairwise(places)):
        (x, y), (to_x, to_y) = (start[0] + _WIDTH / 2, start[1] + _HEIGHT), (end[0] + _WIDTH / 2, end[1])
        to_y -= 2 * (i == len(places) - 2)  # the head
        bend = (to_y - y) / 2
        curve += f"{'L' if i else 'M'}{x:g},{y:g} C{x:g},{y + bend:g} {to_x:g},{to_y - bend:g} {to_x:g},{to_y:g} "
    return f'<path d="{curve.strip()}" marker-end="url(#head)"/>'


def _box(title: str, number: str, address: str, x: float, y: float) -> str:
    """A box with the number and the title, in lines that fit."""
    lines = textwrap.wrap(f"{number} {title}", 22)
    text = "".join(
        f'<text x="{x + 8:g}" y="{y + _HEIGHT / 2 + 4 + 16 * (i - (len(lines) - 1) / 2):g}">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<a href="{address}" aria-label="{html.escape(f"{number} {title}", quote=True)}">'
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>{text}</a>'
    )
