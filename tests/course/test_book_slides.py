"""The two pages of the book for whoever comes from a slide."""

import dataclasses
import re
from pathlib import Path

import pytest

from optcourse.course import catalog
from optcourse.course.book import pages, slides
from optcourse.course.book.content import Course
from optcourse.course.catalog import Catalog, Deck, Lecture, Slide, Topic
from optcourse.course.execution import Settings
from optcourse.course.report import RunInfo

LECTURES = Path(__file__).parents[2] / "lectures"
INFO = RunInfo(Settings("quick", 0, "cpu"), {}, interrupted=False)


def topic(ident, slide):
    return Topic(ident, "01", ("A",) if slide else (), not slide, f"about <{ident}>", slide, "paper", "Shown.")


TINY = Catalog(
    lectures=(Lecture("01", "First", "01_first.ipynb", "written"),),
    topics=(topic("01.1", "A: s & t"), topic("01.2", "A: s & t | B: u"), topic("01.3", "")),
    decks=(Deck("A", "Deck one", "Ann Other", "Here", "May 1"), Deck("B", "Deck two", "Bob Else", "There")),
    slides=(
        Slide("A", "Start", "Title page."),
        Slide("A", "s & t", "And more: 01.3."),
        Slide("B", "u"),
    ),
)
SLIP = r"""
[[slip]]
topic = "01.2"
deck = "AB"
slide = "s"
printed = '$a|b$'
derived = '$\frac12$'
quote = "q"
"""


def course(folder, table=TINY, summary=""):
    if summary:
        (folder / "summary.toml").write_text(summary)
    (folder / "01_first.ipynb").touch()
    return Course(folder, table, {}, INFO, folder)


def rows(page):
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(<td>.*?)</tr>", page)]


def test_every_slide_stands_in_order_beside_its_topics_and_note(tmp_path):
    page = slides.slides(course(tmp_path))
    start, both, last = rows(page)
    assert [cells[0] for cells in (start, both, last)] == ["Start", "s &amp; t", "u"]
    assert start[1] == '<span class="muted">Title page.</span>'
    assert re.findall(r'href="([^"]*)"', both[1]) == [f"01_first.html#01.{k}" for k in (1, 2, 3)]
    assert "01.1 about &lt;01.1&gt;</a><br><a" in both[1] and "And more: <a" in both[1]
    assert last[1].count("<a ") == 1 and "muted" not in last[1]
    assert page.index('id="deck-A"') < page.index("Ann Other, Here, May 1.") < page.index('id="deck-B"')
    assert "Bob Else, There." in page
    assert "(#deck-B)" in page and "01.3 about" in page[page.index("## Beyond the decks") :]


def test_a_slip_of_two_decks_stands_under_both_with_its_formulas(tmp_path):
    page = slides.slips(course(tmp_path, summary=SLIP))
    line = r"| s | $a\|b$ | $\frac12$ | [01.2](01_first.html#01.2) |"
    assert page.count(line) == 2
    assert page.index("## A: Deck one") < page.index(line) < page.index("## B: Deck two")
    assert "Bob Else" in page and "<td>" not in page


def test_without_tables_there_is_no_page(tmp_path):
    nothing = course(tmp_path, dataclasses.replace(TINY, decks=(), slides=()))
    assert slides.slides(nothing) == "" and slides.slips(nothing) == ""
    assert slides.slips(course(tmp_path)) == ""


def test_the_book_has_both_pages():
    assert pages.PAGES["Look up"].items() >= {"slides": slides.slides, "slips": slides.slips}.items()


# ------------------------------------------------------------------------------- this course


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Course(LECTURES, catalog.load(LECTURES / "topics.toml"), {}, INFO, tmp_path_factory.mktemp("out"))


def test_the_course_answers_every_slide_of_its_decks(ours):
    found = rows(slides.slides(ours))
    assert len(found) == len(ours.catalog.slides) and all(len(cells) == 2 and cells[1] for cells in found)
    linked = set(re.findall(r'href="[^"#]*#([\d.]+)"', slides.slides(ours)))
    assert linked == {topic.id for topic in ours.catalog.topics}


def test_every_slip_of_the_course_is_on_its_page(ours):
    page = slides.slips(ours)
    for slip in ours.summary["slip"]:
        printed = slip["printed"].replace("|", "\\|")
        assert page.count(f"| {slip['slide']} | {printed} |") == len(slip["deck"])
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert all(len(re.split(r"(?<!\\)\|", line)) == 6 and line.count("$") % 2 == 0 for line in lines)
    assert all(deck.authors in page for deck in ours.catalog.decks)
