"""The plan of the rooms: imports go down, never in a circle; a file and a folder fit into a head."""

import ast
import graphlib
import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "optcourse"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = {".".join(("optcourse", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in FILES}
NAMES = {name.removesuffix(".__init__"): path for name, path in NAMES.items()}

#: From the ground to the roof: a room imports rooms of earlier lines only. The top's own names (``check``,
#: ``start``, ...) come from the ground.
FLOORS = """
arguments
files plotting alttext labs measure timing
checking ranking
runtime
data losses
theory problems models
optim
landscape training
nodes
sliders
grading
course
"""
FLOOR = {room: floor for floor, line in enumerate(FLOORS.split("\n")) for room in line.split()}
#: Modules of a folder, and lines of a file.
MOST, LONGEST = 13, 300


def imported(path):
    """The modules that a file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in NAMES else node.module


ARROWS = {name: {target for target in imported(path) if target != name} for name, path in NAMES.items()}


def room(name):
    return name.split(".")[1]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "optcourse"])
def test_imports_go_down(name):
    above = {
        target
        for target in ARROWS[name] - {"optcourse"}
        if room(target) != room(name) and FLOOR[room(target)] >= FLOOR[room(name)]
    }
    assert not above, f"{name} is below or beside {', '.join(sorted(above))}, and imports it"


def test_no_import_runs_in_a_circle():
    graphlib.TopologicalSorter(ARROWS).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda f: f.name)
def test_a_folder_holds_about_a_dozen_modules(folder):
    inside = [path.name for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert len(inside) <= MOST, inside


TABLES = {path.parent: ast.get_docstring(ast.parse(path.read_text())) for path in FILES if path.name == "__init__.py"}


@pytest.mark.parametrize("folder", [f for f, text in TABLES.items() if "====" in text], ids=lambda f: f.name)
def test_the_table_of_a_room_names_everything_in_it(folder):
    """The first column: every module and folder, or (in ``problems``) names that the room offers."""
    _, *table, _ = re.split(r"^=+  =.*\n?", TABLES[folder], flags=re.M)
    column = "\n".join(line.split("  ")[0] for line in "".join(table).splitlines())
    named = {name for entry in re.findall(r"`+([^`]+)`+", column) for name in re.findall(r"(?<![.\w])\w+", entry)}
    inside = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    inside -= {"__init__", "__main__"}
    if named & inside:
        assert named == inside
    else:
        assert named <= vars(importlib.import_module(f"optcourse.{folder.name}")).keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_fits_into_a_head(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_theory_needs_no_torch():
    reached, todo = set(), ["optcourse.theory"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += ARROWS[name] - reached
    users = [name for name in reached if "import torch" in NAMES[name].read_text()]
    assert users == [], "optcourse.theory imports no torch"
