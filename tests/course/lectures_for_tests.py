"""Tiny lectures, good and deliberately broken, written into a temporary folder."""

import subprocess
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from optcourse.course.catalog import Catalog
from optcourse.course.execution import Settings

CHECK = "from optcourse import check\ncheck({topic!r}, {claim!r}, {measured}, '<=', {bound}, seeds=3)"


class Folder:
    """A folder of lectures under construction, and the folder its pages go to."""

    def __init__(self, root: Path) -> None:
        self.lectures = root / "lectures"
        self.output = root / "build"
        self.lectures.mkdir()

    def add(self, name: str, *cells: str, tags: dict[str, list[str]] | None = None) -> Path:
        """A notebook with a heading, a parameters cell, and code cells with the ids cell-1, cell-2, …"""
        parameters = "PROFILE, SEED, DEVICE = 'quick', 0, 'auto'"
        notebook = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        notebook.cells = [
            new_markdown_cell('## 02.4 A bound <a id="02.4"></a>\n\nIt says $\\frac{a}{b} \\le c$.', id="heading"),
            new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}),
        ]
        for number, source in enumerate(cells, start=1):
            cell = new_code_cell(source, id=f"cell-{number}")
            cell.metadata["tags"] = (tags or {}).get(cell.id, [])
            notebook.cells.append(cell)
        path = self.lectures / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path

    def run(self, *paths: Path, **options) -> int:
        from optcourse.course import runner

        options = {"catalog": Catalog(), "jobs": 2, "book": False, **options}
        settings = options.pop("settings", Settings("quick", 0, "cpu"))
        return runner.run(list(paths), settings, output=self.output, **options)


#: Seconds after which a test that waits gives up. It bounds a hang, and nothing is expected to be quick.
PATIENCE = 300.0


def gone(pid: int) -> bool:
    """Whether the process ends (a zombie has ended)."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False
