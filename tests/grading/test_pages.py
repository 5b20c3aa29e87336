"""The page that a student gets, the notebook that a person marks, the tables: true sentences, and nothing that runs."""

import base64
import contextlib
import csv
import io
import re
import sqlite3
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_lab
from hypothesis import example, given
from hypothesis import strategies as st

from optcourse.grading import feedback, gradebook, harmless
from optcourse.grading.grade import Mark, Result
from optcourse.grading.submission import Cell


def png(width: int = 4, height: int = 3, padding: int = 0) -> bytes:
    """A picture as browsers know it; ``padding`` bytes of noise make the file large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\xc0\x20\x20" * width for _ in range(height)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"noTe", bytes(padding)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


PICTURES = {"a b.png": harmless.Picture("image/png", png(), 4, 3)}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return tiny_lab.write_lab(tmp_path_factory.mktemp("lab"))


def result(lab, states=(), **more):
    """A submission of which only the first exercises were solved, in the lab's own cells."""
    own = {**{name: "raise NotImplementedError('think')" for name in tiny_lab.SOLUTIONS}, **more.pop("sources", {})}
    cells, stubs = [], {c.id: c.source for c in lab.release.cells}
    for cell in lab.release.cells:
        solution = cell.metadata.get("nbgrader", {}).get("solution")
        source = own.get(cell.id, stubs[cell.id]) if cell.id not in ("why",) else "Because."
        cells.append(Cell(cell.id, cell.cell_type, source, cell.id.startswith("test-"), not solution))
        cells += more.get("extra", {}).get(cell.id, [])
    more.pop("extra", None)
    marks = {}
    for exercise, state in zip(lab.exercises, (*states, *["not attempted"] * 3), strict=False):
        passed = {"passed": [True, True], "partial": [True, False], "failed": [False, False]}.get(state, [])
        marks[exercise.name] = Mark(exercise.title, exercise.points, float(sum(passed)), state, passed)
    chosen = {"status": "graded", "flags": [], "written": {}, **more}
    return Result(
        score=sum(m.score for m in marks.values()), max_score=6.0, seconds=1.0, marks=marks, cells=cells, **chosen
    )


def page(lab, made, student="ann"):
    return feedback.page(lab, student, made)


class Read(HTMLParser):
    """What a browser takes from a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


# Markdown that a person opens ----------------------------------------------------------------------------------

HOSTILE = [
    "[click](javascript:alert(1))",
    "[click](<javascript:alert(1)>)",
    "[click](< javascript:alert(1)>)",
    "[click](JaVaScRiPt:alert(1) 'title')",
    "[click](&#106;avascript:alert(1))",
    "[click](java&Tab;script:alert(1))",
    "[click](\\javascript:alert(1))",
    "[click](\x01javascript:alert(1))",
    "[click](java\rscript:alert(1))",
    "[click][r]\n\n[r]: javascript:alert(1)",
    "[click]\n\n[click]: <javascript:alert(1)> 'title'",
    "> [click]\n>\n> [click]:\n> javascript:alert(1)",
    "[r]\\\n\n[r]:javascript:alert(1)",
    "<javascript:alert(1)>",
    "[click](vbscript:x) [click](file:///etc/passwd) [click](data:text/html,<script>alert(1)</script>)",
    "[click](//evil.example/x) [click](/formgrader?path=/tmp/evil) [click](../../logout) [click](?x) [click]()",
    "[click](http://localhost:8888/api/shutdown) http://127.0.0.1:8888/x http://[::1]/ http://a.localhost/",
    "[click](http://good.example@127.0.0.1/) [click](http://good.example:x@localhost/)",
    "![x](http://evil.example/pixel.png)",
    "![x](/logout) ![x](data:image/svg+xml;base64,AAAA) ![x](data:text/html,x) ![x](javascript:alert(1))",
    "![x][r]\n\n[r]: https://evil.example/pixel.png",
    "![x[y](https://evil.example/pixel.png)",
    "![x`[`a](https://evil.example/pixel.png)",
    "![x$[$a](https://evil.example/pixel.png)",
    "![x\\[a](https://evil.example/pixel.png)",
    "[![x](https://evil.example/p.png)](javascript:alert(1))",
    "![x](attachment:gone.png)",
    "![x](attachment:a%20b.png)](javascript:alert(1))",
    "\\![x](attachment:a%20b.png)",
    "[![x](attachment:a%20b.png)](javascript:alert(1))",
    "<img src='attachment:a b.png' onerror=alert(1) width=5>",
    "<img src=x onerror=alert(1)><svg onload=alert(1)><svg><a xlink:href='javascript:alert(1)'>",
    "<a href='javascript:alert(1)'>x</a><iframe src='javascript:alert(1)'></iframe><base href='//evil.example'>",
    "<meta http-equiv=refresh content='0;url=//evil.example'><link rel=stylesheet href=//evil.example/x.css>",
    "<style>body{background:url(//evil.example)}</style><form action=//evil.example><input></form>",
    "<!--><script>alert(1)</script>--><![CDATA[<script>alert(1)</script>]]><?x><script>alert(1)</script>?>",
    "<\nscript>alert(1)</script> <scr<script>ipt>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
    "`<script>` ```<script>``` $<script>$ $$<img src=x onerror=alert(1)>$$",
    "\\\\[<img src=x onerror=alert(1)>\\\\] \\begin{a}<img src=x onerror=alert(1)>\\end{a}",
    "```mermaid\ngraph TD\nclick A \"javascript:alert(1)\"\n<img src=x onerror=alert(1)>\n```",
    "~~~ mermaid\n</pre><script>alert(1)</script>\n~~~",
    "```<script>alert(1)</script>\nx\n```",
    "$\\href{javascript:alert(1)}{click}$ $\\style{background:url(//evil.example)}{x}$",
    "$\\def\\a{\\href}\\a{javascript:alert(1)}{x}$ $\\mmlToken{mi}[href='javascript:alert(1)']{x}$",
    "|a|b|\n|-|-|\n|[x](javascript:alert(1))|<script>|",
    "# [x](javascript:alert(1)) <script>\n\n[x](javascript:a)\n===",
    "- [ ] [x](javascript:alert(1))\n\nterm\n: [x](javascript:alert(1))",
    "a\u202e)1(trela:tpircsavaj(]kcilc[\u2066",
    "[x](https://ok.example/'onmouseover='alert(1))",
    '[x](https://ok.example/ "t" onmouseover="alert(1)")',
    "[x](https://ok.example/\" onmouseover=\"alert(1))",
]  # fmt: skip
TAGS = [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "img",
    "input",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
    "div",
    "dl",
    "dt",
    "dd",
]
ADDRESS = re.compile(r"https?://[a-z][\w-]*(\.[\w-]+)+([/?#:*%][^\s]*)?|mailto:[^\s]*|#[^\s]*", re.I)


def rendered(source):
    """The disarmed text as the formgrader shows it, and as a plain reader of Markdown does."""
    from markdown_it import MarkdownIt
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    words, attachments = gradebook.disarmed(source, PICTURES)
    renderer = IPythonRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
    yield MarkdownWithMath(renderer=renderer).render(words)
    plainly = MarkdownIt("gfm-like", {"linkify": False, "html": True})
    plainly.validateLink = lambda url: True
    yield plainly.render(words)


def assert_harmless(source):
    for html in rendered(source):
        for tag, attrs in Read(html).tags:
            said = (source, html)
            assert tag in TAGS, said
            assert not [name for name in attrs if name.startswith("on")], said
            assert attrs.keys() <= {
                "href",
                "src",
                "alt",
                "title",
                "class",
                "style",
                "start",
                "type",
                "disabled",
                "checked",
            }, said
            assert "url(" not in (attrs.get("style") or ""), said
            assert ADDRESS.fullmatch(attrs.get("href", "#")), said
            if tag == "img":
                assert re.match(r"data:image/png;base64,|attachment:picture-1$", attrs["src"]), said


@pytest.mark.parametrize("source", HOSTILE)
def test_no_markdown_of_a_stranger_opens_fetches_or_runs_anything(source):
    assert_harmless(source)
    words, _ = gradebook.disarmed(source, PICTURES)
    assert not re.search(r"\\(href|style|mmlToken)\b", words)
    assert not re.search(r"(```|~~~) *mermaid", words)


PIECES = [
    *"[]()<>!\\`$*_#|:'\" \n\t-=~&;", "![", "](", "]:", "][", "](#", "](https://a.example", "https://b.example/x", "http://localhost",
    "javascript:x", "attachment:a%20b.png", "![x](attachment:a%20b.png)", "<img src=x onerror=y>", "<a href=javascript:x>",
    "`", "```", "$$", "\\\\[", "\\\\]", "&#91;", "&lt;", "a", "[r]", "[r]: ", "<script>", "<!--", "-->", "data:image/svg+xml,x",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example("![a](attachment:a%20b.png)(javascript:x)")
def test_no_mixture_of_pieces_does(source):
    assert_harmless(source)


@pytest.mark.parametrize(
    "source",
    [
        "Momentum *accumulates* the **gradient**: $v_{t+1} = \\beta v_t + g_t$, and `x[0]` moves.",
        "See [the paper](https://arxiv.org/abs/1412.6980) and [above](#why), or write to [me](mailto:a@b.example).",
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n1. one\n2. two\n\n> quoted\n\n```python\nx = [1][0]\n```",
        "if $a<b$ and $c < d$ then 3<4; ein Satz mit Umlauten: äöü, 数学, שלום",
        "Why? Because 1 < 2!\n\n$$\\begin{aligned} a &= b \\\\ c &= d \\end{aligned}$$",
    ],
)
def test_an_honest_answer_stays_as_it_is(source):
    assert gradebook.disarmed(source, {}) == (re.sub("<b", "< b", source), {})


@pytest.mark.parametrize(
    "source",
    [
        "as in ![image.png](attachment:image.png)",
        "as in ![image.png](<attachment:image.png> 'title')",
        'as in <img src="attachment:image.png" width="400"/>',
        "as in <img width=3 src=attachment:image.png>",
        "as in ![my\\]picture][p]\n\n[p]: attachment:image.png",
        "no word of it",
    ],
)
def test_a_pasted_picture_is_shown_to_whoever_marks(source):
    shown = {"image.png": PICTURES["a b.png"]}
    words, attachments = gradebook.disarmed(source, shown)
    assert attachments == {"picture-1": {"image/png": text(png())}}
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    html = MarkdownWithMath(renderer=IPythonRenderer(escape=False, attachments=attachments)).render(words)
    assert [attrs["src"] for tag, attrs in Read(html).tags if tag == "img"] == [f"data:image/png;base64,{text(png())}"]


def test_disarming_takes_no_longer_than_reading():
    """Every pattern on texts that make patterns slow; with one that is not bounded this would take hours."""
    for piece in (
        "<img ",
        "![a](attachment: ",
        "](https://a.",
        "\n",
        "](",
        "[a]: https://a.b ",
        "\x1b[1;",
        "\x1b]",
        "> ",
        "\\",
    ):
        for source in (piece * (200_000 // len(piece)), piece + " " * 200_000, piece + piece[-1] * 200_000):
            harmless.disarmed(source, PICTURES)
            harmless.plain(source)
            harmless.spreadsheet_safe(source)


# Pictures and text ---------------------------------------------------------------------------------------------

GIF = b"GIF89a\x05\0\x04\0\x80\0\0" + bytes(20)
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x11\x08\0\x07\0\x09\3" + bytes(20)


@pytest.mark.parametrize(
    ("data", "found"), [(png(), ("image/png", 4, 3)), (GIF, ("image/gif", 5, 4)), (JPEG, ("image/jpeg", 9, 7))]
)
def test_a_picture_is_known_by_its_content(data, found):
    shown = harmless.picture(text(data))
    assert shown is not None and (shown.mime, shown.width, shown.height) == found


@pytest.mark.parametrize(
    "encoded",
    [
        text(png(100_000, 1)[:16] + struct.pack(">II", 100_000, 100_000) + png()[24:]),
        text(GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:]),
        text(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        text(b"\x89PNG\r\n\x1a\n<script>"),
        text(b"\xff\xd8\xff" + b"\xff\xe0\xff\xff" * 3),
        "'><script>alert(1)</script>",
        "",
        None,
        7,
        "\u0661",
    ],
)
def test_what_is_no_picture_or_a_bomb_is_none(encoded):
    assert harmless.picture(encoded) is None


def test_control_characters_are_seen_and_progress_bars_end():
    assert harmless.plain("\x1b[31mred\x1b[0m \x1b]0;title\x07ok") == "red ok"
    assert harmless.plain(" 10%\r 50%\r100%\r\ndone\r") == "100%\ndone"
    assert harmless.visible("a\u202eb\x07\u2066\x9b") == "a\\u202eb\\x07\\u2066\\x9b"
    assert harmless.visible("é 数学 שלום עולם\tx\r\ny") == "é 数学 שלום עולם\tx\ny"


# The page ------------------------------------------------------------------------------------------------------


def test_each_state_is_said_truly(lab):
    words = Read(page(lab, result(lab, ("passed", "partial", "failed"), sources={}))).words
    for said in ("all checks passed 2 / 3", "1 of 2 checks passed 1 / 2", "no check passed 0 / 1", "3 of 6 points"):
        assert said in words
    assert "other values and shapes than the visible tests" in words
    words = Read(page(lab, result(lab, ("timeout", "crashed", "not run")))).words
    for said in ("no answer within the time limit", "the process ended before it could answer", "not reached"):
        assert said in words
    assert feedback.EXPLAINED.keys() >= {
        "passed",
        "partial",
        "failed",
        "not attempted",
        "timeout",
        "crashed",
        "not run",
    }


def stubs(lab):
    return {cell.id: cell.source for cell in lab.release.cells if cell.id in tiny_lab.SOLUTIONS}


def test_nothing_tried_is_said_and_the_stub_is_not_shown(lab):
    read = Read(page(lab, result(lab, sources=stubs(lab))))
    assert read.words.count("the stub was not changed") == 3
    assert read.words.count("Nothing of yours was found for this exercise.") == 3
    assert "NotImplementedError" not in read.words


def test_whoever_solves_it_in_an_own_cell_sees_that_cell_and_no_hint(lab):
    own = Cell("extra-5", "code", "def softmax(z):\n    return mine(z)")
    made = result(
        lab,
        ("passed",),
        sources=stubs(lab),
        extra={"softmax": [own]},
        outputs={"extra-5": [{"output_type": "stream", "name": "stdout", "text": "from my cell"}]},
        errors={
            "softmax": {"name": "NotImplementedError", "message": "think", "where": ""},
            "test-softmax": {"name": "NotImplementedError", "message": "think", "where": ""},
        },
    )
    words = Read(page(lab, made)).words
    assert "return mine(z)" in words
    assert "from my cell" in words
    assert "think" not in words
    assert words.count("the stub was not changed") == 2


def test_not_attempted_is_not_said_of_somebody_who_tried_elsewhere(lab):
    own = Cell("extra-5", "code", "def softmax(z):\n    return 1")
    words = Read(page(lab, result(lab, sources=stubs(lab), extra={"softmax": [own]}))).words
    assert "no check passed; the cell for your solution was not changed" in words
    assert words.count("the stub was not changed") == 2


def test_own_cells_stand_where_they_belong(lab):
    extra = {
        "softmax": [Cell("extra-1", "code", "FIRST = 1"), Cell("extra-2", "markdown", "a *thought*")],
        "test-step": [Cell("extra-3", "code", "SECOND = 2")],
        "why": [Cell("extra-4", "code", "LAST = 3"), Cell("extra-5", "markdown", "Because, in a cell of its own.")],
    }
    made = result(lab, ("passed",) * 3, extra=extra, written={"why": "Because, in a cell of its own."})
    html = page(lab, made)
    parts = re.split("<h2>", html)
    where = {
        mark: next(part.split("</h2>")[0] for part in parts if mark in part)
        for mark in ("FIRST", "thought", "SECOND", "LAST")
    }
    assert where == {
        "FIRST": "Exercise softmax",
        "thought": "Exercise softmax",
        "SECOND": "Exercise squares",
        "LAST": "Other cells of yours",
    }
    assert html.count("Because, in a cell of its own.") == 1


def test_pictures_of_an_answer_are_on_the_page(lab):
    made = result(lab, ("passed",), written={"why": "as in ![x](attachment:x.png)"})
    pictures = {"x.png": {"image/png": text(png())}, "bad.svg": {"image/svg+xml": text(b"<svg onload=alert(1)>")}}
    made.cells[:] = [replace(c, attachments=pictures) if c.name == "why" else c for c in made.cells]
    images = [attrs for tag, attrs in Read(page(lab, made)).tags if tag == "img"]
    assert [image["src"] for image in images] == [f"data:image/png;base64,{text(png())}"]
    assert images[0]["alt"] == "the picture x.png that you pasted"
    notebook = gradebook.autograded(lab, made)
    why = next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "why")
    assert why.attachments == {"picture-1": {"image/png": text(png())}}


FLAGGED = {
    "metadata stripped": "Your editor removed the notebook's labels. The cells were recognized without them.",
    "cell 'softmax': metadata stripped": "",
    "cell 'softmax': locked changed": "",
    "edited test cell 'test-softmax'": "You changed the test of “Exercise softmax”. The lab's own version of it was run instead.",
    "missing cell 'step'": "Your file does not have the cell “step” of “Exercise step”.",
    "interrupted after 30 s in cell 'softmax'": "After 30 s there was no end in the cell “softmax” of “Exercise softmax”, and it was interrupted.",
    "the process ended in cell 'extra-3'": "The process ended in a cell of your own.",
    "no end in exercise 'test-step'": "There was no end in the test of “Exercise step”.",
    "too much memory in cell 'imports'": "Too much memory in the cell “imports”.",
    "renamed file 'lab (1).ipynb'": "The file is called lab (1).ipynb; it was recognized, but keep the name of the lab next time.",
    "something new <b>": "something new <b>",
}


@pytest.mark.parametrize("flag", FLAGGED)
def test_a_flag_is_put_into_words_for_the_student(lab, flag):
    words = Read(page(lab, result(lab, ("passed",), status="flagged", flags=[flag]))).words
    if FLAGGED[flag]:
        assert FLAGGED[flag] in words
        assert "Notes" in words
    else:
        assert "Notes" not in words
        assert flag not in words


def test_an_interrupted_cell_is_not_said_to_raise_keyboard_interrupt(lab):
    error = {"softmax": {"name": "KeyboardInterrupt", "message": "", "where": "line 2: while True: pass"}}
    words = Read(
        page(lab, result(lab, ("failed",), errors=error, flags=["interrupted after 30 s in cell 'softmax'"]))
    ).words
    assert "Interrupted: this did not end within the time limit line 2: while True: pass" in words
    assert "KeyboardInterrupt" not in words


def test_the_page_stays_small_and_says_what_it_leaves_out(lab):
    large = {"output_type": "display_data", "data": {"image/png": text(png(padding=60_000))}, "metadata": {}}
    long = {"output_type": "stream", "name": "stdout", "text": "'\"&<>" * 20_000}
    extra = {"softmax": [Cell(f"extra-{k}", "code", "'" * 200_000) for k in range(60)]}
    names = [cell.name for cell in extra["softmax"]]
    made = result(lab, ("passed",), extra=extra, outputs={name: [large] * 60 + [long] * 60 for name in names})
    html = page(lab, made)
    assert 1_000_000 < len(html.encode()) < 5_000_000
    read = Read(html)
    shown = sum(tag == "img" for tag, _ in read.tags)
    missing = sum(int(number) for number in re.findall(r"\((\d+) figures? (?:is|are) not shown", html))
    assert shown > 20
    assert shown + missing == 60 * 60
    assert "more characters" in read.words
    notebook = gradebook.autograded(lab, made)
    assert len(tiny_lab.raw(notebook)) < 50_000_000


def contrast(one, two):
    def light(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        parts = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05

    return max(light(one) / light(two), light(two) / light(one))


def test_the_page_can_be_read_by_everybody(lab):
    error = {"softmax": {"name": "ValueError", "message": "no", "where": ""}}
    figure = {"output_type": "display_data", "data": {"image/png": text(png())}, "metadata": {}}
    made = result(
        lab, ("partial",), flags=["missing cell 'x'"], errors=error, outputs={"softmax": [figure]}, written={"why": "x"}
    )
    read = Read(page(lab, made))
    tags = [tag for tag, _ in read.tags]
    assert ("html", {"lang": "en"}) in read.tags
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in read.tags
    assert [tag for tag in tags if tag in ("h1", "main")] == ["main", "h1"]
    assert all("scope" in attrs for tag, attrs in read.tags if tag == "th")
    assert [attrs["alt"] for tag, attrs in read.tags if tag == "img"] == ["figure 1 of cell of Exercise softmax"]
    themes = [dict(re.findall(r"--(\w+): (#\w+)", part)) for part in feedback.STYLE.split("@media")]
    for colours in (themes[0], themes[1]):
        for ink in ("ink", "quiet", "good", "fair", "bad"):
            assert contrast(colours[ink], colours["paper"]) >= 4.5, (ink, colours)
        assert contrast(colours["ink"], colours["box"]) >= 7
        assert contrast(colours["ink"], colours["error"]) >= 7


# Tables --------------------------------------------------------------------------------------------------------

FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3+cmd",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    " =1",
    '"=1',
    "'=1",
    "＝1",
    "a;=1",
    "a, +x",
    "a\n=1",
]


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_spreadsheet_runs_a_cell(cell):
    safe = harmless.spreadsheet_safe(cell)
    assert safe.replace("'", "") == cell.replace("'", "")
    for separator in (None, ";", ",", "\t", "\n"):
        for piece in safe.split(separator) if separator else [safe]:
            assert not re.match(r"[\s\"]*[=+\-@＝＋－＠]", piece)
    assert safe[0] not in "=+-@\t\r\n"


@pytest.mark.parametrize(
    "cell", ["", "3", "-3.5", "+49", "1e-5", "ann", "cell 'x': tags", "a - b", "x@y.example", "12:30"]
)
def test_what_is_no_formula_stays(cell):
    assert harmless.spreadsheet_safe(cell) == cell


def recorded(lab, folder, results):
    """The gradebook and grades.csv in a folder."""
    folder.mkdir(exist_ok=True)
    changed = gradebook.record(folder / "gradebook.db", lab, results)
    gradebook.export(folder / "gradebook.db", lab.name, folder / "grades.csv")
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as file:
        return changed, {row["student_id"]: row for row in csv.DictReader(file)}


def test_grades_csv_is_safe_and_whole(lab, tmp_path):
    _, rows = recorded(lab, tmp_path / "out", {name: result(lab, ("passed",)) for name in ("@ann", "-bob", "cyd")})
    assert {name: float(row["score"]) for name, row in rows.items()} == {"'@ann": 2.0, "'-bob": 2.0, "cyd": 2.0}


ODD = [
    "q?a=1",
    "a#b",
    "50%25",
    "q?uri=true&mode=memory",
    "with space",
    "ünï 数",
    "it's",
    'quo"te',
    "a:b@c",
    "semi;colon",
    "plus+",
    "%3F",
]


@pytest.mark.parametrize("name", ODD)
def test_the_gradebook_lies_where_the_output_is(lab, tmp_path, name):
    folder = tmp_path / name
    _, rows = recorded(lab, folder, {"ann": result(lab, ("passed",))})
    assert rows.keys() == {"ann"}
    assert (folder / "gradebook.db").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {name}
    config = SimpleNamespace(CourseDirectory=SimpleNamespace())
    source = (Path(__file__).parents[2] / "labs" / "nbgrader_config.py").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTCOURSE_GRADES", str(folder))
        exec(source, {"get_config": lambda: config_of(config), "__file__": "labs/nbgrader_config.py"})
    from nbgrader.api import Gradebook

    with Gradebook(config.CourseDirectory.db_url) as book:
        assert [s.student.id for s in book.assignment_submissions("tiny")] == ["ann"]
    assert config.CourseDirectory.root == str(folder)
    assert {path.name for path in tmp_path.iterdir()} == {name}


def config_of(config):
    config.HTMLExporter = getattr(config, "HTMLExporter", SimpleNamespace())
    return config


# Marks that a person gave --------------------------------------------------------------------------------------


def mark(database, points, student="ann"):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{database}") as book:
        for grade in book.find_submission_notebook("tiny", "tiny", student).grades:
            if grade.name == "why":
                grade.manual_score, grade.needs_manual_grade = points, False
        book.db.commit()


def waits(database, student="ann"):
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{database}") as book:
        (grade,) = (g for g in book.find_submission_notebook("tiny", "tiny", student).grades if g.name == "why")
        return grade.manual_score, bool(grade.needs_manual_grade)


def test_a_mark_stays_and_a_changed_answer_is_named(lab, tmp_path):
    database = tmp_path / "gradebook.db"

    def again(answer, **more):
        changed, rows = recorded(lab, tmp_path, {"ann": result(lab, ("passed",), written=answer, **more)})
        return set(changed), float(rows["ann"]["score"])

    assert again({"why": "Because."}) == (set(), 2.0)
    assert waits(database) == (None, True)
    mark(database, 1.5)
    assert again({"why": "Because."}) == (set(), 3.5)
    assert again({"why": "  Because.\n"}) == (set(), 3.5)
    assert waits(database) == (1.5, False)
    assert again({"why": "Because not."}) == ({"ann"}, 3.5)
    assert waits(database) == (1.5, True)
    assert again({"why": "Because not."}) == ({"ann"}, 3.5)  # until somebody looks
    assert gradebook.record(database, lab, {}) == {"ann"}
    mark(database, 0.5)
    assert again({"why": "Because not."}) == (set(), 2.5)
    assert again({}) == ({"ann"}, 2.5)


def test_another_picture_is_another_answer(lab, tmp_path):
    database, made = tmp_path / "gradebook.db", result(lab, ("passed",), written={"why": "![x](attachment:x)"})

    def with_picture(data):
        made.cells[:] = [
            SimpleNamespace(**{**vars(c), "attachments": {"x": {"image/png": text(data)}}}) if c.name == "why" else c
            for c in made.cells
        ]
        return gradebook.record(database, lab, {"ann": made})

    assert with_picture(png()) == set()
    mark(database, 2.0)
    assert with_picture(png()) == set()
    assert with_picture(png(5, 5)) == {"ann"}


# Gradebooks in trouble -----------------------------------------------------------------------------------------


@pytest.fixture
def database(lab, tmp_path):
    recorded(lab, tmp_path, {"ann": result(lab, ("passed",), written={"why": "x"})})
    mark(tmp_path / "gradebook.db", 2.0)
    return tmp_path / "gradebook.db"


LOCK = """
import sqlite3, sys
book = sqlite3.connect(sys.argv[1])
book.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_two_commands_make_one_gradebook(lab, tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom optcourse.grading import gradebook, lab\n"
        "tiny = lab.from_source(Path(sys.argv[1]))\ngradebook.load()\nprint('ready', flush=True)\ninput()\n"
        "print(gradebook.record(Path(sys.argv[2]), tiny, {}))"
    )
    tiny_lab.write_lab(tmp_path)
    command = [sys.executable, "-c", code, str(tmp_path / "source/tiny/tiny.ipynb"), str(tmp_path / "gradebook.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 3
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in both] == ["frozenset()\n"] * 3
    with contextlib.closing(sqlite3.connect(tmp_path / "gradebook.db")) as book:
        assert book.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        assert book.execute("SELECT name FROM assignment").fetchall() == [("tiny",)]


def test_a_locked_gradebook_is_waited_for_and_then_named(lab, database, monkeypatch):
    monkeypatch.setattr(gradebook, "PATIENCE", 0.1)
    command = [sys.executable, "-c", LOCK, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        with pytest.raises(
            gradebook.Unusable, match=r"gradebook\.db: another program is writing into it.*run the same"
        ):
            gradebook.record(database, lab, {"ann": result(lab)})
        holder.communicate("")
    gradebook.record(database, lab, {"ann": result(lab, ("partial",), written={"why": "x"})})
    assert waits(database) == (2.0, False)


def damage(kind, database):
    content = database.read_bytes()
    database.write_bytes({
        "no database": b"PK\3\4" + bytes(3000), "cut": content[: len(content) // 2], "holes": content[:5000] + bytes(30_000) + content[35_000:],
    }[kind])  # fmt: skip


@pytest.mark.parametrize("kind", ["no database", "cut", "holes"])
def test_a_damaged_gradebook_is_named_and_left_alone(lab, database, kind):
    damage(kind, database)
    before = database.read_bytes()
    with pytest.raises(gradebook.Unusable, match=r"gradebook\.db: it is damaged; put a copy of it back"):
        gradebook.record(database, lab, {"ann": result(lab)})
    assert database.read_bytes() == before


def test_a_gradebook_of_another_version_is_named(lab, database):
    import sqlite3

    with sqlite3.connect(database) as book:
        book.execute("ALTER TABLE grade RENAME COLUMN extra_credit TO extra")
    with pytest.raises(gradebook.Unusable, match="another version of nbgrader wrote it; see 'nbgrader db upgrade'"):
        gradebook.record(database, lab, {"ann": result(lab)})
    with sqlite3.connect(database) as book:
        assert book.execute("SELECT max(manual_score) FROM grade").fetchone() == (2.0,)


def test_a_gradebook_that_cannot_be_made_is_named(lab, tmp_path):
    (tmp_path / "gradebook.db").mkdir()
    with pytest.raises(gradebook.Unusable, match="it cannot be written"):
        gradebook.record(tmp_path / "gradebook.db", lab, {"ann": result(lab)})


def test_the_exporters_table_is_rewritten_cell_by_cell():
    draft = "student_id,last_name,score\n=1,,-2.0\nann,,3\n"
    table = csv.reader(io.StringIO(gradebook._rewritten(draft, {"ann": ("Lee, Ann", "7")})))
    assert list(table) == [
        ["student_id", "last_name", "score", "id"],
        ["'=1", "", "-2.0", ""],
        ["ann", "Lee, Ann", "3", "7"],
    ]
