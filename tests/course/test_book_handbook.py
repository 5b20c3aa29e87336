"""The theory handbook: every guarantee is there, with what it states, where it is tight, and its figures."""

import dataclasses
import html
import inspect
import io
import re
from pathlib import Path

import pytest

from optcourse.course import catalog
from optcourse.course.book.guarantees import docstring, pictures, table

LECTURES = Path(__file__).parents[2] / "lectures"
ROUNDING = 1e-9
GUARANTEES, EXACT = table.guarantees(), table.exact_formulas()
#: Exact formulas of which a section gives the result and that no cell calls by name.
NOT_CALLED = {"batch.noise_scale_from_gradients", "quadratic.noise_floor", "quadratic.sgd_moments"}
NOT_CALLED |= {"momentum.hb_is_stable", "sampling.minibatch_variance", "signal_residual.skip_moment"}
DRAWN = [f"{table.place(instance.guarantee)}-{i}" for i, instance in enumerate(table.instances())]


@pytest.fixture(scope="module")
def drawn():
    return pictures.everything()


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    content = pytest.importorskip("optcourse.course.book.content")
    listed = catalog.load(LECTURES / "topics.toml")
    return content.Course(LECTURES, listed, {}, None, tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def page(course):
    pytest.importorskip("sphinx")
    from optcourse.course.book.handbook import handbook

    return handbook(course)


def entry(page, place):
    """What the page has between the anchor of a function and the next one."""
    return page.partition(f'<a id="{place}"></a>')[2].partition('<a id="')[0]


@pytest.mark.parametrize("place", GUARANTEES)
def test_every_guarantee_has_its_statement_topic_and_figures(page, course, place):
    text, parts = entry(page, place), docstring.parse(GUARANTEES[place], {*GUARANTEES, *EXACT})
    assert text.startswith(f"\n\n### `{place.partition('.')[2]}`")
    assert parts.summary in text
    for name in docstring.NEEDED:
        assert f"**{name}" in text and parts.parts[name] in text
    instances = [instance for instance in table.instances() if instance.guarantee is GUARANTEES[place]]
    shown = re.findall(r'<img class="plot" src="(\S+)" alt="([^"]+)"', text)
    assert len(shown) == len(instances) >= 1
    for (address, alt), instance in zip(shown, instances, strict=True):
        assert (course.output / address).exists()
        assert html.escape(instance.measured) in alt and f"the {len(instance.values)} dots" in alt
        topic = course.catalog.topic(instance.topic)
        assert topic is not None and topic.lecture == instance.topic[:2]
        assert re.search(rf'<a href="{topic.lecture}_\w+\.html#{instance.topic}"', text), instance.topic


@pytest.mark.parametrize("place", EXACT)
def test_exact_formulas_are_listed_too(page, place):
    text = entry(page, place)
    assert f"`{place.partition('.')[2]}`" in text and "**Statement**" in text


@pytest.mark.parametrize("place", EXACT)
def test_an_exact_formula_leads_to_the_section_that_computes_with_it(page, course, place):
    topic = course.catalog.topic(table.TOPICS[place])
    lead = entry(page, place).strip().partition("\n")[0]
    (path,) = LECTURES.glob(f"{topic.lecture}_*.ipynb")
    assert lead.endswith(f'(topic <a href="{path.stem}.html#{topic.id}" title="{html.escape(topic.title, quote=True)}">'
                         f"{topic.id}</a>, {html.escape(topic.title)})")  # fmt: skip
    section = path.read_text(encoding="utf-8").partition(f'<a id=\\"{topic.id}\\">')[2].partition("## <a id=")[0]
    assert re.search(rf"\b{place.partition('.')[2]}\b", section) or place in NOT_CALLED


def test_every_topic_is_that_of_an_exact_formula():
    assert table.TOPICS.keys() == EXACT.keys()


def test_no_two_figures_show_the_same(drawn):
    """Of any two guarantees: a figure says something of its own."""
    seen = {}
    for name, one in zip(DRAWN, drawn, strict=True):
        numbers = [f"{number:.5g}" for point in one.points for number in point]
        other = seen.setdefault((one.instance.measured, one.instance.axis, *numbers), name)
        assert other == name, f"{name} shows what {other} shows"


def test_all_links_within_the_page_lead_somewhere(page):
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(anchors)


def test_what_a_docstring_refers_to_is_on_the_page():
    """Functions of the theory that statements are made of, and assumptions of modules."""
    ours, told = {table.place(f) for f in table._functions()}, {**GUARANTEES, **EXACT}
    for thing in [*told.values(), *{inspect.getmodule(f) for f in told.values()}]:
        module = (thing.__name__ if inspect.ismodule(thing) else thing.__module__).rpartition(".")[2]
        for name in re.findall(r":func:`~?(?:[\w.]*?(\w+\.))?(\w+)`", inspect.getdoc(thing) or ""):
            place = name[0] + name[1] if name[0] else f"{module}.{name[1]}"
            assert place in told or place not in ours, f"{thing.__name__} refers to {place}"


def test_tables_of_a_statement_are_printed(page):
    for place, row in (
        (
            "byzantine.kappa",
            "| median | (n-1)/(n-2f+1), n odd; (n-2)/(n-2f+2), n even | exact in any dimension, coordinate by ",
        ),
        ("gossip.mixing_rate", "| star, n ≥ 3 | Metropolis | 1 - 1/n |"),
    ):
        assert row in entry(page, place)


def test_every_formula_is_converted(page):
    extension = pytest.importorskip("optcourse.course.book.extension")
    blocks = re.findall(r"^\$\$\n(.+?)\n\$\$$", page, flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"(?<![$\\])\$([^$\n]+)\$(?!\$)", re.sub(r"`[^`]*`", "", page))
    assert len(blocks) > 40 and len(lines) > 80
    for formula in [*blocks, *lines]:
        extension.convert(formula, display=formula in blocks)  # raises LatexError
    for instance in table.instances():
        for formula in re.findall(r"\$(.+?)\$", instance.problem):
            extension.convert(formula, display=False)
    assert 'class="tex"' not in page


@pytest.mark.parametrize("i", range(len(DRAWN)), ids=DRAWN)
def test_dots_lie_under_the_line_and_as_near_as_stated(drawn, i):
    instance, points, png = drawn[i]
    assert png.startswith(b"\x89PNG")
    for value, point in zip(instance.values, points, strict=True):
        assert point.attained <= point.bound * (1 + ROUNDING)
        assert point.attained > point.bound / instance.claims.get(value, float("inf")) * (1 - ROUNDING)


def test_figures_are_drawn_once(drawn, monkeypatch):
    monkeypatch.setattr(pictures, "_measured", lambda instances: pytest.fail("measured again"))
    again = pictures.everything()
    assert [one.png for one in again] == [one.png for one in drawn]
    assert [one.points for one in again] == [one.points for one in drawn]


def test_a_changed_theory_is_measured_again(drawn, monkeypatch, tmp_path):
    monkeypatch.setenv("OPTCOURSE_CACHE", str(tmp_path))
    few = table.instances()[:2]
    monkeypatch.setattr(table, "instances", lambda: few)
    (tmp_path / "handbook-of-before.npz").write_bytes(b"")
    first = pictures.everything()
    assert [one.points for one in first] == [one.points for one in drawn[:2]]
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(pictures, "_digest", lambda: "another")
    assert pictures.everything() == first
    assert [path.name for path in tmp_path.iterdir()] == ["handbook-another.npz"] != [kept.name]


def test_other_lectures_have_no_handbook(course):
    pytest.importorskip("sphinx")
    from optcourse.course.book.handbook import handbook

    assert handbook(dataclasses.replace(course, catalog=catalog.Catalog())) == ""


def test_sphinx_reads_the_page_without_a_warning(page, tmp_path):
    build = pytest.importorskip("optcourse.course.book.build")
    source, output, said = tmp_path / "source", tmp_path / "html", io.StringIO()
    source.mkdir()
    (source / "index.md").write_text("# Book\n\n```{toctree}\n\nhandbook\n```\n")
    (source / "handbook.md").write_text(page)
    with build.patch_docutils(), build.docutils_namespace():
        build.Sphinx(source, None, output, tmp_path / "trees", "html", build.CONFIG, status=None, warning=said).build()
    assert said.getvalue() == ""
    built = (output / "handbook.html").read_text()
    assert "$" not in re.sub(r"<(script|style).*?</\1>", "", built, flags=re.DOTALL)
    assert built.count("<figure>") == len(DRAWN)


# ------------------------------------------------------------------------------------------ docstrings


def sketch(text):
    """A function of the theory with this docstring."""

    def bound():
        pass

    bound.__doc__, bound.__module__ = text, "optcourse.theory.sgd"
    return bound


def test_a_docstring_that_lacks_a_part_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^sgd\.bound: its docstring has no Tight, Source$"):
        docstring.parse(sketch("A bound.\n\nStatement: :math:`x \\le 1`. Proof: clear. Slack: 1.\n\n>>> Tight: no"))


def test_parts_end_where_the_next_begins_and_formulas_belong_to_them():
    found = docstring.parse(
        sketch(
            """How *far* it is.

            Statement, lr <= 1/L: with a display

            .. math:: x_k &\\le 1 \\\\
                      y &\\le 2

            that goes on. Proof: by :func:`sgd_bound` and :func:`sgd_step`; see ``sgd.sgd_pl``. Tight: no.

            A note on ``steps``. Slack: :math:`2:1` and 3. Source: one, two.

            Raises nothing.
            """
        ),
        ["sgd.sgd_bound", "sgd.sgd_pl"],
    )
    assert found.summary == "How *far* it is." and found.condition == "γ ≤ 1/L"
    assert found.parts["Statement"].startswith("with a display\n\n$$\n\\begin{aligned}x_k &\\le 1")
    assert found.parts["Statement"].endswith("\\end{aligned}\n$$\n\nthat goes on.")
    assert found.parts["Proof"] == "by [`sgd_bound`](#sgd.sgd_bound) and `sgd_step`; see [`sgd_pl`](#sgd.sgd_pl)."
    assert (found.parts["Tight"], found.parts["Slack"], found.parts["Source"]) == ("no.", "$2:1$ and 3.", "one, two.")
    assert found.notes == ["A note on `steps`.", "Raises nothing."]


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("E||grad f(x_{k+1})||^2 <= sigma2/n", "E‖∇f(x<sub>k+1</sub>)‖<sup>2</sup> ≤ σ²/n"),
        (
            "||v||_A, ||W - J||_2, c_tau <= sigma_omega",
            "‖v‖<sub>A</sub>, ‖W - J‖<sub>2</sub>, c<sub>τ</sub> ≤ σ<sub>ω</sub>",
        ),
        ("f* and x*; lr * g_k", "f\\* and x\\*; γ · g<sub>k</sub>"),
        ("x_{k-d_k} and (1 - q)^(2t)", "x<sub>k-d<sub>k</sub></sub> and (1 - q)<sup>2t</sup>"),
        ("n_nodes < D_inf, not *at* all", "n\\_nodes \\< D\\_inf, not *at* all"),
        (":math:`a\n    b` is ``lr_max``", "$a b$ is `lr_max`"),
        ("a cost of $3 [sic]", "a cost of \\$3 \\[sic\\]"),
    ],
)
def test_prose_is_typeset(text, printed):
    assert docstring.markdown(text) == printed


def test_long_formulas_stand_alone():
    long = "x" * 80
    found = docstring.parse(sketch(f"It.\n\nStatement: at most :math:`{long}`, so. Tight: no. Slack: 1. Source: us."))
    assert found.parts["Statement"] == f"at most \n\n$$\n{long},\n$$\n\nso."
