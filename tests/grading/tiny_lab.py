"""A lab of three small exercises, 6 points and a written question, for tests of the grader."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import nbformat

from optcourse.grading.lab import Lab, from_source

NAME = "tiny"
#: Stands in the hidden inputs: nothing a student gets back may hold it.
SECRET = "7731.25"

SOLUTIONS = {
    "softmax": "def softmax(z):\n    e = np.exp(z - z.max(1, keepdims=True))\n    return e / e.sum(1, keepdims=True)",
    "step": "def step(x, g, lr):\n    return x - lr * g",
    "squares": "def squares(n):\n    return [k * k for k in range(n)]",
}
POINTS = {"softmax": 3.0, "step": 2.0, "squares": 1.0}
VISIBLE = {
    "softmax": 'expect(softmax(np.zeros((2, 4))), np.full((2, 4), 0.25), "equal scores, equal probabilities")',
    "step": 'expect(step(1.0, 2.0, 0.5), 0.0, "a step along the negative gradient")',
    "squares": 'expect(squares(3), [0, 1, 4], "the first three squares")',
}
HIDDEN = {
    "softmax": 'z = np.random.default_rng(3).normal(size=(5, 3))\nhidden("softmax(z)", z=z, points=2)\n'
    'hidden("softmax(1000 * z)", z=z)',
    "step": f'hidden("step(x, g, 0.5)", x=np.array([{SECRET}, 2.0]), g=np.ones(2))\nhidden("step(x, 4, 0.25)", x=3.0)',
    "squares": 'hidden("squares(n)", n=11)',
}


def _cell(kind: str, name: str, source: str, **nbgrader: Any) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell(source) if kind == "code" else nbformat.v4.new_markdown_cell(source)
    cell.id = name
    if nbgrader:
        plain = dict.fromkeys(("grade", "solution", "locked", "task"), False)
        cell.metadata["nbgrader"] = {"schema_version": 3, "grade_id": name, **plain, **nbgrader}
    return cell


def source() -> nbformat.NotebookNode:
    """The instructor's notebook."""
    cells = [
        _cell("markdown", "title", "# Tiny lab"),
        _cell("code", "imports", "import numpy as np\n\nfrom optcourse.labs import expect", locked=True),
    ]
    for name, solution in SOLUTIONS.items():
        head, _, body = solution.partition("\n")
        stub = f"{head}\n    ### BEGIN SOLUTION think\n{body}\n    ### END SOLUTION"
        tests = f"{VISIBLE[name]}\n### BEGIN HIDDEN TESTS\nfrom optcourse.labs import hidden\n\n{HIDDEN[name]}\n"
        cells += [
            _cell("markdown", f"text-{name}", f"## Exercise {name}"),
            _cell("code", name, stub, solution=True),
            _cell("code", f"test-{name}", f"{tests}### END HIDDEN TESTS", grade=True, locked=True, points=POINTS[name]),
        ]
    why = "Why?\n\n### BEGIN MARK SCHEME\nBecause.\n### END MARK SCHEME"
    cells.append(_cell("markdown", "why", why, grade=True, solution=True, points=2))
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def write_lab(folder: Path) -> Lab:
    """``source/tiny/tiny.ipynb`` in ``folder``, and the lab as the grader reads it."""
    path = folder / "source" / NAME / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(source(), path)
    return from_source(path)


_RELEASE: list[nbformat.NotebookNode] = []


def notebook(extra: dict[str, str] | None = None, **cells: str) -> nbformat.NotebookNode:
    """A submission with the right solutions, but for ``cells``; ``extra`` code follows the cell it is filed under."""
    if not _RELEASE:
        from optcourse.grading.release import release

        _RELEASE.append(release(source()))
    made = copy.deepcopy(_RELEASE[0])
    for cell in made.cells:
        cell.source = {**SOLUTIONS, **cells}.get(cell.id, cell.source)
    for after, text in (extra or {}).items():
        place = next(i for i, cell in enumerate(made.cells) if cell.id == after)
        made.cells.insert(place + 1, nbformat.v4.new_code_cell(text))
    return made


def raw(made: nbformat.NotebookNode) -> bytes:
    """The file, without the library's say about what is valid."""
    return json.dumps(made).encode()
