"""The first page: what the course is, its map, three ways in, and a card with a figure for each lecture."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path

import networkx as nx

from optcourse.course import claims
from optcourse.course.book.content import Course

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 168, 46, 196, 62

TEXT = """# Optimization for Deep Learning

**Theorems that run.** Every lecture derives its claims and then measures them: a bound is a function with explicit
constants, the page shows the experiment, and a check fails when the bound fails. The course answers five slide decks,
from gradient descent to compressed and Byzantine-robust training on many nodes, and says where a printed formula slips.
It runs on a laptop without a GPU and without a network.

"""
WAYS = """
## Three ways in

**You study.** Begin with [lecture 01](01_training_problem.html), or anywhere that the map allows. Each section asks you to
*predict*, then shows what happened. Move the sliders in the page; open a notebook with `make lab` to change more. Then try
a [lab](labs.html), and look at [the claims](claims.html): some are undecided, and the page says by how much.

**You teach.** [Plans](instructors.html) for a semester, a week and a single lecture; ten labs with automatic tests, graded
in a sandbox; [each slide of the decks](slides.html) with the section that answers it, and [the slips](slips.html) in them.

**You do research.** [Every guarantee](handbook.html) with its constants, its source and how tight it is;
[the package](reference.html): optimizers whose `update` is the equation, and nodes whose algorithms run unchanged in one
process or on many ([from a laptop to a cluster](cluster.html)); [how fast](performance.html), measured.
"""


def page(course: Course, pictures: Mapping[str, str]) -> str:
    """The page in MyST; ``pictures`` has the HTML of the figure of a lecture by its notebook's stem."""
    cards = "".join(_card(course, lecture.id, pictures) for lecture in course.catalog.lectures)
    return (
        f"{TEXT}<p>{claims.counted(course.verdicts)} <a href=\"claims.html\">All of them</a>.</p>\n\n"
        f"## The map\n\nAn arrow says that a lecture uses another one.\n\n{lecture_map(course)}\n{WAYS}\n"
        f'## The lectures\n\n<div class="cards">{cards}</div>\n'
    )


def _card(course: Course, lecture_id: str, pictures: Mapping[str, str]) -> str:
    lecture = next(entry for entry in course.catalog.lectures if entry.id == lecture_id)
    stem = Path(lecture.notebook).stem
    record = course.records.get(stem)
    state = "not run yet" if record is None else "" if record.ok else "stopped"
    topics = " · ".join(html.escape(topic.title) for topic in course.topics_of(lecture.id))
    return (
        f'<section class="card"><h3><a href="{stem}.html">{lecture.id} {html.escape(lecture.title)}</a></h3>'
        f"{pictures.get(stem, '')}<p>{topics}</p>"
        + (f'<p class="muted">{state}</p>' if state else "")
        + "</section>"
    )


def lecture_map(course: Course) -> str:
    """Which lecture uses which, as a drawing whose boxes are links."""
    lectures = {lecture.id: lecture for lecture in course.catalog.lectures}
    graph = nx.DiGraph()
    graph.add_nodes_from(lectures)
    graph.add_edges_from((need, lecture.id) for lecture in lectures.values() for need in lecture.needs)
    direct = nx.transitive_reduction(graph)
    layers = [sorted(layer) for layer in nx.topological_generations(direct)]
    tallest = max(map(len, layers))
    place = {
        node: (4 + _ACROSS * x, 4 + _DOWN * (y + (tallest - len(layer)) / 2))
        for x, layer in enumerate(layers)
        for y, node in enumerate(layer)
    }
    arrows = "".join(_arrow(place[a], place[b]) for a, b in direct.edges)
    boxes = "".join(_box(lectures[node].title, node, course.pages()[node], *at) for node, at in place.items())
    width, height = _ACROSS * len(layers), _DOWN * tallest
    words = "; ".join(
        f"{node} uses {', '.join(sorted(direct.predecessors(node)))}" for node in lectures if direct.in_degree(node)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="map of the lectures">'
        f'<svg class="map" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="Which lecture uses which: {words}.">{arrows}{boxes}</svg></div>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = (start[0] + _WIDTH, start[1] + _HEIGHT / 2), (end[0], end[1] + _HEIGHT / 2)
    bend = (to_x - x) / 2
    return f'<path d="M{x:g},{y:g} C{x + bend:g},{y:g} {to_x - bend:g},{to_y:g} {to_x:g},{to_y:g}"/>'


def _box(title: str, number: str, address: str, x: float, y: float) -> str:
    """A box with the number and the title in at most two lines."""
    first, second = _two_lines(f"{number} {title}")
    lines = [first, second] if second else [first]
    text = "".join(
        f'<text x="{x + 8:g}" y="{y + _HEIGHT / 2 + 4 + 16 * (i - (len(lines) - 1) / 2):g}">{html.escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<a href="{address}" aria-label="{html.escape(f"{number} {title}", quote=True)}">'
        f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>{text}</a>'
    )


def _two_lines(text: str, most: int = 23) -> tuple[str, str]:
    words, first = text.split(), ""
    while words and len(f"{first} {words[0]}") <= most:
        first = f"{first} {words.pop(0)}".strip()
    second = " ".join(words)
    return first, second if len(second) <= most else second[: most - 1].rstrip() + "…"
