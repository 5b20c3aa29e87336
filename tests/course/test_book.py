"""The book of a small course: a lecture that ran, one that stopped, one that was not run."""

import json
import re
import sys
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import outputs as made
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sites import dead, elsewhere, pages

from optcourse import files
from optcourse.checking import MARKS
from optcourse.course import catalog, report, runner
from optcourse.course.book import build, chapters, extension, landing
from optcourse.course.book.content import Course
from optcourse.course.execution import Failure, Outcome, Settings
from optcourse.sliders import panel

SETTINGS = Settings("quick", 0, "cpu")
TABLE = """
[[lecture]]
id = "02"
title = "SGD & mini-batch"
notebook = "02_sgd.ipynb"
status = "written"
figure = "plot"
[[lecture]]
id = "03"
title = "Landscapes"
notebook = "03_landscapes.ipynb"
status = "written"
needs = ["02"]
[[lecture]]
id = "04"
title = "Momentum"
notebook = "04_momentum.ipynb"
status = "written"
needs = ["02", "03"]
[[topic]]
id = "02.4"
lecture = "02"
deck = ["A"]
beyond = false
title = "Rate"
slide = "A: Theorem"
paper = "Ghadimi and Lan, 2013"
shows = "The bound holds."
"""


def lecture(title, *, topic="02.4", outputs=True):
    """A notebook with all that lectures have; executed, or as it stands."""
    long = "\n".join(f"x{i} = {i}" for i in range(chapters.LONG + 1))
    cells = [
        new_markdown_cell(f"# {title}\n\nWhat it asks.", id="title"),
        new_code_cell("import optcourse\nrun = optcourse.start()", id="start"),
        new_markdown_cell(
            f'## <a id="{topic}"></a>{topic} A rate\n\nInline $a<b$ and\n\n'
            "$$\\begin{aligned} a &= b \\end{aligned}$$\n\nSee [the other](03_landscapes.ipynb#03.1).",
            id="heading",
        ),
        new_code_cell("check()", id="checks", outputs=made.checks()),
        new_code_cell("plot()", id="plot", outputs=made.picture()),
        new_code_cell(long, id="long"),
        new_code_cell("sliders()", id="sliders", outputs=made.sliders()),
        new_code_cell("guard()", id="guard", outputs=made.skipped()),
        new_code_cell("interact()", id="other", outputs=[made.display(made.WIDGET)]),
        new_code_cell("x/2", id="sympy", outputs=[made.display({"text/latex": "$\\displaystyle \\frac{x}{2}$"})]),
    ]
    if not outputs:
        for cell in cells:
            if cell.cell_type == "code":
                cell.outputs = []
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


VERDICTS = made.verdicts()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    root = tmp_path_factory.mktemp("course [é]")  # the names that a folder may have
    lectures, output = root / "lectures", root / "build" / "lectures"
    lectures.mkdir()
    (lectures / "topics.toml").write_text(TABLE)
    table = catalog.load(lectures / "topics.toml")
    third = lecture("03 Landscapes", topic="03.1")
    third.cells[3].outputs = made.stopped()
    outcomes = {
        "02_sgd": Outcome(lecture("02 SGD"), 75.0, None),
        "03_landscapes": Outcome(third, 2.0, Failure("ClaimBroken", "c < b", "checks", "03.1 A rate")),
    }
    records = {}
    for name, outcome in outcomes.items():
        nbformat.write(lecture(name, outputs=False), lectures / f"{name}.ipynb")
        report.keep(output, name, outcome)
        records[name] = report.record(Path(f"{name}.ipynb"), outcome, SETTINGS, "key", table)
    nbformat.write(lecture("04 Momentum", topic="04.1", outputs=False), lectures / "04_momentum.ipynb")
    report.write(output, records, report.RunInfo(SETTINGS, {"python": "3.11.7", "torch": "2.13.0"}, False))
    info = report.last_run(output)
    assert info is not None
    found = Course(lectures, table, report.load(output), info, output)
    build.write(found)
    return found


@pytest.fixture(scope="module")
def site(course):
    return pages(course.output)


def test_no_link_is_dead_and_nothing_comes_from_another_host(site):
    assert len(site) > 20  # also the pages of the package
    known = ("labs.html", "slides.html", "slips.html", "handbook.html", "performance.html", "cluster.html")
    missing = {address.partition("#")[0] for _, address in dead(site)}
    # This small course has no labs, decks and tables, and no other lectures, which the fixed texts link to.
    assert all(name in known or re.match(r"\d\d_|lab\d\d", name) for name in missing), missing
    assert elsewhere(site) == []


def test_a_lecture_shows_its_verdicts_and_they_lead_to_the_claims(site):
    page = site["02_sgd.html"]
    assert "3 claims: ✓ 1 holds, ◇ 1 fails as expected, ? 1 undecided, ✗ 0 broken" in page.text
    assert "75 s (quick, seed 0, cpu)" in page.text and "02_sgd.ipynb" in page.links
    for n, row in enumerate(VERDICTS, 1):
        anchor = f"claim-02.4-{n}"
        assert f"claims.html#{anchor}" in page.links and anchor in site["claims.html"].ids
        assert f"{MARKS[row['verdict']].sign} 02.4 {row['verdict']}" in page.text
    assert "a < b & c: 1 ≤ 2" in page.text and "1 in [0, 1] too noisy" in page.text
    assert "1.5 [0.5, 2.5] ≤ 2" in page.text


def test_the_anchors_of_topics_stand_once_and_outside_of_headings(site):
    for name, topic in (("02_sgd.html", "02.4"), ("03_landscapes.html", "03.1"), ("04_momentum.html", "04.1")):
        page = site[name]
        assert page.ids.count(topic) == 1
        assert len(page.ids) == len({*page.ids}), name
    assert "03_landscapes.html#03.1" in site["02_sgd.html"].links


def test_formulas_of_text_and_output_are_mathml(site):
    page = site["02_sgd.html"]
    assert page.tags.count("math") == 3 and "mfrac" in page.tags
    assert "$" not in page.text and "(1)" not in page.text  # as in JupyterLab, no equation numbers of their own


def test_set_up_and_long_code_are_folded(site):
    source = site["02_sgd.html"].source
    folded = [block for block in re.findall(r"<details.*?</details>", source, flags=re.DOTALL) if "highlight" in block]
    text = [re.sub(r"<[^>]*>", "", block) for block in folded]
    assert len(text) == 2 and "optcourse.start" in text[0] and f"x{chapters.LONG} = " in text[1]


def test_a_figure_is_a_file_with_a_description_and_a_size(course, site):
    (image,) = [image for image in site["02_sgd.html"].images if image["alt"] == "It falls."]
    assert (course.output / image["src"]).read_bytes()[:4] == b"\x89PNG"
    assert int(image["width"]) > 100 < int(image["height"]) + 50
    # The card of the lecture on the first page shows the same file.
    assert any(card["src"] == image["src"] for card in site["index.html"].images)


def test_a_slider_has_a_figure_for_each_position_by_the_function_of_the_notebook(course, site):
    source = site["02_sgd.html"].source
    (data,) = re.findall(r'data-frames="(.*?)"', source)
    data = json.loads(data.replace("&quot;", '"'))
    assert data.keys() == {"height", "name"} and data["name"]["texts"] == ["a", "b"]
    height = data["height"]
    assert len(height["frames"]) == panel.POSITIONS and height["texts"][height["start"]] == "1"
    address, text = height["frames"][-1]
    assert text == "loss against step: a from 0.5 to 5." and (course.output / address).exists()
    assert data["name"]["frames"][1][1] == "loss against step: b from 0.5 to 1."
    assert "In JupyterLab there is a control here." in site["02_sgd.html"].text  # of a widget that is no panel


def test_a_skipped_cell_says_so_in_a_sentence_that_wraps(site):
    source = site["02_sgd.html"].source
    assert '<p class="muted skipped">skipped: no CUDA device; with one: all &lt; 2 minutes</p>' in source
    assert "skipped: no CUDA" not in "".join(re.findall(r"<pre>.*?</pre>", source, flags=re.DOTALL))


def test_a_lecture_that_stopped_says_where_and_keeps_what_it_showed(site):
    page = site["03_landscapes.html"]
    assert "This lecture stopped" in page.text and "ClaimBroken: c < b" in page.text and "03.1 A rate" in page.text
    assert "#cell-checks" in page.links and "cell-checks" in page.ids
    assert "stopped" in site["index.html"].text


def test_a_lecture_that_was_not_run_has_its_page(site):
    page = site["04_momentum.html"]
    assert "Not run yet." in page.text and "optcourse run 04" in page.text and "04.1 A rate" in page.text
    assert "not run yet" in site["run.html"].text and "not run yet" in site["index.html"].text


def test_the_last_run_has_its_page(site):
    text = site["run.html"].text
    assert "Profile quick, seed 0, device cpu; python 3.11.7, torch 2.13.0" in text
    assert (
        "75.0 of 60 s, over budget" in text and "failed in cell checks: ClaimBroken" in text and "? 1 undecided" in text
    )


def test_every_claim_has_a_row(site):
    text = " ".join(site["claims.html"].text.split())
    assert "3 claims: ✓ 1 holds, ◇ 1 fails as expected, ? 1 undecided" in text
    assert "1.5 [0.5, 2.5] ≤ 2" in text and "too noisy" in text
    assert "02_sgd.html#02.4" in site["claims.html"].links


def test_the_map_links_each_lecture_to_those_that_it_uses(course):
    drawing = landing.lecture_map(course)
    assert drawing.count("<rect") == 3 and drawing.count("marker-end") == 2  # 04 uses 02 through 03
    assert "03 uses 02; 04 uses 03." in drawing and 'href="04_momentum.html"' in drawing


def test_a_build_without_a_change_writes_no_page_again(course):
    before = {path: path.stat().st_mtime_ns for path in course.output.glob("0*.html")}
    build.write(course)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_pages_that_another_version_of_the_package_wrote_are_written_again(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "BOOK", tmp_path)

    def version(text):
        (tmp_path / "page.py").write_text(text)
        return extension.setup(MagicMock())["env_version"]  # Sphinx reads all sources again when it changes

    assert version("a = 1") == version("a = 1") != version("a = 2")


def test_a_fault_in_a_page_is_named(course, tmp_path):
    lectures = tmp_path / "lectures"
    lectures.mkdir()
    text = "# 02 A\n\n:::{note} not closed\n\n```{nodirective}\n```"
    nbformat.write(new_notebook(cells=[new_markdown_cell(text, id="a")]), lectures / "02_sgd.ipynb")
    said = []
    assert runner.write_book(tmp_path / "out", course.catalog, lectures, said.append) == runner.FAILED
    assert "could not be written" in said[-1] and "nodirective" in said[-1] and "02_sgd" in said[-1]


def test_without_sphinx_a_run_says_what_is_missing(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "sphinx.application", None)
    for name in [name for name in sys.modules if name.startswith("optcourse.course.book")]:
        monkeypatch.delitem(sys.modules, name)
    said = []
    assert runner.write_book(course.output, course.catalog, course.lectures, said.append) == runner.OK
    assert "optcourse[site]" in said[-1] and "sphinx" in said[-1]


def test_a_formula_that_cannot_be_typeset_is_shown_as_its_source():
    assert extension.mathml(r"\nosuchcommand{x} < 1", display=False) == (
        '<span><code class="tex">\\nosuchcommand{x} &lt; 1</code></span>'
    )


def test_the_style_sheet_has_the_colours_of_the_package():
    sheet = (Path(build.__file__).parent / "static" / "book.css").read_text()
    for mark in MARKS.values():
        assert f".{mark.css} {{ --mark: {mark.colour}; }}" in sheet


def test_a_docstring_keeps_its_bars_and_its_parameters():
    lines = [
        "|x| of `a|b`",
        "",
        "Parameters",
        "----------",
        "n, m : how many",
        "    of them",
        "",
        ">>> x | y",
        "end : here",
    ]
    extension._docstring(None, "function", "f", None, None, lines)  # pyright: ignore[reportArgumentType]
    assert lines == [r"\|x\| of `a|b`", "", ":param n, m: how many", "    of them", "", ">>> x | y", "end : here"]
