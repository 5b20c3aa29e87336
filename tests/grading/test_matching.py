"""Honest notebooks, whatever an editor or a student did to their cells, keep every point: without a box, and fast."""

import contextlib
import copy
import io
import itertools
from pathlib import Path

import nbformat
import pytest
import tiny_lab
from hypothesis import given
from hypothesis import strategies as st

from optcourse.grading.lab import role
from optcourse.grading.reading import read
from optcourse.grading.submission import assemble, untouched, written_answers
from optcourse.labs.values import decode, difference, encode

LABS = Path(__file__).resolve().parents[2] / "labs"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SOLUTIONS, VISIBLE = tiny_lab.SOLUTIONS, tiny_lab.VISIBLE
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
