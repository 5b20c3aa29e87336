"""From an instructor's notebook to a student's: solutions and hidden tests out, hints in; done by nbgrader."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from nbformat import NotebookNode

HINT = re.compile(r"^(\s*)### BEGIN SOLUTION(.*)$")


def release(source: NotebookNode) -> NotebookNode:
    """The notebook that students get.

    nbgrader's preprocessors remove solutions, hidden tests and outputs, and lock what shall not be edited. A stub
    raises ``NotImplementedError`` with the hint that stands on its ``### BEGIN SOLUTION`` line.
    """
    from nbgrader import preprocessors as steps

    notebook = copy.deepcopy(source)
    resources: Any = {"unique_key": "release"}
    for step in (
        _StubsWithHints(),
        steps.LockCells(),
        steps.ClearOutput(),
        steps.CheckCellMetadata(),
        steps.ClearHiddenTests(),
        steps.ClearMarkScheme(),
    ):
        notebook, resources = step.preprocess(notebook, resources)
    for cell in notebook.cells:
        cell.source = cell.source.rstrip("\n")
    return notebook


def _StubsWithHints() -> Any:
    from nbgrader.preprocessors import ClearSolutions

    class StubsWithHints(ClearSolutions):
        def _replace_solution_region(self, cell: NotebookNode, language: str) -> bool:
            hints = [match[2].strip() for line in cell.source.split("\n") if (match := HINT.match(line))]
            self.code_stub = {"python": "raise NotImplementedError(@)"}
            found = super()._replace_solution_region(cell, language)
            for hint in hints:
                text = json.dumps(hint or "your code here", ensure_ascii=False)
                cell.source = cell.source.replace("NotImplementedError(@)", f"NotImplementedError({text})", 1)
            return found

    return StubsWithHints()
