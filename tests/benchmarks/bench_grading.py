"""How long grading takes: ``python tests/benchmarks/bench_grading.py``, or ``make bench``.

A class of 30 (perfect, blank and plausibly wrong submissions) is graded, in three parts, for each lab. Reported are
seconds per student, their ratio to running the perfect notebook in a plain Jupyter kernel, and to the first lab's.
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
TURNS = 3


def write_class(lab: str, size: int, folder: Path, first: int = 0) -> Path:
    """``size`` submissions: the reference, and from number ``first`` on the blank and mutants in turn."""
    sys.path.insert(0, str(ROOT / "tests" / "grading"))
    mutants = importlib.import_module(f"mutants_{lab}").MUTANTS
    blank = nbformat.read(ROOT / "labs" / "release" / lab / f"{lab}.ipynb", as_version=4)
    source = nbformat.read(ROOT / "labs" / "source" / lab / f"{lab}.ipynb", as_version=4)
    solutions = {cell.id: cell.source for cell in source.cells if role(cell).get("solution")}
    solved = copy.deepcopy(blank)
    for cell in solved.cells:
        cell.source = solutions.get(cell.id, cell.source)
    wrong = itertools.islice(itertools.cycle(["blank", *mutants]), first, first + size - 1)
    for i, mutant in enumerate([None, *wrong]):
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


def graded(lab: str, folder: Path) -> list[tuple[float, float]]:
    """Seconds on the clock per student, and the grader's own seconds of each, of a class graded by one command."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).parent / "optcourse"), "grade", str(folder), "--lab", lab]
    subprocess.run([*command, "--output", str(folder) + "-out"], check=True, cwd=ROOT)
    with Path(str(folder) + "-out", "status.csv").open(encoding="utf-8", newline="") as file:
        rows = [float(row["seconds"]) for row in csv.DictReader(file)]
    wall = (time.perf_counter() - start) / len(rows)
    return [(wall, seconds) for seconds in rows]


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", nargs="+", default=["lab01", "lab08"], help="the others are compared with the first")
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    measured = {lab: [] for lab in arguments.labs}
    alone = {lab: [] for lab in arguments.labs}
    with tempfile.TemporaryDirectory() as name:
        # The labs take turns, a part of their class at a time: a busy minute of the machine meets all of them.
        for turn in range(TURNS):
            for lab in arguments.labs:
                folder = Path(name, f"{lab}-{turn}")
                folder.mkdir()
                size = len(range(turn, arguments.students, TURNS))
                reference = write_class(lab, size, folder, first=arguments.students * turn // TURNS)
                alone[lab].append(plain(reference))
                measured[lab] += graded(lab, folder)
    result = {
        lab: {
            "students": len(rows),
            "median_seconds_per_submission": statistics.median(seconds for _, seconds in rows),
            "wall_seconds_per_student": statistics.mean(wall for wall, _ in rows),
            "plain_run_seconds": statistics.median(alone[lab]),
        }
        for lab, rows in measured.items()
    }
    first = result[arguments.labs[0]]
    for lab, row in result.items():
        row["wall_per_student_to_plain_run"] = row["wall_seconds_per_student"] / row["plain_run_seconds"]
        row["per_submission_to_first"] = row["median_seconds_per_submission"] / first["median_seconds_per_submission"]
        wall, each = row["wall_seconds_per_student"], row["median_seconds_per_submission"]
        print(f"{row['students']} submissions of {lab}: {wall:.2f} s per student on the clock,")
        print(f"  {each:.2f} s each (median), {row['per_submission_to_first']:.2f} of {arguments.labs[0]}'s;")
        print(f"  a plain run of the same notebook takes {row['plain_run_seconds']:.2f} s: ratio", end=" ")
        print(f"{row['wall_per_student_to_plain_run']:.2f}")
    settings = {"machine": {"processor": processor()}, "sandbox": "bubblewrap" if bubblewrap() else "limits only"}
    save(arguments.output, {"optcourse grade": settings | {"labs": result}}, key="grading")


if __name__ == "__main__":
    main()
