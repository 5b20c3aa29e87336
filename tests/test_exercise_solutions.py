"""Exercises to program: every folded solution in a lecture runs by itself, and checks itself."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

LECTURES = Path(__file__).parents[1] / "lectures"
FOLDED = re.compile(r"<details>.*?</details>", re.S)
PROGRAM = re.compile(r"```python\n(.*?)```", re.S)


def programs():
    """Lecture, number and text of every Python program in a folded answer."""
    for path in sorted(LECTURES.glob("*.ipynb")):
        text = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        found = [program for answer in FOLDED.findall(text) for program in PROGRAM.findall(answer)]
        yield from ((path.stem, i, program) for i, program in enumerate(found, 1))


PROGRAMS = list(programs())


@pytest.mark.parametrize(("lecture", "i", "program"), PROGRAMS, ids=[f"{p[0][:2]}-{p[1]}" for p in PROGRAMS])
def test_the_solution_runs_and_checks_itself(lecture, i, program):
    asserts = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Assert)]
    assert asserts, f"{lecture}, program {i}: no assert says that the solution is right"
    exec(compile(program, f"{lecture}, program {i}", "exec"), {"__name__": "solution"})
