"""The folded solutions of the exercises to program run, and check themselves, as a reader would run them."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import torch

NOTEBOOKS = sorted((Path(__file__).parents[1] / "lectures").glob("*.ipynb"))


def solutions(path):
    """``(lecture, number, code)`` of every program in a folded solution."""
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details><summary>Solution</summary>(.*?)</details>", text, re.S)
    return [
        (path.stem, i, code)
        for i, part in enumerate(folded, 1)
        for code in re.findall(r"```python\n(.*?)```", part, re.S)
    ]


PROGRAMS = [program for path in NOTEBOOKS for program in solutions(path)]


def test_the_lectures_with_exercises_to_program():
    found = {stem for stem, _, _ in PROGRAMS}
    assert "08_normalization" in found
    for stem in found:
        assert len([program for program in PROGRAMS if program[0] == stem]) >= 3, stem


@pytest.mark.parametrize(("lecture", "number", "code"), PROGRAMS, ids=[f"{stem[:2]}-{i}" for stem, i, _ in PROGRAMS])
def test_a_solution_runs_and_checks_itself(lecture, number, code):
    calls = [ast.unparse(node.func) for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code)))
    assert asserts or any("assert" in call for call in calls), "a solution that checks nothing"
    torch.manual_seed(0)
    exec(compile(code, f"{lecture}, solution {number}", "exec"), {"__name__": "solution"})
