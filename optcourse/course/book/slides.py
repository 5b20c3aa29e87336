"""From the slides to the course: what answers each of them, and where a printed formula and its proof differ."""

from __future__ import annotations

import html
from collections.abc import Iterable

from optcourse.course import claims
from optcourse.course.book.content import Course, table
from optcourse.course.catalog import TOPIC_ID, Deck, Slide

SLIDES = """# Slides → lecture

You come from a slide and want to know what is behind it. Below are the decks that the course is built on, slide by
slide in their order. Beside each slide stand the sections that answer it, with a claim, its derivation, an experiment
and a check. A remark says where else to look, or that a slide claims nothing. A title that a deck repeats on
consecutive pages stands here once."""

SLIPS = """# Slips

A proof that becomes a slide loses assumptions, and now and then a sign or an index. Here are the places where what is
printed and what the derivation gives are not the same. Most of them are a stroke of the pen, which a lecturer may well
mend by word of mouth; they came to light because this course runs its formulas. The section in the last column derives
what stands in the column before it. Where we have misread a slide, the slip is ours. What the decks say besides, nearly
everything, is on the page [slides → lecture](slides.html)."""


def slides(course: Course) -> str:
    """Every slide of the decks in order, with links to the topics that answer it; empty without ``decks.toml``."""
    catalog = course.catalog
    if not catalog.decks:
        return ""
    parts = [SLIDES, _contents(catalog.decks)]
    for deck in catalog.decks:
        rows = [(html.escape(s.title), _answer(course, s)) for s in catalog.slides if s.deck == deck.id]
        parts += [_heading(deck), table(("slide", "answered in"), rows, css="table slides")]
    if beyond := [topic.id for topic in catalog.topics if topic.beyond]:
        parts += ["## Beyond the decks", f"<p>No slide has these topics:<br>{_topics(course, beyond)}</p>"]
    return "\n\n".join(parts) + "\n"


def slips(course: Course) -> str:
    """Every slip of ``summary.toml`` by deck, formulas typeset, one of two decks under both; empty without any."""
    found, pages = course.summary["slip"], course.pages()
    decks = [deck for deck in course.catalog.decks if any(deck.id in slip["deck"] for slip in found)]
    if not decks:
        return ""
    parts = [SLIPS, _contents(decks)]
    for deck in decks:
        rows = [
            (slip["slide"], slip["printed"], slip["derived"], claims.linked([slip["topic"]], pages))
            for slip in found
            if deck.id in slip["deck"]
        ]
        table = claims.markdown(("slide", "printed", "what the derivation gives", "section"), rows)
        parts += [_heading(deck), f"```{{container}} stacked\n{table}\n```"]
    return "\n\n".join(parts) + "\n"


def _contents(decks: Iterable[Deck]) -> str:
    """Links to the decks on this page."""
    return "\n".join(f"* [{deck.id}: {deck.title}](#deck-{deck.id}), {deck.authors}" for deck in decks)


def _heading(deck: Deck) -> str:
    """A deck's heading, with an anchor before it, and whose it is."""
    whose = ", ".join(part for part in (deck.authors, deck.place, deck.date) if part)
    return f'<a id="deck-{deck.id}"></a>\n\n## {deck.id}: {deck.title}\n\n{whose}.'


def _answer(course: Course, slide: Slide) -> str:
    """The topics that name a slide, and our note, in HTML."""
    note = TOPIC_ID.sub(lambda found: course.topic_link(found[0]), html.escape(slide.note, quote=False))
    topics = _topics(course, [topic.id for topic in course.catalog.answers(slide)])
    return "<br>".join(part for part in (topics, note and f'<span class="muted">{note}</span>') if part)


def _topics(course: Course, ids: Iterable[str]) -> str:
    """Links to topics with their titles, one a line."""
    titles = {topic.id: topic.title for topic in course.catalog.topics}
    return "<br>".join(course.topic_link(topic, f"{topic} {titles[topic]}") for topic in ids)
