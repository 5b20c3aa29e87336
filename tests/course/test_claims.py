"""All claims on one page: read from notebooks, joined with verdicts, never green without a run."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from optcourse import checking
from optcourse.course import catalog, claims

LECTURES = Path(__file__).parents[2] / "lectures"
TABLE = catalog.load(LECTURES / "topics.toml")
SOURCE = """
import optcourse
claim = "first"
check("02.4", claim, 1, "<=", 2)
claim = f"of {n} seeds: " + "second"
optcourse.check("02.4", claim, 1, "<=", 2)
for name in names:
    check("02.5", f"{name}: third (a+b)", x, ">", 0)
if deep:
    check("02.5", "only with an extra", x, ">", 0)
other.check(2, "not a claim")
check("02.6", make(name), x, ">", 0)
"""


def verdict(topic, claim, word="holds", **more):
    entry = checking.Verdict(topic, claim, 1.0, "<=", 2.0, 1.0, word, **more)
    return {"lecture": topic[:2], **asdict(entry)}


@pytest.fixture
def folder(tmp_path):
    cells = [new_code_cell(SOURCE), new_code_cell('check("02.7", "for a GPU", 1, "<", 2)', metadata={"tags": ["gpu"]})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "02_some.ipynb")
    nbformat.write(new_notebook(cells=[new_code_cell('check("99.1", "x", 1, "<", 2)')]), tmp_path / "notes.ipynb")
    return tmp_path


def test_claims_are_read_without_running(folder):
    found = claims.collect(folder)
    texts = [(c.topic, c.text, c.conditional) for c in found]
    assert texts == [
        ("02.4", "first", False),
        ("02.4", "of {…} seeds: second", False),
        ("02.5", "{…}: third (a+b)", False),
        ("02.5", "only with an extra", True),
        ("02.6", "{…}", False),
    ]


def test_a_claim_without_a_verdict_is_not_run_and_never_green(folder):
    stated = claims.collect(folder)
    rows = claims.join(stated, [])
    assert [row["verdict"] for row in rows] == [claims.NOT_RUN] * 5
    page = claims.page(rows, {"02": "02_some.html"}, TABLE)
    assert "✓ 0 hold<" in page and "– 5 not run yet" in page and 'class="holds">✓ holds' not in page

    ran = [
        verdict("02.5", "Adam: third (a+b)"),
        verdict("02.5", "SGD: third (a+b)", "undecided"),
        verdict("02.6", "any"),
    ]
    rows = claims.join(stated, [verdict("02.4", "of 3 seeds: second"), *ran])
    assert {row["claim"]: row["verdict"] for row in rows} == {
        "first": claims.NOT_RUN,
        "of 3 seeds: second": "holds",
        "Adam: third (a+b)": "holds",
        "SGD: third (a+b)": "undecided",
        "only with an extra": claims.LEFT_OUT,  # its lecture has run
        "any": "holds",
    }
    assert [row["topic"] for row in rows] == sorted(row["topic"] for row in rows)


def test_the_text_of_a_claim_is_no_regular_expression():
    claim = claims.Claim("02.5", "f(x) = {…} [a|b]")
    assert claim.matches({"topic": "02.5", "claim": "f(x) = x\n1 [a|b]"})
    assert not claim.matches({"topic": "02.5", "claim": "fx = 1 a"}) and not claim.matches(
        verdict("02.4", "f(x) = 1 [a|b]")
    )


def test_an_interval_of_certain_ends_decides_as_it_should(capsys):
    known = [{"verdict": "holds"}] * 3
    for rows, word in (
        (known, "holds"),
        ([*known, {"verdict": claims.NOT_RUN}], "undecided"),
        ([*known, {"verdict": claims.LEFT_OUT}], "holds"),
    ):
        checking.check("20.3", "broken", claims.how_many(rows, ["broken"], [claims.NOT_RUN]), "<=", 0)
        assert f" {word}: " in capsys.readouterr().out
    with pytest.raises(checking.ClaimBroken):
        broken = [*known, {"verdict": "broken"}, {"verdict": claims.NOT_RUN}]
        checking.check("20.3", "broken", claims.how_many(broken, ["broken"], [claims.NOT_RUN]), "<=", 0)


def test_the_last_run_is_read_and_the_running_lecture_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "GIVEN", given := [])
    monkeypatch.setattr(claims, "GIVEN", given)
    path = tmp_path / "verdicts.json"
    assert claims.last_run(path, now="20") == []
    path.write_text(json.dumps([verdict("02.4", "old"), verdict("20.1", "gone")]))
    checking.check("20.1", "now", 3, "<=", 2, expect="fails", why="three is more")
    checking.check("20.1", "now", 1, "<=", 2)  # the cell runs again
    checking.check("04.1", "of another lecture", 1, "<=", 2)
    found = claims.last_run(path, now="20")
    assert [(row["lecture"], row["claim"], row["verdict"]) for row in found] == [
        ("02", "old", "holds"),
        ("20", "now", "holds"),
    ]
    assert [row["claim"] for row in claims.last_run(path)] == ["old", "gone"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"verdict": "green"}]', '[{"verdict": "holds"}]', "\x00"])
def test_a_file_that_holds_no_verdicts_is_refused(tmp_path, text):
    (tmp_path / "verdicts.json").write_text(text)
    with pytest.raises(ValueError, match=r"verdicts\.json is not a list of verdicts"):
        claims.last_run(tmp_path / "verdicts.json")


def test_where_the_verdicts_are(tmp_path, monkeypatch):
    monkeypatch.delenv("OPTCOURSE_VERDICTS", raising=False)
    assert claims.verdicts_path(tmp_path / "lectures") == tmp_path / "build" / "lectures" / "verdicts.json"
    assert claims.addresses(TABLE)["02"] == "02_sgd_and_minibatch.ipynb"
    monkeypatch.setenv("OPTCOURSE_VERDICTS", "/x/verdicts.json")
    assert claims.verdicts_path(tmp_path) == Path("/x/verdicts.json")
    assert claims.addresses(TABLE)["02"] == "02_sgd_and_minibatch.html"


@pytest.mark.parametrize(
    ("measured", "relation", "bound", "tol", "shown"),
    [
        (2247.0, "==", 2246.5, 1.0, "2247 = 2246 ± 1"),
        (0.085660672, "==", 0.0, 0.1, "0.08566 = 0 ± 0.1"),
        (1.3862943611, "==", 2.0, 0.0005, "1.386 = 2 ± 0.0005"),  # it fails as expected, by more than is allowed
        (1 + 1e-14, "==", 1.0, 1e-9, "1 = 1"),
        (4489.0, "==", 4489.0, 1.0, "4489 = 4489"),
        (-1e-16, ">=", 0.0, 1e-12, "-1e-16 ≥ 0 − 1e-12"),
        (1e-9, "<=", 0.0, 1e-6, "1e-09 ≤ 0 + 1e-06"),
        (0.3, "<=", 0.5, 1e-6, "0.3 ≤ 0.5"),
        (3.0, "==", 3.0, 0.0, "3 = 3"),
        (5.0, "in", [1.0, 9.0], 0.0, "5 in [1, 9]"),
    ],
)
def test_a_tolerance_is_shown_where_the_numbers_do_not_agree_without_it(measured, relation, bound, tol, shown):
    entry = {"measured": measured, "relation": relation, "bound": bound, "tol": tol, "interval": None}
    assert claims.compared(entry) == shown


def test_an_interval_within_a_tolerance_shows_it():
    entry = {"measured": 1.0, "relation": "==", "bound": 1.0, "tol": 0.2, "interval": [0.9, 1.1]}
    assert claims.compared(entry) == "1 [0.9, 1.1] = 1 ± 0.2"
    entry = {"measured": 0.9, "relation": "<=", "bound": 1.0, "tol": 0.2, "interval": [0.7, 1.1]}
    assert claims.compared(entry) == "0.9 [0.7, 1.1] ≤ 1 + 0.2"
    assert claims.compared({**entry, "interval": [0.7, 1.0]}) == "0.9 [0.7, 1] ≤ 1"


def test_the_margin_of_an_equality_is_what_the_page_says(monkeypatch):
    monkeypatch.setattr(checking, "GIVEN", [])
    checking.check("15.1", "a size", 2247.0, "==", 2246.5, tol=1.0)
    (given,) = checking.GIVEN
    assert given.margin == 1.0 - (2247.0 - 2246.5)  # the tolerance less the difference


def test_verdicts_are_counted_in_the_number_of_their_verb():
    def text(**counts):
        rows = [{"verdict": word.replace("_", " ")} for word, n in counts.items() for _ in range(n)]
        return re.sub("<.*?>", "", claims.counted(rows))

    many = text(holds=3, fails_as_expected=2, undecided=2)
    assert many == "7 claims: ✓ 3 hold, ◇ 2 fail as expected, ? 2 undecided, ✗ 0 broken."
    assert text(holds=1, fails_as_expected=1) == (
        "2 claims: ✓ 1 holds, ◇ 1 fails as expected, ? 0 undecided, ✗ 0 broken."
    )
    assert text(broken=1) == "1 claim: ✓ 0 hold, ◇ 0 fail as expected, ? 0 undecided, ✗ 1 broken."


def test_the_page_escapes_links_and_shows_numbers():
    rows = [verdict("02.4", "a < b & c", why="<i>why</i>", interval=[0.5, 1.5], seeds=3)]
    page = claims.page(rows, {"02": "02_some.html"}, TABLE)
    assert 'href="02_some.html#02.4"' in page and "a &lt; b &amp; c" in page and "&lt;i&gt;why" in page
    assert "1 [0.5, 1.5] ≤ 2" in page and "<summary>02 SGD and mini-batch" in page


SLIP = {"topic": "01.1", "deck": "A", "slide": "s", "printed": "p", "derived": "d", "quote": "q"}


def toml(**entry):
    return "[[slip]]\n" + "".join(f'{key} = "{value}"\n' for key, value in entry.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[slip]\n", "not readable"),
        ("[[other]]\n", "unknown table other"),
        (toml(**SLIP | {"topic": "01.9"}), "slip 1: there is no topic '01.9'"),
        (toml(**SLIP | {"deck": "F"}), "deck must list letters A to E"),
        (toml(**SLIP) + toml(**SLIP | {"topic": "01.2"}), "slip 2: duplicate"),
        (toml(**{k: v for k, v in SLIP.items() if k != "quote"}), "the keys must be"),
        ('[[answer]]\ntopics = ["01.1", "77.7"]\ndeck = "A"\nstatement = "s"\ntext = "t"\n', "no topic '77.7'"),
    ],
)
def test_a_bad_summary_is_refused(tmp_path, text, message):
    (tmp_path / "summary.toml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        claims.summary(tmp_path / "summary.toml", TABLE)


def test_advice_stands_on_the_weakest_of_its_checks(folder):
    stated, advice = claims.collect(folder), {"topic": "02.5", "claim": "{…}: third"}
    for words, expected in (
        (["holds", "fails as expected"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "broken"], "broken"),
        ([], claims.NOT_RUN),
    ):
        ran = [verdict("02.5", f"{word}: third (a+b)", word) for word in words]
        assert claims.standing(advice, stated, claims.join(stated, ran)) == expected
    with pytest.raises(LookupError, match="begins with 'fourth'"):
        claims.standing({"topic": "02.5", "claim": "fourth"}, stated, claims.join(stated, []))


def test_a_table_keeps_its_columns():
    table = claims.markdown(["a", "b"], [["x | y", "$\\lvert z\\rvert$"]])
    assert table.splitlines() == ["| a | b |", "| --- | --- |", "| x \\| y | $\\lvert z\\rvert$ |"]


# ------------------------------------------------------------------------------- this course


STATED = claims.collect(LECTURES)
SUMMARY = claims.summary(LECTURES / "summary.toml", TABLE)


def words(text):
    return " ".join(text.split())


def section_texts():
    texts = {}
    for path in sorted(LECTURES.glob("[0-9][0-9]_*.ipynb")):
        topic = ""
        for cell in nbformat.read(path, as_version=4).cells:
            if anchor := re.search(r'^## <a id="(\d\d\.\d)">', cell.source, re.M):
                topic = anchor[1]
            if cell.cell_type == "markdown":
                texts[topic] = texts.get(topic, "") + " " + words(cell.source)
    return texts


SECTIONS = section_texts()


def test_every_topic_of_a_written_lecture_claims_something():
    written = {lecture.id for lecture in TABLE.lectures if lecture.status == "written"}
    assert {t.id for t in TABLE.topics if t.lecture in written} == {claim.topic for claim in STATED}


@pytest.mark.parametrize("slip", SUMMARY["slip"], ids=lambda slip: f"{slip['topic']} {slip['printed'][:20]}")
def test_every_slip_is_said_in_its_section(slip):
    assert words(slip["quote"]) in SECTIONS[slip["topic"]]
    topic = TABLE.topic(slip["topic"])
    assert topic is not None and len(slip["quote"]) >= 5


@pytest.mark.parametrize("advice", SUMMARY["advice"], ids=lambda advice: advice["topic"])
def test_every_sentence_of_advice_has_a_check(advice):
    assert claims.standing(advice, STATED, claims.join(STATED, [])) == claims.NOT_RUN


def test_every_deck_with_a_summary_is_answered():
    topic = TABLE.topic("20.3")
    assert topic is not None and {entry["deck"] for entry in SUMMARY["answer"]} == set(topic.deck)
