"""Cells tagged ``gpu``: guarded, nothing depends on them, skipped without CUDA, rehearsed by ``make test``."""

import ast
import os
import re
import shutil
import subprocess
import symtable
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "lectures").glob("*.ipynb"))}
GUARD = ast.dump(ast.parse("run.gpu is None", mode="eval").body)
#: What it says: what one would see, how long that takes and where. Nobody has timed them all, so it is an estimate.
SAYS = re.compile(r"skipped: no CUDA device; with one: .{15,} \(about (\d+) min on an? \w+, estimated\)")


def gpu_cells(notebook):
    return [cell for cell in notebook.cells if "gpu" in cell.metadata.get("tags", [])]


def globals_of(source):
    """The global names that a piece of code reads (in its functions, too), and those that it binds."""
    tables, binds = [symtable.symtable(source, "cell", "exec")], set()
    changed = (node.target for node in ast.walk(ast.parse(source)) if isinstance(node, ast.AugAssign))
    reads = {target.id for target in changed if isinstance(target, ast.Name)}
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table.get_type() == "module" or symbol.is_global():
                reads |= {symbol.get_name()} if symbol.is_referenced() else set()
                binds |= {symbol.get_name()} if symbol.is_assigned() or symbol.is_imported() else set()
    return reads, binds


def dependencies(notebook):
    """``(cell, name)`` for every name that a cell reads although a cell for a GPU was the last to bind it."""
    only_there, found = set(), []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        if "gpu" in cell.metadata.get("tags", []):
            only_there |= globals_of(cell.source)[1]
            continue
        for statement in ast.parse(cell.source).body:
            reads, binds = globals_of(ast.unparse(statement))
            found += [(cell.id, name) for name in sorted(reads & only_there)]
            only_there -= binds
    return found


@pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_gpu_cells_are_one_guarded_statement_and_nothing_depends_on_them(notebook):
    for cell in gpu_cells(notebook):
        (statement,) = ast.parse(cell.source).body
        assert isinstance(statement, ast.If) and ast.dump(statement.test) == GUARD, f"{cell.id} has no guard"
        (said,) = statement.body
        assert isinstance(said, ast.Expr) and ast.unparse(said.value.func) == "print" and statement.orelse, cell.id
        about = SAYS.fullmatch(ast.literal_eval(said.value.args[0]))
        assert about and 1 <= int(about[1]) <= 5, f"{cell.id} does not say what it would show and how long it takes"
        assert "rehearsal=" in cell.source, f"{cell.id} has no miniature for a rehearsal"
    assert dependencies(notebook) == []


def test_lecture_05_has_the_example():
    assert gpu_cells(NOTEBOOKS["05_adaptive_methods"])


def alone(notebook, chosen):
    """A program: the cell, and before it the statements that bind what it reads, or what these read, and no others."""
    before = notebook.cells[: notebook.cells.index(chosen)]
    statements = [s for cell in before if cell.cell_type == "code" for s in ast.parse(cell.source).body]
    program, wanted = [], set()
    for statement in [*ast.parse(chosen.source).body, *reversed(statements)]:
        reads, binds = globals_of(ast.unparse(statement))
        if not program or binds & wanted:
            # What a loop or an if binds it is taken to bind before it reads it.
            wanted = wanted - binds | (reads - binds if isinstance(statement, (ast.For, ast.If)) else reads)
            program.insert(0, ast.unparse(statement))
    return "\n".join(program)


def photographs(folder):
    """A folder with files as CIFAR-10 has them, of 20 random images each."""
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        records = np.hstack([rng.permutation(20)[:, None] % 10, rng.integers(0, 256, (20, 3072))])
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
    return folder


ALONE = {cell.id: alone(notebook, cell) for notebook in NOTEBOOKS.values() for cell in gpu_cells(notebook)}
WITH_PHOTOGRAPHS = [cell for cell, program in ALONE.items() if "has_cifar10" in program]


@pytest.mark.parametrize("cell", WITH_PHOTOGRAPHS)
def test_cells_that_take_photographs_are_rehearsed_with_them(cell, tmp_path):
    counted = (
        "from optcourse import data as seen\nread = seen.cifar10\n"
        "def counting(**options):\n    counting.calls += 1\n    return read(**options)\n"
        "counting.calls, seen.cifar10 = 0, counting\n"
    )
    program = f"{counted}{ALONE[cell]}\nassert counting.calls, 'it did not read them'"
    settings = {"OPTCOURSE_REHEARSE": "1", "OPTCOURSE_DATA": str(photographs(tmp_path)), "MPLBACKEND": "agg"}
    result = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "skipped" not in result.stdout


@pytest.mark.parametrize(
    ("later", "found"),
    [
        ("print(loss)", ["loss"]),
        ("def f():\n    return loss", ["loss"]),
        ("rows = [loss for _ in range(3)]", ["loss"]),
        ("loss += 1", ["loss"]),
        ("helper(1)", ["helper"]),
        ("np.ones(3)", ["np"]),
        ("loss = 1\nprint(loss)", []),
        ("def f(loss):\n    return loss", []),
        ("a.loss, 'loss'", []),
        ("x = 2\nprint(x)", []),
    ],
)
def test_a_dependence_on_a_gpu_cell_is_found(later, found):
    source = "if run.gpu is None:\n    pass\nelse:\n    import numpy as np\n    loss, x = 1, 2\n    def helper(): pass"
    cells = [
        new_code_cell("x = 1"),
        new_code_cell(source, metadata={"tags": ["gpu"]}),
        new_code_cell(later, id="later"),
    ]
    assert dependencies(new_notebook(cells=cells)) == [("later", name) for name in found]


SOURCE = """if run.gpu is None:
    print("skipped: no CUDA device; with one: a surface (about 2 min on an H200, estimated)")
else:
    assert run.pick(quick=1, full=2, rehearsal=3) == 3 and run.gpu.type == "cpu"
    raise SystemError("rehearsed")"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(("setting", "said"), [("", "no CUDA device"), ("1", ": rehearsed\n")])
def test_nbval_skips_or_rehearses_them(tmp_path, setting, said):
    notebook = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    notebook.cells = [
        new_code_cell('import optcourse\nrun = optcourse.start(device="auto")'),
        new_code_cell(SOURCE, metadata={"tags": ["gpu"]}),
    ]
    nbformat.write(notebook, tmp_path / "gpu.ipynb")
    shutil.copy(ROOT / "lectures" / "conftest.py", tmp_path)
    options = ["-rs", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env", "."]
    environment = {**os.environ, "OPTCOURSE_REHEARSE": setting}
    command = [sys.executable, "-m", "pytest", *options]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert said in result.stdout and result.returncode == (1 if setting else 0)


def test_make_test_rehearses_them():
    recipe = (ROOT / "Makefile").read_text().split("\ntest: $(READY)")[1].split("\n\n")[0]
    assert "OPTCOURSE_REHEARSE=1 $(BIN)/python -m pytest" in recipe and "--nbval-lax" in recipe
