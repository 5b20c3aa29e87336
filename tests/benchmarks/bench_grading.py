"""How long grading takes: ``python tests/benchmarks/bench_grading.py``, or ``make bench``.

A class of 30 (perfect, blank and plausibly wrong submissions of one lab) is graded by one command. Reported are
seconds per student, and their ratio to running the perfect notebook in a plain Jupyter kernel, before and after.
"""

from __future__ import annotations

import argparse
import copy
import csv
import importlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from bench_optim import processor, save

from optcourse.grading.lab import role
from optcourse.grading.sandbox import bubblewrap

ROOT = Path(__file__).resolve().parents[2]


def write_class(lab: str, size: int, folder: Path) -> Path:
    """``size`` submissions: the reference, the blank, and mutants of the reference in turn; returns the reference."""
    sys.path.insert(0, str(ROOT / "tests" / "grading"))
    mutants = importlib.import_module(f"mutants_{lab}").MUTANTS
    blank = nbformat.read(ROOT / "labs" / "release" / lab / f"{lab}.ipynb", as_version=4)
    source = nbformat.read(ROOT / "labs" / "source" / lab / f"{lab}.ipynb", as_version=4)
    solutions = {cell.id: cell.source for cell in source.cells if role(cell).get("solution")}
    solved = copy.deepcopy(blank)
    for cell in solved.cells:
        cell.source = solutions.get(cell.id, cell.source)
    for i, mutant in zip(range(size), itertools.cycle([None, "blank", *mutants]), strict=False):
        notebook = copy.deepcopy(blank if mutant == "blank" else solved)
        for cell in notebook.cells:
            if mutant not in (None, "blank") and cell.id == mutant.cell:
                cell.source = cell.source.replace(mutant.old, mutant.new)
        path = folder / f"student{i:02}" / f"{lab}.ipynb"
        path.parent.mkdir()
        nbformat.write(notebook, path)
    return folder / "student00" / f"{lab}.ipynb"


def plain(notebook: Path) -> float:
    """Seconds of one run in a Jupyter kernel, without a box, snapshots or questions."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), "-"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="lab01")
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "class").mkdir()
        reference = write_class(arguments.lab, arguments.students, folder / "class")
        single = plain(reference)
        start = time.perf_counter()
        command = [str(Path(sys.executable).parent / "optcourse"), "grade", str(folder / "class"), "--lab"]
        subprocess.run([*command, arguments.lab, "--output", str(folder / "out")], check=True, cwd=ROOT)
        wall = (time.perf_counter() - start) / arguments.students
        single = statistics.mean([single, plain(reference)])
        with (folder / "out" / "status.csv").open(encoding="utf-8", newline="") as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    result = {
        "machine": {"processor": processor()},
        "sandbox": "bubblewrap" if bubblewrap() else "limits only",
        "students": arguments.students,
        "median_seconds_per_submission": statistics.median(seconds),
        "wall_seconds_per_student": wall,
        "plain_run_seconds": single,
        "wall_per_student_to_plain_run": wall / single,
    }
    print(f"{arguments.students} submissions of {arguments.lab}, {result['sandbox']}:")
    print(f"  {wall:.2f} s per student on the clock, {result['median_seconds_per_submission']:.2f} s each (median)")
    print(f"  a plain run of the same notebook takes {single:.2f} s: ratio {wall / single:.2f}")
    save(arguments.output, {"optcourse grade": result}, key="grading")


if __name__ == "__main__":
    main()
