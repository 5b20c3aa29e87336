"""Honest notebooks, whatever an editor or a student did to their cells, keep every point: without a box, and fast."""

import base64
import contextlib
import copy
import dataclasses
import gzip
import io
import itertools
import json
import re
import tracemalloc
import zipfile
from functools import cache
from pathlib import Path

import nbformat
import nbstripout
import pytest
import tiny_lab
from hypothesis import example, given
from hypothesis import strategies as st

from optcourse.grading.lab import from_release, role
from optcourse.grading.reading import parts, read
from optcourse.grading.submission import Unreadable, assemble, looks_like, untouched, written_answers
from optcourse.labs.values import decode, difference, encode

LABS = Path(__file__).resolve().parents[2] / "labs"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
JPEG = base64.b64encode(b"\xff\xd8\xff\xe0JFIF").decode()
SOLUTIONS = tiny_lab.SOLUTIONS
#: Every exercise of the tiny lab.
ALL = {"test-softmax": 3.0, "test-step": 2.0, "test-squares": 1.0}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_lab.write_lab(tmp_path_factory.mktemp("tiny"))


def stub(lab, name):
    return next(c.source for c in lab.release.cells if c.id == name)


def earned(lab, cells):
    """What the exercises earn when the cells run from top to bottom: what Jupyter does with code that we trust."""
    space, points = {"__name__": "__main__"}, {}
    for cell in cells:
        if cell.kind != "code":
            continue
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            exec(compile(cell.source, cell.name, "exec"), space)
        if cell.test:
            exercise = next(e for e in lab.exercises if e.name == cell.name)
            points[cell.name] = sum(case.points for case in exercise.cases if right(case, space))
    return points


def right(case, space):
    space = {**space, **{name: decode(value) for name, value in case.data.items()}}
    with contextlib.suppress(Exception):
        exec(case.setup, space)
        return difference(decode(encode(eval(case.expression, space))), decode(case.expected), case.tol) is None
    return False


def handed_in(lab, made):
    return assemble(lab, read(tiny_lab.raw(made)))


def cell(made, name):
    return next(c for c in made.cells if c.id == name)


def place(made, name):
    return made.cells.index(cell(made, name))


def code(text):
    return nbformat.v4.new_code_cell(text)


def text(source, **fields):
    return nbformat.v4.new_markdown_cell(source, **fields)


# What students do to one exercise --------------------------------------------------------------------------------


def replaced(made, name):
    made.cells[place(made, name)] = code(SOLUTIONS[name])


def below_the_stub(made, name):
    made.cells.insert(place(made, name) + 1, code(SOLUTIONS[name]))


def above_the_stub(made, name):
    made.cells.insert(place(made, name), code(SOLUTIONS[name]))


def below_the_test(made, name):
    made.cells.insert(place(made, f"test-{name}") + 1, code(SOLUTIONS[name]))


def stub_deleted(made, name):
    made.cells.insert(place(made, f"test-{name}"), code(SOLUTIONS[name]))
    made.cells.remove(cell(made, name))


def at_the_top(made, name):
    made.cells.insert(place(made, "imports") + 1, code(SOLUTIONS[name]))


def before_the_title(made, name):
    made.cells.insert(0, code(SOLUTIONS[name]))


def copied_above(made, name):
    """Copy and paste in JupyterLab: the copy has the metadata, not the id."""
    made.cells.insert(place(made, name), copy.deepcopy(cell(made, name)))
    made.cells[place(made, name)].update(id="a-copy", source=SOLUTIONS[name])


def copied_below(made, name):
    made.cells.insert(place(made, name) + 1, copy.deepcopy(cell(made, name)))
    made.cells[place(made, name) + 1].update(id="another-copy", source=SOLUTIONS[name])


def in_the_test(made, name):
    test = cell(made, f"test-{name}")
    test.source = f"{SOLUTIONS[name]}\n\n\n{test.source}"


def joined_with_the_test(made, name):
    """Joined with the cell below: the first one's id and metadata stay."""
    cell(made, name).source = f"{SOLUTIONS[name]}\n\n{cell(made, f'test-{name}').source}"
    made.cells.remove(cell(made, f"test-{name}"))


def joined_without_metadata(made, name):
    joined = code(f"{SOLUTIONS[name]}\n\n{cell(made, f'test-{name}').source}")
    made.cells.remove(cell(made, f"test-{name}"))
    made.cells[place(made, name)] = joined


def without_the_test(made, name):
    cell(made, name).source = SOLUTIONS[name]
    made.cells.remove(cell(made, f"test-{name}"))


def with_the_test_above(made, name):
    cell(made, name).source = SOLUTIONS[name]
    test = made.cells.pop(place(made, f"test-{name}"))
    made.cells.insert(place(made, name), test)


def split(made, name):
    cell(made, name).source = SOLUTIONS[name]
    made.cells.insert(place(made, name), copy.deepcopy(cell(made, name)))
    made.cells[place(made, name)].update(id="first-half", source="import math\n\nHALF = 0.5")


def better_below_with_the_test_again(made, name):
    cell(made, name).source = f"def {name}(*_):\n    return None"
    at = place(made, f"test-{name}")
    again = copy.deepcopy(made.cells[at])
    again.id = "test-again"
    made.cells[at + 1 : at + 1] = [code(SOLUTIONS[name]), again]


def as_an_import(made, name):
    """A lambda instead of a function: another kind of definition."""
    cell(made, name).source = f"{SOLUTIONS[name]}\n\nmine = {name}"
    made.cells.insert(place(made, name) + 1, code(f"{name} = lambda *a: mine(*a)"))


def reformatted(made, name):
    cell(made, name).source = SOLUTIONS[name]
    test = cell(made, f"test-{name}")
    test.source = "# my notes\n" + test.source.replace(", ", ",\n        ").replace("(2, 4)", "(2,4)")


def of_another_exercise(made, name):
    """A grade id and a cell id that belong elsewhere."""
    other = {"softmax": "step", "step": "squares", "squares": "softmax"}[name]
    made.cells[place(made, name)] = copy.deepcopy(cell(made, other))
    made.cells[place(made, other)].update(id=f"was-{name}", source=SOLUTIONS[name])


def timed(made, name):
    """A magic that runs nothing here, in front of the solution in a cell of its own."""
    made.cells.insert(place(made, name) + 1, code(SOLUTIONS[name] + f"\n{name}?"))


CHANGES = [
    replaced, below_the_stub, above_the_stub, below_the_test, stub_deleted, at_the_top, before_the_title, copied_above,
    copied_below, in_the_test, joined_with_the_test, joined_without_metadata, without_the_test, with_the_test_above, split,
    better_below_with_the_test_again, reformatted, as_an_import,
]  # fmt: skip


def fill(made, name):
    cell(made, name).source = SOLUTIONS[name]


def blank(lab):
    return copy.deepcopy(lab.release)


@pytest.mark.parametrize("name", SOLUTIONS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_point_and_a_flag(tiny, change, name):
    made = blank(tiny)
    for other in SOLUTIONS:
        (change if other == name else fill)(made, other)
    cells, flags = handed_in(tiny, made)
    assert earned(tiny, cells) == ALL, [(c.name, c.source[:30]) for c in cells]
    assert flags or change is as_an_import  # a second definition before the test is nobody's business
    assert not untouched(tiny, cells, (name,))
    assert len({c.name for c in cells}) == len(cells)


def without_metadata(made):
    for c in made.cells:
        c.metadata = {}


def without_ids(made):
    made.nbformat_minor = 4
    for c in made.cells:
        c.pop("id")


def stripped(made):
    without_metadata(made)
    without_ids(made)


def test_solutions_beside_stubs_that_stay_are_all_said(tiny):
    made = blank(tiny)
    at = [i for i, c in enumerate(made.cells) if c.id in SOLUTIONS]
    for i in reversed(at):
        made.cells.insert(i + 1, nbformat.v4.new_code_cell(SOLUTIONS[made.cells[i].id]))
    assert {f"{name!r} is solved in a cell of its own" for name in SOLUTIONS} <= set(handed_in(tiny, made)[1])


def test_a_file_without_labels_is_said_once_also_where_a_stub_is_left(tiny):
    made = blank(tiny)
    for name in list(SOLUTIONS)[1:]:
        fill(made, name)
    stripped(made)
    assert handed_in(tiny, made)[1] == ["metadata stripped"]


@given(
    st.tuples(*(st.sampled_from([fill, *CHANGES]) for _ in SOLUTIONS)),
    st.permutations(list(SOLUTIONS)),
    st.sampled_from([lambda made: None, without_metadata, without_ids, stripped]),
)
def test_every_point_for_any_mixture(tiny, changes, order, strip):
    made = blank(tiny)
    for name, change in zip(SOLUTIONS, changes, strict=True):
        change(made, name)
    begins = [i for i, c in enumerate(made.cells) if c.id.startswith("text-") or c.id == "why"]
    groups = {made.cells[i].id: made.cells[i:j] for i, j in itertools.pairwise(begins)}
    made.cells[begins[0] : begins[-1]] = [c for name in order for c in groups[f"text-{name}"]]
    strip(made)
    cells, _ = handed_in(tiny, made)
    assert earned(tiny, cells) == ALL, [(c.name, c.source[:40]) for c in cells]
    assert not untouched(tiny, cells, tuple(SOLUTIONS))
    assert len({c.name for c in cells}) == len(cells)


@pytest.mark.parametrize(
    "strip",
    [lambda made: None, without_metadata, without_ids, stripped],
    ids=["whole", "without metadata", "without ids", "stripped"],
)
def test_a_stub_is_not_attempted_whatever_was_dropped(tiny, strip):
    made = blank(tiny)
    strip(made)
    cells, _ = handed_in(tiny, made)
    assert [c.source for c in cells] == [c.source for c in tiny.release.cells]
    assert [c.name for c in cells] == [role(c).get("grade_id", c.id) for c in tiny.release.cells]
    assert all(untouched(tiny, cells, (name,)) for name in SOLUTIONS)
    assert written_answers(tiny, cells) == {}


# Every lab, without running it: what is defined when a test runs ---------------------------------------------------


@cache
def lab(name):
    return from_release(LABS / "release" / name / f"{name}.ipynb")


@cache
def solved_cells(name):
    source = nbformat.read(LABS / "source" / name / f"{name}.ipynb", as_version=4)
    return {role(c)["grade_id"]: c.source for c in source.cells if role(c).get("solution") and c.cell_type == "code"}


def solved(name):
    made = copy.deepcopy(lab(name).release)
    for c in made.cells:
        c.source = solved_cells(name).get(role(c).get("grade_id"), c.source)
    return made


def live(cells):
    """For each test, what the names that are defined before it mean."""
    meaning, found = {}, {}
    for c in cells:
        if c.test:
            found[c.name] = dict(meaning)
        if c.kind == "code":
            meaning |= {n: part["key"] for part in parts(c.source) for n in part["binds"]}
    return found


def as_jupytext_percent(made):
    """``py:percent`` and back: the text of the cells is all that there is."""
    made.cells = [nbformat.v4.new_notebook(cells=[c]).cells[0] for c in made.cells]
    for c in made.cells:
        c.source = "\n".join(line.rstrip() for line in c.source.strip().split("\n"))
    stripped(made)


def as_jupytext_light(made):
    """``py:light`` and back: code falls into cells at empty lines between statements."""
    new = []
    for c in made.cells:
        texts = re.split(r"\n\n+(?=[^\s#])", c.source) if c.cell_type == "code" else [c.source]
        new += [code(t) if c.cell_type == "code" else text(t) for t in texts]
    made.cells = new
    stripped(made)


def as_a_script(made):
    """``jupyter nbconvert --to script``, and all of it pasted into one cell."""
    blocks = []
    for number, c in enumerate(made.cells):
        if c.cell_type == "code":
            blocks.append(f"# In[{number}]:\n\n\n{c.source}")
        else:
            blocks.append("\n".join(f"# {line}" for line in c.source.split("\n")))
    made.cells = [code("#!/usr/bin/env python\n# coding: utf-8\n\n" + "\n\n\n".join(blocks))]
    stripped(made)


def one_cell_for_each_statement(made):
    new = []
    for c in made.cells:
        lines = c.source.split("\n")
        found = parts(c.source) if c.cell_type == "code" else []
        new += [code("\n".join(lines[p["first"] : p["last"] + 1])) for p in found] or [c]
    made.cells = new
    stripped(made)


def as_colab(made):
    """Metadata of its own, no ids of the format, the kernel's name only."""
    without_ids(made)
    for number, c in enumerate(made.cells):
        c.metadata = {"id": f"Xy{number}z", "colab": {"base_uri": "https://localhost:8080/"}}
    made.metadata = {"colab": {"provenance": []}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}


def as_vs_code(made):
    without_metadata(made)
    for number, c in enumerate(made.cells):
        c.metadata = {"vscode": {"languageId": "python"}} if c.cell_type == "code" else {}
        c.id = f"W{number}sZmlsZQ=="


def as_nbstripout(made):
    nbstripout.strip_output(made, False, False, False, ["cell.metadata.nbgrader", "metadata.kernelspec"])
    without_metadata(made)


def as_version_3(made):
    converted = nbformat.convert(copy.deepcopy(made), 3)
    made.clear()
    made.update(converted)


def with_other_line_ends(made):
    for c in made.cells:
        c.source = c.source.replace("\n", "\r\n")
    stripped(made)


def with_remarks_in_the_tests(made):
    for c in made.cells:
        if c.cell_type == "code" and not role(c).get("solution"):
            c.source = "# looked at on Monday\n\n" + re.sub(r", (?=\w+\()", ",  ", c.source) + "\n# works"
    without_ids(made)


def _without_stubs(made):
    own = [c for c in made.cells if c.cell_type == "code" and role(c).get("solution")]
    made.cells = [c for c in made.cells if c not in own]
    return own


def all_in_one_cell_at_the_top(made):
    own = _without_stubs(made)
    first = next(i for i, c in enumerate(made.cells) if c.cell_type == "code")
    made.cells.insert(first + 1, code("\n\n\n".join(c.source for c in own)))


def all_in_one_cell_at_the_top_with_stubs_below(made, name):
    own = copy.deepcopy(_without_stubs(made))
    made.cells = copy.deepcopy(lab(name).release.cells)
    first = next(i for i, c in enumerate(made.cells) if c.cell_type == "code")
    made.cells.insert(first + 1, code("\n\n\n".join(c.source for c in own)))


def all_in_one_cell_at_the_end_with_stubs_above(made, name):
    own = copy.deepcopy(_without_stubs(made))
    made.cells = [*copy.deepcopy(lab(name).release.cells), code("\n\n\n".join(c.source for c in own))]


def the_blank_lab_pasted_below(made, name):
    made.cells += [c | {"id": f"again-{number}"} for number, c in enumerate(copy.deepcopy(lab(name).release.cells))]


def only_code_and_tests(made):
    """All texts deleted."""
    made.cells = [c for c in made.cells if c.cell_type == "code" or role(c)]


def only_solutions(made):
    made.cells = _without_stubs(made)
    stripped(made)


EDITORS = [
    without_metadata, without_ids, stripped, as_jupytext_percent, as_jupytext_light, as_a_script,
    one_cell_for_each_statement, as_colab, as_vs_code, as_nbstripout, as_version_3, with_other_line_ends,
    with_remarks_in_the_tests, all_in_one_cell_at_the_top, all_in_one_cell_at_the_top_with_stubs_below,
    all_in_one_cell_at_the_end_with_stubs_above, the_blank_lab_pasted_below, only_code_and_tests, only_solutions,
]  # fmt: skip
ALL_LABS = sorted(path.name for path in (LABS / "release").iterdir() if path.name.startswith("lab"))


@pytest.mark.parametrize("name", ALL_LABS)
@pytest.mark.parametrize("editor", EDITORS, ids=lambda editor: editor.__name__)
def test_every_lab_has_the_students_definitions_before_its_tests(editor, name):
    made = solved(name)
    editor(made, name) if editor.__code__.co_argcount == 2 else editor(made)
    cells, flags = handed_in(lab(name), made)
    want, got = live(handed_in(lab(name), solved(name))[0]), live(cells)
    assert got.keys() == want.keys() == {exercise.name for exercise in lab(name).exercises}
    for exercise in lab(name).exercises:
        asked = {n for s in exercise.solutions for part in parts(solved_cells(name)[s]) for n in part["binds"]}
        assert {n: got[exercise.name].get(n) for n in asked} == {n: want[exercise.name][n] for n in asked}
        assert not untouched(lab(name), cells, exercise.solutions)
    given = {c.name: c.source for c in cells if c.provided}
    assert given == {role(c).get("grade_id", c.id): c.source for c in lab(name).release.cells if c_is_given(c)}
    assert flags or editor in (without_ids, as_version_3, only_code_and_tests)


def c_is_given(c):
    return not role(c).get("solution")


# What is not a solution -----------------------------------------------------------------------------------------


def test_an_untouched_lab_earns_nothing_below_its_own_helpers(tiny):
    made = tiny_lab.notebook({"imports": "def helper(z):\n    return z"}, **{n: stub(tiny, n) for n in SOLUTIONS})
    cells, _ = handed_in(tiny, made)
    assert sum(earned(tiny, cells).values()) == 0
    assert all(untouched(tiny, cells, (name,)) for name in SOLUTIONS)


@pytest.mark.parametrize("strip", [lambda made: None, stripped], ids=["whole", "stripped"])
def test_a_deleted_stub_is_not_attempted(tiny, strip):
    made = tiny_lab.notebook()
    made.cells.remove(cell(made, "step"))
    strip(made)
    cells, flags = handed_in(tiny, made)
    assert untouched(tiny, cells, ("step",))
    assert "missing cell 'step'" in flags
    assert earned(tiny, cells) == ALL | {"test-step": 0.0}


def test_a_function_that_a_module_brings_is_not_overwritten_by_a_deleted_stub(tiny):
    """Nobody sees what ``%run mine.py`` or ``from mine import *`` defines."""
    made = tiny_lab.notebook({"imports": "exec('def step(x, g, lr):\\n    return x - lr * g')"})
    made.cells.remove(cell(made, "step"))
    assert earned(tiny, handed_in(tiny, made)[0]) == ALL


def test_a_stub_with_other_words_in_its_docstring_is_a_stub(tiny):
    made = tiny_lab.notebook(step=stub(tiny, "step").replace("lr):\n", 'lr):\n    """My notes."""\n'))
    made.cells.insert(place(made, "step"), code(SOLUTIONS["step"]))
    assert earned(tiny, handed_in(tiny, made)[0]) == ALL


def test_the_last_definition_before_the_test_counts(tiny):
    worse = "def step(x, g, lr):\n    return x"
    before = handed_in(tiny, tiny_lab.notebook({"step": worse}))
    after = handed_in(tiny, tiny_lab.notebook({"test-step": worse}))
    assert earned(tiny, before[0]) == ALL | {"test-step": 0.0}
    assert earned(tiny, after[0]) == ALL
    assert "'step' is defined again after its test; the test looks at the one before" in after[1]


def test_what_a_stub_cell_imports_stays(tiny):
    """A statement that the stub shares with the student's own cells is theirs."""
    made = blank(tiny)
    cell(made, "step").source = "import math\n\n" + stub(tiny, "step")
    other = from_notebook(tiny, made)
    mine = tiny_lab.notebook(step="import math\n\n" + stub(tiny, "step"))
    mine.cells.insert(place(mine, "step"), code("import math\n\ndef step(x, g, lr):\n    return x - math.fabs(lr) * g"))
    mine.cells.insert(place(mine, "step"), code("import math\n\nHALF = math.sqrt(0.25)"))
    cells, _ = handed_in(other, mine)
    assert earned(other, cells) == ALL
    assert any(c.source == "import math\n\nHALF = math.sqrt(0.25)" for c in cells)


def from_notebook(tiny, release):
    return dataclasses.replace(tiny, release=release)


def test_an_order_of_ones_own_runs_in_that_order(tiny):
    made = tiny_lab.notebook({"squares": "seen = 'after squares'", "softmax": "seen = 'after softmax'"})
    section = made.cells[-4:-1]
    del made.cells[-4:-1]
    made.cells[2:2] = section
    made.cells.insert(place(made, "softmax"), code("before = seen"))
    cells, flags = handed_in(tiny, made)
    names = [c.name for c in cells]
    assert names.index("test-squares") < names.index("softmax")
    assert "cells in another order" in flags
    assert earned(tiny, cells) == ALL


# Nothing is lost without a word ---------------------------------------------------------------------------------


def answered(tiny, change):
    made = tiny_lab.notebook()
    change(made)
    cells, flags = handed_in(tiny, made)
    return cells, flags, written_answers(tiny, cells)


def test_a_pasted_picture_is_part_of_the_answer(tiny):
    def change(made):
        cell(made, "why").update(source="See ![it](attachment:it.png)", attachments={"it.png": {"image/png": PNG}})

    cells, flags, answers = answered(tiny, change)
    assert flags == []
    assert answers == {"why": "See ![it](attachment:it.png)"}
    assert next(c for c in cells if c.name == "why").attachments == {"it.png": {"image/png": PNG}}


def test_a_picture_alone_is_an_answer(tiny):
    _, _, answers = answered(tiny, lambda made: cell(made, "why").update(attachments={"a": {"image/png": PNG}}))
    assert answers == {"why": stub(tiny, "why")}


def test_a_picture_in_the_text_becomes_an_attachment(tiny):
    """As Colab writes it."""
    cells, _, answers = answered(
        tiny, lambda made: cell(made, "why").update(source=f"![](data:image/png;base64,{PNG})")
    )
    assert answers == {"why": "![](attachment:pasted-1.png)"}
    assert next(c for c in cells if c.name == "why").attachments == {"pasted-1.png": {"image/png": PNG}}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("image/svg+xml", "<svg onload='alert(1)'/>"),
        ("image/png", "AAAA"),
        ("image/png", "no base64"),
        ("text/html", PNG),
    ],
)
def test_what_is_no_picture_is_left_out_with_a_flag(tiny, kind, data):
    cells, flags, _ = answered(tiny, lambda made: cell(made, "why").update(attachments={"x.png": {kind: data}}))
    assert next(c for c in cells if c.name == "why").attachments == {}
    assert flags == ["the attachment 'x.png' was left out: no picture (PNG, JPEG, GIF)"]


def _added(*new, at=1):
    return lambda made: made.cells.__setitem__(slice(place(made, "why") + at, place(made, "why") + at), list(new))


@pytest.mark.parametrize(
    "new",
    [
        text("Because of this."),
        nbformat.v4.new_raw_cell("Because of this."),
        code("Because of this."),
        text("Because of this.", attachments={"why.png": {"image/png": PNG}}),
    ],
    ids=["markdown", "raw", "code", "with a picture"],
)
def test_an_answer_in_a_cell_of_its_own_counts(tiny, new):
    cells, flags, answers = answered(tiny, _added(new))
    assert answers == {"why": "Because of this."}
    assert "the answer 'why' is in a cell of its own" in flags
    assert next(c for c in cells if c.name == "why").attachments == new.get("attachments", {})
    assert [c.source for c in cells].count("Because of this.") == 1


def test_an_answer_of_several_cells_is_one(tiny):
    def change(made):
        cell(made, "why").source = "First ![](attachment:a.png)"
        cell(made, "why").attachments = {"a.png": {"image/png": PNG}}
        _added(text("Second ![](attachment:a.png)", attachments={"a.png": {"image/jpeg": JPEG}}))(made)

    cells, _, answers = answered(tiny, change)
    assert answers == {"why": "First ![](attachment:a.png)\n\nSecond ![](attachment:1-a.png)"}
    kept = next(c for c in cells if c.name == "why").attachments
    assert kept == {"a.png": {"image/png": PNG}, "1-a.png": {"image/jpeg": JPEG}}


@pytest.mark.parametrize("strip", [lambda made: None, without_metadata, without_ids, stripped])
def test_an_answer_counts_whatever_was_dropped(tiny, strip):
    def change(made):
        _added(text("Because."))(made)
        strip(made)

    assert answered(tiny, change)[2] == {"why": "Because."}


def test_an_answer_that_replaced_the_question_counts(tiny):
    def change(made):
        made.cells[place(made, "why")] = text("Because of this.")

    _, flags, answers = answered(tiny, change)
    assert answers == {} or answers == {"why": "Because of this."}
    assert any("why" in flag for flag in flags)


def test_a_text_of_ones_own_is_kept_where_it_stands(tiny):
    made = tiny_lab.notebook()
    made.cells.insert(place(made, "test-step") + 1, text("A remark."))
    cells, flags = handed_in(tiny, made)
    sources = [c.source for c in cells]
    assert sources[sources.index("A remark.") - 1] == stub(tiny, "test-step")
    assert flags == ["no answer to 'why', but the student's own texts elsewhere"]


def test_a_picture_in_a_text_of_the_lab_is_kept(tiny):
    made = tiny_lab.notebook()
    cell(made, "text-step").update(attachments={"a.png": {"image/png": PNG}})
    cells, _ = handed_in(tiny, made)
    assert [c.attachments for c in cells if c.attachments] == [{"a.png": {"image/png": PNG}}]


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda made: cell(made, "step").update(source="#" * 300_000), "a cell of 300,000 characters was cut at 200,000"),
        (lambda made: made.cells.append({"cell_type": "sql", "source": "1"}), "of an unknown type was left out: 'sql'"),
        (lambda made: made.cells.append({"source": "1"}), "of an unknown type was left out: ''"),
        (lambda made: cell(made, "title").update(source=["# Tiny lab", 3]), "something that is no text"),
        (lambda made: cell(made, "test-step").update(source="1 + 1"), "edited test cell 'test-step'"),
        (lambda made: cell(made, "imports").update(source="import os"), "edited provided cell 'imports'"),
        (lambda made: made.cells.append(copy.deepcopy(cell(made, "step"))), "duplicate cell 'step'"),
        (lambda made: cell(made, "step").update(cell_type="raw"), "cell 'step': type changed"),
    ],
)  # fmt: skip
def test_what_an_honest_editor_does_not_do_is_said(tiny, change, flag):
    made = tiny_lab.notebook()
    change(made)
    assert flag in "; ".join(handed_in(tiny, made)[1])


def test_what_a_student_added_to_a_test_runs_as_theirs(tiny):
    made = tiny_lab.notebook()
    cell(made, "test-step").source += "\nmine = step(4.0, 1.0, 1.0)\nprint(mine)"
    cells, flags = handed_in(tiny, made)
    sources = [c.source for c in cells]
    assert sources[sources.index(stub(tiny, "test-step")) + 1] == "mine = step(4.0, 1.0, 1.0)\nprint(mine)"
    assert flags == ["edited test cell 'test-step'"]


# Which notebook it is -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "language", "foreign"),
    [
        ("python3", None, False), ("conda-env-foo-py", "python", False), ("conda-env-foo-py", None, False),
        ("py311", None, False), ("venv", "Python", False), ("pyspark", None, False), ("", None, False),
        (".venv", "python", False), ("ir", "R", True), ("conda-env-r-r", "R", True), ("bash", "bash", True),
        ("julia-1.10", None, True), ("py-but-not", "javascript", True), (None, "ocaml", True),
    ],
)  # fmt: skip
def test_a_kernel_is_foreign_by_its_language(tiny, kernel, language, foreign):
    made = tiny_lab.notebook()
    made.metadata = {"kernelspec": {"name": kernel, "language": language}}
    flags = handed_in(tiny, made)[1]
    assert flags == ([f"foreign kernel {kernel or language!r}"] if foreign else [])


@pytest.mark.parametrize("name", ALL_LABS)
def test_another_labs_notebook_is_said_to_be_one(name):
    made = read(tiny_lab.raw(solved(name)))
    shares = {other: looks_like(lab(other), made) for other in ALL_LABS}
    assert shares[name] == 1.0
    assert max(share for other, share in shares.items() if other != name) < 0.2
    for other in ALL_LABS:
        flags = assemble(lab(other), made)[1]
        if other != name:
            title = next(c.source for c in lab(name).release.cells if c.cell_type == "markdown").split("\n")[0]
            assert f"this looks like another notebook than {other}: it begins with {title[:80]!r}" in flags
            assert len(flags) <= 3
        else:
            assert flags == []


# Files ----------------------------------------------------------------------------------------------------------


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("tiny.ipynb", tiny_lab.raw(tiny_lab.notebook()))
    return stream.getvalue()


GOOD = tiny_lab.raw(tiny_lab.notebook())
CONFLICT = GOOD.replace(b'"cells"', b'\n<<<<<<< HEAD\n"cells"').replace(b"Tiny", b"\n=======\nTiny\n>>>>>>> x\n", 1)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "empty"), (b"\xef\xbb\xbf \n", "empty"), (bytes(5000), "empty"), (CONFLICT, "merge conflict"),
        (base64.b64decode(PNG), "a picture (PNG)"), (b"\xff\xd8\xff\xe0JFIF", "a picture (JPEG)"), (b"GIF89a..", "(GIF)"),
        (zipped(), "a zip archive (or a Word file)"), (gzip.compress(GOOD), "with gzip"), (b"Rar!\x1a\x07", "a rar archive"),
        (b"%PDF-1.7 ...", "a PDF"), (b"<!DOCTYPE html><html>", "a web page"), (b"\n<html>", "a web page"),
        (b"import numpy as np\n\n# %%\n", "a Python script"), (b"# %% [markdown]\nx = 1", "a Python script"),
        (GOOD[:-40], "cut off"), (GOOD[: len(GOOD) // 2], "cut off"), (GOOD.replace(b": ", b" ", 1), "damaged at line 1"),
        (GOOD + b"}", "damaged at line 1"), (b"my answers are below", "a text"), (b"\x80\x04\x95\0\0", "no text"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git LFS"), (b"SQLite format 3\0", "a database"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "macOS"), (b"[InternetShortcut]\nURL=https://", "a link to a web page"),
        (b"[]", "JSON of another kind"), (b'"text"', "JSON of another kind"), (b"null", "JSON of another kind"),
        (b"{}", "no cells"), (b'{"cells": null}', "no cells"), (b'{"cells": {"a": 1}}', "no cells"),
        (b'{"cells": [' + b"9" * 5000 + b"]}", "not a notebook"), (b'{"cells": [1, null]}', "none of its 2 cells"),
        (b"[" * 10**6, "nested too deeply"),
        (b'{"a":' * 10**5, "nested too deeply"), (b'{"cells":[' + b"{}," * 3000 + b"{}]}", "3,001 cells, more than 2,000"),
        (b" " * (20 * 2**20 + 1), "larger than 20 MB; clear its outputs"),
        (GOOD.replace(b"Tiny", "Tïny".encode("latin-1")), "no text in UTF-8 (byte"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_called_what_it_is(raw, why):
    with pytest.raises(Unreadable, match=re.escape(why)) as error:
        read(raw)
    assert "Error" not in str(error.value) and len(str(error.value)) < 200


def twice(raw):
    return raw.replace(b'"cells": [', b'"cells": [], "cells": [', 1)


def _each(**fields):
    def change(made):
        for c in made.cells:
            c.update(copy.deepcopy(fields))

    return change


def _changed(change):
    made = tiny_lab.notebook()
    change(made)
    return tiny_lab.raw(made)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbf" + GOOD, GOOD.decode().encode("utf-16"), GOOD.decode().encode("utf-32"), twice(GOOD),
        GOOD.replace(b'"nbformat": 4', b'"nbformat": 1e9'), GOOD.replace(b'"nbformat": 4', b'"nbformat": null'),
        GOOD.replace(b'"points": 3.0', b'"points": NaN'), b"\n\n" + GOOD + b"\n\n",
        _changed(_each(metadata=None)), _changed(_each(metadata=[1, 2])), _changed(_each(metadata="x")),
        _changed(_each(metadata={"nbgrader": None})), _changed(_each(metadata={"nbgrader": [1]})),
        _changed(_each(metadata={"nbgrader": {"grade_id": ["x"]}})), _changed(_each(metadata={"tags": {"a": 1}})),
        _changed(_each(metadata={"tags": [[1], None]})), _changed(_each(id=None)), _changed(_each(id=7)),
        _changed(_each(id=["x"])), _changed(_each(id={"a": 1})), _changed(_each(id="\udc80")),
        _changed(_each(attachments=None)), _changed(_each(attachments=[1])), _changed(_each(attachments={"a": 1})),
        _changed(_each(attachments={"a": {"image/png": 7}})), _changed(_each(outputs="x", execution_count="x")),
        _changed(lambda made: made.update(metadata=None)), _changed(lambda made: made.update(metadata=[1])),
        _changed(lambda made: made.metadata.update(kernelspec=None, language_info=3)),
        _changed(lambda made: made.cells.append({"cell_type": "code", "source": None, "metadata": None})),
        _changed(lambda made: made.cells.append(None)), _changed(lambda made: made.cells.append([[]])),
        _changed(lambda made: [c.update(source=c.source.splitlines(True)) for c in made.cells]),
    ],
)  # fmt: skip
def test_a_field_of_any_kind_costs_no_points(tiny, raw):
    cells, _ = assemble(tiny, json.loads(json.dumps(read(raw))))
    assert earned(tiny, cells) == ALL


def test_what_is_not_needed_is_dropped_while_the_file_is_read():
    """Eighteen megabytes of empty objects took gigabytes."""
    bomb = b'{"z":[' + b"{}," * 500_000 + b'{}],"cells":[{"cell_type":"code","source":"1"}]}'
    tracemalloc.start()
    try:
        assert read(bomb)["cells"][0]["source"] == "1"
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(Unreadable, match="more than 2,000,000 parts"):
        read(b'{"z":[' + b"{}," * 5_000_000 + b"{}]}")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["cells", "source", "metadata", "nbgrader", "id", "grade_id", "a"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(["id", "metadata", "source", "attachments", "cell_type"]), anything, st.integers(0, 12))
def test_any_value_of_any_field_is_read_or_refused(tiny, key, value, number):
    made = tiny_lab.notebook()
    made.cells[number % len(made.cells)][key] = value
    cells, flags = handed_in(tiny, made)
    assert len({c.name for c in cells}) == len(cells)
    assert {"test-softmax", "test-step", "test-squares"} <= {c.name for c in cells}
    json.dumps([[c.source for c in cells], flags]).encode()


@given(st.text(max_size=200))
@example("\r0")
@example("x = 1\r\ny = 2")
def test_any_code_has_statements_that_lie_within_it(source):
    lines = source.split("\n")
    end = -1
    for part in parts(source):
        assert end < part["first"] <= part["last"] < max(1, len(lines) + source.count("\f"))
        end = part["last"]
