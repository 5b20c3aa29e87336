"""The book of this course before anything was run, and after a run: every page is there, and leads where it says."""

import re
from pathlib import Path

import nbformat
import numpy as np
import outputs as made
import pytest
from sites import Page, dead, elsewhere
from sites import pages as pages_of

from optcourse import files
from optcourse.course import catalog, claims, report
from optcourse.course.book import build
from optcourse.course.book.content import Course
from optcourse.course.execution import Failure, Outcome, Settings

ROOT = Path(__file__).parents[2]
LECTURES = ROOT / "lectures"
SETTINGS = Settings("quick", 0, "cpu")


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    info = report.RunInfo(SETTINGS, files.versions(), interrupted=False)
    table = catalog.load(LECTURES / "topics.toml")
    found = Course(LECTURES, table, {}, info, tmp_path_factory.mktemp("book"))
    build.write(found)
    return found


@pytest.fixture(scope="module")
def site(course):
    return pages_of(course.output)


def executed(lecture, outputs):
    """The notebook of a lecture with outputs: in the cell of its figure, and in the cells after it."""
    notebook = nbformat.read(LECTURES / lecture.notebook, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (first,) = [i for i, cell in enumerate(code) if cell.id == lecture.figure]
    for cell, shown in zip(code[first:], outputs, strict=False):
        cell.outputs = shown
    return notebook, code[first + 1].id


@pytest.fixture(scope="module")
def after(course, site, tmp_path_factory):
    """The same book after a run: 04 ended, 05 stopped, 20 shows the claims of all; the others were not run."""
    table, output, records = course.catalog, course.output, {}
    ran = {lecture.id: lecture for lecture in table.lectures if lecture.id in ("04", "05", "20")}
    everything = [made.picture(), made.checks("04.1"), made.sliders(), [made.display(made.WIDGET)]]
    pages = {lecture.id: f"{Path(lecture.notebook).stem}.html" for lecture in table.lectures}
    rows = claims.join(claims.collect(LECTURES), [{"lecture": "04", **row} for row in made.verdicts("04.1")])
    listed = [made.picture(), [made.display({"text/html": claims.page(rows, pages, table), "text/plain": ""})]]
    for number, outputs in {"04": everything, "05": [made.picture(), made.stopped()], "20": listed}.items():
        notebook, cell = executed(ran[number], outputs)
        failure = Failure("ClaimBroken", "c < b", cell, "05.1 AdaGrad") if number == "05" else None
        outcome, path = Outcome(notebook, 2.0, failure), LECTURES / ran[number].notebook
        report.keep(output, path.stem, outcome)
        records[path.stem] = report.record(path, outcome, SETTINGS, "key", table)
    report.write(output, records, course.info)
    build.write(Course(LECTURES, table, report.load(output), course.info, output))
    return pages_of(output)


def test_no_link_is_dead(site):
    assert dead(site) == []


def test_no_link_is_dead_after_a_run(site, after):
    page = after["04_momentum.html"]
    assert "claims.html#claim-04.1-3" in page.links and "04_momentum.ipynb" in page.links  # what a run adds is there
    assert any(address.endswith(".webp") for address in page.loads)
    assert any(address.startswith("#cell-") for address in after["05_adaptive_methods.html"].links)
    assert "04_momentum.html#04.1" in after["20_model_compression_and_practice.html"].links
    assert after.keys() == site.keys()
    assert dead(after) == []


def test_a_dead_link_of_any_kind_is_found(after, course, tmp_path):
    text = after["04_momentum.html"].source
    picture = re.search(r"figures/\w+\.webp", text)[0]
    kinds = {
        "claims.html#claim-04.1-3": "claims.html#claim-04.1-99",
        "lab03.html": "lab33.html",
        'href="04_momentum.ipynb"': 'href="44_momentum.ipynb"',
        picture: "figures/gone.webp",
        "_static/book.css": "_static/gone.css",
        "05_adaptive_methods.html": "file:///tmp/05_adaptive_methods.html",
    }
    for good, bad in kinds.items():
        assert good in text
        (course.output / "planted.html").write_text(text.replace(good, bad), encoding="utf-8")
        try:
            found = dead({**after, "planted.html": Page(course.output / "planted.html")})
        finally:
            (course.output / "planted.html").unlink()
        assert {page for page, _ in found} == {"planted.html"}
        assert {re.search(r"[^\"=]+", bad.removeprefix("href="))[0]} == {
            address.partition("?")[0] for _, address in found
        }


@pytest.mark.parametrize("when", ["site", "after"])
def test_no_heading_comes_twice_on_a_page(when, request):
    for name, page in request.getfixturevalue(when).items():
        twice = {text for text in page.headings if page.headings.count(text) > 1}
        assert not twice, (name, twice)
        assert page.headings or name in ("genindex.html", "py-modindex.html", "search.html"), name


@pytest.mark.parametrize("lab", sorted(path.stem for path in (ROOT / "labs" / "release").glob("lab*")))
def test_a_lab_says_what_it_asks_and_how_to_get_and_check_it(site, course, lab):
    page, entry = site[f"{lab}.html"], next(entry for entry in course.catalog.labs if entry.id == lab)
    notebook = nbformat.read(ROOT / "labs" / "release" / lab / f"{lab}.ipynb", as_version=4)
    graded = [c.metadata.nbgrader for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]
    tests, written = ([g.points for g in graded if g.solution is which] for which in (False, True))
    text = " ".join(page.text.split())
    assert f"{sum(tests):g} points for {len(tests)} exercises, {sum(written):g} for an answer in words" in text
    assert f"optcourse labs check {lab} {lab}.ipynb" in text and f"labs/release/{lab}/{lab}.ipynb" in text
    assert {f"{course.pages()[topic[:2]]}#{topic}" for topic in entry.topics} <= {*page.links}
    assert f"{lab}.html" in site["labs.html"].links
    headings = [line for c in notebook.cells for line in re.findall(r"^## (.+)$", c.source, flags=re.MULTILINE)]
    assert len(headings) > len(tests)
    assert len(page.headings) == 1 + len(headings)
    copy = course.output / "labs" / f"{lab}.ipynb"
    assert copy.read_bytes() == (ROOT / "labs" / "release" / lab / f"{lab}.ipynb").read_bytes()


def secrets(source, known):
    """Lines of solutions, hidden tests and mark schemes that are not ``known`` to students from elsewhere."""
    regions = re.compile(r"### BEGIN (SOLUTION|HIDDEN TESTS|MARK SCHEME)(.*?)### END", re.DOTALL)
    for cell in source.cells:
        parts = [found[2] for found in regions.finditer(cell.source)]
        role = cell.metadata.get("nbgrader", {})
        if role.get("solution") and not parts:
            parts = [cell.source]
        lines = {re.sub(r"\s+", "", line) for part in parts for line in part.splitlines()}
        yield from (line for line in lines if len(line) > 25 and line not in known)


def test_no_solution_and_no_hidden_test_is_in_the_book(after, course):
    sources = sorted((ROOT / "labs" / "source").glob("*/*.ipynb"))
    if not sources:
        pytest.skip("a student's copy has no sources of labs")
    notebooks = [*LECTURES.glob("*.ipynb"), *(ROOT / "labs" / "release").glob("*/*.ipynb")]
    texts = [cell.source for path in notebooks for cell in nbformat.read(path, as_version=4).cells]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "optcourse").rglob("*.py")]
    known = "\n".join(re.sub(r"\s+", "", text) for text in texts)
    shown = {name: re.sub(r"\s+", "", page.text) for name, page in after.items()}
    shown |= {f"labs/{p.name}": re.sub(r"\s+", "", p.read_text()) for p in course.output.glob("labs/*.ipynb")}
    lines = 0
    for path in sources:
        for line in secrets(nbformat.read(path, as_version=4), known):
            lines += 1
            assert [name for name, text in shown.items() if line in text] == [], (path.stem, line)
    assert lines > 500


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


def test_no_arrow_of_the_map_runs_behind_a_box(site):
    drawing = re.search(r'<svg class="map".*?</svg>', site["index.html"].source, re.DOTALL)[0]
    number = r"([\d.]+)"
    boxes = [[float(n) for n in found] for found in re.findall(rf'<rect x="{number}" y="{number}"', drawing)]
    arrows = re.findall(r'<path d="(M[^"]*)" marker-end', drawing)
    assert len(boxes) == 20 and len(arrows) >= 19
    share = np.linspace(0, 1, 101)[:, None]
    for arrow in arrows:
        at, passed = None, []
        for kind, words in re.findall(r"([MLC])([^MLC]+)", arrow):
            points = np.array([at, *(list(map(float, pair.split(","))) for pair in words.split())][kind == "M" :])
            if kind == "L":
                passed.append(points[0] + share * (points[1] - points[0]))
            elif kind == "C":
                weights = [(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3]
                passed.append(sum(w * point for w, point in zip(weights, points, strict=True)))
            at = points[-1]
        x, y = np.concatenate(passed).T
        for left, top in boxes:  # as wide and high as it is drawn, without its edge
            inside = (x > left + 1) & (x < left + 175) & (y > top + 1) & (y < top + 57)
            assert not inside.any(), (arrow, left, top)


def test_the_figure_of_every_card_is_drawn_by_its_lecture(course):
    for lecture, _, path in course.chapters:
        cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
        assert lecture.figure in cells and "plt.show" in cells[lecture.figure], lecture.id
