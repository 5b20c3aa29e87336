"""The book of this course before anything was run: every page is there, and leads where it says."""

import re
from pathlib import Path

import pytest
from sites import dead, elsewhere, pages

from optcourse import files
from optcourse.course import catalog, report
from optcourse.course.book import build
from optcourse.course.book.content import Course
from optcourse.course.execution import Settings

LECTURES = Path(__file__).parents[2] / "lectures"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    info = report.RunInfo(Settings("quick", 0, "cpu"), files.versions(), interrupted=False)
    table = catalog.load(LECTURES / "topics.toml")
    found = Course(LECTURES, table, {}, info, tmp_path_factory.mktemp("book"))
    build.write(found)
    return found


@pytest.fixture(scope="module")
def site(course):
    return pages(course.output)


def test_no_link_is_dead(site):
    missing = [(page, address) for page, address in dead(site) if not re.fullmatch(r"\d\d_\w+\.ipynb", address)]
    assert missing == []  # but the executed notebooks, which there will be


def test_nothing_comes_from_another_host(site):
    assert elsewhere(site) == []


def test_every_formula_of_the_lectures_can_be_typeset(site, course):
    for name, page in site.items():
        assert re.findall(r'<code class="tex">(.*?)</code>', page.source, flags=re.DOTALL) == [], name
    assert all("math" in site[f"{path.stem}.html"].tags for _, _, path in course.chapters)


def test_every_page_is_there_and_every_lecture_says_that_it_was_not_run(site, course):
    names = {"index", "labs", "claims", "handbook", "slides", "slips", "package", "reference", "performance", "cluster"}
    assert {f"{name}.html" for name in names | {"run", "instructors"}} <= site.keys()
    for _, _, path in course.chapters:
        assert "Not run yet." in site[f"{path.stem}.html"].text


def test_ids_are_unique_on_every_page(site):
    for name, page in site.items():
        twice = {ident for ident in page.ids if page.ids.count(ident) > 1}
        assert twice <= {"searchbox", "pst-search-dialog"} and not twice, (name, twice)


def test_the_figure_of_every_card_is_drawn_by_its_lecture(course):
    import nbformat

    for lecture, _, path in course.chapters:
        cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
        assert lecture.figure in cells and "plt.show" in cells[lecture.figure], lecture.id
