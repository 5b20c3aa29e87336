"""Functions that do nothing earn nothing: a constant, an argument given back, zeros of the right shape, luck."""

import ast
import copy
import dataclasses
from pathlib import Path

import nbformat
import pytest

from optcourse.grading.grade import grade
from optcourse.grading.lab import from_source, role
from optcourse.grading.sandbox import Limits

pytest.importorskip("nbgrader")
LABS = Path(__file__).resolve().parents[2] / "labs"
#: What a function that does nothing returns, as an expression in its arguments ``a``, keywords last.
CONSTANTS = ("None", "False", "True", "-1", "0", "1", "2", "0.5", "np.inf", "''", "()", "[0, 0]", "[0, 0, 0]", "{}")
OF_ONE = ("a[{0}]", "[a[{0}]]", "np.array([a[{0}]])", "[[a[{0}]]] * 2", "a[{0}:][:2]", "a[{0}:][:3]", "a[{0}][0]")
OF_ONE += ("-a[{0}]", "like(0, a[{0}])", "like(1, a[{0}])", "[a[{0}].copy(), a[{0}].copy()]", "len(a[{0}])")
OF_ONE += ("np.mean(a[{0}])", "np.mean(a[{0}], axis=0)", "np.max(a[{0}])", "np.sum(a[{0}])", "np.shape(a[{0}])")
OF_SHAPE = ("like(0, right(*a))", "like(1, right(*a))")
LUCK = ("luck.random()", "luck.random(np.shape(a[0]))", "luck.integers(10)")
KINDS = (*CONSTANTS, *(kind.format(i) for kind in OF_ONE for i in range(5)), *OF_SHAPE, *LUCK)
#: All questions are asked once for each kind, in one box: ``KIND`` says which one answers.
TRIVIAL = """\
import numpy

KIND = ["None"]


def like(fill, value):
    if isinstance(value, (list, tuple)):
        return [like(fill, item) for item in value]
    if isinstance(value, dict):
        return {key: like(fill, item) for key, item in value.items()}
    return value * 0 + fill


def still(value):
    return (lambda *given, **_: like(0, given[0])) if callable(value) else value


def trivial(right):
    def does_nothing(*given, **named):
        names = {"a": [*given, *named.values()], "like": like, "np": numpy, "luck": numpy.random.default_rng(1)}
        shape_of = lambda *_: right(*map(still, given), **{name: still(value) for name, value in named.items()})
        return eval(KIND[0], {**names, "right": shape_of})

    return does_nothing
"""


@pytest.mark.parametrize("name", sorted(path.name for path in (LABS / "source").iterdir()))
def test_functions_that_do_nothing_earn_nothing(name):
    lab = from_source(LABS / "source" / name / f"{name}.ipynb")
    assert lab.source is not None
    notebook, solutions = copy.deepcopy(lab.release), {cell.id: cell.source for cell in lab.source.cells}
    for cell in notebook.cells:
        if role(cell).get("solution") and cell.cell_type == "code":
            functions = [node.name for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
            assert functions, f"{cell.id} asks for something else than functions"
            cell.source = "\n".join([solutions[cell.id], *(f"{name} = trivial({name})" for name in functions)])
    notebook.cells.insert(0, nbformat.v4.new_code_cell(TRIVIAL))
    asked = {exercise.name: [(kind, case) for kind in KINDS for case in exercise.cases] for exercise in lab.exercises}
    exercises = tuple(
        dataclasses.replace(exercise, cases=tuple(_answered_by(kind, case) for kind, case in asked[exercise.name]))
        for exercise in lab.exercises
    )
    many = dataclasses.replace(lab, exercises=exercises)
    result = grade(many, nbformat.writes(notebook).encode(), Limits(total=900, cell=120, exercise=120))
    earned = []
    for name, questions in asked.items():
        passed = result.marks[name].passed
        assert len(passed) == len(questions), f"{name} was not asked: {result.marks[name].state}"
        earned += [
            f"{name}: {case.expression} by {kind}"
            for (kind, case), right in zip(questions, passed, strict=True)
            if right
        ]
    assert earned == [], "\n".join(["functions that do nothing have right answers:", *earned])


def _answered_by(kind, case):
    return dataclasses.replace(case, setup=f"KIND[0] = {kind!r}\n{case.setup}")
