"""The pages and the index: complete, readable without a network, correct."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from optcourse import checking
from optcourse.checking import MARKS, MIME
from optcourse.course import catalog, claims, pages, report
from optcourse.course.execution import Failure, Outcome, Settings

LECTURES = Path(__file__).parents[2] / "lectures"
SETTINGS = Settings("quick", 0, "cpu")
TABLE = """
[[lecture]]
id = "02"
title = "SGD & mini-batch"
notebook = "02_sgd.ipynb"
status = "written"
[[lecture]]
id = "03"
title = "Landscapes"
notebook = "03_landscapes.ipynb"
status = "planned"
[[lecture]]
id = "04"
title = "Momentum"
notebook = "04_momentum.ipynb"
status = "written"
[[topic]]
id = "02.4"
lecture = "02"
deck = ["A"]
beyond = false
title = "Rate"
slide = "A: Theorem"
paper = "Ghadimi and Lan, 2013"
shows = "The bound holds."
[[topic]]
id = "03.1"
lecture = "03"
deck = []
beyond = true
title = "Condition number"
slide = ""
paper = "Nesterov, 2004"
shows = "The factor."
"""


class Page(HTMLParser):
    """Text, links, ids and every address that a browser would load by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.loads, self.ids, self.tags, self.open, self.text = [], [], set(), [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "hr", "link", "input"):
            self.open.append(tag)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if tag == "a":
            self.links.append(attributes.get("href"))
        else:
            self.loads += [attributes[key] for key in ("src", "href", "srcset", "data") if key in attributes]

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def verdict(**changes):
    values = {"topic": "02.4", "claim": "a < b & c", "measured": 1.0, "relation": "<=", "bound": 2.0, "margin": 1.0}
    return {**values, "verdict": "holds", "seeds": 20, "why": None, **changes}


def executed(*verdicts, seconds=1.0):
    cells = [
        new_markdown_cell('## 02.4 Rate <a id="02.4"></a>\n\n$$\\begin{aligned} a &= b \\end{aligned}$$', id="top")
    ]
    for number, entry in enumerate(verdicts):
        output = new_output("display_data", {MIME: entry, "text/plain": "line"})
        timing = {"papermill": {"duration": seconds}}
        cells.append(new_code_cell("check()", id=f"check-{number}", outputs=[output], metadata=timing))
    return new_notebook(cells=cells)


@pytest.fixture
def written(tmp_path):
    """A run of one good lecture that is too slow, and one that failed, in the output folder."""
    (tmp_path / "topics.toml").write_text(TABLE)
    table = catalog.load(tmp_path / "topics.toml")
    expected = verdict(relation="in", bound=[0.0, 1.0], margin=-1.0, verdict="fails as expected", why="too noisy")
    neither = verdict(measured=1.5, bound=2.0, margin=-0.5, verdict="undecided", interval=[0.5, 2.5])
    outcomes = {
        "02_sgd": Outcome(executed(verdict(), expected, neither, seconds=12.3), 75.0, None),
        "05_x": Outcome(executed(verdict(verdict="broken")), 2.0, Failure("ClaimBroken", "broke", "check-0", "02.4")),
    }
    records = {}
    for name, outcome in outcomes.items():
        pages.write(tmp_path, name, outcome, table)
        records[name] = report.record(Path(f"{name}.ipynb"), outcome, SETTINGS, "key", table)
    report.write(tmp_path, table, records, report.RunInfo(SETTINGS, {"python": "3.11.7", "torch": "2.13.0"}, False))
    return tmp_path


def test_the_index_shows_how_it_was_run_and_what_came_out(written):
    page = Page((written / "index.html").read_text())
    assert "profile quick, seed 0, device cpu; python 3.11.7, torch 2.13.0" in page.text
    assert "75.0 of 60 s, over budget" in page.text and "over 10 s: check-0 12.3 s" in page.text
    assert "failed in cell check-0: ClaimBroken" in page.text
    assert "4 claims: ✓ 1 holds, ◇ 1 fails as expected, ? 1 undecided, ✗ 1 broken" in page.text
    assert "3? 1 undecided" in page.text and "? undecided" in page.text and "1.5 [0.5, 2.5] ≤ 2" in page.text
    assert "a < b & c" in page.text and "1 ≤ 2" in page.text and "1 in [0, 1]" in page.text
    assert "too noisy" in page.text
    assert "02_sgd.html#02.4" in page.links and "05_x.html" in page.links
    assert "Momentum" in page.text and "not run" in page.text
    assert "03.1" in page.text and "Condition number" in page.text and "beyond the decks" in page.text
    assert str(written) not in page.text


def test_verdicts_come_in_the_order_of_the_notebooks_and_carry_their_lecture(written):
    rows = json.loads((written / "verdicts.json").read_text())
    assert [(row["lecture"], row["verdict"]) for row in rows] == [
        ("02", "holds"),
        ("02", "fails as expected"),
        ("02", "undecided"),
        ("05", "broken"),
    ]
    assert rows[0] == {"lecture": "02", **verdict()}


def test_the_page_of_a_lecture_counts_its_verdicts(written):
    counted = "3 claims: ✓ 1 holds, ◇ 1 fails as expected, ? 1 undecided, ✗ 0 broken"
    assert counted in Page((written / "02_sgd.html").read_text()).text
    assert "1 claim: ✓ 0 holds" in Page((written / "05_x.html").read_text()).text


def test_every_relation_of_check_can_be_shown():
    assert claims.RELATIONS.keys() == checking._SLACK.keys()


def test_pages_colour_a_verdict_as_the_notebook_does(written):
    for mark in MARKS.values():
        assert f".{mark.css} {{ color: {mark.colour}; }}" in (written / "index.html").read_text()


def test_pages_have_the_anchors_that_the_index_links_to(written):
    page = Page((written / "02_sgd.html").read_text())
    assert "02.4" in page.ids and "#02.4" in page.links
    failed = Page((written / "05_x.html").read_text())
    assert "cell-id=check-0" in failed.ids and "#cell-id=check-0" in failed.links


def test_nothing_is_loaded_from_elsewhere_and_no_script_is_needed(written):
    for name in ("index.html", "02_sgd.html", "05_x.html"):
        text = (written / name).read_text()
        page = Page(text)
        assert [address for address in page.loads if not address.startswith("data:")] == []
        assert "script" not in page.tags and "@import" not in text
        assert 'charset="utf-8"' in text and 'name="viewport"' in text


def test_formulas_of_text_and_output_are_mathml():
    latex = new_output("execute_result", {"text/latex": "$\\displaystyle \\frac{x}{2}$", "text/plain": "x/2"})
    notebook = new_notebook(
        cells=[
            new_markdown_cell("Inline $a<b$ and\n\n\\begin{align} x &= y \\\\ &= z \\end{align}", id="text"),
            new_code_cell("x/2", id="code", outputs=[latex]),
        ]
    )
    body = pages.notebook_html(notebook)
    assert body.count("<math") == 3 and "<mfrac>" in body
    assert "$" not in body and "\\" not in body
    assert "(1)" not in body  # as in JupyterLab, no equation numbers of their own


def test_a_formula_that_cannot_be_typeset_is_shown_as_its_source():
    assert pages.mathml(r"\nosuchcommand{x} < 1", display=False) == (
        '<span><code class="tex">\\nosuchcommand{x} &lt; 1</code></span>'
    )


@pytest.mark.parametrize("path", sorted(LECTURES.glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_lectures_can_be_typeset(path):
    notebook = nbformat.read(path, as_version=4)
    body = pages.notebook_html(notebook)
    untypeset = re.findall(r'<code class="tex">(.*?)</code>', body, flags=re.DOTALL)
    assert untypeset == []
    assert "<math" in body


def test_figures_have_alternative_text_and_errors_are_visible():
    figure = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    error = new_output("error", ename="ValueError", evalue="a < b", traceback=["ValueError: a < b"])
    cells = [new_markdown_cell("# A heading", id="top"), new_code_cell("plot()", id="plot", outputs=[figure, error])]
    body = pages.notebook_html(new_notebook(cells=cells))
    assert 'alt="Figure of section A heading"' in body
    assert "ValueError: a &lt; b" in body


def test_a_widget_becomes_a_note_and_no_script():
    widget = "application/vnd.jupyter.widget-view+json"
    slider = new_output("display_data", {widget: {"model_id": "1"}, "text/plain": "interactive(children=())"})
    notebook = new_notebook(cells=[new_code_cell("interact(f)", id="slider", outputs=[slider])])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    body = pages.notebook_html(notebook)
    assert "there is a control here" in body
    assert "<script" not in body and "interactive(children" not in body
