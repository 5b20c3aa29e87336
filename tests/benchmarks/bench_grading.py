"""How long grading takes: ``python tests/benchmarks/bench_grading.py``, or ``make bench``.

A class of 30 (perfect, blank and plausibly wrong submissions) is graded, in three parts, for each lab. Reported are
seconds per student, their ratio to running the perfect notebook in a plain Jupyter kernel, and to the first lab's.
``--against FOLDER`` lets another checkout of the course (``git worktree add FOLDER COMMIT``) grade the same class in
turn, by this Python, and reports the ratio.
"""

from __future__ import annotations

import argparse
import copy
import csv
import importlib
import itertools
import os
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


def graded(lab: str, folder: Path, checkout: Path = ROOT) -> list[tuple[float, float]]:
    """Seconds on the clock per student, and the grader's own seconds of each, of a class graded by one command."""
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        command = [sys.executable, "-c", "from optcourse.course.cli import main; main()", "grade", str(folder)]
        command += ["--lab", lab, "--labs", str(checkout / "labs"), "--output", output]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
        subprocess.run(command, check=True, cwd=checkout, env=environment)
        with Path(output, "status.csv").open(encoding="utf-8", newline="") as file:
            rows = [float(row["seconds"]) for row in csv.DictReader(file)]
        wall = (time.perf_counter() - start) / len(rows)
    return [(wall, seconds) for seconds in rows]


def main() -> None:
    """Parse arguments, run, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", nargs="+", default=["lab01", "lab08"], help="the others are compared with the first")
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--against", type=Path, help="another checkout of the course, whose labs are the same")
    parser.add_argument("--output", type=Path, default=Path("build/benchmarks.json"))
    arguments = parser.parse_args()
    measured = {lab: [] for lab in arguments.labs}
    alone, other = ({lab: [] for lab in arguments.labs} for _ in range(2))
    with tempfile.TemporaryDirectory() as name:
        # The labs take turns, a part of their class at a time: a busy minute of the machine meets all of them.
        for turn in range(TURNS):
            for lab in arguments.labs:
                folder = Path(name, f"{lab}-{turn}")
                folder.mkdir()
                size = len(range(turn, arguments.students, TURNS))
                reference = write_class(lab, size, folder, first=arguments.students * turn // TURNS)
                alone[lab].append(plain(reference))
                sides = [(measured, ROOT)] + ([(other, arguments.against.resolve())] if arguments.against else [])
                for rows, checkout in sides if turn % 2 else reversed(sides):
                    rows[lab] += graded(lab, folder, checkout)
    result = {
        lab: {
            "students": len(rows),
            "median_seconds_per_submission": statistics.median(seconds for _, seconds in rows),
            "wall_seconds_per_student": statistics.mean(wall for wall, _ in rows),
            "plain_run_seconds": statistics.median(alone[lab]),
        }
        for lab, rows in measured.items()
    }
    for lab, rows in other.items():
        if rows:
            theirs = statistics.mean(wall for wall, _ in rows)
            result[lab]["wall_to_other_checkout"] = result[lab]["wall_seconds_per_student"] / theirs
    first = result[arguments.labs[0]]
    for lab, row in result.items():
        row["wall_per_student_to_plain_run"] = row["wall_seconds_per_student"] / row["plain_run_seconds"]
        row["per_submission_to_first"] = row["median_seconds_per_submission"] / first["median_seconds_per_submission"]
        wall, each = row["wall_seconds_per_student"], row["median_seconds_per_submission"]
        print(f"{row['students']} submissions of {lab}: {wall:.2f} s per student on the clock,")
        print(f"  {each:.2f} s each (median), {row['per_submission_to_first']:.2f} of {arguments.labs[0]}'s;")
        print(f"  a plain run of the same notebook takes {row['plain_run_seconds']:.2f} s: ratio", end=" ")
        print(f"{row['wall_per_student_to_plain_run']:.2f}")
        if arguments.against:
            print(f"  to {arguments.against}, a class of {row['students']}: {row['wall_to_other_checkout']:.2f}")
    settings = {"machine": {"processor": processor()}, "sandbox": "bubblewrap" if bubblewrap() else "limits only"}
    save(arguments.output, {"optcourse grade": settings | {"labs": result}}, key="grading")


if __name__ == "__main__":
    main()
