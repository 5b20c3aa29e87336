"""What the labs ask: raw values come out of the box, and names in the notebook collide with no student's."""

import ast
import contextlib
import copy
import functools
import io
import re
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from optcourse.grading.lab import from_source, is_test, role
from optcourse.labs import Case
from optcourse.labs.values import decode, encode

pytest.importorskip("nbgrader")
LABS = Path(__file__).resolve().parents[2] / "labs"
NAMES = sorted(path.name for path in (LABS / "source").iterdir())
#: Calls that make less of a value than it was; their place is in ``then``.
VERDICTS = ("bool", "str", "repr", "format", "int", "abs", "round", "len", "sum", "min", "max", "all", "any", "sorted")
VERDICTS += (
    "set",
    "type",
    "isinstance",
    "allclose",
    "isclose",
    "array_equal",
    "sort",
    "unique",
    "shape",
    "ndim",
    "size",
)
VERDICTS += ("dtype", "nbytes", "name", "mean", "norm", "diff", "ptp", "argmax", "argsort", "isfinite", "sign")
#: No test that a student reads is longer.
LINES = 30


@cache
def lab_called(name):
    return from_source(LABS / "source" / name / f"{name}.ipynb")


@cache
def solved(name):
    """The names of a notebook with our solutions, and those among them that a student defines."""
    space, theirs = {"__name__": "__main__"}, set()
    for cell in lab_called(name).source.cells:
        if cell.cell_type == "code" and not cell.id.startswith(("look-", "plot-")):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(cell.source, space)
            if role(cell).get("solution"):
                theirs |= {node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)}
    return space, theirs


def numbers(value):
    """All numbers in ``value``, in a row, and its texts."""
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator, float(value)]
    if isinstance(value, dict):
        return [n for item in value.values() for n in numbers(item)]
    if isinstance(value, (list, tuple, map, zip)):
        return [n for item in value for n in numbers(item)]
    value = value.detach().numpy() if hasattr(value, "detach") else value
    return np.ravel(value).astype(float).tolist() if np.asarray(value).dtype.kind in "iufb" else [value]


def leaves(value):
    """The arrays, numbers and texts that an answer consists of."""
    if isinstance(value, (list, dict)):
        return [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in leaves(item)]
    return [value]


def kept(value):
    """A copy of ``value``, if it is one that functions may change."""
    return value.detach().clone() if hasattr(value, "detach") else copy.deepcopy(value)


def watched(function, seen):
    """``function``, noting what it is given and returns, and what it gives to the functions that it is given."""

    def argument(value):
        if callable(value):
            return lambda *args, **named: (seen.extend(map(kept, args)), value(*args, **named))[1]
        seen.append(kept(value))
        return value

    @functools.wraps(function)
    def noted(*args, **named):
        result = function(*map(argument, args), **{key: argument(value) for key, value in named.items()})
        seen.append(result)
        return result

    return noted


def made_in_the_box(case: Case, space, theirs):
    """What in the answer to a question is neither what a student's function gave nor what the lab gave to it."""
    seen = []
    names = {**space, **{name: watched(space[name], seen) for name in theirs}}
    names |= {name: decode(item) for name, item in case.data.items()}
    given = [decode(item) for item in case.data.values()]
    with contextlib.redirect_stdout(io.StringIO()):
        exec(case.setup, names)
        answer = decode(encode(eval(case.expression, names)))
    code = ast.walk(ast.parse(case.setup))
    given += [node.value for node in code if isinstance(node, ast.Constant) and type(node.value) in (int, float)]
    rows = [numbers(value) for value in [*seen, *given]]
    whole = {type(leaf) for value in [*seen, *given] for leaf in leaves(decode(encode(value)))}
    return [
        leaf
        for leaf in leaves(answer)
        if (isinstance(leaf, (bool, np.bool_)) and not whole & {bool, np.bool_}) or not any(_in(leaf, r) for r in rows)
    ]


def _in(leaf, row):
    part = numbers(leaf)
    return any(row[i : i + len(part)] == part for i in range(len(row) - len(part) + 1))


def verdicts(expression):
    """Comparisons, logic and calls in a hidden expression that make less of a value."""
    found = []
    for node in ast.walk(ast.parse(expression, mode="eval")):
        if isinstance(node, (ast.Compare, ast.BoolOp, ast.IfExp)) or isinstance(getattr(node, "op", None), ast.Not):
            found.append(ast.unparse(node))
        if getattr(node, "attr", getattr(node, "id", None)) in VERDICTS:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_leaves_the_box_is_what_the_functions_returned(name):
    space, theirs = solved(name)
    for exercise in lab_called(name).exercises:
        for case in exercise.cases:
            assert verdicts(case.expression) == [], f"{exercise.name}: {case.expression}: this belongs into then"
            assert made_in_the_box(case, space, theirs) == [], f"{exercise.name}: {case.setup}\n{case.expression}"


@pytest.mark.parametrize(
    ("expression", "setup"),
    [
        ("bool(f(x)[0] > 1)", ""),
        ("str(f(x).dtype)", ""),
        ("[x, *kinds]", "kinds = [str(a.dtype) for a in [f(x)]]"),
        ("len(g(x))", ""),
        ("[size]", "size = len(g(x))"),
        ("np.sort(f(x))", ""),
        ("sorted(g(x))", ""),
        ("f(x).mean()", ""),
        ("good", "good = np.allclose(f(x), 2 * x)"),
        ("[good]", "def check(a):\n    return bool(a[0] > 0 or a[1] > 5)\ngood = check(f(x))"),
        ("[a - b for a, b in zip(f(x), x)]", ""),
        ("[gaps]", "gaps = f(x) - 1.75 * x"),
        ("f(x)[0] > 1 and f(x)[1] > 2", ""),
        ("f(x)[0] if f(x)[1] > 2 else x", ""),
        ("f(x).nbytes", ""),
        ("[f(x), np.shape(f(x))]", ""),
    ],
)
def test_a_question_that_judges_in_the_box_is_found(expression, setup):
    names = {"np": np, "f": lambda x: 2.5 * x, "g": lambda x: [5.0 * x[2], 7.0 * x[0]]}
    case = Case(expression, setup, {"x": encode(np.array([3.5, 1.25, 9.75]))}, None, 1, 1e-6)
    assert verdicts(expression) or made_in_the_box(case, names, {"f", "g"})


@pytest.mark.parametrize(
    ("expression", "setup"),
    [
        ("f(x)", ""),
        ("[f(x)[:2], x, *g(x)]", ""),
        ("[float(a) for a in g(x)]", ""),
        ("walk(2)", "def walk(n):\n    z = x\n    for _ in range(n):\n        z = f(z - 1)\n    return [z]"),
        ("[asked, calls]", "asked, calls = [], []\nh(lambda z: calls.append(1) or asked.append(np.array(z)) or z, x)"),
    ],
)
def test_a_question_that_gives_raw_values_is_left_alone(expression, setup):
    names = {"np": np, "f": lambda x: 2.5 * x, "g": lambda x: [5.0 * x[2], 7.0 * x[0]], "h": lambda of, x: of(4 * x)}
    case = Case(expression, setup, {"x": encode(np.array([3.5, 1.25, 9.75]))}, None, 1, 1e-6)
    assert (verdicts(expression), made_in_the_box(case, names, {"f", "g", "h"})) == ([], [])


def bound(source):
    """The names that a cell binds at its top level."""
    found, waiting = set(), list(ast.parse(source).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            waiting += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_visible_test_takes_no_name_from_a_student_and_can_be_read(name):
    for cell in lab_called(name).release.cells:
        if is_test(cell):
            assert bound(cell.source) <= {"_tests"}, f"{cell.id}: a student's helper may be called so"
            assert len(re.findall(r"^.*\S.*$", cell.source, re.M)) <= LINES, f"{cell.id} is too long to be read"
